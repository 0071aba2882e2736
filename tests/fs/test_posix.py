from __future__ import annotations

import struct

import pytest

from tests.data_files import data_file
from tests.volume.memory import MemoryDevice
from vhdtool.disk.device import FileDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.dissect_fs import open_dissect
from vhdtool.fs.posix import _BlockMap, _normal


def pointers(*values: int) -> bytes:
    return struct.pack("<15I", *values, *[0] * (15 - len(values)))


def test_direct_blocks_and_holes() -> None:
    found = _BlockMap(MemoryDevice(b""), 1024, pointers(5, 6, 7, 0, 0, 9)).runs(8, "/f")
    assert found == [(5, 3), (None, 2), (9, 1), (None, 2)]


def test_indirect_blocks_and_a_hole_in_the_double_indirect() -> None:
    data = bytearray(64 * 1024)
    struct.pack_into("<3I", data, 20 * 1024, 30, 31, 0)
    direct = [*range(100, 112)]
    found = _BlockMap(MemoryDevice(data), 1024, pointers(*direct, 20, 0, 0)).runs(12 + 256 + 300, "/f")
    assert found == [(100, 12), (30, 2), (None, 254 + 300)]


def test_triple_indirect() -> None:
    data = bytearray(64 * 1024)
    struct.pack_into("<2I", data, 21 * 1024, 0, 22)
    struct.pack_into("<I", data, 22 * 1024, 23)
    struct.pack_into("<I", data, 23 * 1024, 50)
    start = 12 + 256 + 256**2
    found = _BlockMap(MemoryDevice(data), 1024, pointers(*[0] * 14, 21)).runs(start + 256**2 + 1, "/f")
    assert found == [(None, start + 256**2), (50, 1)]


@pytest.mark.parametrize("blocks", [1 << 40, 12 + 256 + 256**2 + 256**3 + 1])
def test_a_size_that_no_map_holds(blocks: int) -> None:
    with pytest.raises(DamagedError):
        _BlockMap(MemoryDevice(b""), 1024, pointers()).runs(blocks, "/f")


def test_pointer_blocks_in_circles_or_outside_end() -> None:
    data = bytearray(4096)
    struct.pack_into("<256I", data, 1024, *[1] * 256)
    with pytest.raises(DamagedError, match="too many"):
        _BlockMap(MemoryDevice(data), 1024, pointers(*[0] * 14, 1)).runs(256**3, "/f")
    with pytest.raises(DamagedError, match="beyond"):
        _BlockMap(MemoryDevice(data), 1024, pointers(*[0] * 12, 99)).runs(20, "/f")


def test_run_lists_without_nonsense() -> None:
    assert _normal([(1, 2), (None, 0), (3, 1)]) == [(1, 2), (3, 1)]
    with pytest.raises(ValueError, match="overlap"):
        _normal([(None, -1)])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("linuxfs/fox-it__dissect.extfs/ext4.bin.gz", "ext"),
        ("linuxfs/fox-it__dissect.xfs/xfs.bin.gz", "xfs"),
        ("linuxfs/fox-it__dissect.xfs/xfs_bigtime.bin.gz", "xfs"),
    ],
)
def test_damaged_volumes_end_in_damage_or_answers(name: str, kind: str) -> None:
    """The first 4 KiB word by word: whatever it says, the tree is walked or damage is told."""
    whole = data_file(name).read_bytes()[: 2 * 1024 * 1024]
    for offset in range(0, 4096, 52):
        data = bytearray(whole)
        data[offset : offset + 4] = b"\xff\xff\xff\x7f"
        try:
            fs = open_dissect(MemoryDevice(data), kind)
            for entry in fs.list("/"):
                if entry.kind == "file":
                    fs.open(f"/{entry.name}").read_at(0, 4096)
        except DamagedError:
            continue


def test_ext_symlinks_and_case() -> None:
    fs = open_dissect(FileDevice(data_file("linuxfs/fox-it__dissect.extfs/ext4.bin.gz")), "ext")
    for entry in fs.list("/"):
        assert fs.stat("/" + entry.name) == entry
        assert fs.stat("/" + entry.name.swapcase()) is None or entry.name.swapcase() == entry.name
