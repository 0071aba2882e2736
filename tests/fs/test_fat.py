from __future__ import annotations

import struct

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError, NotFoundError
from vhdtool.fs.dissect_fs import DissectFilesystem, open_dissect
from vhdtool.volume.marks import read_marks

CLUSTER = 512
EOC = 0xFFF


def entry(name: bytes, attributes: int, cluster: int, size: int) -> bytes:
    # 2021-06-15 12:30:40, by the FAT specification's date and time fields.
    date, time = (41 << 9) | (6 << 5) | 15, (12 << 11) | (30 << 5) | 20
    return struct.pack("<11sB8xHHHHI", name, attributes, 0, time, date, cluster, size)


def long_name(name: str, short: bytes) -> bytes:
    total = 0
    for byte in short:
        total = ((total >> 1) | (total << 7 & 0x80)) + byte & 0xFF
    units = (name.encode("utf-16-le") + b"\0\0").ljust(26, b"\xff")
    return b"\x41" + units[:10] + bytes([0x0F, 0, total]) + units[10:22] + b"\0\0" + units[22:26]


def fat12(chains: dict[int, int], root: bytes, clusters: dict[int, bytes]) -> MemoryDevice:
    """A floppy: 1 reserved sector, 2 FATs of 3 sectors, 64 root entries, 800 clusters."""
    boot = b"\xeb\x3c\x90MSDOS5.0" + struct.pack("<HBHBHHBHHHI", 512, 1, 1, 2, 64, 811, 0xF0, 3, 18, 2, 0)
    boot = boot.ljust(38, b"\0") + b"\x29" + struct.pack("<I", 1) + b"BOOTLABEL  FAT12   "
    table = bytearray(3 * 512)
    for cluster, following in {0: 0xFF0, 1: EOC, **chains}.items():
        at = cluster * 3 // 2
        (old,) = struct.unpack_from("<H", table, at)
        new = (old & 0xF | following << 4) if cluster & 1 else (old & 0xF000 | following)
        struct.pack_into("<H", table, at, new)
    data = bytearray(811 * 512)
    data[:512] = boot.ljust(510, b"\0") + b"\x55\xaa"
    data[512 : 512 * 7] = bytes(table) * 2
    data[512 * 7 : 512 * 7 + len(root)] = root
    for cluster, content in clusters.items():
        at = 512 * 11 + (cluster - 2) * CLUSTER
        data[at : at + len(content)] = content
    return MemoryDevice(data)


ROOT = (
    entry(b"ROOTLABEL  ", 0x08, 0, 0)
    + entry(b"SUB        ", 0x10, 2, 0)
    + long_name("Long näme.txt", b"LONGNA~1TXT")
    + entry(b"LONGNA~1TXT", 0x20, 9, 1500)
    + b"\xe5"
    + entry(b"DELETED TXT", 0x20, 3, 5)[1:]
    + entry(b"CIRCLE  BIN", 0x20, 20, 100_000)
    + entry(b"SHORT   BIN", 0x20, 30, 2000)
    + entry(b"EMPTY   BIN", 0x20, 0, 0)
)
SUB = entry(b".          ", 0x10, 2, 0) + entry(b"..         ", 0x10, 0, 0) + entry(b"INNER   TXT", 0x20, 3, 5)
# The file lies in clusters 9, 8, 12: the second right before the first.
CHAINS = {2: EOC, 3: EOC, 9: 8, 8: 12, 12: EOC, 20: 21, 21: 20, 30: EOC}
CLUSTERS = {2: SUB, 3: b"inner", 9: b"A" * 512, 8: b"B" * 512, 12: b"C" * 512, 10: b"wrong" * 100}


@pytest.fixture
def fs() -> DissectFilesystem:
    device = fat12(CHAINS, ROOT, CLUSTERS)
    assert read_marks(device).filesystem == "fat12"
    assert read_marks(device).label == "BOOTLABEL"
    return open_dissect(device, "fat12")


def test_names_label_and_facts(fs: DissectFilesystem) -> None:
    assert (fs.kind, fs.label) == ("fat", "ROOTLABEL")
    assert [(each.name, each.kind, each.size) for each in fs.list("/")] == [
        ("SUB", "directory", 0),
        ("Long näme.txt", "file", 1500),
        ("CIRCLE.BIN", "file", 100_000),
        ("SHORT.BIN", "file", 2000),
        ("EMPTY.BIN", "file", 0),
    ]
    stat = fs.stat("\\sub\\inner.TXT")
    assert stat is not None
    assert str(stat.modified) == "2021-06-15 12:30:40+00:00"
    assert [each.name for each in fs.list("/SUB")] == ["INNER.TXT"]


def test_a_chain_that_goes_back_by_one(fs: DissectFilesystem) -> None:
    file = fs.open("/LONG NÄME.TXT")
    assert file.read_at(0, 9999) == b"A" * 512 + b"B" * 512 + b"C" * 476
    assert [(each.file_offset, each.length) for each in file.extents()] == [(0, 512), (512, 512), (1024, 476)]


def test_a_chain_in_a_circle(fs: DissectFilesystem) -> None:
    with pytest.raises(DamagedError, match="circle"):
        fs.open("/circle.bin")


def test_a_chain_that_ends_early_is_damage(fs: DissectFilesystem) -> None:
    with pytest.raises(DamagedError):
        fs.open("/short.bin")


def test_a_directory_in_a_circle_ends() -> None:
    device = fat12({2: 3, 3: 2}, entry(b"SUB        ", 0x10, 2, 0), {2: SUB.ljust(512, b"\xe5"), 3: b"\xe5" * 512})
    with pytest.raises(DamagedError):
        open_dissect(device, "fat12").list("/SUB")


def test_empty_and_missing(fs: DissectFilesystem) -> None:
    assert fs.open("/empty.bin").read_at(0, 10) == b""
    assert fs.stat("/nothing") is None
    with pytest.raises(NotFoundError):
        fs.open("/SUB")
    with pytest.raises(NotFoundError):
        fs.list("/EMPTY.BIN")
