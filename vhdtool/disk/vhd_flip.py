"""The second half of an in-place commit of a dynamic VHD: from the moved table back to an ordinary file.

Both an undisturbed commit and ``recover`` after a crash go through here, and any step may be done again: each brings
the file nearer to its last state, and the disk is the new one before and after each (see
:mod:`vhdtool.disk.commit_vhd` for the whole order).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vhdtool.bytesource import read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.counted_file import PIECE, CountedFile
from vhdtool.disk.vhd_move import MovedBlocks, MoveRecord
from vhdtool.layout import offset_of, packed
from vhdtool.progress import Progress

_TABLE_OFFSET = offset_of(fmt.HEADER, "table_offset")
_ENTRY = packed(fmt.BAT_ENTRY)


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The room that blocks take in a file, in bytes."""

    virtual_size: int
    block_size: int

    @property
    def bitmap_size(self) -> int:
        """Of the sector bitmap before a block's data."""
        return fmt.bitmap_size(self.block_size)

    @property
    def stored_size(self) -> int:
        """Of a block with its bitmap."""
        return self.bitmap_size + self.block_size

    def used_size(self, block: int) -> int:
        """Of what the disk has of a block, with its bitmap: less than :attr:`stored_size` for a last block."""
        return self.bitmap_size + min(self.block_size, self.virtual_size - block * self.block_size)


def point_header(file: CountedFile, header_offset: int, table_offset: int) -> None:
    """Make the dynamic header name another table, in one write of one sector, and flush."""
    header = bytearray(read_exactly(file, header_offset, fmt.HEADER_SIZE, path=file.path, what="the header"))
    header[_TABLE_OFFSET : _TABLE_OFFSET + 8] = table_offset.to_bytes(8, "big")
    sealed = fmt.sealed(bytes(header), fmt.HEADER_CHECKSUM_OFFSET)
    file.write_at(header_offset, sealed[: fmt.SECTOR_SIZE])
    file.flush()


def fold_back(file: CountedFile, record: MoveRecord, shape: BlockShape, progress: Progress) -> None:
    """Copy moved blocks and table to their homes, where nothing is in use now; flush, and point the header home."""
    moved = [(number, home, place) for number, home, place in record.blocks if home != place]
    progress.start("fold back", sum(shape.used_size(number) for number, _, _ in moved))
    try:
        for number, home, place in moved:
            length = shape.used_size(number)
            for start in range(0, length, PIECE):
                size = min(PIECE, length - start)
                file.write_differing(home + start, read_exactly(file, place + start, size, path=file.path))
                progress.advance(size)
        for start, entries in table_pieces(file, record.moved_table, record.table_size, record.blocks, home=True):
            file.write_differing(record.home_table + start, entries)
    finally:
        progress.finish()
    file.flush()
    point_header(file, record.header_offset, record.home_table)


def end_file(file: CountedFile, footer: bytes, end: int) -> None:
    """Put the footer at ``end``, over what nothing uses, flush, and cut the file off behind it."""
    file.write_at(end, footer)
    file.flush()
    file.truncate(end + len(footer))
    file.flush()


def table_pieces(
    file: CountedFile, table: int, size: int, blocks: MovedBlocks, *, home: bool
) -> Iterator[tuple[int, bytes]]:
    """A table's bytes, piece by piece with its start in the table, as they are once ``blocks`` have their place.

    ``home`` chooses the homes, otherwise the moved places.
    """
    index = 0
    places = blocks.homes if home else blocks.places
    for start in range(0, size, PIECE):
        length = min(PIECE, size - start)
        entries = bytearray(read_exactly(file, table + start, length, path=file.path, what="the table"))
        while index < len(blocks) and blocks.numbers[index] * _ENTRY.size < start + length:
            _ENTRY.pack_into(entries, blocks.numbers[index] * _ENTRY.size - start, places[index] // fmt.SECTOR_SIZE)
            index += 1
        yield start, bytes(entries)
