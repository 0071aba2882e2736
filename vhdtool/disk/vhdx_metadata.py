"""The metadata region of a VHDX: its table and the items that MS-VHDX knows (2.6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.vhdx_locator import Parentage, parse_parent_locator
from vhdtool.disk.vhdx_region import Region
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import packed

_TABLE_HEADER = packed(fmt.METADATA_TABLE_HEADER)
_ENTRY = packed(fmt.METADATA_ENTRY)
_FILE_PARAMETERS = packed(fmt.FILE_PARAMETERS)
_VIRTUAL_DISK_SIZE = packed(fmt.VIRTUAL_DISK_SIZE)
_VIRTUAL_DISK_ID = packed(fmt.VIRTUAL_DISK_ID)
_SECTOR_SIZE = packed(fmt.SECTOR_SIZE)


@dataclass(frozen=True, slots=True)
class MetadataItem:
    """One entry of the metadata table; ``offset`` is in bytes of the file, 0 for an empty item."""

    item_id: UUID
    offset: int
    length: int
    is_user: bool
    is_virtual_disk: bool
    is_required: bool

    @property
    def name(self) -> str | None:
        """The item's name in MS-VHDX, ``None`` for one that it does not know."""
        return None if self.is_user else fmt.METADATA_NAMES.get(self.item_id)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the known items say. Sizes in bytes."""

    block_size: int
    leave_blocks_allocated: bool
    has_parent: bool
    virtual_size: int
    virtual_disk_id: UUID | None
    logical_sector_size: int
    physical_sector_size: int
    parentage: Parentage | None
    items: tuple[MetadataItem, ...]


def read_metadata(stored: ByteSource, region: Region, *, path: str | None = None) -> tuple[Metadata, list[Problem]]:
    """Read the table and the known items; return what they say and what was survived.

    Raises :class:`DamagedError` ``vhdx-metadata-table-damaged``, ``vhdx-metadata-item-location``,
    ``vhdx-metadata-item-overlap``, ``vhdx-metadata-item-twice``, ``vhdx-metadata-item-missing``,
    ``vhdx-metadata-value``, and those of the parent locator; :class:`UnsupportedError`
    ``vhdx-metadata-unknown-required``.
    """
    items = _read_table(stored, region, path)
    _check(items, region, path)
    known = {item.item_id: item for item in items if item.name is not None}
    reader = _Items(stored, known, region, path)
    block_size, flags = reader.require(fmt.FILE_PARAMETERS_ITEM, _FILE_PARAMETERS)
    (virtual_size,) = reader.require(fmt.VIRTUAL_DISK_SIZE_ITEM, _VIRTUAL_DISK_SIZE)
    (logical,) = reader.require(fmt.LOGICAL_SECTOR_SIZE_ITEM, _SECTOR_SIZE)
    problems: list[Problem] = []
    (physical,) = reader.find(fmt.PHYSICAL_SECTOR_SIZE_ITEM, _SECTOR_SIZE, problems) or (logical,)
    disk_id = reader.find(fmt.VIRTUAL_DISK_ID_ITEM, _VIRTUAL_DISK_ID, problems)
    has_parent = bool(flags & fmt.HAS_PARENT)
    _check_values(reader, block_size, virtual_size, logical, physical)
    parentage = None
    if has_parent:
        data, offset = reader.read(fmt.PARENT_LOCATOR_ITEM)
        parentage, survived = parse_parent_locator(data, path=path, offset=offset)
        problems += survived
    return Metadata(
        block_size=block_size,
        # 2.6.2.1: ignored where there is a parent
        leave_blocks_allocated=bool(flags & fmt.LEAVE_BLOCKS_ALLOCATED) and not has_parent,
        has_parent=has_parent,
        virtual_size=virtual_size,
        virtual_disk_id=fmt.guid_of(disk_id[0]) if disk_id else None,
        logical_sector_size=logical,
        physical_sector_size=physical,
        parentage=parentage,
        items=items,
    ), problems


def encode_metadata(items: Iterable[tuple[UUID, int, bytes]]) -> bytes:
    """Return table and items of a metadata region; each item is its GUID, its flags, its bytes."""
    table = []
    content = b""
    for item_id, flags, data in items:
        offset = fmt.METADATA_TABLE_SIZE + len(content) if data else 0
        table.append(_ENTRY.pack(item_id.bytes_le, offset, len(data), flags, 0))
        content += data
        content += bytes(-len(content) % 8)
    header = _TABLE_HEADER.pack(fmt.METADATA_SIGNATURE, 0, len(table), bytes(20))
    return (header + b"".join(table)).ljust(fmt.METADATA_TABLE_SIZE, b"\0") + content


class _Items:
    """Reads items by their GUID."""

    def __init__(self, stored: ByteSource, known: dict[UUID, MetadataItem], region: Region, path: str | None) -> None:
        self._stored = stored
        self._known = known
        self._region = region
        self.path = path

    def read(self, item_id: UUID) -> tuple[bytes, int]:
        """The bytes of an item that must be there, and their offset in the file."""
        item = self._known.get(item_id)
        if item is None:
            raise DamagedError(
                "vhdx-metadata-item-missing",
                f"the metadata has no {fmt.METADATA_NAMES[item_id]}",
                path=self.path,
                offset=self._region.offset,
                hint=fmt.RESTORE_HINT,
            )
        what = f"the metadata item {item.name}"
        return read_exactly(self._stored, item.offset, item.length, path=self.path, what=what), item.offset

    def require(self, item_id: UUID, layout: struct.Struct) -> tuple[Any, ...]:
        """The fields of an item that must be there."""
        data, offset = self.read(item_id)
        if len(data) != layout.size:
            raise self.wrong(item_id, f"{layout.size} bytes", f"{len(data)} bytes", offset)
        return layout.unpack(data)

    def find(self, item_id: UUID, layout: struct.Struct, problems: list[Problem]) -> tuple[Any, ...] | None:
        """The fields of an item that reading can do without: its absence is a problem, not an error."""
        if item_id in self._known:
            return self.require(item_id, layout)
        name = fmt.METADATA_NAMES[item_id]
        problems.append(
            Problem("vhdx-metadata-item-missing", f"the metadata has no {name}", self.path, self._region.offset)
        )
        return None

    def wrong(self, item_id: UUID, expected: str, found: object, offset: int | None = None) -> DamagedError:
        """An item says what none may say."""
        return DamagedError(
            "vhdx-metadata-value",
            f"the metadata item {fmt.METADATA_NAMES[item_id]} is wrong",
            path=self.path,
            offset=self._known[item_id].offset if offset is None else offset,
            expected=expected,
            found=found,
            hint=fmt.RESTORE_HINT,
        )


def _check_values(reader: _Items, block_size: int, virtual_size: int, logical: int, physical: int) -> None:
    if not fmt.BLOCK_SIZE_MIN <= block_size <= fmt.BLOCK_SIZE_MAX or block_size & (block_size - 1):
        raise reader.wrong(fmt.FILE_PARAMETERS_ITEM, "a block size that is a power of 2, 1 to 256 MiB", block_size)
    if logical not in {512, 4096}:
        raise reader.wrong(fmt.LOGICAL_SECTOR_SIZE_ITEM, "512 or 4096", logical)
    if physical not in {512, 4096}:
        raise reader.wrong(fmt.PHYSICAL_SECTOR_SIZE_ITEM, "512 or 4096", physical)
    if not 0 < virtual_size <= fmt.VIRTUAL_SIZE_MAX or virtual_size % logical:
        raise reader.wrong(
            fmt.VIRTUAL_DISK_SIZE_ITEM, f"a multiple of {logical} bytes, more than 0, at most 64 TiB", virtual_size
        )


def _read_table(stored: ByteSource, region: Region, path: str | None) -> tuple[MetadataItem, ...]:
    table = read_exactly(stored, region.offset, fmt.METADATA_TABLE_SIZE, path=path, what="the metadata table")
    signature, _, count, _ = _TABLE_HEADER.unpack_from(table)
    if signature != fmt.METADATA_SIGNATURE or count > fmt.METADATA_ENTRY_LIMIT:
        raise DamagedError(
            "vhdx-metadata-table-damaged",
            "the metadata table is damaged",
            path=path,
            offset=region.offset,
            expected=f"signature {fmt.METADATA_SIGNATURE!r}, at most {fmt.METADATA_ENTRY_LIMIT} entries",
            found=f"signature {signature!r}, {count} entries",
            hint=fmt.RESTORE_HINT,
        )
    items = []
    for index in range(count):
        item_id, offset, length, flags, _ = _ENTRY.unpack_from(table, _TABLE_HEADER.size + index * _ENTRY.size)
        items.append(
            MetadataItem(
                fmt.guid_of(item_id),
                region.offset + offset if offset else 0,
                length,
                bool(flags & fmt.METADATA_IS_USER),
                bool(flags & fmt.METADATA_IS_VIRTUAL_DISK),
                bool(flags & fmt.METADATA_IS_REQUIRED),
            )
        )
    return tuple(items)


def _check(items: tuple[MetadataItem, ...], region: Region, path: str | None) -> None:
    placed = []
    for item in items:
        if item.is_required and item.name is None:
            raise UnsupportedError(
                "vhdx-metadata-unknown-required",
                f"the image needs a metadata item that this program does not know, {item.item_id}",
                path=path,
                offset=region.offset,
            )
        if item.length == 0:
            continue
        first, last = region.offset + fmt.METADATA_TABLE_SIZE, region.offset + region.length
        if item.length > fmt.METADATA_ITEM_LIMIT or item.offset < first or item.offset + item.length > last:
            raise DamagedError(
                "vhdx-metadata-item-location",
                f"the metadata item {item.name or item.item_id} does not lie in its region",
                path=path,
                offset=region.offset,
                expected=f"a part of {first:#x} to {last:#x}, at most 1 MiB",
                found=f"{item.length} bytes at {item.offset:#x}",
                hint=fmt.RESTORE_HINT,
            )
        placed.append(item)
    if len({(item.item_id, item.is_user) for item in items}) != len(items):
        raise DamagedError(
            "vhdx-metadata-item-twice",
            "the metadata table names one item twice",
            path=path,
            offset=region.offset,
            hint=fmt.RESTORE_HINT,
        )
    for before, after in pairwise(sorted(placed, key=lambda item: item.offset)):
        if before.offset + before.length > after.offset:
            raise DamagedError(
                "vhdx-metadata-item-overlap",
                f"the metadata items {before.name or before.item_id} and {after.name or after.item_id} overlap",
                path=path,
                offset=after.offset,
                hint=fmt.RESTORE_HINT,
            )
