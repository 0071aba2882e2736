"""Our reader of .reg files on what hivexregedit writes of real hives, and hivexregedit on what we understood."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.guest.reg_file import read_reg_file
from vhdtool.registry.hive import Hive
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue

pytestmark = [pytest.mark.oracle, pytest.mark.data]

HIVES = {
    "hives/fox-it__dissect.regf/SYSTEM.gz": "SYSTEM",
    "hives/log2timeline__dfwinreg/SYSTEM.xz": "SYSTEM",
    "hives/libguestfs__libguestfs/windows-software": "SOFTWARE",
    "hives/yarp/UnicodeHive": "SOFTWARE",
}


def exported(hive: Path, name: str) -> bytes:
    prefix = f"HKEY_LOCAL_MACHINE\\{name}"
    return run(require_tool("hivexregedit"), "--export", "--prefix", prefix, str(hive), "\\").stdout


@pytest.mark.parametrize("name", HIVES)
def test_an_exported_hive_is_understood_whole(name: str) -> None:
    path = data_file(name)
    found = [entry.operation for entry in read_reg_file(exported(path, HIVES[name]), path="export.reg")]
    hive = Hive.open(BytesSource(path.read_bytes()), path=name)
    keys, values = set(), {}
    for key in hive.walk():
        keys.add(key.path)
        values |= {(key.path, value.name): (value.type, value.raw) for value in key.values() if "\0" not in value.name}
    assert {one.key for one in found if isinstance(one, CreateKey)} == keys
    read = {(one.key, one.name): (one.type, one.data) for one in found if isinstance(one, SetValue)}
    assert read.keys() == values.keys()
    for place, (kind, raw) in values.items():
        # a string without its end gets one
        assert read[place] in {(kind, raw), (kind, raw + bytes(2))}, place
    assert len(found) > 2


TEXT = r"""Windows Registry Editor Version 5.00

[HKEY_LOCAL_MACHINE\SOFTWARE\New]

[HKEY_LOCAL_MACHINE\SOFTWARE\New\Below]
@="the default"
"Text"="a \"b\" C:\\d"
"Number"=dword:0000002a
"Long"=hex(b):01,02,03,04,05,\
  06,07,08
"List"=hex(7):61,00,00,00,62,00,00,00,00,00

[HKEY_LOCAL_MACHINE\SOFTWARE\Gone]

[-HKEY_LOCAL_MACHINE\SOFTWARE\Gone]
"""


def test_hivexregedit_merges_what_we_read(tmp_path: Path) -> None:
    hive = tmp_path / "SOFTWARE"
    shutil.copyfile(data_file("hives/libguestfs__hivex/minimal"), hive)
    hive.chmod(0o644)
    file = tmp_path / "x.reg"
    file.write_text(TEXT, encoding="ascii")
    run(require_tool("hivexregedit"), "--merge", "--prefix", r"HKEY_LOCAL_MACHINE\SOFTWARE", str(hive), str(file))
    merged = Hive.open(BytesSource(hive.read_bytes()), path="SOFTWARE")
    operations = [entry.operation for entry in read_reg_file(TEXT.encode(), path="x.reg")]
    gone = {one.key for one in operations if isinstance(one, DeleteKey)}
    assert gone == {"Gone"}
    for operation in operations:
        if not (isinstance(operation, CreateKey) and operation.key in gone):
            check(merged, operation)


def check(hive: Hive, operation: RegistryOperation) -> None:
    key = hive.key(operation.key)
    if isinstance(operation, DeleteKey):
        assert key is None
        return
    assert key is not None
    if isinstance(operation, SetValue):
        value = key.value(operation.name)
        assert value is not None
        assert (value.type, value.raw) == (operation.type, operation.data)
    elif isinstance(operation, DeleteValue):
        assert key.value(operation.name) is None
