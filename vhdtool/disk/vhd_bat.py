"""The block allocation table of a VHD, read in pages when they are asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.bat_pages import PAGE_SIZE, BatPages
from vhdtool.errors import DamagedError
from vhdtool.layout import packed

PAGE_LIMIT = 1024  # pages kept: 4 MiB, the whole BAT of the largest disk with blocks of 2 MiB
CHECKED_ENTRIES_LIMIT = 1 << 21  # most entries that one check of the whole table takes: twice the largest such disk
_ENTRY = packed(fmt.BAT_ENTRY)
_PAGE_ENTRIES = PAGE_SIZE // _ENTRY.size
_EMPTY_PAGE = b"\xff" * PAGE_SIZE


class VhdBat(BatPages):
    """Entries by block number. ``offset`` is that of the table in the file, ``count`` the blocks that the disk has.

    Raises :class:`DamagedError` ``vhd-bat-truncated`` where the file ends inside of it.
    """

    def __init__(self, file: ByteSource, offset: int, count: int, *, path: str | None = None) -> None:
        self.offset = offset
        self.count = count
        self.length = count * _ENTRY.size
        self._file = file
        self._path = path
        super().__init__(_EMPTY_PAGE, PAGE_LIMIT)
        if offset + self.length > file.size:
            raise DamagedError(
                "vhd-bat-truncated",
                "the file ends inside the block allocation table",
                path=path,
                offset=min(offset, file.size),
                expected=f"at least {offset + self.length} bytes",
                found=f"{file.size} bytes",
                hint=fmt.RESTORE_HINT,
            )

    def entry_offset(self, block: int) -> int:
        """Where a block's entry lies in the file."""
        return self.offset + block * _ENTRY.size

    def place(self, block: int) -> int | None:
        """Where a block's sector bitmap starts in the file, its data following; ``None`` for a hole."""
        page, index = divmod(block, _PAGE_ENTRIES)
        data = self._pages.get(page) or self._load(page)
        sector: int = _ENTRY.unpack_from(data, index * _ENTRY.size)[0]
        return None if sector == fmt.BAT_HOLE else sector * fmt.SECTOR_SIZE

    def holes_until(self, block: int) -> int:
        """The end of a run of blocks from ``block`` that are holes for sure; ``block`` itself where none is."""
        page = block // _PAGE_ENTRIES
        if (self._pages.get(page) or self._load(page)) is not _EMPTY_PAGE:
            return block
        return min((page + 1) * _PAGE_ENTRIES, self.count)

    def entries(self) -> Iterator[tuple[int, int]]:
        """Block number and place in the file of every allocated block, in the table's order, not judged."""
        for page in range(-(-self.count // _PAGE_ENTRIES)):
            data = self._read(page)
            if data == _EMPTY_PAGE:
                continue
            for block, (sector,) in enumerate(_ENTRY.iter_unpack(data), page * _PAGE_ENTRIES):
                if sector != fmt.BAT_HOLE:
                    yield block, sector * fmt.SECTOR_SIZE

    def agrees(self, start: int, end: int, stored_size: int) -> bool:
        """Tell whether the blocks fill the file from ``start`` to ``end``, ``stored_size`` bytes each.

        None lies outside or over another, and there is no room left for one more that the table does not name: a
        table that is read from a wrong place does not pass for one of an empty disk.
        """
        if self.count > CHECKED_ENTRIES_LIMIT:
            return False
        ordered = sorted(array("Q", (place for _, place in self.entries())))
        if end - start - len(ordered) * stored_size >= stored_size:
            return False
        if ordered and (ordered[0] < start or ordered[-1] >= end):
            return False
        return all(after - before >= stored_size for before, after in pairwise(ordered))

    def _read(self, page: int) -> bytes:
        start = page * PAGE_SIZE
        length = min(PAGE_SIZE, self.length - start)
        data = read_exactly(self._file, self.offset + start, length, path=self._path, what="the block allocation table")
        return data.ljust(PAGE_SIZE, b"\xff")
