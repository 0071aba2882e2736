"""Hive bins: the runs of pages that cells lie in. Source: regf specification, "Hive bin".

Bins follow one another without gaps; inside a bin its cells do. So the way from bin to bin is exact, but the way from
a cell to its bin leads backwards, page by page, to a header: data of a value, or what an older bin left behind, can
look like one. A header counts only where the bin before it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vhdtool.errors import DamagedError
from vhdtool.layout import packed
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    CELL,
    CELL_ALIGNMENT,
    HBIN,
    HBIN_SIGNATURE,
    PAGE_SIZE,
)
from vhdtool.registry.pages import HivePages

CELLS_LIMIT = 1 << 18
"""Most cells of one bin that are looked at; bins of Windows have some hundreds."""

_HBIN = packed(HBIN)
_CELL = packed(CELL)
_HINT = "The hive is damaged. Let Windows repair it (it does so when it loads the hive), or use a sound copy."


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin. ``offset`` counts from the first bin, ``size`` includes the header; both in bytes."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next bin begins."""
        return self.offset + self.size


class Bins:
    """The bins of a hive; ``hbins_size`` is in bytes."""

    def __init__(self, pages: HivePages, hbins_size: int, path: str) -> None:
        self.pages = pages
        self.hbins_size = hbins_size
        self.path = path

    def at(self, offset: int) -> Bin:
        """Return the bin that begins at ``offset``. Raises :class:`DamagedError` ``hive-bin``."""
        found = self._header(offset)
        if found is None:
            raise self._damaged("hive-bin", "an hbin has no header, or one that can't be right", offset)
        return found

    def holding(self, cell: int) -> Bin:
        """Return the bin that a cell lies in. Raises :class:`DamagedError` ``hive-bin``."""
        found: Bin | None = None
        offset = cell - cell % PAGE_SIZE
        while offset >= 0:
            candidate = self._header(offset)
            if candidate is not None:
                if found is not None:
                    if candidate.end == found.offset:
                        return found
                    break
                if candidate.end <= cell:
                    break
                found = candidate
            offset -= PAGE_SIZE
        if found is not None and found.offset == 0:
            return found
        return self._walked_to(cell)

    def _walked_to(self, cell: int) -> Bin:
        for found in self.walk():
            if found.end > cell:
                return found
        raise self._damaged("hive-bin", "the hbin of a cell can't be found", cell)

    def cells(self, found: Bin) -> list[tuple[int, int]]:
        """Return the cells of a bin: offset, and size as it is stored, which is negative for those in use.

        Raises :class:`DamagedError` ``hive-cell-size`` where they do not fill the bin.
        """
        data = self.pages.read_at(BASE_BLOCK_SIZE + found.offset, found.size)
        if len(data) < found.size:
            raise self._damaged("hive-bin", "the hive ends within an hbin", found.offset)
        unpack = _CELL.unpack_from
        cells = []
        inside = _HBIN.size
        while inside < found.size:
            size = unpack(data, inside)[0]
            length = abs(size)
            if not length or length % CELL_ALIGNMENT or length > found.size - inside:
                raise self._damaged(
                    "hive-cell-size", "a cell leaves its hbin", found.offset + inside, found=f"{size:#x}"
                )
            cells.append((found.offset + inside, size))
            inside += length
            if len(cells) > CELLS_LIMIT:
                raise self._damaged("hive-bin", "an hbin has more cells than Windows would make", found.offset)
        return cells

    def walk(self, offset: int = 0) -> Iterator[Bin]:
        """Yield all bins in order, from the one at ``offset`` on.

        Raises :class:`DamagedError` ``hive-bin`` at the first that is not there.
        """
        while offset < self.hbins_size:
            found = self.at(offset)
            yield found
            offset = found.end

    def _header(self, offset: int) -> Bin | None:
        if not 0 <= offset < self.hbins_size:
            return None
        head = self.pages.read_at(BASE_BLOCK_SIZE + offset, _HBIN.size)
        if len(head) < _HBIN.size or not head.startswith(HBIN_SIGNATURE):
            return None
        _, own, size, *_ = _HBIN.unpack(head)
        if own != offset or not size or size % PAGE_SIZE or size > self.hbins_size - offset:
            return None
        return Bin(offset, size)

    def _damaged(self, code: str, message: str, offset: int, *, found: object = None) -> DamagedError:
        return DamagedError(code, message, path=self.path, offset=BASE_BLOCK_SIZE + offset, found=found, hint=_HINT)


def new_bin(offset: int, cell_size: int) -> bytes:
    """Return a whole bin whose first cell has ``cell_size`` bytes and is in use; the rest is one free cell."""
    size = -(-(cell_size + _HBIN.size) // PAGE_SIZE) * PAGE_SIZE
    made = bytearray(size)
    _HBIN.pack_into(made, 0, HBIN_SIGNATURE, offset, size, 0, 0, 0)
    _CELL.pack_into(made, _HBIN.size, -cell_size)
    rest = size - _HBIN.size - cell_size
    if rest:
        _CELL.pack_into(made, _HBIN.size + cell_size, rest)
    return bytes(made)


HEADER_SIZE: int = _HBIN.size
"""Bytes of a bin's header: its first cell follows."""

__all__ = ["CELLS_LIMIT", "HEADER_SIZE", "Bin", "Bins", "new_bin"]
