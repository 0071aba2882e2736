"""GUID partition tables: header and entry array, checked by their CRCs, primary first and backup after.

UEFI Specification 2.10, section 5.3 (GUID Partition Table disk layout).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import construct as c

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import Problem
from vhdtool.layout import offset_of, packed

SIGNATURE = b"EFI PART"

GPT_HEADER = c.Struct(
    "signature" / c.Bytes(8),
    "revision" / c.Int32ul,
    "header_size" / c.Int32ul,
    "header_crc" / c.Int32ul,
    c.Padding(4),
    "my_lba" / c.Int64ul,
    "alternate_lba" / c.Int64ul,
    "first_usable_lba" / c.Int64ul,
    "last_usable_lba" / c.Int64ul,
    "disk_guid" / c.Bytes(16),
    "entries_lba" / c.Int64ul,
    "entry_count" / c.Int32ul,
    "entry_size" / c.Int32ul,
    "entries_crc" / c.Int32ul,
)
GPT_ENTRY = c.Struct(
    "type_guid" / c.Bytes(16),
    "unique_guid" / c.Bytes(16),
    "first_lba" / c.Int64ul,
    "last_lba" / c.Int64ul,
    "attributes" / c.Int64ul,
    "name" / c.Bytes(72),
)
_ENTRY = packed(GPT_ENTRY)
_CRC_AT = offset_of(GPT_HEADER, "header_crc")  # zero while the CRC is computed
_UNUSED = bytes(16)
MAX_ENTRIES_SIZE = 1024 * 1024  # 128 entries of 128 bytes are usual; this is 8192 of them


@dataclass(frozen=True, slots=True)
class GptPartition:
    """One used entry. Offsets and sizes in bytes, GUIDs lower case."""

    offset: int
    size: int
    type_guid: str
    name: str | None
    attributes: int


@dataclass(frozen=True, slots=True)
class Gpt:
    """A table that passed its CRCs."""

    disk_guid: str
    sector_size: int
    partitions: tuple[GptPartition, ...]
    impossible: tuple[int, ...] = ()  # numbers of used entries that end before they begin or leave the usable area


def read_gpt(device: BlockDevice, sector_size: int, path: str | None = None) -> tuple[Gpt | None, list[Problem]]:
    """Read the table for sectors of ``sector_size`` bytes; ``None`` where neither copy can be used.

    A damaged primary falls back to the backup, with a problem; so does a damaged backup leave a problem.
    """
    problems: list[Problem] = []
    last_lba = device.size // sector_size - 1
    primary, fault = _header(device, sector_size, 1)
    table: Gpt | None = None
    if primary is not None:
        table, fault = _table(device, sector_size, primary)
    backup_lba = primary.alternate_lba if primary is not None and 1 < primary.alternate_lba <= last_lba else last_lba
    if table is None:
        problems.append(
            Problem("gpt-primary-damaged", f"the primary partition table is damaged: {fault}", path, sector_size)
        )
    backup, backup_fault = _header(device, sector_size, backup_lba)
    if table is None and backup is not None:
        table, backup_fault = _table(device, sector_size, backup)
    if backup_fault is not None:
        problems.append(
            Problem(
                "gpt-backup-damaged",
                f"the backup partition table is damaged: {backup_fault}",
                path,
                backup_lba * sector_size,
            )
        )
    if table is not None and table.impossible:
        text = f"entries outside of the usable area: {', '.join(map(str, table.impossible))}"
        problems.append(Problem("gpt-entry-impossible", text, path, sector_size))
    return table, problems


def has_gpt_signature(device: BlockDevice, sector_size: int) -> bool:
    """Whether a header lies where the primary or the backup should be; it need not be whole."""
    last = (device.size // sector_size - 1) * sector_size
    return any(device.read_at(offset, 8) == SIGNATURE for offset in (sector_size, last) if offset > 0)


def _header(device: BlockDevice, sector_size: int, lba: int) -> tuple[Any, str | None]:
    data = device.read_at(lba * sector_size, sector_size)
    if len(data) < sector_size:
        return None, "it lies beyond the end of the disk"
    header = GPT_HEADER.parse(data)
    fault = None
    if header.signature != SIGNATURE:
        fault = "there is no header"
    elif not GPT_HEADER.sizeof() <= header.header_size <= sector_size:
        fault = f"the header size {header.header_size} is impossible"
    elif zlib.crc32(data[:_CRC_AT] + bytes(4) + data[_CRC_AT + 4 : header.header_size]) != header.header_crc:
        fault = "the header's CRC is wrong"
    elif header.my_lba != lba:
        fault = f"the header says that it lies in sector {header.my_lba}"
    elif header.entry_size < GPT_ENTRY.sizeof() or header.entry_size % 8:
        fault = f"the entry size {header.entry_size} is impossible"
    elif header.entry_count * header.entry_size > MAX_ENTRIES_SIZE:
        fault = f"{header.entry_count} entries are too many"
    return (None, fault) if fault is not None else (header, None)


def _table(device: BlockDevice, sector_size: int, header: Any) -> tuple[Gpt | None, str | None]:
    length = header.entry_count * header.entry_size
    data = device.read_at(header.entries_lba * sector_size, length)
    if len(data) < length:
        return None, "the entries lie beyond the end of the disk"
    if zlib.crc32(data) != header.entries_crc:
        return None, "the CRC of the entries is wrong"
    partitions = []
    impossible: list[int] = []
    for offset in range(0, length, header.entry_size):
        type_guid, _, first, last, attributes, name = _ENTRY.unpack_from(data, offset)
        if type_guid == _UNUSED:
            continue
        if not header.first_usable_lba <= first <= last <= header.last_usable_lba:
            impossible.append(offset // header.entry_size + 1)
        if last < first:
            continue
        partitions.append(
            GptPartition(
                first * sector_size,
                (last - first + 1) * sector_size,
                str(UUID(bytes_le=type_guid)),
                name.decode("utf-16-le", "replace").split("\0", 1)[0] or None,
                attributes,
            )
        )
    disk_guid = str(UUID(bytes_le=header.disk_guid))
    return Gpt(disk_guid, sector_size, tuple(partitions), tuple(impossible)), None
