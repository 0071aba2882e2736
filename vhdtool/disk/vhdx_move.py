"""The record that an in-place commit of a VHDX leaves in the file until it has ended.

It lies at the very end of the file, behind everything in use, where no reader looks: a table of the blocks that were
written, then one sector of 4 KiB. Readers need none of it: the log alone decides what the disk holds. It tells
``recover`` which space of the file was lent for the commit and where the blocks came from, and it is believed only
where nothing is in use that it calls free (:mod:`vhdtool.disk.recover_vhdx`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from uuid import UUID

from construct import Bytes, Int32ul, Int64ul, Padding, Struct

from vhdtool.bytesource import ByteSource
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.vhd_move import MovedBlocks
from vhdtool.disk.vhdx_log_writer import LogPlace
from vhdtool.layout import packed

MAGIC: Final = b"vhdtool moving\0\0"
VERSION: Final = 1
DIGEST_SIZE: Final = 32
RECORD_SIZE: Final = 4096
RECORD = Struct(
    "magic" / Bytes(16),
    "version" / Int32ul,
    "block_count" / Int32ul,
    "disk_id" / Bytes(16),  # of the virtual disk, zeros where it has none
    "data_write_guid" / Bytes(16),  # of the disk as it shall be
    "file_size" / Int64ul,  # while the record is in force: it ends there
    "old_size" / Int64ul,  # of the file before
    "log_offset" / Int64ul,  # where the log was, and shall be again
    "log_length" / Int64ul,
    "digest" / Bytes(DIGEST_SIZE),  # SHA-256 of the table, then of this sector with the digest zeroed
    "reserved" / Padding(3976),
)
BLOCK = Struct(
    "number" / Int32ul,
    "reserved" / Padding(4),
    "home" / Int64ul,  # where it shall lie in the end
    "place" / Int64ul,  # where it lies meanwhile; the same for a block that the file had not
)
BLOCK_LIMIT: Final = 1 << 21
"""Blocks of one commit: 2 TiB in blocks of 1 MiB."""
_RECORD = packed(RECORD)
_BLOCK = packed(BLOCK)


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A record as written. Offsets and sizes in bytes of the file; see :data:`RECORD`."""

    disk_id: UUID
    data_write_guid: UUID
    file_size: int
    old_size: int
    log: LogPlace
    blocks: MovedBlocks

    @property
    def offset(self) -> int:
        """Where it starts in the file: at its table."""
        return self.file_size - record_length(len(self.blocks))

    @property
    def folds(self) -> bool:
        """Some block shall go back to where it was."""
        return self.blocks.homes != self.blocks.places


def record_length(blocks: int) -> int:
    """The bytes of a record of so many blocks."""
    return -(-blocks * _BLOCK.size // RECORD_SIZE) * RECORD_SIZE + RECORD_SIZE


def encode_record(record: MoveRecord) -> bytes:
    """Return the bytes of a record, its table first."""
    table = b"".join(_BLOCK.pack(*block) for block in record.blocks)
    table = table.ljust(record_length(len(record.blocks)) - RECORD_SIZE, b"\0")
    return table + _pack(record, hashlib.sha256(table + _pack(record, bytes(DIGEST_SIZE))).digest())


def find_record(file: ByteSource, disk_id: UUID | None) -> MoveRecord | None:
    """Return the record at the end of a file; ``None`` where there is none that is whole and this disk's.

    What is in use in the file is the caller's question.
    """
    last = file.read_at(file.size - RECORD_SIZE, RECORD_SIZE) if file.size >= fmt.HEADER_SECTION_SIZE else b""
    if not last.startswith(MAGIC) or len(last) < RECORD_SIZE:
        return None
    _, version, count, owner, data_write, size, old_size, log_offset, log_length, digest = _RECORD.unpack(last)
    start = file.size - record_length(count)
    if version != VERSION or size != file.size or count > BLOCK_LIMIT or start < fmt.HEADER_SECTION_SIZE:
        return None
    if owner != (disk_id or fmt.NO_GUID).bytes_le:
        return None
    table = file.read_at(start, file.size - RECORD_SIZE - start)
    blocks = MovedBlocks()
    for number, home, place in _BLOCK.iter_unpack(table[: count * _BLOCK.size]):
        blocks.add(number, home, place)
    record = MoveRecord(
        disk_id=fmt.guid_of(owner),
        data_write_guid=fmt.guid_of(data_write),
        file_size=size,
        old_size=old_size,
        log=LogPlace(log_offset, log_length),
        blocks=blocks,
    )
    if hashlib.sha256(table + _pack(record, bytes(DIGEST_SIZE))).digest() != digest:
        return None
    return record if _in_order(record) else None


def _pack(record: MoveRecord, digest: bytes) -> bytes:
    return _RECORD.pack(
        MAGIC,
        VERSION,
        len(record.blocks),
        record.disk_id.bytes_le,
        record.data_write_guid.bytes_le,
        record.file_size,
        record.old_size,
        record.log.offset,
        record.log.length,
        digest,
    )


def _in_order(record: MoveRecord) -> bool:
    """Nothing in it lies where it can't."""
    start, log = record.offset, record.log
    log_end = log.offset + log.length
    rising = all(before < after for before, after in pairwise(record.blocks.numbers))
    ends = record.old_size <= start and fmt.HEADER_SECTION_SIZE <= log.offset < log_end <= record.old_size
    inside = all(
        fmt.HEADER_SECTION_SIZE <= home < start and record.old_size <= place < start for _, home, place in record.blocks
    )
    whole = all((home | place) % fmt.MIB == 0 for _, home, place in record.blocks)
    return rising and ends and inside and whole and (log.offset | log.length) % fmt.MIB == 0
