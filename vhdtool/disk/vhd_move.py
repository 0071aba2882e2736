"""The record that an in-place commit of a dynamic VHD leaves in the file until it has ended.

It lies in the sectors before the footer at the end, after all blocks, where no reader looks: a table of the blocks
that were written, then one sector that says where everything is. A guest could write such sectors into its own disk,
so a record is believed only where no block of the table in effect reaches into it; and finishing by it writes to
nothing but space that no block uses.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

from construct import Bytes, Int32ub, Int64ub, Padding, Struct

from vhdtool.bytesource import ByteSource
from vhdtool.disk import vhd_format as fmt
from vhdtool.layout import offset_of, packed

MAGIC = b"vhdtool moving\0\0"
VERSION = 1
DIGEST_SIZE = 32
RECORD = Struct(
    "magic" / Bytes(16),
    "version" / Int32ub,
    "block_count" / Int32ub,
    "unique_id" / Bytes(16),  # of the image
    "file_size" / Int64ub,  # while the record is in force; it ends a footer before
    "old_end" / Int64ub,  # where the footer was
    "new_end" / Int64ub,  # where the footer shall be
    "header_offset" / Int64ub,
    "home_table" / Int64ub,  # where the block allocation table was, and shall be again
    "moved_table" / Int64ub,
    "table_size" / Int64ub,  # bytes of entries
    "digest" / Bytes(DIGEST_SIZE),  # SHA-256 of the block table, then of this sector with the digest zeroed
    "reserved" / Padding(384),
)
BLOCK = Struct(
    "number" / Int32ub,
    "reserved" / Padding(4),
    "home" / Int64ub,  # where it shall lie in the end
    "moved" / Int64ub,  # where the moved table has it
)
RECORD_SIZE: int = RECORD.sizeof()
BLOCK_LIMIT = 1 << 21  # blocks of one commit: twice those of the largest disk with blocks of 2 MiB
_RECORD = packed(RECORD)
_BLOCK = packed(BLOCK)
_PLACES_KEPT = "Q"
_DIGEST_AT = offset_of(RECORD, "digest")


@dataclass(slots=True)
class MovedBlocks:
    """Blocks by rising number, 20 bytes each in memory. Places in bytes of the file, those of the sector bitmaps."""

    numbers: array[int] = field(default_factory=lambda: array("I"))
    homes: array[int] = field(default_factory=lambda: array(_PLACES_KEPT))
    places: array[int] = field(default_factory=lambda: array(_PLACES_KEPT))

    def add(self, number: int, home: int, place: int) -> None:
        """Add a block whose number is higher than all before."""
        self.numbers.append(number)
        self.homes.append(home)
        self.places.append(place)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Number, home and place of each."""
        return zip(self.numbers, self.homes, self.places, strict=True)


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A record as written. Offsets and sizes in bytes of the file; see :data:`RECORD`."""

    unique_id: UUID
    file_size: int
    old_end: int
    new_end: int
    header_offset: int
    home_table: int
    moved_table: int
    table_size: int
    blocks: MovedBlocks

    @property
    def offset(self) -> int:
        """Where it starts in the file: at its block table."""
        return self.file_size - fmt.FOOTER_SIZE - record_length(len(self.blocks))


def record_length(blocks: int) -> int:
    """The bytes of a record of so many blocks."""
    return sectors(blocks * _BLOCK.size) + RECORD_SIZE


def sectors(length: int) -> int:
    """A length filled up to whole sectors."""
    return -(-length // fmt.SECTOR_SIZE) * fmt.SECTOR_SIZE


def encode_record(record: MoveRecord) -> bytes:
    """Return the bytes of a record, block table first."""
    table = b"".join(_BLOCK.pack(*block) for block in record.blocks)
    table = table.ljust(sectors(len(table)), b"\0")
    unsealed = _pack(record, bytes(DIGEST_SIZE))
    return table + _pack(record, hashlib.sha256(table + unsealed).digest())


def _pack(record: MoveRecord, digest: bytes) -> bytes:
    return _RECORD.pack(
        MAGIC,
        VERSION,
        len(record.blocks),
        record.unique_id.bytes,
        record.file_size,
        record.old_end,
        record.new_end,
        record.header_offset,
        record.home_table,
        record.moved_table,
        record.table_size,
        digest,
    )


def find_record(file: ByteSource, data_end: int, unique_id: UUID) -> MoveRecord | None:
    """Return the record before the footer at ``data_end``; ``None`` where there is none that is whole and this image's.

    Whether a block reaches into it is the caller's question.
    """
    last = file.read_at(data_end - RECORD_SIZE, RECORD_SIZE) if data_end >= RECORD_SIZE else b""
    if len(last) < RECORD_SIZE or not last.startswith(MAGIC):
        return None
    _, version, count, owner, size, old_end, new_end, header, home, moved, table_size, digest = _RECORD.unpack(last)
    if version != VERSION or owner != unique_id.bytes or size != data_end + fmt.FOOTER_SIZE or count > BLOCK_LIMIT:
        return None
    start = data_end - record_length(count)
    if start < 0:
        return None
    table = file.read_at(start, data_end - RECORD_SIZE - start)
    blocks = MovedBlocks()
    for number, home_place, place in _BLOCK.iter_unpack(table[: count * _BLOCK.size]):
        blocks.add(number, home_place, place)
    record = MoveRecord(unique_id, size, old_end, new_end, header, home, moved, table_size, blocks)
    unsealed = last[:_DIGEST_AT] + bytes(DIGEST_SIZE) + last[_DIGEST_AT + DIGEST_SIZE :]
    if hashlib.sha256(table + unsealed).digest() != digest:
        return None
    return record if _in_order(record) else None


def _in_order(record: MoveRecord) -> bool:
    """Nothing in it lies where it can't."""
    start, numbers = record.offset, record.blocks.numbers
    ends = record.old_end <= record.new_end <= start and record.old_end % fmt.SECTOR_SIZE == 0
    tables = (
        record.new_end <= record.moved_table <= start - record.table_size
        and 0 < record.home_table <= record.old_end - record.table_size
    )
    rising = all(before < after for before, after in pairwise(numbers))
    inside = all(0 < home < start and record.old_end <= place < start for _, home, place in record.blocks)
    whole = all((home | place) % fmt.SECTOR_SIZE == 0 for _, home, place in record.blocks)
    return ends and tables and rising and inside and whole and record.new_end % fmt.SECTOR_SIZE == 0
