"""The block allocation table of a VHDX, read in pages when they are asked for (MS-VHDX 2.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.bat_pages import PAGE_SIZE, BatPages
from vhdtool.errors import DamagedError
from vhdtool.layout import packed

PAGE_LIMIT = 2048  # pages kept: 8 MiB, the whole BAT of a disk of 1 TiB with blocks of 1 MiB
_ENTRY = packed(fmt.BAT_ENTRY)
_PAGE_ENTRIES = PAGE_SIZE // _ENTRY.size
_EMPTY_PAGE = bytes(PAGE_SIZE)


class BatEntry(NamedTuple):
    """One entry as stored. ``block_number`` counts payload blocks, or chunks for a sector bitmap block."""

    bat_index: int
    kind: Literal["payload", "bitmap"]
    block_number: int
    state: int
    file_offset: int


class Bat(BatPages):
    """Entries by block number. ``offset`` and ``length`` are those of the region, in bytes of the file.

    Raises :class:`DamagedError` ``vhdx-bat-too-small`` where the region can't hold the entries that the disk needs,
    ``vhdx-bat-truncated`` where the file ends inside of them.
    """

    def __init__(
        self,
        stored: ByteSource,
        offset: int,
        length: int,
        *,
        payload_blocks: int,
        chunk_ratio: int,
        has_parent: bool,
        path: str | None = None,
    ) -> None:
        self.offset = offset
        self.payload_blocks = payload_blocks
        self.chunk_ratio = chunk_ratio
        self.entry_count = fmt.bat_entry_count(payload_blocks, chunk_ratio, has_parent=has_parent)
        self._stored = stored
        self._path = path
        self._used = self.entry_count * _ENTRY.size
        super().__init__(_EMPTY_PAGE, PAGE_LIMIT)
        if self._used > length:
            raise DamagedError(
                "vhdx-bat-too-small",
                "the BAT has fewer entries than the disk has blocks",
                path=path,
                offset=offset,
                expected=f"at least {self._used} bytes",
                found=f"{length} bytes",
                hint=fmt.RESTORE_HINT,
            )
        if offset + self._used > stored.size:
            raise DamagedError(
                "vhdx-bat-truncated",
                "the file ends inside the BAT",
                path=path,
                offset=offset,
                expected=f"at least {offset + self._used} bytes",
                found=f"{stored.size} bytes",
                hint=fmt.RESTORE_HINT,
            )

    def payload_index(self, block: int) -> int:
        """The index of a payload block's entry."""
        return block + block // self.chunk_ratio

    def bitmap_index(self, chunk: int) -> int:
        """The index of the entry of a chunk's sector bitmap block."""
        return (chunk + 1) * (self.chunk_ratio + 1) - 1

    def entry_offset(self, index: int) -> int:
        """Where an entry lies in the file."""
        return self.offset + index * _ENTRY.size

    def value(self, index: int) -> int:
        """An entry as stored."""
        page, place = divmod(index, _PAGE_ENTRIES)
        data = self._pages.get(page) or self._load(page)
        value: int = _ENTRY.unpack_from(data, place * _ENTRY.size)[0]
        return value

    def absent_until(self, block: int) -> int:
        """The end of a run of blocks from ``block`` that are NOT_PRESENT for sure; ``block`` itself where none is."""
        page = self.payload_index(block) // _PAGE_ENTRIES
        if (self._pages.get(page) or self._load(page)) is not _EMPTY_PAGE:
            return block
        # the first payload block at or after the next page's first entry
        chunk, place = divmod((page + 1) * _PAGE_ENTRIES, self.chunk_ratio + 1)
        return min(chunk * self.chunk_ratio + place, self.payload_blocks)

    def entries(self) -> Iterator[BatEntry]:
        """Every entry in its order, read page by page; values are not judged."""
        bitmap_place = self.chunk_ratio
        for page in range(-(-self.entry_count // _PAGE_ENTRIES)):
            first = page * _PAGE_ENTRIES
            chunk, place = divmod(first, self.chunk_ratio + 1)
            count = min(_PAGE_ENTRIES, self.entry_count - first)
            data = self._read(page)
            for index, (value,) in enumerate(_ENTRY.iter_unpack(data[: count * _ENTRY.size]), first):
                state, file_offset = value & fmt.BAT_STATE_MASK, value & fmt.BAT_OFFSET_MASK
                if place == bitmap_place:
                    yield BatEntry(index, "bitmap", chunk, state, file_offset)
                    chunk, place = chunk + 1, 0
                else:
                    yield BatEntry(index, "payload", chunk * self.chunk_ratio + place, state, file_offset)
                    place += 1

    def _read(self, page: int) -> bytes:
        start = page * PAGE_SIZE
        data = read_exactly(
            self._stored,
            self.offset + start,
            min(PAGE_SIZE, self._used - start),
            path=self._path,
            what="the BAT",
        )
        return data.ljust(PAGE_SIZE, b"\0")


def encode_bat_entry(state: int, file_offset: int) -> bytes:
    """Return an entry; ``file_offset`` is a multiple of 1 MiB."""
    return _ENTRY.pack(state | file_offset)
