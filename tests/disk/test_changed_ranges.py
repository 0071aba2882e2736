from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from vhdtool.disk.changed_ranges import ChangedRanges

MIB = 1 << 20


class Fixed:
    """Changes with the ranges that they are given."""

    logical_sector_size = 512

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self._ranges = ranges

    def changed(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)


def of(*ranges: tuple[int, int]) -> ChangedRanges:
    return ChangedRanges(Fixed(list(ranges)), MIB)  # type: ignore[arg-type]


def test_ranges_are_cut_where_blocks_end() -> None:
    ranges = of((MIB - 512, 1024), (5 * MIB, 3 * MIB))
    assert list(ranges.blocks) == [0, 1, 5, 6, 7]
    assert list(ranges.within(0)) == [(MIB - 512, 512)]
    assert list(ranges.within(1)) == [(MIB, 512)]
    assert list(ranges.within(2)) == []
    assert list(ranges.within(6)) == [(6 * MIB, MIB)]
    assert ranges.changed_bytes(1) == 512


def test_no_ranges() -> None:
    assert list(of().blocks) == []
    assert list(of().within(0)) == []


def test_the_last_sector_of_the_largest_disk() -> None:
    end = 64 << 40
    ranges = ChangedRanges(Fixed([(end - 512, 512)]), 256 * MIB)  # type: ignore[arg-type]
    number = end // (256 * MIB) - 1
    assert list(ranges.blocks) == [number]
    assert list(ranges.within(number)) == [(end - 512, 512)]
    whole = ChangedRanges(Fixed([(end - 256 * MIB, 256 * MIB)]), 256 * MIB)  # type: ignore[arg-type]
    assert list(whole.within(number)) == [(end - 256 * MIB, 256 * MIB)]


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 6000)), max_size=30))
def test_nothing_is_lost(gaps: list[tuple[int, int]]) -> None:
    ranges, end = [], 0
    for gap, length in gaps:
        ranges.append(((end + gap) * 512, length * 512))
        end += gap + length
    kept = ChangedRanges(Fixed(ranges), MIB)  # type: ignore[arg-type]
    sectors = {sector for offset, length in ranges for sector in range(offset // 512, (offset + length) // 512)}
    found = [
        sector
        for block in kept.blocks
        for offset, length in kept.within(block)
        for sector in range(offset // 512, (offset + length) // 512)
    ]
    assert len(found) == len(sectors)
    assert set(found) == sectors
    assert sorted(kept.blocks) == list(kept.blocks) == sorted({sector // 2048 for sector in sectors})
