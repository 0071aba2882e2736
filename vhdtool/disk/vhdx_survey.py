"""What is in use in a VHDX file, from headers, regions, log and every entry of the BAT (MS-VHDX 2.2, 2.5.1.1).

Soft anchors (blocks without contents that keep their place) and regions that nobody knows are in use as well.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.vhdx import VhdxLayer

_PAGE_SIZE = 64 * fmt.KIB
_EMPTY = bytes(_PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Holding:
    """Something in use: ``block`` is the number of a payload block, ``None`` for anything else."""

    start: int
    end: int
    block: int | None


class Survey:
    """One pass over a layer. ``wanted`` are places ``(start, end)`` in order and apart; who holds them is noted.

    ``end``: of the last thing in use, each block counted with its whole size, in bytes; a multiple of 1 MiB.
    ``in_the_way``: what is in use inside the wanted places. ``cut_off``: blocks whose contents the file does not hold.
    """

    def __init__(self, layer: VhdxLayer, wanted: Iterable[tuple[int, int]] = (), *, log: bool = True) -> None:
        self._layer = layer
        self._block_size = layer.info.block_size or 0
        self._wanted = list(wanted)
        self._starts = [start for start, _ in self._wanted]
        self.end = fmt.HEADER_SECTION_SIZE
        self.in_the_way: list[Holding] = []
        self.cut_off: list[Holding] = []
        for start, end in self._structures(log=log):
            self._take(Holding(start, end, None))
        for page, values in self._pages():
            self._take_page(page, values)

    def _structures(self, *, log: bool) -> Iterator[tuple[int, int]]:
        yield 0, fmt.HEADER_SECTION_SIZE
        if log and self._layer.log_range is not None:
            offset, length = self._layer.log_range
            yield offset, offset + length
        for region in self._layer.regions:
            yield region.offset, region.offset + region.length

    def _pages(self) -> Iterator[tuple[int, array[int]]]:
        """The entries of the BAT, page by page, each with the index of its first; empty pages are left out."""
        offset, length = self._layer.bat_range
        for start in range(0, length, _PAGE_SIZE):
            data = bytearray(min(_PAGE_SIZE, length - start))
            self._layer.read_stored(offset + start, memoryview(data))
            if data == _EMPTY[: len(data)]:
                continue
            values = array("Q", bytes(data))
            if sys.byteorder == "big":
                values.byteswap()
            yield start // fmt.BAT_ENTRY_SIZE, values

    def _take_page(self, first: int, values: array[int]) -> None:
        """Judge entries with a place; what lies inside the file and apart from all wanted places costs little."""
        size, starts, wanted = self._block_size, self._starts, self._wanted
        last = self._layer.stored_size - size
        highest = 0
        for index, value in [(index, value) for index, value in enumerate(values, first) if value >= fmt.MIB]:
            start = value & fmt.BAT_OFFSET_MASK
            near = bisect_left(starts, start + size) - 1
            if start > last or (near >= 0 and wanted[near][1] > start):
                self._take_entry(index, value)
            elif start > highest:
                highest = start
        if highest:
            self.end = max(self.end, highest + size)

    def _take_entry(self, index: int, value: int) -> None:
        start = value & fmt.BAT_OFFSET_MASK
        chunk, place = divmod(index, self._layer.chunk_ratio + 1)
        block = None if place == self._layer.chunk_ratio else chunk * self._layer.chunk_ratio + place
        length = fmt.BITMAP_BLOCK_SIZE if block is None else self._block_size
        holding = Holding(start, start + length, block)
        self._take(holding)
        needed = self._needed(block, value)
        if needed and start + needed > self._layer.stored_size:
            self.cut_off.append(holding)

    def _needed(self, block: int | None, value: int) -> int:
        """Bytes that the file must have of a block; QEMU made last blocks that end with the disk."""
        if value & fmt.BAT_STATE_MASK <= fmt.BlockState.UNMAPPED:
            return 0
        if block is None:
            return fmt.BITMAP_BLOCK_SIZE
        return min(self._block_size, self._layer.info.virtual_size - block * self._block_size)

    def _take(self, holding: Holding) -> None:
        self.end = max(self.end, holding.end)
        index = bisect_left(self._starts, holding.end) - 1
        if index >= 0 and self._wanted[index][1] > holding.start:
            self.in_the_way.append(holding)
