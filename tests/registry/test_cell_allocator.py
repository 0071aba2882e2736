from __future__ import annotations

import struct
from random import Random

import pytest

from tests.registry.build_hive import PAGE, build_hive, hbins_size
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, OutputError
from vhdtool.registry import cell_allocator
from vhdtool.registry.cell_allocator import CellAllocator, cell_size
from vhdtool.registry.hbin import Bins
from vhdtool.registry.pages import HivePages

HIVE = build_hive({"Key": {"v": b"x" * 500}, **{f"Many\\Key{number:03}": {"n": b"y" * 100} for number in range(200)}})


def allocator(raw: bytes = HIVE, file_size: int | None = None) -> CellAllocator:
    pages = HivePages(BytesSource(raw), "hive")
    return CellAllocator(Bins(pages, hbins_size(raw), "hive"), len(raw) if file_size is None else file_size)


def cells(made: CellAllocator) -> list[tuple[int, int]]:
    """All cells, read from the bytes: their offsets and stored sizes."""
    raw = made.bins.pages.read_at(PAGE, made.bins.hbins_size)
    found, place = [], 0
    while place < len(raw):
        signature, offset, length = struct.unpack_from("<4sII", raw, place)
        assert (signature, offset) == (b"hbin", place)
        end, place = place + length, place + 32
        while place < end:
            (size,) = struct.unpack_from("<i", raw, place)
            assert size
            assert abs(size) % 8 == 0
            found.append((place, size))
            place += abs(size)
        assert place == end
    return found


def test_sizes_of_cells() -> None:
    assert [cell_size(length) for length in (0, 1, 4, 5, 12, 13)] == [8, 8, 8, 16, 16, 24]
    assert [cell_size(16_344), cell_size(16_380), cell_size(16_381)] == [16_352, 16_384, 32_768]
    assert cell_size(100_000) == 131_072


def test_a_cell_is_taken_in_the_bin_of_the_key() -> None:
    made = allocator()
    before = dict(cells(made))
    free = [cell for cell, size in before.items() if size > 40]
    for near in free:
        cell = allocator().allocate(20, near)
        assert cell // PAGE == near // PAGE


def test_the_smallest_that_fits_is_taken_and_the_rest_left_free() -> None:
    made = allocator()
    near = next(cell for cell, size in cells(made) if size > 100)
    cell = made.allocate(44, near)
    assert cell == near
    assert dict(cells(made))[cell] == -48
    assert dict(cells(made))[cell + 48] > 0


@pytest.mark.parametrize("seed", range(6))
def test_freed_cells_are_joined_whatever_the_order(seed: int) -> None:
    """After all is given back the bins have the cells that they had, and new ones are one free cell each."""
    random = Random(seed)
    made = allocator()
    before = cells(made)
    size = made.bins.hbins_size
    taken = [made.allocate(random.choice((1, 20, 200, 3000, 16_000)), 32) for _ in range(60)]
    assert len(set(taken)) == 60
    used = {cell for cell, stored in cells(made) if stored < 0}
    assert set(taken) <= used
    random.shuffle(taken)
    for cell in taken:
        made.free(cell)
    after = cells(made)
    assert [cell for cell in after if cell[0] < size] == before
    for place, stored in after[len(before) :]:
        assert place % PAGE == 32
        assert (stored + 32) % PAGE == 0


def test_a_new_bin_is_as_long_as_its_cell_needs() -> None:
    for length, pages in ((4060, 1), (4061, 2), (16_344, 4), (20_000, 9), (40_000, 17)):
        made = allocator()
        size = made.bins.hbins_size
        cell = made.allocate(length, 32)
        assert cell == size + 32
        assert made.bins.hbins_size == size + pages * PAGE


def test_what_lies_in_the_files_tail_is_overwritten() -> None:
    made = allocator(HIVE + b"\xaa" * 5 * PAGE)
    cell = made.allocate(4000, 32)
    page = made.bins.pages.read_at(PAGE + cell - 32, PAGE)
    assert b"\xaa" not in page


def test_looking_for_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file has room for a bin, fewer pages are looked through than where it would have to grow."""
    monkeypatch.setattr(cell_allocator, "SCANNED_PAGES", 2)
    monkeypatch.setattr(cell_allocator, "SCANNED_PAGES_BEFORE_GROWTH", 1000)
    full = allocator()
    holes = [cell for cell, size in cells(full) if size < 0][-3:]
    raw = bytearray(HIVE)
    for cell in holes:  # room at the end of a hive that has none elsewhere
        (size,) = struct.unpack_from("<i", raw, PAGE + cell)
        struct.pack_into("<i", raw, PAGE + cell, -size)
    first = allocator(bytes(raw), file_size=1 << 30)
    while (cell := first.allocate(300, 32)) < hbins_size(HIVE):
        pass
    tight = allocator(bytes(raw))
    count = 0
    while (cell := tight.allocate(300, 32)) < hbins_size(HIVE):
        count += 1
    assert count
    assert cell == hbins_size(HIVE) + 32


def test_a_hive_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_allocator, "HBINS_LIMIT", hbins_size(HIVE) + 3 * PAGE)
    made = allocator()
    made.allocate(12_000, 32)
    with pytest.raises(OutputError) as caught:
        made.allocate(12_000, 32)
    assert caught.value.code == "hive-full"


def test_what_is_no_cell_is_not_freed() -> None:
    made = allocator()
    cell = next(cell for cell, size in cells(made) if size < -40)
    with pytest.raises(DamagedError) as caught:
        made.free(cell + 8)
    assert caught.value.code == "hive-cell-out-of-range"
    made.free(cell)
    with pytest.raises(DamagedError):
        made.free(cell)


def test_damaged_bins_are_left_alone() -> None:
    """Room is not looked for in them; a cell in one can't be freed."""
    raw = bytearray(HIVE)
    cell = next(cell for cell, size in cells(allocator()) if cell > 2 * PAGE and size < 0)
    struct.pack_into("<i", raw, PAGE + cell, -0x7000)
    made = allocator(bytes(raw))
    assert made.allocate(3000, 32)
    with pytest.raises(DamagedError) as caught:
        made.free(cell)
    assert caught.value.code == "hive-cell-size"
