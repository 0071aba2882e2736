"""Write one new VHDX, a block at a time in any order (MS-VHDX 2).

Places in the file: header section, log, metadata, BAT, further regions, then payload and sector bitmap blocks in the
order in which they are asked for. Everything but the payload is written last, by :meth:`VhdxWriter.finish`. What
holds zeros is not written, and no sparse attribute is ever set, because Windows refuses to attach such a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.bat_pages import PAGE_SIZE
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_header import Header, encode_header, encode_identifier
from vhdtool.disk.vhdx_locator import encode_parent_locator
from vhdtool.disk.vhdx_metadata import encode_metadata
from vhdtool.disk.vhdx_region import Region, encode_region_table
from vhdtool.errors import UsageError
from vhdtool.layout import packed

Kind = Literal["fixed", "dynamic", "differencing"]
_ENTRY: Final = packed(fmt.BAT_ENTRY)
_PAGES_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """The GUIDs of a file: of its last opening, of what its disk holds, and the one that the guest sees."""

    file_write: UUID
    data_write: UUID
    virtual_disk: UUID


@dataclass(frozen=True, slots=True)
class ExtraRegion:
    """A region that MS-VHDX does not know; its length is that of ``content`` in whole MiB."""

    guid: UUID
    content: bytes = b""
    required: bool = False


@dataclass(frozen=True, slots=True)
class VhdxShape:
    """The measures of an image, in bytes. In a fixed one every block has a place."""

    virtual_size: int
    block_size: int
    logical_sector_size: int = 512
    physical_sector_size: int = 4096
    kind: Kind = "dynamic"

    @property
    def block_count(self) -> int:
        """Payload blocks that the disk has, a last part of one included."""
        return -(-self.virtual_size // self.block_size)

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks per sector bitmap block (2.4)."""
        return fmt.chunk_ratio(self.logical_sector_size, self.block_size)

    @property
    def chunk_count(self) -> int:
        """Sector bitmap blocks that a differencing image may have."""
        return -(-self.block_count // self.chunk_ratio)

    @property
    def bat_size(self) -> int:
        """Bytes of the BAT's entries."""
        has_parent = self.kind == "differencing"
        return fmt.bat_entry_count(self.block_count, self.chunk_ratio, has_parent=has_parent) * fmt.BAT_ENTRY_SIZE

    @property
    def bat_region_size(self) -> int:
        """Bytes of the BAT in the file."""
        return _whole_mib(self.bat_size)

    def check(self, *, has_parent: bool, log_length: int = fmt.MIB) -> None:
        """Raise :class:`UsageError` ``vhdx-create-invalid`` for measures that no VHDX can have."""
        size, sector = self.block_size, self.logical_sector_size
        wrong = {
            "sector sizes are 512 or 4096": not {sector, self.physical_sector_size} <= {512, 4096},
            "a block size is a power of 2, 1 to 256 MiB": not fmt.BLOCK_SIZE_MIN <= size <= fmt.BLOCK_SIZE_MAX
            or bool(size & (size - 1)),
            "a virtual size is a multiple of the sector size, up to 64 TiB": not 0
            < self.virtual_size
            <= fmt.VIRTUAL_SIZE_MAX
            or bool(self.virtual_size % max(sector, 1)),
            "a log is a multiple of 1 MiB long": log_length < fmt.MIB or bool(log_length % fmt.MIB),
            "a parent locator belongs to a differencing image, and only there": has_parent
            != (self.kind == "differencing"),
        }
        for rule, broken in wrong.items():
            if broken:
                raise UsageError("vhdx-create-invalid", rule)


class VhdxWriter:
    """A VHDX that is being written to an empty file: an :class:`vhdtool.disk.image_writer.ImageWriter`.

    ``all_bitmaps`` gives every chunk of a differencing image a sector bitmap block (libvhdi reads wrong bytes where
    one is missing). ``parent`` are the keys and values of the parent locator, ``metadata_items`` further items
    ``(item id, flags, bytes)``. Raises :class:`UsageError` ``vhdx-create-invalid``.
    """

    def __init__(
        self,
        file: HostFile,
        shape: VhdxShape,
        identity: Identity,
        *,
        parent: Mapping[str, str] | None = None,
        all_bitmaps: bool = False,
        creator: str = "vhdtool",
        log_length: int = fmt.MIB,
        metadata_items: Sequence[tuple[UUID, int, bytes]] = (),
        regions: Sequence[ExtraRegion] = (),
    ) -> None:
        shape.check(has_parent=parent is not None, log_length=log_length)
        self.shape = shape
        self.bytes_written = 0
        self.blocks = 0
        self._file = file
        self._identity = identity
        self._creator = creator
        self._log_length = log_length
        self._extras = regions
        self._metadata = encode_metadata([*_known_items(shape, identity.virtual_disk, parent), *metadata_items])
        self._regions, self._end = _place_regions(
            fmt.HEADER_SECTION_SIZE + log_length, self._metadata, shape.bat_size, regions
        )
        self._bat = _BatPages(self, self.bat_offset)
        self._in_order = 0  # of a fixed image: blocks before this one have their places
        if all_bitmaps:
            for chunk in range(shape.chunk_count):
                self.allocate_bitmap(chunk)

    @property
    def block_size(self) -> int:
        """Bytes of a payload block."""
        return self.shape.block_size

    @property
    def log_offset(self) -> int:
        """Where the log starts."""
        return fmt.HEADER_SECTION_SIZE

    @property
    def metadata_offset(self) -> int:
        """Where the metadata region starts."""
        return self._regions[0].offset

    @property
    def bat_offset(self) -> int:
        """Where the BAT starts."""
        return self._regions[1].offset

    def place_of(self, block: int) -> int:
        """Where a payload block lies in the file; 0 where it has no place."""
        return self._bat.get(self._payload_index(block)) & fmt.BAT_OFFSET_MASK

    def allocate(self, block: int, state: BlockState = BlockState.FULLY_PRESENT) -> int:
        """Give a payload block that has none the next place in the file, and return it."""
        place, self._end = self._end, self._end + self.shape.block_size
        self._set(block, state, place)
        self.blocks += 1
        return place

    def set_state(self, block: int, state: BlockState) -> None:
        """Give a payload block a state without a place in the file."""
        self._set(block, state, 0)

    def allocate_bitmap(self, chunk: int) -> int:
        """Return the place of a chunk's sector bitmap block, all clear at first; it is made where it is not there."""
        index = (chunk + 1) * (self.shape.chunk_ratio + 1) - 1
        place = self._bat.get(index) & fmt.BAT_OFFSET_MASK
        if not place:
            place, self._end = self._end, self._end + fmt.BITMAP_BLOCK_SIZE
            self._bat.set(index, BlockState.FULLY_PRESENT, place)
        return place

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """As :meth:`ImageWriter.put`; the blocks of a fixed image lie in the order of the disk."""
        view = memoryview(data)
        while view:
            block, within = divmod(offset, self.shape.block_size)
            place = self.place_of(block)
            if not place:
                place = self._allocate_up_to(block) if self.shape.kind == "fixed" else self.allocate(block)
            length = min(self.shape.block_size - within, len(view))
            self.write(place + within, view[:length])
            offset += length
            view = view[length:]

    def write(self, place: int, data: bytes | memoryview) -> None:
        """Write bytes at a place in the file."""
        if data:
            self._file.write_at(place, data)
            self.bytes_written += len(data)

    def read(self, place: int, length: int) -> bytes:
        """Bytes of the file, zeros where it ends."""
        return self._file.read_at(place, length).ljust(length, b"\0")

    def finish(self, *, sequence_number: int = 1, log_guid: UUID = fmt.NO_GUID) -> int:
        """As :meth:`ImageWriter.finish`; the first header gets ``sequence_number``, the second the next one."""
        if self.shape.kind == "fixed":
            self._allocate_up_to(self.shape.block_count - 1)
        self._file.truncate(self._end)
        self._bat.write_out()
        self.write(self.metadata_offset, self._metadata)
        for extra, region in zip(self._extras, self._regions[2:], strict=True):
            self.write(region.offset, extra.content)
        for offset in fmt.REGION_TABLE_OFFSETS:
            self.write(offset, encode_region_table(self._regions))
        for offset, number in zip(fmt.HEADER_OFFSETS, (sequence_number, sequence_number + 1), strict=True):
            self.write(offset, encode_header(self._header(number, log_guid)))
        self.write(fmt.FILE_IDENTIFIER_OFFSET, encode_identifier(self._creator))
        return self._end

    def _header(self, sequence_number: int, log_guid: UUID) -> Header:
        return Header(
            sequence_number=sequence_number,
            file_write_guid=self._identity.file_write,
            data_write_guid=self._identity.data_write,
            log_guid=log_guid,
            log_version=fmt.LOG_VERSION,
            version=fmt.VERSION,
            log_length=self._log_length,
            log_offset=self.log_offset,
        )

    def _payload_index(self, block: int) -> int:
        return block + block // self.shape.chunk_ratio

    def _set(self, block: int, state: BlockState, place: int) -> None:
        if not 0 <= block < self.shape.block_count:
            raise UsageError("vhdx-create-invalid", f"the disk has no block {block}")
        self._bat.set(self._payload_index(block), state, place)

    def _allocate_up_to(self, block: int) -> int:
        """Give every block up to this one a place where it has none; return this one's."""
        for number in range(self._in_order, block + 1):
            if not self._bat.get(self._payload_index(number)):
                self.allocate(number)
        self._in_order = max(self._in_order, block + 1)
        return self.place_of(block)


class _BatPages:
    """BAT entries in pages of 4 KiB, few of them in memory: a disk of 64 TiB may have 64 million entries."""

    def __init__(self, writer: VhdxWriter, offset: int) -> None:
        self._writer = writer
        self._offset = offset
        self._pages: dict[int, bytearray] = {}

    def get(self, index: int) -> int:
        page, within = divmod(index * fmt.BAT_ENTRY_SIZE, PAGE_SIZE)
        value: int = _ENTRY.unpack_from(self._page(page), within)[0]
        return value

    def set(self, index: int, state: BlockState, place: int) -> None:
        page, within = divmod(index * fmt.BAT_ENTRY_SIZE, PAGE_SIZE)
        self._page(page)[within : within + fmt.BAT_ENTRY_SIZE] = encode_bat_entry(state, place)

    def write_out(self) -> None:
        for number, page in sorted(self._pages.items()):
            if page.count(0) != len(page):
                self._writer.write(self._offset + number * PAGE_SIZE, bytes(page))
        self._pages.clear()

    def _page(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) >= _PAGES_KEPT:
                self.write_out()
            stored = self._writer.read(self._offset + number * PAGE_SIZE, PAGE_SIZE)
            page = self._pages[number] = bytearray(stored)
        return page


def _whole_mib(size: int) -> int:
    return max(1, -(-size // fmt.MIB)) * fmt.MIB


def _known_items(
    shape: VhdxShape, virtual_disk: UUID, parent: Mapping[str, str] | None
) -> Iterator[tuple[UUID, int, bytes]]:
    required, of_disk = fmt.METADATA_IS_REQUIRED, fmt.METADATA_IS_VIRTUAL_DISK
    flags = {"fixed": fmt.LEAVE_BLOCKS_ALLOCATED, "dynamic": 0, "differencing": fmt.HAS_PARENT}[shape.kind]
    parameters = fmt.FILE_PARAMETERS.build({"block_size": shape.block_size, "flags": flags})
    yield fmt.FILE_PARAMETERS_ITEM, required, parameters
    size = fmt.VIRTUAL_DISK_SIZE.build({"virtual_disk_size": shape.virtual_size})
    yield fmt.VIRTUAL_DISK_SIZE_ITEM, required | of_disk, size
    logical = fmt.SECTOR_SIZE.build({"sector_size": shape.logical_sector_size})
    yield fmt.LOGICAL_SECTOR_SIZE_ITEM, required | of_disk, logical
    physical = fmt.SECTOR_SIZE.build({"sector_size": shape.physical_sector_size})
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
        length = _whole_mib(size)
        placed.append(Region(guid, offset, length, required))
        offset += length
    return placed, offset
