"""Write a whole VHDX from a description of its blocks: fixed, dynamic and differencing, with whatever log and states.

The bytes depend on the arguments alone: every GUID is given, none is drawn. :mod:`vhdtool.disk.vhdx_writer` places
and encodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.new_file import new_file
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_log_entry import LogWrite, encode_entry
from vhdtool.disk.vhdx_writer import ExtraRegion, Identity, Kind, VhdxShape, VhdxWriter
from vhdtool.errors import UsageError

__all__ = [
    "Block",
    "BlockState",
    "ExtraRegion",
    "Identity",
    "Layout",
    "PendingEntry",
    "PendingLog",
    "encode_log",
    "write_vhdx",
]

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
    shape = VhdxShape(virtual_size, block_size, logical_sector_size, physical_sector_size, kind)
    shape.check(has_parent=parent is not None, log_length=log_length)
    wanted = dict(blocks or {})
    _check_blocks(shape, wanted)
    with new_file(path) as file:
        writer = VhdxWriter(
            file,
            shape,
            identity,
            parent=parent,
            all_bitmaps=all_bitmaps,
            creator=creator,
            log_length=log_length,
            metadata_items=metadata_items,
            regions=regions,
        )
        places: dict[int, int] = {}
        bitmaps = {chunk: writer.allocate_bitmap(chunk) for chunk in range(shape.chunk_count if all_bitmaps else 0)}
        for number in _in_file_order(shape, wanted, order or ()):
            block = wanted.get(number, Block())
            chunk = number // shape.chunk_ratio
            if block.bitmap is not None and block.state is BlockState.PARTIALLY_PRESENT:
                bitmaps[chunk] = writer.allocate_bitmap(chunk)
            places[number] = writer.allocate(number, block.state)
        for number, block in wanted.items():
            if number not in places:
                writer.set_state(number, block.state)
                continue
            writer.write(places[number], _data_of(block, block_size))
            if block.bitmap is not None and number // shape.chunk_ratio in bitmaps:
                chunk, within = divmod(number, shape.chunk_ratio)
                writer.write(bitmaps[chunk] + within * len(block.bitmap), block.bitmap)
        file_size = writer.finish(
            sequence_number=sequence_number, log_guid=log.guid if log is not None else fmt.NO_GUID
        )
        if log is not None:
            for offset, data in encode_log(log, log_length, file_size):
                writer.write(writer.log_offset + offset, data)
    return Layout(file_size, writer.log_offset, writer.metadata_offset, writer.bat_offset, places, bitmaps)


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


def _in_file_order(shape: VhdxShape, blocks: Mapping[int, Block], order: Sequence[int]) -> list[int]:
    """The blocks that have a place, those of ``order`` first."""
    if shape.kind == "fixed":
        numbers: list[int] = list(range(shape.block_count))
    else:
        numbers = [n for n, block in sorted(blocks.items()) if block.state in _STORED_STATES or block.keeps_space]
    stored = set(numbers)
    first = [number for number in order if number in stored]
    chosen = set(first)
    return [*first, *(number for number in numbers if number not in chosen)]


def _check_blocks(shape: VhdxShape, blocks: Mapping[int, Block]) -> None:
    bitmap_size = shape.block_size // shape.logical_sector_size // 8
    for number, block in blocks.items():
        if not 0 <= number < shape.block_count:
            raise UsageError("vhdx-create-invalid", f"the disk has no block {number}")
        if block.state is BlockState.PARTIALLY_PRESENT and len(block.bitmap or b"") != bitmap_size:
            raise UsageError("vhdx-create-invalid", f"block {number} needs a bitmap of {bitmap_size} bytes")


def _data_of(block: Block, block_size: int) -> bytes:
    data = block.data if isinstance(block.data, bytes) else block.data()
    if len(data) > block_size:
        raise UsageError("vhdx-create-invalid", f"a block of {block_size} bytes can't hold {len(data)} bytes")
    return data
