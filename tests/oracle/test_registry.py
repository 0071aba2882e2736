"""Hives of the collection, and those that our tests build, as hivex, dissect.regf and python-registry read them.

Where a reader is wrong, the test that leaves it out says why. Recovery is held against hives that Windows recovered
(msuhanov/yarp, hives_for_tests).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data_files import data_file
from tests.guests import HIVEX_PYTHON, has_hivex
from tests.registry.build_hive import LINK, QWORD, Keys, Typed, build_hive
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.registry.hive import Hive, Key
from vhdtool.registry.names import fold

pytestmark = pytest.mark.oracle

YARP = "hives/yarp/"
WINDOWS_10 = "hives/fox-it__dissect.regf/SYSTEM.gz"
SOUND = (
    "hives/ColinFinck__nt-hive/e1aaba5-testhive",
    "hives/ColinFinck__nt-hive/f57afc1-testhive",
    "hives/ColinFinck__nt-hive/testhive",
    "hives/EricZimmerman__Registry/BCD",
    "hives/EricZimmerman__Registry/SECURITYNoRoot",
    WINDOWS_10,
    "hives/libguestfs__hivex/minimal",
    "hives/libguestfs__hivex/rlenvalue_test_hive",
    "hives/libguestfs__hivex/special",
    "hives/libguestfs__libguestfs/13d8963-windows-system",
    "hives/libguestfs__libguestfs/64bc449-windows-software",
    "hives/libguestfs__libguestfs/fcc631d-windows-software",
    "hives/libguestfs__libguestfs/windows-software",
    "hives/libguestfs__libguestfs/windows-system",
    "hives/log2timeline__dfwinreg/SYSTEM.xz",
    "hives/microsoft__openvmm/imc.hiv",
    "hives/mkorman90__regipy/BCD.xz",
    "hives/mkorman90__regipy/SYSTEM.xz",
    "hives/mkorman90__regipy/f315415-SYSTEM.xz",
    YARP + "BigDataHive",
    YARP + "EmptyHive",
    YARP + "ExtendedASCIIHive",
    YARP + "ManySubkeysHive",
    YARP + "MultiSzHive",
    YARP + "NewDirtyHive1/RecoveredHive_Windows10",
    YARP + "OldDirtyHive/RecoveredHive_Windows7",
    YARP + "StringValuesHive",
    YARP + "UnicodeHive",
)
SMALL = tuple(name for name in SOUND if "SYSTEM" not in name)

# one row a value: name, type, length, sha1 of the data; one key: time (FILETIME, 0 where unknown), rows in hive order
KeyFacts = tuple[int, tuple[tuple[str, int, int, str], ...]]
Facts = dict[str, KeyFacts]

_HIVEX_WALK = r"""
import hashlib, hivex, json, sys
hive = hivex.Hivex(sys.argv[1])
found = {}
waiting = [(hive.root(), "")]
while waiting:
    node, path = waiting.pop()
    rows = []
    for value in hive.node_values(node):
        kind, data = hive.value_value(value)
        rows.append((hive.value_key(value), kind & 0xFFFFFFFF, len(data), hashlib.sha1(data).hexdigest()))
    found[path] = (hive.node_timestamp(node), rows)
    for child in hive.node_children(node):
        waiting.append((child, path + "\\" + hive.node_name(child)))
json.dump(found, sys.stdout)
"""


def keys_of(hive: Hive) -> Iterator[tuple[str, Key]]:
    waiting = [("", hive.root)]
    while waiting:
        path, key = waiting.pop()
        yield path, key
        waiting += [(f"{path}\\{child.name}", child) for child in key.subkeys()]


def filetime(key: Key) -> int:
    """Back from what the reader says, to 10 µs: Windows' unit is 100 ns, that of Python's clock 1 µs."""
    if key.last_written is None:
        return 0
    seconds = key.last_written.timestamp() + 11_644_473_600
    return round(seconds * 100_000)


def facts_of(hive: Hive) -> Facts:
    return {
        path: (
            filetime(key),
            tuple((value.name, value.type, value.size, sha1(value.raw)) for value in key.values()),
        )
        for path, key in keys_of(hive)
    }


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def hivex_says(path: Path) -> Facts:
    if not has_hivex():
        require_tool("hivexml")  # skips, or fails where tools are demanded
        pytest.skip("hivex has no Python module here")
    told = json.loads(run(HIVEX_PYTHON, "-c", _HIVEX_WALK, str(path)).stdout)
    return {
        key: (round(time / 100), tuple((str(name), kind, size, digest) for name, kind, size, digest in rows))
        for key, (time, rows) in told.items()
    }


def dissect_says(path: Path) -> dict[str, set[tuple[str, int, int, str]]]:
    from dissect.regf import RegistryHive  # noqa: PLC0415

    found = {}
    with path.open("rb") as file:
        waiting = [("", RegistryHive(file).root())]
        while waiting:
            name, key = waiting.pop()
            found[name] = {
                ("" if value.name == "(Default)" else value.name, value.type, value.size, sha1(value.data))
                for value in key.values()
            }
            waiting += [(f"{name}\\{child.name}", child) for child in key.subkeys()]
    return found


def python_registry_says(path: Path) -> dict[str, set[str]]:
    """Names only: its data of inline strings, big-endian numbers and device properties are wrong."""
    from Registry import Registry  # noqa: PLC0415

    found = {}
    waiting = [("", Registry.Registry(str(path)).root())]
    while waiting:
        name, key = waiting.pop()
        found[name] = {"" if value.name() == "(default)" else value.name() for value in key.values()}
        waiting += [(f"{name}\\{child.name()}", child) for child in key.subkeys()]
    return found


def opened(name: str, *, logs: bool = True) -> Hive:
    path = data_file(name)
    beside = sorted(path.parent.glob(path.name + ".LOG*")) if logs else []
    return Hive.open(
        BytesSource(path.read_bytes()), [(log.name, BytesSource(log.read_bytes())) for log in beside], path=name
    )


@pytest.mark.data
@pytest.mark.parametrize("name", SOUND)
def test_every_key_and_value_as_hivex_reads_them(name: str) -> None:
    hive = opened(name)
    ours = facts_of(hive)
    assert hive.state == "clean"
    assert hive.problems == ()
    theirs = hivex_says(data_file(name))
    assert {path: rows for path, (_, rows) in ours.items()} == {path: rows for path, (_, rows) in theirs.items()}
    # hivex counts in 100 ns; both rounded to 10 µs may fall one apart
    assert all(abs(time - theirs[path][0]) <= 1 for path, (time, _) in ours.items() if time)


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_every_key_and_value_as_dissect_reads_them(name: str) -> None:
    ours = {path: set(rows) for path, (_, rows) in facts_of(opened(name)).items()}
    assert ours == dissect_says(data_file(name))


@pytest.mark.data
@pytest.mark.parametrize("name", [*SMALL, "hives/log2timeline__dfwinreg/SYSTEM.xz"])
def test_every_name_as_python_registry_reads_them(name: str) -> None:
    ours = {path: {row[0] for row in rows} for path, (_, rows) in facts_of(opened(name)).items()}
    assert ours == python_registry_says(data_file(name))


@pytest.mark.data
@pytest.mark.parametrize("name", SOUND)
def test_every_key_and_value_is_found_by_its_name(name: str) -> None:
    """No name is missed by the way of hashes; each in another case as well, as Windows would accept it."""
    hive = opened(name)
    for number, (path, key) in enumerate(keys_of(hive)):
        if number % 23 and number > 2000:
            continue
        for spelled in (path, "".join(chr(ord(unit)) for unit in fold(path))) if path.isascii() else (path,):
            found = hive.key(spelled)
            assert found is not None, path
            assert found.offset == key.offset
        for value in key.values():
            same = key.value(value.name)
            assert same is not None
            assert same.offset == value.offset
    assert hive.problems == ()


# --- recovery ------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_new_logs_as_windows_10_recovers_them() -> None:
    """Two logs: the bins are those of the hive that Windows 10 wrote, byte by byte."""
    hive = opened(YARP + "NewDirtyHive1/NewDirtyHive")
    assert (hive.state, hive.logs_applied) == ("recovered", ("NewDirtyHive.LOG1", "NewDirtyHive.LOG2"))
    assert hive.problems == ()
    golden = data_file(YARP + "NewDirtyHive1/RecoveredHive_Windows10").read_bytes()
    (size,) = struct.unpack_from("<I", golden, 40)
    assert hive.image.read_at(4096, size) == golden[4096 : 4096 + size]
    assert facts_of(hive) == facts_of(Hive.open(BytesSource(golden)))


@pytest.mark.data
def test_an_old_log_as_windows_7_recovers_it() -> None:
    hive = opened(YARP + "OldDirtyHive/OldDirtyHive")
    assert (hive.state, hive.logs_applied) == ("recovered", ("OldDirtyHive.LOG1",))
    assert hive.problems == ()
    golden = data_file(YARP + "OldDirtyHive/RecoveredHive_Windows7").read_bytes()
    assert facts_of(hive) == facts_of(Hive.open(BytesSource(golden)))


@pytest.mark.data
@pytest.mark.parametrize("name", ["NewDirtyHive1/NewDirtyHive", "OldDirtyHive/OldDirtyHive"])
def test_a_recovered_image_is_a_hive_that_hivex_reads_alike(name: str, tmp_path: Path) -> None:
    hive = opened(YARP + name)
    made = tmp_path / "hive"
    made.write_bytes(hive.image.read_at(0, hive.image.size))
    again = Hive.open(BytesSource(made.read_bytes()))
    assert again.state == "clean"
    told = hivex_says(made)
    assert {path: rows for path, (_, rows) in facts_of(hive).items()} == {
        path: rows for path, (_, rows) in told.items()
    }


@pytest.mark.data
@pytest.mark.parametrize("name", ["NewDirtyHive1/NewDirtyHive", "OldDirtyHive/OldDirtyHive"])
def test_without_its_logs_a_dirty_hive_is_told(name: str) -> None:
    hive = opened(YARP + name, logs=False)
    assert hive.state == "dirty"
    assert "hive-dirty" in {problem.code for problem in hive.problems}
    assert {path: rows for path, (_, rows) in facts_of(hive).items()} == {
        path: rows for path, (_, rows) in hivex_says(data_file(YARP + name)).items()
    }


# --- damaged on purpose --------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "state", "keys", "codes"),
    [
        # The log's base block is damaged: yarp refuses it too (BaseBlockException); the primary is read as it is.
        ("BadLogHive1/BadLogHive", "dirty", 5003, {"hive-dirty", "hive-log-damaged"}),
        # The primary's base block is damaged (it says 1.1): the log's is used, as yarp's own test of it expects.
        ("BadBaseBlockHive/BadBaseBlockHive", "recovered", 5003, {"hive-base-block"}),
        # One key is listed below two parents: it counts below the one that it names. yarp ends its walk there.
        ("BadListHive", "clean", 6, {"hive-key-shared"}),
        ("BadSubkeyHive", "clean", 6, {"hive-key-shared"}),
        # A name was changed and its hint left: Windows does not find the key by its name.
        ("CompHive", "clean", 4, {"hive-subkey-hash"}),
        # Cut after two pages: the key whose subkeys are gone is still there.
        ("TruncatedHive", "clean", 2, {"hive-truncated", "hive-cell-out-of-range"}),
    ],
)
def test_damage_is_told_and_the_rest_read(name: str, state: str, keys: int, codes: set[str]) -> None:
    hive = opened(YARP + name)
    found = sum(1 for _ in keys_of(hive))
    assert (hive.state, found) == (state, keys)
    assert codes <= {problem.code for problem in hive.problems}


@pytest.mark.data
def test_a_damaged_base_block_does_not_keep_the_log_from_being_used() -> None:
    """It is the hive and the log of OldDirtyHive, so it becomes what Windows 7 made of that one."""
    hive = opened(YARP + "BadBaseBlockHive/BadBaseBlockHive")
    assert facts_of(hive) == facts_of(opened(YARP + "OldDirtyHive/RecoveredHive_Windows7"))


@pytest.mark.data
def test_a_wrong_checksum_is_told_and_all_is_read() -> None:
    """Hivex refuses this hive; with the right checksum in a copy it reads the same from it."""
    name = "hives/EricZimmerman__Registry/SAN(OTHER)"
    hive = opened(name)
    assert hive.state == "dirty"
    assert facts_of(hive) == facts_of(opened("hives/EricZimmerman__Registry/SAMBadHBinHeader"))


# --- what our tests build ------------------------------------------------------------------------------------------

TREE: Keys = {
    "": {"": "the default value", "Zahl": 7},
    "Select": {"Current": 1, "Default": 1},
    r"ControlSet001\Services\vmbus": {"Start": 0, "ImagePath": "system32\\drivers\\vmbus.sys", "Leer": b""},
    r"Ünïcode\ключ\𐐀name": {"Größe": 1 << 40, "имя": ("eins", "zwei"), "lone": b"\0\xd8"},
    "Data": {
        "inline": b"abc",
        "flat": b"x" * 16344,
        "big": bytes(range(256)) * 64 + b"tail",
        "bigger": b"0123456789" * 5000,
        "odd": Typed(QWORD, b"12345"),
        "link": Typed(LINK, "\\Registry".encode("utf-16-le")),
    },
    **{f"Many\\Key{number:04}": {"n": number} for number in range(1200)},
}


@pytest.mark.parametrize(("lists", "leaf", "minor"), [("lh", 507, 5), ("lf", 507, 3), ("li", 1012, 5), ("lh", 100, 6)])
def test_built_hives_are_what_foreign_readers_read(lists: str, leaf: int, minor: int, tmp_path: Path) -> None:
    path = tmp_path / "hive"
    path.write_bytes(build_hive(TREE, lists=lists, leaf=leaf, minor=minor, classes={"Select": "Class"}))
    hive = Hive.open(BytesSource(path.read_bytes()))
    ours = facts_of(hive)
    assert len(ours) == 1 + 1 + 3 + 3 + 1 + 1201
    assert {key: rows for key, (_, rows) in ours.items()} == {key: rows for key, (_, rows) in hivex_says(path).items()}
    assert hive.problems == ()
    if lists != "li":
        assert {key: set(rows) for key, (_, rows) in ours.items()} == dissect_says(path)


# --- the table of upper case ---------------------------------------------------------------------------------------


def test_upper_case_is_that_of_a_file_system_made_by_mkntfs(tmp_path: Path) -> None:
    image = tmp_path / "ntfs"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    run(require_tool("mkntfs"), "--force", "--quick", "--quiet", "--sector-size", "512", str(image))
    table: Any = struct.unpack("<65536H", run(require_tool("ntfscat"), "--inode", "10", str(image)).stdout)
    assert len(table) == 65536
    assert [ord(fold(chr(unit))) for unit in range(65536)] == list(table)
