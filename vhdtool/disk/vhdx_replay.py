"""A VHDX file as its replayed log would leave it, without writing anything (MS-VHDX 2.3.3, footnote 5)."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from vhdtool.disk.device import FileDevice, cut_off
from vhdtool.disk.vhdx_format import LOG_SECTOR_SIZE
from vhdtool.disk.vhdx_log_entry import DataWrite, LogWrite, ZeroWrite


class Overlay:
    """Writes collected in replay order: a later one hides an earlier one. Zero ranges stay ranges, however long."""

    def __init__(self) -> None:
        self._order = 0
        self._sectors: dict[int, tuple[int, bytes]] = {}
        self._zeros: list[tuple[int, int, int]] = []

    def write(self, file_offset: int, data: bytes) -> None:
        """Put one 4 KiB sector at an offset that is a multiple of 4 KiB."""
        self._order += 1
        self._sectors[file_offset] = (self._order, data)

    def zero(self, file_offset: int, length: int) -> None:
        """Clear a range; offset and length are multiples of 4 KiB."""
        self._order += 1
        self._zeros.append((file_offset, file_offset + length, self._order))

    @property
    def data_end(self) -> int:
        """The end of the last sector written, 0 where there is none."""
        return max(self._sectors, default=-LOG_SECTOR_SIZE) + LOG_SECTOR_SIZE

    def over(self, file: FileDevice, size: int) -> ReplayedFile:
        """Lay the writes over ``file``, which then is ``size`` bytes long."""
        cleared = self._cleared()
        starts = [start for start, _, _ in cleared]
        sectors = {}
        for offset, (order, data) in self._sectors.items():
            index = bisect_right(starts, offset) - 1
            hidden = index >= 0 and offset < cleared[index][1] and cleared[index][2] > order
            if not hidden:
                sectors[offset] = data
        return ReplayedFile(file, sectors, [(start, end) for start, end, _ in cleared], size)

    def _cleared(self) -> list[tuple[int, int, int]]:
        """Cut the zero ranges into disjoint ones, each with the order of the last write that cleared it."""
        waiting = sorted(self._zeros, reverse=True)
        borders = sorted({border for start, end, _ in self._zeros for border in (start, end)})
        open_ranges: list[tuple[int, int]] = []
        cleared: list[tuple[int, int, int]] = []
        for place, border in enumerate(borders):
            while waiting and waiting[-1][0] <= border:
                _, end, order = waiting.pop()
                heapq.heappush(open_ranges, (-order, end))
            while open_ranges and open_ranges[0][1] <= border:
                heapq.heappop(open_ranges)
            if open_ranges:
                cleared.append((border, borders[place + 1], -open_ranges[0][0]))
        return cleared


class ReplayedFile:
    """The bytes of a file with a replayed log laid over them."""

    def __init__(self, file: FileDevice, sectors: dict[int, bytes], cleared: list[tuple[int, int]], size: int) -> None:
        self.path = file.path
        self._file = file
        self._sectors = sectors
        self._offsets = sorted(sectors)
        self._cleared = cleared
        self._starts = [start for start, _ in cleared]
        self._size = size

    @property
    def size(self) -> int:
        """Length in bytes once the log is replayed."""
        return self._size

    def writes(self) -> Iterator[LogWrite]:
        """What makes the file what this is, to be written in this order; of what was written twice only the last."""
        for start, end in self._cleared:
            yield ZeroWrite(start, end - start)
        for offset in self._offsets:
            yield DataWrite(offset, self._sectors[offset])

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes filled, fewer only at the end."""
        wanted = min(len(buffer), self._size - offset)
        if wanted <= 0:
            return 0
        buffer = buffer[:wanted]
        stored = max(0, min(wanted, self._file.size - offset))
        if stored:
            self._file.read_exactly_into(offset, buffer[:stored])
        if stored < wanted:
            buffer[stored:] = bytes(wanted - stored)
        end = offset + wanted
        self._clear(offset, end, buffer)
        self._patch(offset, end, buffer)
        return wanted

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        buffer = bytearray(max(0, min(length, self._size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_exactly_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of ``buffer`` or raise :class:`DamagedError` ``truncated``."""
        got = self.read_into(offset, buffer)
        if got != len(buffer):
            raise cut_off(self.path, offset, len(buffer), got)

    def _clear(self, offset: int, end: int, buffer: memoryview) -> None:
        index = max(0, bisect_right(self._starts, offset) - 1)
        while index < len(self._cleared) and self._starts[index] < end:
            first = max(self._starts[index], offset)
            last = min(self._cleared[index][1], end)
            if first < last:
                buffer[first - offset : last - offset] = bytes(last - first)
            index += 1

    def _patch(self, offset: int, end: int, buffer: memoryview) -> None:
        index = bisect_left(self._offsets, offset - offset % LOG_SECTOR_SIZE)
        while index < len(self._offsets) and self._offsets[index] < end:
            place = self._offsets[index]
            first = max(place, offset)
            last = min(place + LOG_SECTOR_SIZE, end)
            buffer[first - offset : last - offset] = self._sectors[place][first - place : last - place]
            index += 1
