from __future__ import annotations

import struct
import zlib

import pytest

from tests.volume.memory import BASIC_DATA, DISK_ID, ESP, gpt_disk
from vhdtool.layout import packed
from vhdtool.volume.gpt import GPT_ENTRY, GPT_HEADER, has_gpt_signature, read_gpt

PARTS = [(ESP, 40, 139, "EFI"), (BASIC_DATA, 140, 1999, "Basic data partition")]


def test_layouts_have_the_sizes_of_the_specification() -> None:
    assert GPT_HEADER.sizeof() == 92
    assert GPT_ENTRY.sizeof() == 128
    assert packed(GPT_ENTRY).size == 128


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_partitions_with_the_last_sector_in_them(sector_size: int) -> None:
    table, problems = read_gpt(gpt_disk(PARTS, sector_size=sector_size), sector_size)
    assert table is not None
    assert problems == []
    assert table.disk_guid == DISK_ID
    assert [(part.offset, part.size, part.type_guid, part.name) for part in table.partitions] == [
        (40 * sector_size, 100 * sector_size, ESP, "EFI"),
        (140 * sector_size, 1860 * sector_size, BASIC_DATA, "Basic data partition"),
    ]


@pytest.mark.parametrize("place", [512, 512 + 16, 512 + 40, 1024, 1024 + 32])
def test_a_damaged_primary_falls_back_to_the_backup(place: int) -> None:
    disk = gpt_disk(PARTS)
    disk.data[place] ^= 0xFF
    table, problems = read_gpt(disk, 512)
    assert table is not None
    assert len(table.partitions) == 2
    assert [problem.code for problem in problems] == ["gpt-primary-damaged"]


def test_a_damaged_backup_is_told() -> None:
    disk = gpt_disk(PARTS)
    disk.data[2047 * 512 + 30] ^= 1
    table, problems = read_gpt(disk, 512)
    assert table is not None
    assert [problem.code for problem in problems] == ["gpt-backup-damaged"]


def test_both_damaged_gives_nothing() -> None:
    disk = gpt_disk(PARTS)
    disk.data[600 - 40] ^= 1
    disk.data[2047 * 512 + 30] ^= 1
    table, problems = read_gpt(disk, 512)
    assert table is None
    assert len(problems) == 2


def test_the_backup_of_a_disk_that_was_made_larger_is_found_where_the_primary_says() -> None:
    disk = gpt_disk(PARTS)
    disk.data += bytes(512 * 512)
    table, problems = read_gpt(disk, 512)
    assert table is not None
    assert problems == []


@pytest.mark.parametrize(("offset", "value"), [(80, 0xFFFFFFFF), (84, 0), (84, 129), (84, 0xFFFFFFF8), (12, 10)])
def test_lying_headers_with_a_right_crc_are_refused(offset: int, value: int) -> None:
    disk = gpt_disk(PARTS)
    for at in (512, 2047 * 512):
        header = bytearray(disk.data[at : at + 92])
        struct.pack_into("<I", header, offset, value)
        header[16:20] = bytes(4)
        length = value if offset == 12 else 92
        header[16:20] = struct.pack("<I", zlib.crc32(header[:length]))
        disk.data[at : at + 92] = header
    table, problems = read_gpt(disk, 512)
    assert table is None
    assert len(problems) == 2


def test_the_signature_is_seen_in_either_copy() -> None:
    disk = gpt_disk(PARTS)
    assert has_gpt_signature(disk, 512)
    disk.data[512:520] = bytes(8)
    assert has_gpt_signature(disk, 512)
    disk.data[2047 * 512 : 2047 * 512 + 8] = bytes(8)
    assert not has_gpt_signature(disk, 512)


def test_impossible_entries_are_told() -> None:
    table, problems = read_gpt(gpt_disk([*PARTS, (BASIC_DATA, 300, 200, "back"), (BASIC_DATA, 3, 9, "low")]), 512)
    assert table is not None
    assert [part.name for part in table.partitions] == ["EFI", "Basic data partition", "low"]
    assert [(problem.code, problem.message[-4:]) for problem in problems] == [("gpt-entry-impossible", "3, 4")]
