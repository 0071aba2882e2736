"""Edited hives as foreign readers see them: hivex all of it, python-registry the names, dissect each name by lookup.

Where a reader is known to be wrong, what it can't do is left out by name: hivex's Python module refuses lone
surrogates; python-registry decodes names as cp1252; dissect's lookup fails for names outside ASCII in fast leaves and
for those beside them, for characters beyond the BMP, and for names whose ``str.upper`` is longer. The scenarios at the
end are those in which writers of hives are known to fail.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.data_files import data_file
from tests.guests import HIVEX_PYTHON, has_hivex
from tests.registry.build_hive import build_hive, upcased
from tests.registry.hive_model import ModelKey, Session, written
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.registry.check import WARNING_CODES, check_hive
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive
from vhdtool.registry.operation import CreateKey, DeleteKey, RegistryOperation, SetValue

pytestmark = pytest.mark.oracle

_HIVEX_WALK = r"""
import hashlib, hivex, json, sys
hive = hivex.Hivex(sys.argv[1])
found = {}
waiting = [(hive.root(), "")]
while waiting:
    node, path = waiting.pop()
    found[path] = sorted(
        (hive.value_key(value), kind & 0xFFFFFFFF, len(data), hashlib.sha1(data).hexdigest())
        for value in hive.node_values(node) for kind, data in [hive.value_value(value)]
    )
    waiting += [(child, path + "\\" + hive.node_name(child)) for child in hive.node_children(node)]
json.dump(found, sys.stdout)
"""
HIVES = (
    "hives/mkorman90__regipy/BCD.xz",
    "hives/yarp/ManySubkeysHive",
    "hives/ColinFinck__nt-hive/testhive",
    "hives/log2timeline__dfwinreg/SYSTEM.xz",
    "hives/fox-it__dissect.regf/SYSTEM.gz",
)


def placed(session: Session, folder: Path) -> Path:
    path = folder / "hive"
    path.write_bytes(session.file)
    return path


def hivex_agrees(session: Session, folder: Path) -> None:
    told = json.loads(run(HIVEX_PYTHON, "-c", _HIVEX_WALK, str(placed(session, folder))).stdout)
    theirs = {path: [tuple(row) for row in rows] for path, rows in told.items()}
    ours = {
        path: sorted(
            (name, kind, len(raw), hashlib.sha1(raw, usedforsecurity=False).hexdigest())
            for name, kind, raw in key.values.values()
        )
        for path, key in session.model.walk()
    }
    assert theirs == ours


def python_registry_agrees(session: Session, folder: Path) -> None:
    """All names that are ASCII or not Latin-1; of the others only how many there are."""
    from Registry import Registry  # noqa: PLC0415

    waiting = [(Registry.Registry(str(placed(session, folder))).root(), session.model)]
    while waiting:
        key, model = waiting.pop()
        values = ["" if value.name() == "(default)" else value.name() for value in key.values()]
        assert sorted(filter(sure, values)) == sorted(filter(sure, (name for name, *_ in model.values.values())))
        assert len(values) == len(model.values)
        children = key.subkeys()
        assert len(children) == len(model.subkeys)
        named = {child.name(): child for child in children if sure(child.name())}
        ours = {child.name: child for child in model.subkeys.values() if sure(child.name)}
        assert named.keys() == ours.keys()
        waiting += [(named[name], ours[name]) for name in ours]


def sure(name: str) -> bool:
    return name.isascii() or max(name) > "\xff"


def dissect_finds_names(session: Session, folder: Path) -> None:
    """Keys that edits were about, by their names: through the hashes or hints. Some of their neighbours as well."""
    from dissect.regf import RegistryHive  # noqa: PLC0415

    minor = int.from_bytes(session.file[24:28], "little")
    with placed(session, folder).open("rb") as file:
        hive = RegistryHive(file)
        known: dict[str, Any] = {"": hive.root()}
        dissect_agrees(known[""], session.model, minor)
        for visited in session.visited:
            path, model = "", session.model
            for part in filter(None, visited.split("\\")):
                child = model.subkeys.get(upcased(part))
                if child is None or not (findable(child.name, minor) and askable(model, minor)):
                    break
                above, path, model = path, f"{path}\\{child.name}", child
                if path not in known:
                    known[path] = known[above].subkey(child.name)
                    assert known[path].name == child.name
                    dissect_agrees(known[path], child, minor)


def dissect_agrees(key: Any, model: ModelKey, minor: int) -> None:
    for child in list(model.subkeys.values())[:: 1 + len(model.subkeys) // 5]:
        if child.name.isascii() and askable(model, minor):
            assert key.subkey(child.name).name == child.name
    for name, kind, raw in model.values.values():
        if name.isascii():
            found = key.value(name or "(Default)")
            assert (found.type, found.data) == (kind, raw)


def askable(model: ModelKey, minor: int) -> bool:
    """Whether dissect does not stumble over another name's hint in a fast leaf: it takes each for ASCII."""
    starts = [child.name[:4] for child in model.subkeys.values()]
    return minor >= 5 or all(start.isascii() or max(start) > "\xff" for start in starts)


def findable(name: str, minor: int) -> bool:
    return name.isascii() or (minor >= 5 and max(name) <= "\uffff" and "ß" not in name)


def require_hivex() -> None:
    if not has_hivex():
        require_tool("hivexml")
        pytest.skip("hivex has no Python module here")


@pytest.mark.data
@pytest.mark.parametrize("name", HIVES)
def test_random_edits_as_foreign_readers_see_them(name: str, tmp_path: Path) -> None:
    require_hivex()
    session = Session(data_file(name).read_bytes(), f"oracle {name}")
    for _ in range(60):
        session.edit(5)
    hivex_agrees(session, tmp_path)
    python_registry_agrees(session, tmp_path)
    dissect_finds_names(session, tmp_path)


# --- where writers of hives are known to fail ------------------------------------------------------------------------


class Edits(Session):
    """Edits that a test names."""

    def do(self, *operations: RegistryOperation) -> None:
        editor = HiveEditor(Hive.open(BytesSource(self.file)))
        for operation in operations:
            assert editor.apply(operation)
            assert self.model.apply(operation)
            self.visited.add(operation.key)
        self.file = written(self.file, editor.finish())

    def agreed(self, folder: Path) -> None:
        """Sound by the strict check, and what the model holds for two foreign readers."""
        codes = {problem.code for problem in check_hive(BytesSource(self.file))}
        assert codes <= WARNING_CODES
        require_hivex()
        hivex_agrees(self, folder)
        dissect_finds_names(self, folder)


def windows_10() -> Edits:
    return Edits(data_file("hives/fox-it__dissect.regf/SYSTEM.gz").read_bytes(), 0)


CACHE = r"ControlSet001\Control\Session Manager\AppCompatCache"


@pytest.mark.data
def test_a_value_beside_big_data(tmp_path: Path) -> None:
    """Hivex writes all values of a key anew, and long ones as no Windows since XP has them."""
    session = windows_10()
    key = session.model.find(CACHE)
    assert key is not None
    assert any(len(raw) > 16344 for _, _, raw in key.values.values())
    session.do(SetValue(CACHE, "Note", 1, "text\0".encode("utf-16-le")))
    session.agreed(tmp_path)
    size = len(session.file)
    session.do(SetValue(CACHE, "Note", 3, bytes(100_000)), SetValue(CACHE, "Million", 3, b"m" * 1_500_000))
    session.agreed(tmp_path)
    assert len(session.file) - size < 1_700_000


@pytest.mark.data
def test_names_of_other_scripts_are_found_by_their_hash(tmp_path: Path) -> None:
    """Hivex hashes the UTF-8 of a name, reged sorts by bytes: Windows finds neither."""
    session = windows_10()
    session.do(*(CreateKey(rf"ControlSet001\Services\{name}") for name in ("Ünï", "ключ", "\uff21\uff21", "zzz", "é")))
    session.agreed(tmp_path)


@pytest.mark.data
def test_a_whole_control_set_is_deleted(tmp_path: Path) -> None:
    """Hivex leaves 27 cells that nobody uses and 91,306 free ones that touch."""
    session = windows_10()
    size = len(session.file)
    session.do(DeleteKey("ControlSet001"))
    session.agreed(tmp_path)
    session.do(*(CreateKey(rf"ControlSet001\Services\Service{number}") for number in range(500)))
    session.agreed(tmp_path)
    assert len(session.file) == size  # the room was used again


@pytest.mark.data
def test_the_same_value_again_and_again_takes_no_room(tmp_path: Path) -> None:
    """Hivex grows by 614 KB for 500 times the same number."""
    session = windows_10()
    for number in range(500):
        session.do(SetValue(r"ControlSet001\Services\vmbus", "Start", 4, bytes([number % 5, number % 7, 1, 0])))
    assert len(session.file) == len(windows_10().file)
    assert session.file[40:44] == windows_10().file[40:44]
    session.agreed(tmp_path)


@pytest.mark.data
def test_two_thousand_subkeys_take_little_room(tmp_path: Path) -> None:
    """Hivex takes 19.7 MB, and puts them into one leaf of 2,000."""
    session = windows_10()
    (before,) = struct.unpack_from("<I", session.file, 40)
    session.do(*(CreateKey(rf"ControlSet001\Services\Many\Key{number:04}") for number in range(2000)))
    session.agreed(tmp_path)
    (after,) = struct.unpack_from("<I", session.file, 40)
    assert after - before < 400_000


def test_a_small_hive_grows_and_is_read(tmp_path: Path) -> None:
    for lists, minor in (("lh", 5), ("lf", 3), ("li", 3)):
        session = Edits(build_hive({"Key": {"n": 1}, "Other": {}}, lists=lists, minor=minor), 0)
        session.do(*(CreateKey(rf"Key\Below{number}") for number in range(1100)))
        session.do(SetValue("Key", "", 3, bytes(range(256)) * 300))
        session.do(*(DeleteKey(rf"Key\Below{number}") for number in range(1100) if number % 11))
        session.visited = set(sorted(session.visited)[::11])
        session.agreed(tmp_path)
