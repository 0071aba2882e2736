"""Who owns which MiB of a VHDX file: two blocks must not share one (MS-VHDX 2.5)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

_UNIT_SHIFT = 20
_UNIT = 1 << _UNIT_SHIFT
_PAGE_UNITS = 1024
_EMPTY = array("I", bytes(4 * _PAGE_UNITS))


def whole_mib(size: int) -> int:
    """A size filled up to whole MiB: everything after the header section starts at one."""
    return -(-size // _UNIT) * _UNIT


class ReservedSpace:
    """Places where no block may lie: header section, log, regions; disjoint ranges ``(start, end)``."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = sorted(ranges)
        self._ends = [end for _, end in self._ranges]

    def touches(self, start: int, end: int) -> bool:
        """Tell whether the range shares a byte with a reserved one."""
        after = bisect_left(self._ends, start + 1)
        return after < len(self._ranges) and self._ranges[after][0] < end


class BlockSpace:
    """The places of the blocks met so far, four bytes for each MiB of them.

    An owner is a number from 1 to 2^32 - 1.
    """

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def owner_at(self, offset: int) -> int:
        """The owner of the MiB at ``offset``, 0 where none was met."""
        page, unit = divmod(offset >> _UNIT_SHIFT, _PAGE_UNITS)
        return self._pages.get(page, _EMPTY)[unit]

    def claim(self, offset: int, length: int, owner: int) -> int:
        """Give a range to ``owner``; return the owner that it has already, 0 where it was free."""
        first = offset >> _UNIT_SHIFT
        last = offset + length - 1 >> _UNIT_SHIFT
        for unit in range(first, last + 1):
            known = self.owner_at(unit << _UNIT_SHIFT)
            if known not in {0, owner}:
                return known
        for unit in range(first, last + 1):
            number, place = divmod(unit, _PAGE_UNITS)
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = _EMPTY[:]
            page[place] = owner
        return 0
