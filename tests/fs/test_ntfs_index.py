from __future__ import annotations

import struct

import pytest

from tests.fs import features
from tests.fs.test_ntfs import VOLUME
from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_index import (
    FILE_NAME_KEY,
    INDEX_BLOCK_HEADER,
    INDEX_ENTRY,
    INDEX_HEADER,
    INDEX_ROOT_HEADER,
    UpCase,
    filetime,
)
from vhdtool.fs.ntfs_records import INDEX_ALLOCATION
from vhdtool.fs.ntfs_stream import ResidentStream
from vhdtool.layout import packed


def test_layouts_have_the_sizes_of_the_format() -> None:
    assert (INDEX_ROOT_HEADER.sizeof(), INDEX_HEADER.sizeof(), INDEX_BLOCK_HEADER.sizeof()) == (16, 16, 24)
    assert (INDEX_ENTRY.sizeof(), FILE_NAME_KEY.sizeof()) == (16, 66)
    for layout in (INDEX_HEADER, INDEX_BLOCK_HEADER, INDEX_ENTRY, FILE_NAME_KEY):
        assert packed(layout).size == layout.sizeof()


def test_names_fold_by_the_table_and_by_code_units() -> None:
    table = bytearray(struct.pack("<65536H", *range(65536)))
    struct.pack_into("<H", table, 2 * 0x61, 0x41)
    struct.pack_into("<H", table, 2 * 0x450, 0x400)
    upcase = UpCase(ResidentStream(bytes(table)))
    assert upcase.fold((0x61, 0x62)) == (0x41, 0x62)
    assert upcase.fold((0x61, 0x450, 0xD83D)) == (0x41, 0x400, 0xD83D)
    assert upcase.fold(()) == ()


def test_a_table_of_another_size_is_damage() -> None:
    with pytest.raises(DamagedError):
        UpCase(ResidentStream(bytes(100)))


def test_times() -> None:
    assert filetime(0) is None
    assert str(filetime(132223104000000000)) == "2020-01-01 00:00:00+00:00"
    assert filetime(0xFFFFFFFFFFFFFFFF) is None


def blocks() -> list[int]:
    """Where the index blocks of /names lie on the volume."""
    fs = NtfsFilesystem(MemoryDevice(VOLUME))
    stat = fs.stat("/names")
    assert stat is not None
    assert stat.record is not None
    stream = fs.mft.record(stat.record).stream(INDEX_ALLOCATION, "$I30")
    assert stream is not None
    return [extent.volume_offset + at for extent in stream.extents() for at in range(0, extent.length, 4096)]


def damage(place: int, layout: str, value: int | bytes) -> NtfsFilesystem:
    volume = bytearray(VOLUME)
    struct.pack_into(layout, volume, place, value)
    return NtfsFilesystem(MemoryDevice(volume))


def test_there_is_a_tree_to_damage() -> None:
    assert len(blocks()) >= 3


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [(0, "4s", b"BAAD"), (16, "<Q", 99), (24, "<I", 5000), (28, "<I", 0xFFFFFFF0), (28, "<I", 0), (510, "<H", 0xDEAD)],
)
def test_a_damaged_block_is_never_a_shorter_list(offset: int, layout: str, value: int | bytes) -> None:
    for block in blocks():
        fs = damage(block + offset, layout, value)
        with pytest.raises(DamagedError):
            fs.list("/names")
        with pytest.raises(DamagedError):
            fs.stat("/names/not there")


def test_names_of_whole_blocks_are_found_although_another_is_damaged() -> None:
    hurt = 0
    fs = damage(blocks()[0], "4s", b"BAAD")
    for name in features.NAMES:
        try:
            assert fs.stat(f"/names/{name}") is not None
        except DamagedError:
            hurt += 1
    assert 0 < hurt < len(features.NAMES)


def entries_of(block: int) -> list[int]:
    at = block + 24 + struct.unpack_from("<I", VOLUME, block + 24)[0]
    found = []
    while not struct.unpack_from("<H", VOLUME, at + 12)[0] & 2:
        found.append(at)
        at += struct.unpack_from("<H", VOLUME, at + 8)[0]
    return [*found, at]


def test_lying_entries() -> None:
    for block in blocks()[:2]:
        for at in entries_of(block)[:3]:
            for offset, value in ((8, 0), (8, 8), (8, 0xFFF8), (10, 3), (12, 2)):
                fs = damage(at + offset, "<H", value)
                with pytest.raises(DamagedError):
                    fs.list("/names")


def test_a_name_at_a_wrong_place_is_never_said_not_to_be_there() -> None:
    for block in blocks():
        at = entries_of(block)[0]
        # Its first character becomes the highest there is: the order of the block is broken.
        fs = damage(at + 16 + 66, "<H", 0xFFFD)
        renamed = [entry.name for entry in fs.list("/names") if entry.name.startswith("\ufffd")]
        assert len(renamed) == 1
        # It is found by searching all blocks, and refused then, for its record tells another name.
        with pytest.raises(DamagedError, match="another name"):
            fs.stat(f"/names/{renamed[0]}")


def test_trees_that_lead_in_circles_or_elsewhere() -> None:
    """Every child pointer, set to every other block: no name may go missing without a word."""
    children = [
        at + struct.unpack_from("<H", VOLUME, at + 8)[0] - 8
        for block in blocks()
        for at in entries_of(block)
        if struct.unpack_from("<H", VOLUME, at + 12)[0] & 1
    ]
    wrong = 0
    for place in children[:6]:
        right = struct.unpack_from("<Q", VOLUME, place)[0]
        for vcn in (*range(len(blocks())), 1 << 40):
            if vcn == right:
                continue
            fs = damage(place, "<Q", vcn)
            with pytest.raises(DamagedError):
                fs.list("/names")
            for name in features.NAMES[::20]:
                assert fs.stat(f"/names/{name}") is not None
            wrong += 1
    assert wrong or not children
