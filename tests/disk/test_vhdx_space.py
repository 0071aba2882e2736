from __future__ import annotations

import pytest

from vhdtool.disk.vhdx_space import BlockSpace, ReservedSpace

MIB = 1 << 20


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 1, True), (9, 10, True), (10, 20, False), (19, 21, True), (10, 21, True), (29, 90, True), (30, 40, False)],
)
def test_reserved_ranges(start: int, end: int, *, expected: bool) -> None:
    assert ReservedSpace([(20, 30), (0, 10)]).touches(start, end) is expected


def test_nothing_reserved() -> None:
    assert not ReservedSpace([]).touches(0, 1 << 70)


def test_a_place_has_one_owner() -> None:
    space = BlockSpace()
    assert space.claim(1023 * MIB, 2 * MIB, 7) == 0  # across two pages
    assert [space.owner_at(place * MIB) for place in (1022, 1023, 1024, 1025)] == [0, 7, 7, 0]
    assert space.claim(1023 * MIB, 2 * MIB, 7) == 0
    assert space.claim(1024 * MIB, MIB, 8) == 7
    assert space.claim(1022 * MIB, 2 * MIB, 8) == 7
    assert space.owner_at(1022 * MIB) == 0
    assert space.claim(1025 * MIB, 1, 8) == 0
    assert space.claim(1025 * MIB, MIB, 9) == 8


def test_far_places_cost_one_page() -> None:
    space = BlockSpace()
    assert space.claim(((1 << 44) - 1) << 20, MIB, (1 << 32) - 1) == 0
    assert space.owner_at(((1 << 44) - 1) << 20) == (1 << 32) - 1
    assert len(space._pages) == 1
