"""The base block: the head of a hive, and of each of its logs. Source: regf specification, "Base block"."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Any

import construct

from vhdtool.layout import offset_of, packed
from vhdtool.registry.format import (
    BASE_BLOCK,
    BASE_BLOCK_SIGNATURE,
    FLAG_TRANSACTIONS,
    NEWEST_MINOR_VERSION,
    OLDEST_MINOR_VERSION,
    SECTOR_SIZE,
)
from vhdtool.registry.names import decode_text, fold

_BASE = packed(BASE_BLOCK)
_CHECKSUM = offset_of(BASE_BLOCK, "checksum")
_FILE_NAME = offset_of(BASE_BLOCK, "file_name")
_FILE_NAME_END = offset_of(BASE_BLOCK, "guids")
_WORDS = struct.Struct(f"<{_CHECKSUM // 4}I")


@dataclass(frozen=True, slots=True)
class BaseBlock:
    """What the base block says. ``valid``: its checksum is right.

    ``root_cell`` counts from the first hbin, ``hbins_size`` is in bytes, ``last_written`` a FILETIME.
    """

    primary_sequence: int
    secondary_sequence: int
    last_written: int
    major: int
    minor: int
    file_type: int
    root_cell: int
    hbins_size: int
    valid: bool
    sector: bytes

    @property
    def clean(self) -> bool:
        """Whether the last write of the hive came to its end ("Dirty state of a hive")."""
        return self.valid and self.primary_sequence == self.secondary_sequence

    @property
    def file_name(self) -> str:
        """The last part of the hive's path, upper-cased; empty where the block has none."""
        units = self.sector[_FILE_NAME:_FILE_NAME_END]
        return fold(decode_text(units).partition("\0")[0].rpartition("\\")[2])

    @property
    def minor_version(self) -> int | None:
        """The minor version; ``None`` where the block is damaged and says something impossible."""
        known = OLDEST_MINOR_VERSION <= self.minor <= NEWEST_MINOR_VERSION
        return self.minor if self.valid or known else None


def base_block_checksum(sector: bytes) -> int:
    """XOR of the words before the checksum; -1 is kept as -2 and 0 as 1 (regf specification; ReactOS, hivesum.c)."""
    value: int = reduce(xor, _WORDS.unpack_from(sector))
    return {0xFFFFFFFF: 0xFFFFFFFE, 0: 1}.get(value, value)


def parse_base_block(sector: bytes) -> BaseBlock | None:
    """Decode the first sector of a hive or log; ``None`` where it is too short or has no ``regf`` signature."""
    if len(sector) < SECTOR_SIZE:
        return None
    signature, primary, secondary, written, major, minor, kind, _, root, hbins, *_, checksum = _BASE.unpack_from(sector)
    if signature != BASE_BLOCK_SIGNATURE:
        return None
    valid = checksum == base_block_checksum(sector)
    return BaseBlock(primary, secondary, written, major, minor, kind, root, hbins, valid, bytes(sector[:SECTOR_SIZE]))


def written_base_block(base: BaseBlock, sequence: int, hbins_size: int, last_written: int) -> BaseBlock:
    """Return ``base`` as it is after a write that came to its end; all that is not named stays as it was."""
    fields = BASE_BLOCK.parse(base.sector)
    fields.primary_sequence = fields.secondary_sequence = sequence
    fields.hbins_size, fields.last_written = hbins_size, last_written
    return _sealed(fields)


def recovered_base_block(base: BaseBlock, sequence: int, hbins_size: int, flags: int | None) -> BaseBlock:
    """Return ``base`` as it is after recovery: a clean primary of ``hbins_size`` bytes.

    ``flags``: those of the last log entry; only their first bit is taken over.
    """
    fields = BASE_BLOCK.parse(base.sector)
    fields.primary_sequence = fields.secondary_sequence = sequence
    fields.hbins_size, fields.file_type = hbins_size, 0
    if flags is not None:
        fields.flags = fields.flags & ~FLAG_TRANSACTIONS | flags & FLAG_TRANSACTIONS
    return _sealed(fields)


def _sealed(fields: construct.Container[Any]) -> BaseBlock:
    fields.checksum = base_block_checksum(BASE_BLOCK.build(fields))
    made = parse_base_block(BASE_BLOCK.build(fields))
    if made is None:
        raise ValueError("a parsed base block has its signature")
    return made
