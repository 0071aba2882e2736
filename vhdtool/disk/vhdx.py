"""A VHDX file as one layer of a virtual disk (MS-VHDX).

Opening reads headers, log, region tables and metadata, in this order, because a pending log must be replayed before
anything else is believed (2.3.3); it is replayed in memory and the file stays as it is. The BAT and the sector
bitmaps are read when a range is resolved, so a damaged entry costs only the block that it describes.

What a block reads as (2.5.1.1):

==================== ============================== =======================================================
state                no parent                      differencing
==================== ============================== =======================================================
NOT_PRESENT          zeros                          the parent's bytes
UNDEFINED, UNMAPPED  zeros                          zeros
ZERO                 zeros                          zeros
FULLY_PRESENT        this file                      this file; the sector bitmap is not looked at
PARTIALLY_PRESENT    damaged                        this file or the parent, by the sector bitmap
4, 5                 damaged                        damaged
==================== ============================== =======================================================

The specification leaves the contents of UNDEFINED and UNMAPPED blocks open. Zeros are what dissect.hypervisor and
7-Zip return as well, and the one answer that never shows the parent's old data for a block that the child discarded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from vhdtool.bytesource import read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.device import FileDevice, LayerInfo, Origin, Run
from vhdtool.disk.vhdx_bat import Bat, BatEntry
from vhdtool.disk.vhdx_bitmap import runs_of
from vhdtool.disk.vhdx_header import Header, HeaderCopy, looks_like_vhdx, read_creator, read_headers
from vhdtool.disk.vhdx_log import Replay, log_location_fault, replay_log
from vhdtool.disk.vhdx_metadata import Metadata, MetadataItem, read_metadata
from vhdtool.disk.vhdx_region import Region, RegionTable, read_region_tables, region_of
from vhdtool.disk.vhdx_replay import ReplayedFile
from vhdtool.disk.vhdx_space import BlockSpace, ReservedSpace
from vhdtool.errors import DamagedError, Problem

__all__ = ["VhdxLayer", "looks_like_vhdx", "open_vhdx"]


def open_vhdx(file: FileDevice) -> VhdxLayer:
    """Open a VHDX. Closing the layer closes ``file``; where opening fails, ``file`` stays open.

    Raises :class:`InputError` ``not-vhdx``; :class:`DamagedError` and :class:`UnsupportedError` with the codes of
    the modules that read headers, log, regions, metadata and BAT.
    """
    creator = read_creator(file, path=file.path)
    headers, header, problems = read_headers(file, path=file.path)
    replay = replay_log(file, header)
    if replay is not None:
        problems.append(
            Problem(
                "vhdx-log-pending",
                f"the image was not closed cleanly: its log was applied in memory, entries: {len(replay.entries)}",
                file.path,
                header.log_offset,
            )
        )
        if replay.torn_entry is not None:
            problems.append(
                Problem(
                    "vhdx-log-torn-entry",
                    "the log's last entry was not written whole; the disk is as it was before that entry",
                    file.path,
                    replay.torn_entry,
                )
            )
    elif header.log_length and (fault := log_location_fault(header, file.size)) is not None:
        problems.append(Problem("vhdx-log-location", f"the log is empty and {fault}", file.path, header.log_offset))
    stored: FileDevice | ReplayedFile = file if replay is None else replay.stored
    tables, regions, survived = read_region_tables(stored, path=file.path)
    problems += survived
    _check_log_apart(header, regions, file)
    metadata_region = region_of(regions, fmt.METADATA_REGION, path=file.path)
    metadata, survived = read_metadata(stored, metadata_region, path=file.path)
    problems += survived
    bat_region = region_of(regions, fmt.BAT_REGION, path=file.path)
    bat = Bat(
        stored,
        bat_region.offset,
        bat_region.length,
        payload_blocks=-(-metadata.virtual_size // metadata.block_size),
        chunk_ratio=fmt.chunk_ratio(metadata.logical_sector_size, metadata.block_size),
        has_parent=metadata.has_parent,
        path=file.path,
    )
    return VhdxLayer(
        Structures(file, stored, headers, header, replay, tables, regions, metadata, bat), creator, tuple(problems)
    )


@dataclass(frozen=True, slots=True)
class Structures:
    """Everything that opening reads, in the order in which it is read."""

    file: FileDevice
    stored: FileDevice | ReplayedFile
    headers: tuple[HeaderCopy, HeaderCopy]
    header: Header
    replay: Replay | None
    region_tables: tuple[RegionTable, RegionTable]
    regions: tuple[Region, ...]
    metadata: Metadata
    bat: Bat


class VhdxLayer:
    """An opened VHDX: a :class:`vhdtool.disk.device.Layer`, and the facts that an audit of the file needs."""

    def __init__(self, structures: Structures, creator: str | None, problems: tuple[Problem, ...]) -> None:
        metadata = structures.metadata
        self._structures = structures
        self._stored = structures.stored
        self._path = structures.file.path
        self._bat = structures.bat
        self._size = metadata.virtual_size
        self._block_size = metadata.block_size
        self._sector_size = metadata.logical_sector_size
        self._has_parent = metadata.has_parent
        self._reserved = ReservedSpace(_reserved_ranges(structures))
        self._space = BlockSpace()
        self._info = _info_of(structures, creator, problems)

    @property
    def info(self) -> LayerInfo:
        """The file's facts."""
        return self._info

    @property
    def headers(self) -> tuple[HeaderCopy, HeaderCopy]:
        """Both headers, each with its fault where it has one."""
        return self._structures.headers

    @property
    def region_tables(self) -> tuple[RegionTable, RegionTable]:
        """Both region tables, each with its fault where it has one."""
        return self._structures.region_tables

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions in effect, unknown ones included."""
        return self._structures.regions

    @property
    def metadata_items(self) -> tuple[MetadataItem, ...]:
        """The entries of the metadata table, unknown ones included."""
        return self._structures.metadata.items

    @property
    def parent_entries(self) -> dict[str, str]:
        """Keys and values of the parent locator as stored; empty without a parent."""
        parentage = self._structures.metadata.parentage
        return dict(parentage.entries) if parentage is not None else {}

    @property
    def log_range(self) -> tuple[int, int] | None:
        """Offset and length of the log in the file; ``None`` where the header names no place that a log may have."""
        header = self._structures.header
        fault = log_location_fault(header, self._structures.file.size)
        return (header.log_offset, header.log_length) if fault is None else None

    @property
    def log_state(self) -> str:
        """``clean``, or ``replayed`` where a pending log was applied in memory."""
        return "clean" if self._structures.replay is None else "replayed"

    @property
    def replay(self) -> Replay | None:
        """The replayed log; ``None`` where the log is clean."""
        return self._structures.replay

    @property
    def stored_size(self) -> int:
        """The size of the file in bytes once its log is replayed."""
        return self._stored.size

    @property
    def has_parent(self) -> bool:
        """The image is differencing."""
        return self._has_parent

    @property
    def leave_blocks_allocated(self) -> bool:
        """The image is fixed."""
        return self._structures.metadata.leave_blocks_allocated

    @property
    def data_write_guid(self) -> UUID:
        """Changes with every change of what the disk holds; a child's linkage names it."""
        return self._structures.header.data_write_guid

    @property
    def file_write_guid(self) -> UUID:
        """Changes with every writable opening of the file."""
        return self._structures.header.file_write_guid

    @property
    def virtual_disk_id(self) -> UUID | None:
        """The identity that the guest sees (SCSI page 83)."""
        return self._structures.metadata.virtual_disk_id

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks per sector bitmap block."""
        return self._bat.chunk_ratio

    @property
    def bat_range(self) -> tuple[int, int]:
        """Offset in the file and length in bytes of the BAT entries in use."""
        return self._bat.offset, self._bat.entry_count * fmt.BAT_ENTRY_SIZE

    def bat_entries(self) -> Iterator[BatEntry]:
        """Every BAT entry ``(index, kind, block_number, state, file_offset)``, read page by page, not judged."""
        return self._bat.entries()

    def resolve(self, offset: int, length: int) -> Iterator[Run]:
        """Cut a range of the disk into runs; neighbours with one origin are merged.

        Raises :class:`DamagedError` ``vhdx-block-state``, ``vhdx-block-outside-file``, ``vhdx-block-overlap``,
        ``vhdx-bitmap-missing`` for the block it meets them in; :class:`ValueError` for a range outside the disk.
        """
        if offset < 0 or length < 0 or offset + length > self._size:
            raise ValueError("the range lies outside the disk")
        block, within = divmod(offset, self._block_size)
        if 0 < length <= self._block_size - within:
            origin, stored_at = self._locate(block)
            if origin is not None:
                place = stored_at + within if origin is Origin.DATA else 0
                return iter((Run(offset, length, origin, place),))
        return self._merged(offset, length)

    def read_stored(self, file_offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with stored bytes of a DATA run, as the replayed log leaves them."""
        self._stored.read_exactly_into(file_offset, buffer)

    def close(self) -> None:
        """Close the file."""
        self._structures.file.close()

    def _merged(self, offset: int, length: int) -> Iterator[Run]:
        start = offset
        origin: Origin | None = None
        place = 0
        for next_start, next_origin, next_place in self._pieces(offset, offset + length):
            if next_origin is origin and (origin is not Origin.DATA or place + next_start - start == next_place):
                continue
            if origin is not None:
                yield Run(start, next_start - start, origin, place)
            start, origin, place = next_start, next_origin, next_place
        if origin is not None:
            yield Run(start, offset + length - start, origin, place)

    def _pieces(self, offset: int, end: int) -> Iterator[tuple[int, Origin, int]]:
        """Where pieces of one origin start; each goes on to the next one's start."""
        while offset < end:
            block, within = divmod(offset, self._block_size)
            absent_end = self._bat.absent_until(block)
            if absent_end > block:
                yield offset, Origin.PARENT, 0
                offset = absent_end * self._block_size
                continue
            block_end = min((block + 1) * self._block_size, end)
            origin, stored_at = self._locate(block)
            if origin is None:
                yield from self._partial(block, stored_at, offset, block_end)
            else:
                yield offset, origin, stored_at + within if origin is Origin.DATA else 0
            offset = block_end

    def _partial(self, block: int, stored_at: int, offset: int, end: int) -> Iterator[tuple[int, Origin, int]]:
        """Pieces of a PARTIALLY_PRESENT block; a sector that the range cuts keeps its one bit."""
        first = offset // self._sector_size
        count = -(-end // self._sector_size) - first
        chunk, first_bit = divmod(first, fmt.SECTORS_PER_CHUNK)
        first_byte = first_bit // 8
        last_byte = (first_bit + count - 1) // 8
        bitmap = read_exactly(
            self._stored,
            self._bitmap_block(chunk) + first_byte,
            last_byte + 1 - first_byte,
            path=self._path,
            what="a sector bitmap",
        )
        sector = first
        for present, length in runs_of(bitmap, first_bit % 8, count):
            start = max(sector * self._sector_size, offset)
            if present:
                yield start, Origin.DATA, stored_at + start - block * self._block_size
            else:
                yield start, Origin.PARENT, 0
            sector += length

    def _locate(self, block: int) -> tuple[Origin | None, int]:
        """The origin of a block and the place of its first byte; no origin where the sector bitmap has to say."""
        index = self._bat.payload_index(block)
        value = self._bat.value(index)
        state = value & fmt.BAT_STATE_MASK
        if state == fmt.BlockState.NOT_PRESENT:
            return Origin.PARENT, 0
        if state <= fmt.BlockState.UNMAPPED:
            return Origin.ZERO, 0
        stored_at = value & fmt.BAT_OFFSET_MASK
        partial = state == fmt.BlockState.PARTIALLY_PRESENT
        if state != fmt.BlockState.FULLY_PRESENT and not (partial and self._has_parent):
            raise DamagedError(
                "vhdx-block-state",
                f"payload block {block} has a state that it must not have",
                path=self._path,
                offset=self._bat.entry_offset(index),
                expected="0 to 3, 6, or 7 in a differencing image",
                found=state,
                hint=fmt.RESTORE_HINT,
            )
        if self._space.owner_at(stored_at) != block + 1:
            # QEMU made images whose last block ends with the disk instead of with the block
            needed = min(self._block_size, self._size - block * self._block_size)
            self._check_place(f"payload block {block}", index, stored_at, needed, block + 1)
        return (None if partial else Origin.DATA), stored_at

    def _bitmap_block(self, chunk: int) -> int:
        index = self._bat.bitmap_index(chunk)
        value = self._bat.value(index)
        if value & fmt.BAT_STATE_MASK != fmt.BlockState.FULLY_PRESENT:
            raise DamagedError(
                "vhdx-bitmap-missing",
                f"a block needs sector bitmap block {chunk}, which is not in the file",
                path=self._path,
                offset=self._bat.entry_offset(index),
                expected=int(fmt.BlockState.FULLY_PRESENT),
                found=value & fmt.BAT_STATE_MASK,
                hint=fmt.RESTORE_HINT,
            )
        stored_at = value & fmt.BAT_OFFSET_MASK
        owner = self._bat.payload_blocks + chunk + 1
        if self._space.owner_at(stored_at) != owner:
            self._check_place(f"sector bitmap block {chunk}", index, stored_at, fmt.BITMAP_BLOCK_SIZE, owner)
        return stored_at

    def _check_place(self, what: str, index: int, stored_at: int, length: int, owner: int) -> None:
        """Judge a block's place when it is met first; ``owner`` numbers payload blocks, then bitmap blocks, from 1."""
        end = stored_at + length
        if end > self._stored.size:
            code, fault = "vhdx-block-outside-file", f"past the end of the file at {self._stored.size:#x}"
        elif self._reserved.touches(stored_at, end):
            code, fault = "vhdx-block-overlap", "over headers, log or a region"
        elif other := self._space.claim(stored_at, length, owner):
            blocks = self._bat.payload_blocks
            kind = f"payload block {other - 1}" if other <= blocks else f"sector bitmap block {other - 1 - blocks}"
            code, fault = "vhdx-block-overlap", f"over {kind}"
        else:
            return
        raise DamagedError(
            code,
            f"{what} lies {fault}",
            path=self._path,
            offset=self._bat.entry_offset(index),
            found=f"{stored_at:#x} to {end:#x}",
            hint=fmt.RESTORE_HINT,
        )


def _check_log_apart(header: Header, regions: tuple[Region, ...], file: FileDevice) -> None:
    if log_location_fault(header, file.size) is not None:
        return  # nothing was replayed from there, and nothing will be
    for region in regions:
        if region.offset < header.log_offset + header.log_length and header.log_offset < region.offset + region.length:
            raise DamagedError(
                "vhdx-region-overlap",
                f"the region {region.name or region.guid} and the log overlap",
                path=file.path,
                offset=region.offset,
                hint=fmt.RESTORE_HINT,
            )


def _reserved_ranges(structures: Structures) -> Iterator[tuple[int, int]]:
    """Where no block may lie: the header section, the log, every region."""
    yield 0, fmt.HEADER_SECTION_SIZE
    header = structures.header
    if log_location_fault(header, structures.file.size) is None:
        yield header.log_offset, header.log_offset + header.log_length
    for region in structures.regions:
        yield region.offset, region.offset + region.length


def _info_of(structures: Structures, creator: str | None, problems: tuple[Problem, ...]) -> LayerInfo:
    metadata = structures.metadata
    fixed_or_dynamic = "fixed" if metadata.leave_blocks_allocated else "dynamic"
    return LayerInfo(
        path=structures.file.path,
        format="vhdx",
        type="differencing" if metadata.has_parent else fixed_or_dynamic,
        virtual_size=metadata.virtual_size,
        logical_sector_size=metadata.logical_sector_size,
        physical_sector_size=metadata.physical_sector_size,
        block_size=metadata.block_size,
        file_size=structures.file.size,
        identity=str(structures.header.data_write_guid),
        linkage=metadata.parentage.linkage if metadata.parentage is not None else (),
        locators=metadata.parentage.locators if metadata.parentage is not None else (),
        log="clean" if structures.replay is None else "replayed",
        creator=creator,
        problems=problems,
    )
