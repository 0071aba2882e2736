"""Parts of a VHD as they shall be: what an in-place commit writes, and what foreign readers see before it does."""

from __future__ import annotations

from bisect import bisect_left

from vhdtool.bytesource import ByteSource
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.changes import Changes
from vhdtool.disk.vhd_flip import BlockShape
from vhdtool.disk.vhd_move import MoveRecord
from vhdtool.layout import packed

_ENTRY = packed(fmt.BAT_ENTRY)


class BlockSource:
    """A block as it shall be in the file, ``size`` bytes: a bitmap with all bits set, its data, zeros behind it."""

    def __init__(self, changes: Changes, block: int, shape: BlockShape, size: int) -> None:
        bits = b"\xff" * max(1, shape.block_size // fmt.SECTOR_SIZE // 8)
        self._bitmap = bits.ljust(shape.bitmap_size, b"\0")
        self._changes = changes
        self._start = block * shape.block_size
        self._used = shape.used_size(block)
        self._size = size

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only at the end."""
        length = max(0, min(length, self._size - offset))
        bits = self._bitmap[offset : offset + length]
        within = offset + len(bits) - len(self._bitmap)
        wanted = max(0, min(length - len(bits), self._used - len(self._bitmap) - within))
        data = self._changes.read_at(self._start + within, wanted) if wanted else b""
        return (bits + data).ljust(length, b"\0")


class HomeTable:
    """The block allocation table with the homes of new blocks."""

    def __init__(self, base: ByteSource, record: MoveRecord) -> None:
        self._base = base
        self._record = record
        self.size = record.table_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only at the end."""
        width = _ENTRY.size
        end = min(offset + length, self.size)
        first, last = offset // width, -(-end // width)
        entries = bytearray(self._base.read_at(self._record.home_table + first * width, (last - first) * width))
        blocks = self._record.blocks
        index = bisect_left(blocks.numbers, first)
        while index < len(blocks) and blocks.numbers[index] < last:
            at = (blocks.numbers[index] - first) * width
            entries[at : at + width] = _ENTRY.pack(blocks.homes[index] // fmt.SECTOR_SIZE)
            index += 1
        return bytes(entries[offset - first * width : end - first * width])
