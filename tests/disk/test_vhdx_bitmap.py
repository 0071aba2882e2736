from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhdtool.disk.vhdx_bitmap import bitmap_of, runs_of


def bits(bitmap: bytes) -> list[bool]:
    """2.4: bit 0 of byte 0 is the first sector's."""
    return [bool(byte >> place & 1) for byte in bitmap for place in range(8)]


def by_hand(bitmap: bytes, first: int, count: int) -> list[tuple[bool, int]]:
    return [(present, len(list(run))) for present, run in groupby(bits(bitmap)[first : first + count])]


@given(st.data())
def test_runs_equal_the_bits(data: st.DataObject) -> None:
    piece = st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 1500).map(lambda n: b"\xff" * n))
    bitmap = b"".join(data.draw(st.lists(piece, min_size=1, max_size=4)))
    first = data.draw(st.integers(0, len(bitmap) * 8 - 1))
    count = data.draw(st.integers(0, len(bitmap) * 8 - first))
    assert list(runs_of(bitmap, first, count)) == by_hand(bitmap, first, count)


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80])
def test_long_bitmaps(byte: int) -> None:
    bitmap = bytes([byte]) * 65536
    assert list(runs_of(bitmap, 3, 65536 * 8 - 5)) == by_hand(bitmap, 3, 65536 * 8 - 5)


@given(st.sets(st.integers(0, 255)))
def test_a_made_bitmap_has_its_sectors(sectors: set[int]) -> None:
    made = bitmap_of(sectors, 256)
    assert len(made) == 32
    assert {place for place, present in enumerate(bits(made)) if present} == sectors
