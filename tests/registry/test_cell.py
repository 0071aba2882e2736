from __future__ import annotations

import struct

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.cell import PROBLEM_LIMIT, Cells
from vhdtool.registry.format import NIL
from vhdtool.registry.pages import HivePages

SIZE = 0x3000


def cells(*written: tuple[int, int, bytes], size: int = SIZE) -> Cells:
    """Three bins of a page, with (cell, stored size, data)."""
    bins = bytearray(SIZE)
    for start in range(0, SIZE, 4096):
        struct.pack_into("<4sII", bins, start, b"hbin", start, 4096)
    for cell, stored, data in written:
        struct.pack_into(f"<i{len(data)}s", bins, cell, stored, data)
    return Cells(HivePages(BytesSource(bytes(4096) + bins), "hive"), size, 0x20, "hive", 5)


def code_of(made: Cells, cell: int) -> str:
    with pytest.raises(DamagedError) as caught:
        made.record(cell, 4)
    assert caught.value.path == "hive"
    assert caught.value.offset == (None if cell == NIL else 4096 + cell)
    return caught.value.code


def test_data() -> None:
    made = cells((0x20, -16, b"abcdefghijkl"), (0x30, -8, b"1234"))
    assert made.record(0x20, 100) == b"abcdefghijkl"
    assert made.record(0x20, 3) == b"abc"
    assert made.read(0x30, 4, "a thing") == b"1234"


def test_a_cell_over_pages() -> None:
    data = bytes(range(250)) * 20
    made = cells((0xFF0, -5008, data))
    assert made.record(0xFF0, 5000) == data[:5000]


def test_too_small() -> None:
    with pytest.raises(DamagedError) as caught:
        cells((0x20, -16, b"")).read(0x20, 13, "a key")
    assert caught.value.code == "hive-cell-size"
    assert (caught.value.expected, caught.value.found) == ("13 bytes", "12")


@pytest.mark.parametrize("cell", [0x21, 0x24, SIZE, SIZE - 4, 0x7FFFFFF8, 0xFFFFFFF8, NIL])
def test_offsets_that_lead_to_no_cell(cell: int) -> None:
    """Not aligned, or outside."""
    assert code_of(cells(), cell) == "hive-cell-out-of-range"


@pytest.mark.parametrize("cell", [8, 0x1008, 0x1010])
def test_the_head_of_a_bin_is_no_cell(cell: int) -> None:
    assert code_of(cells((cell, -8, b"")), cell) == "hive-cell-out-of-range"


@pytest.mark.parametrize(
    ("stored", "code"),
    [
        (0, "hive-cell-free"),
        (16, "hive-cell-free"),
        (0x7FFFFFFF, "hive-cell-free"),
        (-4, "hive-cell-size"),
        (-12, "hive-cell-size"),
        (-(SIZE - 0x20) - 8, "hive-cell-size"),
        (-0x80000000, "hive-cell-size"),
    ],
)
def test_impossible_sizes(stored: int, code: str) -> None:
    assert code_of(cells((0x20, stored, b"")), 0x20) == code


def test_the_last_cell_and_no_more() -> None:
    assert cells((SIZE - 8, -8, b"last")).record(SIZE - 8, 4) == b"last"
    assert code_of(cells((0x1020, -8, b"gone"), size=0x1000), 0x1020) == "hive-cell-out-of-range"
    assert code_of(cells(size=0), 0x20) == "hive-cell-out-of-range"


def test_one_owner() -> None:
    made = cells()
    assert made.claim(0x20, 1)
    assert made.claim(0x20, 1)
    assert not made.claim(0x20, 2)


def test_problems_are_kept_once_and_not_without_end() -> None:
    made = cells()
    for _ in range(2):
        made.note(made.damaged("code", "message", 0x20, expected=1, found=2))
    (problem,) = made.problems
    assert (problem.code, problem.offset, problem.path) == ("code", 0x1020, "hive")
    for number in range(2 * PROBLEM_LIMIT):
        made.note(made.damaged("code", "message", 8 * number))
    assert len(made.problems) == PROBLEM_LIMIT
    assert made.hopeless
