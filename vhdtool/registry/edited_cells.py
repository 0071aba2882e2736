"""The cells of a hive that is edited: read, written, taken and given back, on pages that lie over the hive's own."""

from __future__ import annotations

import construct

from vhdtool.bytesource import ByteSource
from vhdtool.layout import offset_of
from vhdtool.registry.cell import Cells
from vhdtool.registry.cell_allocator import CellAllocator, cell_size
from vhdtool.registry.format import BASE_BLOCK_SIZE, CELL
from vhdtool.registry.hbin import Bins
from vhdtool.registry.pages import HivePages

CACHED_PAGES = 1024  # what the hive's own pages keep is not kept twice
_HEADER = int(CELL.sizeof())


class EditedCells:
    """Cells over ``image``, which is never written. ``file_size`` is that of the hive's file, in bytes."""

    def __init__(self, image: ByteSource, *, hbins_size: int, file_size: int, root: int, minor: int, path: str) -> None:
        self.pages = HivePages(image, path, cached=CACHED_PAGES)
        self.bins = Bins(self.pages, hbins_size, path)
        self.root = root
        self.minor = minor
        self.path = path
        self._allocator = CellAllocator(self.bins, file_size)

    def reader(self) -> Cells:
        """Return a reader of the cells as they are now; it must not be kept beyond the next change."""
        return Cells(self.pages, self.bins.hbins_size, self.root, self.path, self.minor)

    def store(self, data: bytes, near: int, *, room: int = 0) -> int:
        """Put data into a new cell, if possible beside the cell ``near``; ``room``: bytes that may follow later."""
        cell = self._allocator.allocate(max(len(data), room), near)
        self._fill(cell, data)
        return cell

    def store_again(self, cell: int, data: bytes, *, room: int = 0) -> int:
        """Put data into a cell, or where it does not fit into a new one in its stead; return where it is."""
        if cell_size(len(data)) <= self._allocator.size(cell):
            self._fill(cell, data)
            return cell
        self._allocator.free(cell)
        return self.store(data, cell, room=room)

    def free(self, cell: int) -> None:
        """Give a cell back."""
        self._allocator.free(cell)

    def fits(self, cell: int, length: int) -> bool:
        """Tell whether a cell has just the size that data of this length gets."""
        return self._allocator.size(cell) == cell_size(length)

    def write(self, cell: int, data: bytes, offset: int = 0) -> None:
        """Change bytes of a cell's data."""
        self.pages.lay_over(BASE_BLOCK_SIZE + cell + _HEADER + offset, data)

    def set_fields(self, cell: int, layout: construct.Struct, **values: int) -> None:
        """Change fields of the structure that a cell holds."""
        for name, value in values.items():
            field = next(field for field in layout.subcons if field.name == name)
            self.write(cell, field.build(value), offset_of(layout, name))

    def _fill(self, cell: int, data: bytes) -> None:
        """Write data and zeros behind it, so that nothing of what was there before is left."""
        self.write(cell, data.ljust(self._allocator.size(cell) - _HEADER, b"\0"))
