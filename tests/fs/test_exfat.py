from __future__ import annotations

import struct

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.dissect_fs import DissectFilesystem, open_dissect
from vhdtool.fs.exfat import BOOT_SECTOR, FILE_ENTRY, LABEL_ENTRY, NAME_ENTRY, STREAM_ENTRY, _time

CLUSTER = 1024
HEAP = 8 * 512
COUNT = 60
END = 0xFFFFFFFF


def test_layouts() -> None:
    assert BOOT_SECTOR.sizeof() == 110
    assert {entry.sizeof() for entry in (FILE_ENTRY, STREAM_ENTRY, NAME_ENTRY, LABEL_ENTRY)} == {32}


def entry_set(
    name: str, attributes: int, cluster: int, size: int, *, flags: int = 1, valid: int | None = None
) -> bytes:
    units = name.encode("utf-16-le")
    names = [units[at : at + 30].ljust(30, b"\0") for at in range(0, len(units), 30)]
    stamp = (41 << 25) | (6 << 21) | (15 << 16) | (12 << 11) | (30 << 5) | 20
    file = struct.pack(
        "<BBHH2xIIIBBBBB7x", 0x85, 1 + len(names), 0, attributes, stamp, stamp, stamp, 0, 50, 0x88, 0x88, 0
    )
    stream = struct.pack("<BBxBHHQ4xIQ", 0xC0, flags, len(name), 0, 0, size if valid is None else valid, cluster, size)
    return file + stream + b"".join(b"\xc1\0" + piece for piece in names)


def volume(chains: dict[int, int], clusters: dict[int, bytes]) -> MemoryDevice:
    boot = b"\xeb\x76\x90EXFAT   ".ljust(64, b"\0")
    boot += struct.pack("<QQIIIIIIHHBBBB", 0, 128, 2, 4, HEAP // 512, COUNT, 5, 1, 0x100, 0, 9, 1, 1, 0x80)
    data = bytearray(HEAP + COUNT * CLUSTER)
    data[: len(boot)] = boot
    data[510:512] = b"\x55\xaa"
    for cluster, following in chains.items():
        struct.pack_into("<I", data, 1024 + cluster * 4, following)
    for cluster, content in clusters.items():
        at = HEAP + (cluster - 2) * CLUSTER
        data[at : at + len(content)] = content
    return MemoryDevice(data)


LABEL = struct.pack("<BB22s8x", 0x83, 4, "Disk".encode("utf-16-le"))
LONG = "a name of more than fifteen characters.txt"
ROOT = (
    LABEL
    + entry_set("Sub", 0x10, 10, 2 * CLUSTER, flags=3)
    + entry_set(LONG, 0x20, 21, 2500, valid=2100)
    + entry_set("circle", 0x20, 30, 5000)
    + entry_set("huge", 0x20, 21, 1 << 40)
    + entry_set("outside", 0x20, 70, 100, flags=3)
)
# The root lies in clusters 5 and 6; Sub in 10 and 11, without a chain; the file in 21, 20, 23.
CHAINS = {5: 6, 6: END, 21: 20, 20: 23, 23: END, 30: 31, 31: 30}
CLUSTERS = {
    5: ROOT[:CLUSTER],
    6: ROOT[CLUSTER:],
    10: (b"\x05" * 32 * 32)[: CLUSTER - 0],
    11: entry_set("inner.txt", 0x20, 40, 5, flags=3),
    21: b"A" * CLUSTER,
    20: b"B" * CLUSTER,
    23: b"C" * CLUSTER,
    40: b"inner",
}


@pytest.fixture
def fs() -> DissectFilesystem:
    return open_dissect(volume(CHAINS, CLUSTERS), "exfat")


def test_names_and_facts(fs: DissectFilesystem) -> None:
    assert (fs.kind, fs.label) == ("exfat", "Disk")
    assert [(each.name, each.kind) for each in fs.list("/")] == [
        ("Sub", "directory"),
        (LONG, "file"),
        ("circle", "file"),
        ("huge", "file"),
        ("outside", "file"),
    ]
    stat = fs.stat("/SUB/INNER.TXT")
    assert stat is not None
    assert str(stat.modified) == "2021-06-15 10:30:40.500000+00:00"


def test_fragmented_content_with_a_valid_length(fs: DissectFilesystem) -> None:
    expected = (b"A" * CLUSTER + b"B" * CLUSTER + b"C" * 52).ljust(2500, b"\0")
    assert fs.open(f"/{LONG.upper()}").read_at(0, 9999) == expected
    assert fs.open("/sub/inner.txt").read_at(0, 99) == b"inner"


@pytest.mark.parametrize("path", ["/huge", "/outside"])
def test_files_that_cannot_be(fs: DissectFilesystem, path: str) -> None:
    with pytest.raises(DamagedError):
        fs.open(path)


def test_circles_end(fs: DissectFilesystem) -> None:
    with pytest.raises(DamagedError, match="circle"):
        fs.open("/circle")
    with pytest.raises(DamagedError, match="circle"):
        open_dissect(volume({5: 5}, {5: LABEL * 32}), "exfat").list("/")


def test_incomplete_entries() -> None:
    broken = bytearray(ROOT)
    broken[1 + 32] = 40
    with pytest.raises(DamagedError):
        open_dissect(volume({5: END}, {5: bytes(broken[: 32 * 2])}), "exfat").list("/")


def test_times_that_no_calendar_has() -> None:
    assert _time(0, 0, 0) is None
    assert _time(0xFFFFFFFF, 255, 255) is None
