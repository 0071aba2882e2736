"""What a change changes, kept block by block: asked for once, because the disk below moves while a commit goes on."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from vhdtool.disk.changes import Changes

_COUNT_BITS = 20  # a block of 256 MiB has 2^19 sectors
_COUNT_MASK = (1 << _COUNT_BITS) - 1


class ChangedRanges:
    """The ranges of :meth:`Changes.changed`, cut where blocks end, eight bytes each."""

    def __init__(self, changes: Changes, block_size: int) -> None:
        self._sector = sector = changes.logical_sector_size
        self._block_size = block_size
        self._ranges = array("Q")
        self.blocks = array("I")
        """The numbers of the blocks in which something changes, rising."""
        for start, length in changes.changed():
            offset, end = start, start + length
            while offset < end:
                number = offset // block_size
                stop = min(end, (number + 1) * block_size)
                if not self.blocks or self.blocks[-1] != number:
                    self.blocks.append(number)
                self._ranges.append(offset // sector << _COUNT_BITS | (stop - offset) // sector)
                offset = stop

    def within(self, block: int) -> Iterator[tuple[int, int]]:
        """The ranges ``(offset of the disk, length)`` in a block, in bytes."""
        sectors = self._block_size // self._sector
        index = bisect_left(self._ranges, block * sectors << _COUNT_BITS)
        end = (block + 1) * sectors << _COUNT_BITS
        while index < len(self._ranges) and self._ranges[index] < end:
            packed = self._ranges[index]
            yield (packed >> _COUNT_BITS) * self._sector, (packed & _COUNT_MASK) * self._sector
            index += 1

    def changed_bytes(self, block: int) -> int:
        """How many bytes of a block change."""
        return sum(length for _, length in self.within(block))
