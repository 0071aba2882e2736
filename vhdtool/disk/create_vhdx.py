"""Write new VHDX images: fixed, dynamic and differencing, block by block (MS-VHDX 2).

The bytes depend on the arguments alone: every GUID is given, none is drawn. Places in the file, in this order: header
section, log, metadata, BAT, further regions, then sector bitmap blocks and payload blocks in the order asked for.
What holds zeros is not written: the file has holes where the host's file system has them, and no sparse attribute is
ever set, because Windows refuses to attach such a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.new_file import new_file, put
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_header import Header, encode_header, encode_identifier
from vhdtool.disk.vhdx_locator import encode_parent_locator
from vhdtool.disk.vhdx_log_entry import LogWrite, encode_entry
from vhdtool.disk.vhdx_metadata import encode_metadata
from vhdtool.disk.vhdx_region import Region, encode_region_table
from vhdtool.errors import UsageError

Kind = Literal["fixed", "dynamic", "differencing"]
_STORED_STATES = (BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT)


@dataclass(frozen=True, slots=True)
class Block:
    """A payload block. ``data``, or what it returns, fills the block from its start; zeros follow.

    ``bitmap`` has one bit for each sector of the block, least significant first, and belongs to PARTIALLY_PRESENT.
    ``keeps_space`` gives a block of another state a place in the file all the same (2.5.1.1 allows it for UNDEFINED
    and UNMAPPED).
    """

    state: BlockState = BlockState.FULLY_PRESENT
    data: bytes | Callable[[], bytes] = b""
    bitmap: bytes | None = None
    keeps_space: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """The GUIDs of a file: of its last opening, of what its disk holds, and the one that the guest sees."""

    file_write: UUID
    data_write: UUID
    virtual_disk: UUID


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """One log entry. Unset fields follow 2.3.1.1: offsets are the file's size, the tail is the first entry's place."""

    writes: Sequence[LogWrite]
    sequence_number: int | None = None
    tail: int | None = None
    flushed_file_offset: int | None = None
    last_file_offset: int | None = None


@dataclass(frozen=True, slots=True)
class PendingLog:
    """Entries to be found in the log, one after another from ``start``, which wraps at the end of the log."""

    guid: UUID
    entries: Sequence[PendingEntry]
    start: int = 0
    first_sequence_number: int = 1


@dataclass(frozen=True, slots=True)
class ExtraRegion:
    """A region that MS-VHDX does not know; its length is that of ``content`` in whole MiB."""

    guid: UUID
    content: bytes = b""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things came to lie, in bytes of the file."""

    file_size: int
    log_offset: int
    metadata_offset: int
    bat_offset: int
    blocks: Mapping[int, int] = field(default_factory=dict)
    bitmaps: Mapping[int, int] = field(default_factory=dict)


def write_vhdx(
    path: str | os.PathLike[str],
    *,
    virtual_size: int,
    block_size: int,
    identity: Identity,
    logical_sector_size: int = 512,
    physical_sector_size: int = 4096,
    kind: Kind = "dynamic",
    blocks: Mapping[int, Block] | None = None,
    order: Sequence[int] | None = None,
    all_bitmaps: bool = False,
    parent: Mapping[str, str] | None = None,
    creator: str = "vhdtool",
    sequence_number: int = 1,
    log_length: int = fmt.MIB,
    log: PendingLog | None = None,
    metadata_items: Sequence[tuple[UUID, int, bytes]] = (),
    regions: Sequence[ExtraRegion] = (),
) -> Layout:
    """Write a new image to ``path`` and return where its parts lie.

    Args:
        path: the new file.
        virtual_size: size of the disk in bytes, a multiple of the logical sector size, at most 64 TiB.
        block_size: 1 to 256 MiB, a power of 2.
        identity: the file's GUIDs.
        logical_sector_size: 512 or 4096.
        physical_sector_size: 512 or 4096.
        kind: in a fixed image every block that ``blocks`` leaves out is FULLY_PRESENT, in others NOT_PRESENT.
        blocks: payload blocks by number.
        order: numbers of blocks that lie first in the file, in this order; the others follow by number.
        all_bitmaps: give every chunk of a differencing image a sector bitmap block (libvhdi reads wrong bytes where
            one is missing).
        parent: keys and values of the parent locator of a differencing image.
        creator: the program's name in the file type identifier, at most 255 UTF-16 units.
        sequence_number: that of the first header; the second header has the next one.
        log_length: a multiple of 1 MiB.
        log: entries that wait in the log.
        metadata_items: further metadata items ``(item id, flags, bytes)``.
        regions: further regions.

    Raises:
        UsageError: ``vhdx-create-invalid`` for arguments that no VHDX can have.
        RefusedError: ``file-exists``.
        OutputError: ``cannot-write``.
    """
    plan = _Plan(
        virtual_size, block_size, logical_sector_size, kind, dict(blocks or {}), list(order or ()), all_bitmaps
    )
    _check(plan, physical_sector_size, log_length, parent)
    metadata = encode_metadata(
        [*_known_items(plan, physical_sector_size, identity.virtual_disk, parent), *metadata_items]
    )
    log_offset = fmt.HEADER_SECTION_SIZE
    placed, end = _place_regions(log_offset + log_length, metadata, plan.bat_size, regions)
    metadata_region, bat_region = placed[0], placed[1]
    block_places, bitmap_places, file_size = plan.place(end)
    header = Header(
        sequence_number=sequence_number,
        file_write_guid=identity.file_write,
        data_write_guid=identity.data_write,
        log_guid=log.guid if log is not None else fmt.NO_GUID,
        log_version=fmt.LOG_VERSION,
        version=fmt.VERSION,
        log_length=log_length,
        log_offset=log_offset,
    )
    table = encode_region_table(placed)
    with new_file(path) as file:
        file.truncate(file_size)
        put(file, fmt.FILE_IDENTIFIER_OFFSET, encode_identifier(creator))
        for offset, number in zip(fmt.HEADER_OFFSETS, (sequence_number, sequence_number + 1), strict=True):
            put(file, offset, encode_header(replace(header, sequence_number=number)))
        for offset in fmt.REGION_TABLE_OFFSETS:
            put(file, offset, table)
        if log is not None:
            for offset, data in encode_log(log, log_length, file_size):
                put(file, log_offset + offset, data)
        put(file, metadata_region.offset, metadata)
        for extra, region in zip(regions, placed[2:], strict=True):
            put(file, region.offset, extra.content)
        for index, entry in plan.bat_entries(block_places, bitmap_places):
            put(file, bat_region.offset + index * fmt.BAT_ENTRY_SIZE, entry)
        for chunk, offset in bitmap_places.items():
            _put_bitmap(file, offset, plan, chunk)
        for number, offset in block_places.items():
            block = plan.blocks.get(number)
            if block is not None:
                put(file, offset, _data_of(block, block_size))
    return Layout(file_size, log_offset, metadata_region.offset, bat_region.offset, block_places, bitmap_places)


def encode_log(log: PendingLog, log_length: int, file_size: int) -> Iterator[tuple[int, bytes]]:
    """Return the pieces of a log region ``(offset in the log, bytes)`` that hold the entries of ``log``."""
    place = log.start
    for number, entry in enumerate(log.entries, log.first_sequence_number):
        data = encode_entry(
            entry.writes,
            log_guid=log.guid,
            sequence_number=number if entry.sequence_number is None else entry.sequence_number,
            tail=log.start if entry.tail is None else entry.tail,
            flushed_file_offset=file_size if entry.flushed_file_offset is None else entry.flushed_file_offset,
            last_file_offset=file_size if entry.last_file_offset is None else entry.last_file_offset,
        )
        until_end = log_length - place
        yield place, data[:until_end]
        if len(data) > until_end:
            yield 0, data[until_end:]
        place = (place + len(data)) % log_length


@dataclass(frozen=True, slots=True)
class _Plan:
    """Geometry and contents of the image."""

    virtual_size: int
    block_size: int
    sector_size: int
    kind: Kind
    blocks: dict[int, Block]
    order: list[int]
    all_bitmaps: bool

    @property
    def block_count(self) -> int:
        return -(-self.virtual_size // self.block_size)

    @property
    def ratio(self) -> int:
        return fmt.chunk_ratio(self.sector_size, self.block_size)

    @property
    def bat_size(self) -> int:
        has_parent = self.kind == "differencing"
        return fmt.bat_entry_count(self.block_count, self.ratio, has_parent=has_parent) * fmt.BAT_ENTRY_SIZE

    def place(self, offset: int) -> tuple[dict[int, int], dict[int, int], int]:
        """Give every stored block its place from ``offset`` on; return places of blocks and bitmaps, and the end."""
        if self.kind == "fixed":
            numbers: list[int] = list(range(self.block_count))
        else:
            numbers = [
                number
                for number, block in sorted(self.blocks.items())
                if block.state in _STORED_STATES or block.keeps_space
            ]
        stored = set(numbers)
        first = [number for number in self.order if number in stored]
        chosen = set(first)
        blocks: dict[int, int] = {}
        bitmaps: dict[int, int] = {}
        if self.all_bitmaps:
            for chunk in range(-(-self.block_count // self.ratio)):
                bitmaps[chunk] = offset
                offset += fmt.BITMAP_BLOCK_SIZE
        for number in [*first, *(number for number in numbers if number not in chosen)]:
            chunk = number // self.ratio
            if self._is_partial(number) and chunk not in bitmaps:
                bitmaps[chunk] = offset
                offset += fmt.BITMAP_BLOCK_SIZE
            blocks[number] = offset
            offset += self.block_size
        return blocks, bitmaps, offset

    def bat_entries(self, blocks: dict[int, int], bitmaps: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """Return ``(index, entry)`` of every entry that is not zero."""
        for number in sorted({*self.blocks, *blocks}):
            state = self.blocks.get(number, Block()).state
            yield number + number // self.ratio, encode_bat_entry(state, blocks.get(number, 0))
        for chunk, offset in sorted(bitmaps.items()):
            yield (chunk + 1) * (self.ratio + 1) - 1, encode_bat_entry(BlockState.FULLY_PRESENT, offset)

    def _is_partial(self, number: int) -> bool:
        block = self.blocks.get(number)
        return block is not None and block.state is BlockState.PARTIALLY_PRESENT


def _check(plan: _Plan, physical_sector_size: int, log_length: int, parent: Mapping[str, str] | None) -> None:
    size = plan.block_size
    bitmap_size = size // plan.sector_size // 8 if plan.sector_size else 0
    wrong = {
        "sector sizes are 512 or 4096": not {plan.sector_size, physical_sector_size} <= {512, 4096},
        "a block size is a power of 2, 1 to 256 MiB": not fmt.BLOCK_SIZE_MIN <= size <= fmt.BLOCK_SIZE_MAX
        or bool(size & (size - 1)),
        "a virtual size is a multiple of the sector size, up to 64 TiB": not 0
        < plan.virtual_size
        <= fmt.VIRTUAL_SIZE_MAX
        or bool(plan.virtual_size % max(plan.sector_size, 1)),
        "a log is a multiple of 1 MiB long": log_length < fmt.MIB or bool(log_length % fmt.MIB),
        "a parent locator belongs to a differencing image, and only there": (parent is not None)
        != (plan.kind == "differencing"),
    }
    for rule, broken in wrong.items():
        if broken:
            raise UsageError("vhdx-create-invalid", rule)
    for number, block in plan.blocks.items():
        if not 0 <= number < plan.block_count:
            raise UsageError("vhdx-create-invalid", f"the disk has no block {number}")
        if block.state is BlockState.PARTIALLY_PRESENT and len(block.bitmap or b"") != bitmap_size:
            raise UsageError("vhdx-create-invalid", f"block {number} needs a bitmap of {bitmap_size} bytes")


def _known_items(
    plan: _Plan, physical_sector_size: int, virtual_disk: UUID, parent: Mapping[str, str] | None
) -> Iterator[tuple[UUID, int, bytes]]:
    required, of_disk = fmt.METADATA_IS_REQUIRED, fmt.METADATA_IS_VIRTUAL_DISK
    flags = {"fixed": fmt.LEAVE_BLOCKS_ALLOCATED, "dynamic": 0, "differencing": fmt.HAS_PARENT}[plan.kind]
    parameters = fmt.FILE_PARAMETERS.build({"block_size": plan.block_size, "flags": flags})
    yield fmt.FILE_PARAMETERS_ITEM, required, parameters
    size = fmt.VIRTUAL_DISK_SIZE.build({"virtual_disk_size": plan.virtual_size})
    yield fmt.VIRTUAL_DISK_SIZE_ITEM, required | of_disk, size
    yield fmt.LOGICAL_SECTOR_SIZE_ITEM, required | of_disk, fmt.SECTOR_SIZE.build({"sector_size": plan.sector_size})
    physical = fmt.SECTOR_SIZE.build({"sector_size": physical_sector_size})
    yield fmt.PHYSICAL_SECTOR_SIZE_ITEM, required | of_disk, physical
    disk_id = fmt.VIRTUAL_DISK_ID.build({"virtual_disk_id": virtual_disk.bytes_le})
    yield fmt.VIRTUAL_DISK_ID_ITEM, required | of_disk, disk_id
    if parent is not None:
        yield fmt.PARENT_LOCATOR_ITEM, required, encode_parent_locator(parent)


def _place_regions(
    offset: int, metadata: bytes, bat_size: int, extras: Sequence[ExtraRegion]
) -> tuple[list[Region], int]:
    wanted = [
        (fmt.METADATA_REGION, len(metadata), True),
        (fmt.BAT_REGION, bat_size, True),
        *((extra.guid, len(extra.content), extra.required) for extra in extras),
    ]
    placed = []
    for guid, size, required in wanted:
        length = max(1, -(-size // fmt.MIB)) * fmt.MIB
        placed.append(Region(guid, offset, length, required))
        offset += length
    return placed, offset


def _data_of(block: Block, block_size: int) -> bytes:
    data = block.data if isinstance(block.data, bytes) else block.data()
    if len(data) > block_size:
        raise UsageError("vhdx-create-invalid", f"a block of {block_size} bytes can't hold {len(data)} bytes")
    return data


def _put_bitmap(file: BinaryIO, offset: int, plan: _Plan, chunk: int) -> None:
    size = plan.block_size // plan.sector_size // 8
    for number in range(chunk * plan.ratio, min((chunk + 1) * plan.ratio, plan.block_count)):
        block = plan.blocks.get(number)
        if block is not None and block.bitmap is not None:
            put(file, offset + (number - chunk * plan.ratio) * size, block.bitmap)
