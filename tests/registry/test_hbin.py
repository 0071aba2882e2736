from __future__ import annotations

import struct

import pytest

from tests.registry.build_hive import PAGE, build_hive, hbins_size
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry import hbin
from vhdtool.registry.hbin import Bin, Bins, new_bin
from vhdtool.registry.pages import HivePages

HIVE = build_hive({"Big": {"data": b"0123456789" * 4000}, **{f"Many\\Key{n:03}": {"n": b"y" * 99} for n in range(99)}})


def bins(raw: bytes = HIVE) -> Bins:
    return Bins(HivePages(BytesSource(raw), "SYSTEM"), hbins_size(raw), "SYSTEM")


def test_bins_follow_one_another() -> None:
    found = list(bins().walk())
    assert [one.offset for one in found] == [0, *(one.end for one in found[:-1])]
    assert found[-1].end == hbins_size(HIVE)
    assert {one.size for one in found} >= {PAGE, 4 * PAGE}
    assert list(bins().walk(found[2].offset)) == found[2:]


def test_each_cell_is_found_in_its_bin() -> None:
    for one in bins().walk():
        for cell, size in bins().cells(one):
            assert bins().holding(cell) == one
            assert abs(size) <= one.size - 32


def test_what_looks_like_a_bin_inside_of_another_is_none() -> None:
    """What an older bin left behind, at the place that it names."""
    large = next(one for one in bins().walk() if one.size == 4 * PAGE)
    for size in (PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE):
        raw = bytearray(HIVE)
        place = large.offset + PAGE
        raw[PAGE + place : PAGE + place + 32] = struct.pack("<4sII20x", b"hbin", place, size)
        assert bins(bytes(raw)).holding(large.offset + 3 * PAGE + 40) == large
        following = large.end
        if following < hbins_size(HIVE):
            assert bins(bytes(raw)).holding(following + 32).offset == following


@pytest.mark.parametrize(
    ("place", "value"), [(0, 0), (4, 0x1000), (8, 0), (8, 0x800), (8, 0x7FFFF000), (8, 0xFFFFF000)]
)
def test_heads_that_can_not_be_right(place: int, value: int) -> None:
    raw = bytearray(HIVE)
    struct.pack_into("<I", raw, PAGE + place, value)
    for look in (lambda: bins(bytes(raw)).at(0), lambda: bins(bytes(raw)).holding(32)):
        with pytest.raises(DamagedError) as caught:
            look()
        assert (caught.value.code, caught.value.path, caught.value.offset is None) == ("hive-bin", "SYSTEM", False)


@pytest.mark.parametrize("size", [0, 4, -4, 12, PAGE, -PAGE, 0x7FFFFFF8, -0x80000000])
def test_cells_that_do_not_fill_their_bin(size: int) -> None:
    raw = bytearray(HIVE)
    struct.pack_into("<i", raw, PAGE + 32, size)
    with pytest.raises(DamagedError) as caught:
        bins(bytes(raw)).cells(bins(bytes(raw)).at(0))
    assert (caught.value.code, caught.value.offset) == ("hive-cell-size", PAGE + 32)


def test_a_bin_of_very_many_cells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hbin, "CELLS_LIMIT", 3)
    with pytest.raises(DamagedError) as caught:
        bins().cells(bins().at(0))
    assert caught.value.code == "hive-bin"


def test_a_new_bin() -> None:
    raw = new_bin(0x3000, 48)
    assert struct.unpack_from("<4sIIQQI", raw) == (b"hbin", 0x3000, PAGE, 0, 0, 0)
    assert struct.unpack_from("<i", raw, 32)[0] == -48
    assert struct.unpack_from("<i", raw, 80)[0] == PAGE - 80
    assert len(new_bin(0, PAGE - 32)) == PAGE
    assert len(new_bin(0, PAGE - 24)) == 2 * PAGE
    assert Bin(0x3000, PAGE).end == 0x4000
