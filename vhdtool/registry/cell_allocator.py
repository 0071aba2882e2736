"""Room for new cells: free cells of bins that are known, then of bins nearby, then a new bin at the hive's end.

Windows keeps lists of free cells in memory; a file has none. Reading all bins to find them would read the whole hive
for a change of a few bytes, so only bins near the change are looked at, within a bound. The bound is wider where a new
bin would make the file longer, for that costs the NTFS writer's work.

Rules of the format (knowledge of genuine hives): sizes are multiples of 8; free cells that touch are one; a cell above
16 KiB has a power of two as its size; a new bin is as long as its cell needs, in pages.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from vhdtool.errors import DamagedError, OutputError
from vhdtool.layout import packed
from vhdtool.registry.format import BASE_BLOCK_SIZE, CELL, CELL_ALIGNMENT, CELL_ROUNDED, HBINS_LIMIT, PAGE_SIZE
from vhdtool.registry.hbin import HEADER_SIZE, Bin, Bins, new_bin

SCANNED_PAGES = 256
"""Pages that are looked through for a free cell where the file has room for a new bin."""
SCANNED_PAGES_BEFORE_GROWTH = 4096
"""The same where a new bin makes the file longer."""

_CELL = packed(CELL)
_HINT = "The hive is damaged; the key that this belongs to can't be edited."


def cell_size(length: int) -> int:
    """Return the size of a cell that holds ``length`` bytes of data, its own header included."""
    size = -(-max(length + _CELL.size, CELL_ALIGNMENT) // CELL_ALIGNMENT) * CELL_ALIGNMENT
    return size if size <= CELL_ROUNDED else 1 << (size - 1).bit_length()


class CellAllocator:
    """Takes and gives back cells. ``bins`` grows with it; ``file_size`` is that of the hive's file, in bytes."""

    def __init__(self, bins: Bins, file_size: int) -> None:
        self.bins = bins
        self._file_size = file_size
        self._known: set[int] = set()  # offsets of bins
        self._used: set[int] = set()  # cells of known bins that are in use
        self._free: list[tuple[int, int]] = []  # (size, offset), sorted
        self._by_start: dict[int, int] = {}  # offset -> size
        self._by_end: dict[int, int] = {}  # end -> offset
        self._cursor: int | None = None
        self._scanned = 0
        self._circled = False

    def allocate(self, length: int, near: int) -> int:
        """Take a cell for ``length`` bytes of data, if possible in the bin of the cell ``near``.

        Its data is what was there before. Raises :class:`DamagedError` for a damaged bin, :class:`OutputError`
        ``hive-full``.
        """
        size = cell_size(length)
        home = self._learn(self.bins.holding(near))
        taken = self._take(size)
        if taken is None:
            self._scan(size, home)
            taken = self._take(size)
        return self._grow(size) if taken is None else taken

    def free(self, cell: int) -> None:
        """Give a cell back and join it with the free cells beside it. Raises :class:`DamagedError`."""
        self._learn(self.bins.holding(cell))
        if cell not in self._used:
            raise DamagedError(
                "hive-cell-out-of-range", "an offset leads into the middle of a cell", path=self.bins.path,
                offset=BASE_BLOCK_SIZE + cell, hint=_HINT,
            )  # fmt: skip
        self._used.discard(cell)
        size = self.size(cell)
        while (after := self._by_start.get(cell + size)) is not None:
            self._drop(cell + size, after)
            size += after
        while (before := self._by_end.get(cell)) is not None:
            size += cell - before
            self._drop(before, cell - before)
            cell = before
        self._keep(cell, size)

    def size(self, cell: int) -> int:
        """Return the size of a cell in use, its header included."""
        return -int(_CELL.unpack(self.bins.pages.read_at(BASE_BLOCK_SIZE + cell, _CELL.size))[0])

    def _learn(self, found: Bin) -> Bin:
        """Know the cells of a bin."""
        if found.offset not in self._known:
            cells = self.bins.cells(found)
            self._known.add(found.offset)
            for cell, size in cells:
                if size < 0:
                    self._used.add(cell)
                else:
                    self._note(cell, size)
        return found

    def _take(self, size: int) -> int | None:
        """Take the smallest known free cell that is large enough; what it has too much stays free."""
        place = bisect_left(self._free, (size, 0))
        if place == len(self._free):
            return None
        length, cell = self._free[place]
        self._drop(cell, length)
        if length > size:
            self._keep(cell + size, length - size)
        self._write_size(cell, -size)
        self._used.add(cell)
        return cell

    def _scan(self, size: int, home: Bin) -> None:
        """Look through bins from ``home`` on, then from the first one, until one has room or the bound is met."""
        grown = BASE_BLOCK_SIZE + self.bins.hbins_size + size + HEADER_SIZE
        limit = SCANNED_PAGES if grown <= self._file_size else SCANNED_PAGES_BEFORE_GROWTH
        if self._cursor is None:
            self._cursor = home.end
        while self._scanned < limit:
            if self._cursor >= self.bins.hbins_size:
                if self._circled:
                    return
                self._circled = True
                self._cursor = 0
            try:
                found = self.bins.at(self._cursor)
            except DamagedError:  # not ours to repair: what follows can't be found from here
                self._scanned = SCANNED_PAGES_BEFORE_GROWTH
                return
            self._cursor = found.end
            if found.offset in self._known:
                continue
            self._scanned += found.size // PAGE_SIZE
            try:
                self._learn(found)
            except DamagedError:
                continue
            if self._free and self._free[-1][0] >= size:
                return

    def _grow(self, size: int) -> int:
        """Append a bin for one cell."""
        offset = self.bins.hbins_size
        made = new_bin(offset, size)
        if offset + len(made) > HBINS_LIMIT:
            raise OutputError(
                "hive-full", "the hive would grow beyond what a hive can hold", path=self.bins.path,
                expected=f"at most {HBINS_LIMIT:#x} bytes",
            )  # fmt: skip
        self.bins.pages.lay_over(BASE_BLOCK_SIZE + offset, made)
        self.bins.hbins_size = offset + len(made)
        self._learn(Bin(offset, len(made)))
        return offset + HEADER_SIZE

    def _keep(self, cell: int, size: int) -> None:
        """Make a free cell."""
        self._write_size(cell, size)
        self._note(cell, size)

    def _note(self, cell: int, size: int) -> None:
        insort(self._free, (size, cell))
        self._by_start[cell] = size
        self._by_end[cell + size] = cell

    def _drop(self, cell: int, size: int) -> None:
        """Forget a free cell."""
        del self._free[bisect_left(self._free, (size, cell))]
        del self._by_start[cell]
        del self._by_end[cell + size]

    def _write_size(self, cell: int, size: int) -> None:
        self.bins.pages.lay_over(BASE_BLOCK_SIZE + cell, _CELL.pack(size))
