from __future__ import annotations

import struct

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.disk import vhdx_bat
from vhdtool.disk.bat_pages import PAGE_SIZE
from vhdtool.disk.vhdx_bat import PAGE_LIMIT, Bat, encode_bat_entry
from vhdtool.errors import DamagedError

MIB = 1 << 20


class CountingSource:
    """A source that says zeros everywhere but where a test put entries, and keeps what was asked."""

    def __init__(self, entries: dict[int, int], size: int) -> None:
        self.size = size
        self.asked: list[tuple[int, int]] = []
        self._entries = entries

    def read_at(self, offset: int, length: int) -> bytes:
        self.asked.append((offset, length))
        data = bytearray(length)
        for index, value in self._entries.items():
            place = index * 8 - offset
            if 0 <= place < length:
                data[place : place + 8] = struct.pack("<Q", value)
        return bytes(data)


def bat_of(entries: dict[int, int], blocks: int, ratio: int, *, has_parent: bool = False) -> tuple[Bat, CountingSource]:
    source = CountingSource(entries, 1 << 40)
    bat = Bat(source, 0, 1 << 32, payload_blocks=blocks, chunk_ratio=ratio, has_parent=has_parent)
    source.asked.clear()
    return bat, source


def test_indices_of_the_specification() -> None:
    # 2.5: the entry of a chunk's sector bitmap block follows the entries of its payload blocks
    bat, _ = bat_of({}, 300, 128, has_parent=True)
    assert [bat.payload_index(block) for block in (0, 127, 128, 255, 256)] == [0, 127, 129, 256, 258]
    assert [bat.bitmap_index(chunk) for chunk in (0, 1, 2)] == [128, 257, 386]
    assert bat.entry_offset(129) == 129 * 8


def test_only_the_page_that_is_asked_for_is_read() -> None:
    bat, source = bat_of({5000: 6 | 7 << 20}, 8 << 20, 4096)
    assert source.asked == []
    assert bat.value(5000) == 6 | 7 << 20
    assert bat.value(5001) == 0
    assert source.asked == [(5000 * 8 // PAGE_SIZE * PAGE_SIZE, PAGE_SIZE)]


def test_pages_kept_are_bounded() -> None:
    bat, source = bat_of({}, 8 << 20, 4096)
    for page in range(PAGE_LIMIT * 2 + 5):
        bat.value(page * 512)
    assert len(source.asked) == PAGE_LIMIT * 2 + 5
    assert len(bat._pages) <= PAGE_LIMIT
    source.asked.clear()
    bat.value((PAGE_LIMIT * 2 + 4) * 512)
    assert source.asked == []


@pytest.mark.parametrize(("ratio", "blocks"), [(16, 100), (128, 4000), (511, 3000), (512, 3000), (4096, 20000)])
@pytest.mark.parametrize("has_parent", [False, True])
def test_absent_until_is_true_and_moves_on(ratio: int, blocks: int, *, has_parent: bool) -> None:
    present = {0, 700, blocks - 1} & set(range(blocks))
    entries = {block + block // ratio: 6 | (block + 5) << 20 for block in present}
    bat, _ = bat_of(entries, blocks, ratio, has_parent=has_parent)
    for block in range(0, blocks, 7):
        end = bat.absent_until(block)
        assert block <= end <= blocks
        assert not any(block <= known < end for known in present)
        assert end == block_after_page(bat, block, blocks)


def block_after_page(bat: Bat, block: int, blocks: int) -> int:
    """By search: the first payload block whose entry lies beyond the page of this one, if its page is empty."""
    page = bat.payload_index(block) // 512
    last = (page + 1) * 512
    if any(bat.value(index) for index in range(page * 512, min(last, bat.entry_count))):
        return block
    return next((other for other in range(block, blocks) if bat.payload_index(other) >= last), blocks)


def test_entries_say_what_stands_there() -> None:
    entries = {0: 6 | 4 << 20, 15: 3, 16: 6 | 9 << 20, 17: 2, 20: 5 | 1 << 63}
    bat, _ = bat_of(entries, 20, 16, has_parent=True)
    rows = list(bat.entries())
    assert len(rows) == 34
    assert rows[0] == (0, "payload", 0, 6, 4 * MIB)
    assert rows[15] == (15, "payload", 15, 3, 0)
    assert rows[16] == (16, "bitmap", 0, 6, 9 * MIB)
    assert rows[17] == (17, "payload", 16, 2, 0)
    assert rows[20] == (20, "payload", 19, 5, 1 << 63)
    assert rows[33] == (33, "bitmap", 1, 0, 0)
    assert [row.bat_index for row in rows] == list(range(34))


@pytest.mark.parametrize("ratio", [16, 512, 4096])
def test_entries_of_many_pages_agree_with_the_indices(ratio: int) -> None:
    bat, source = bat_of({}, 3000, ratio, has_parent=True)
    rows = iter(bat.entries())
    assert next(rows)
    assert len(source.asked) == 1
    for row in rows:
        expected = bat.payload_index if row.kind == "payload" else bat.bitmap_index
        assert row.bat_index == expected(row.block_number)
    assert len(bat._pages) == 0


def test_a_region_that_is_too_small() -> None:
    with pytest.raises(DamagedError) as caught:
        Bat(BytesSource(bytes(100)), 0, 799, payload_blocks=100, chunk_ratio=16, has_parent=False)
    assert caught.value.code == "vhdx-bat-too-small"


def test_a_file_that_ends_inside() -> None:
    with pytest.raises(DamagedError) as caught:
        Bat(BytesSource(bytes(799)), 0, MIB, payload_blocks=95, chunk_ratio=16, has_parent=False)
    assert caught.value.code == "vhdx-bat-truncated"
    whole = Bat(BytesSource(bytes(800)), 0, MIB, payload_blocks=95, chunk_ratio=16, has_parent=False)
    assert whole.value(99) == 0


def test_an_encoded_entry() -> None:
    # MS-VHDX 2.5: state in bits 0 to 2, FileOffsetMB in bits 20 to 63
    assert encode_bat_entry(6, 4 * MIB) == bytes.fromhex("0600400000000000")
    assert vhdx_bat.PAGE_SIZE % 8 == 0
