"""Write one new VHD, a block at a time in any order.

Places in the file: copy of the footer, dynamic header, BAT, parent locators, blocks in the order in which they are
asked for, footer. Everything but the blocks is written last, by ``finish``. What holds zeros is not written: the file
has holes where the host's file system has them.

The creator of the footer is ``win``: QEMU takes the disk's size from cylinders, heads and sectors for images of
Virtual PC and of creators that it does not know, and a geometry can't express every size (QEMU block/vpc.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.vhd_footer import Footer, encode_footer
from vhdtool.disk.vhd_header import DynamicHeader, LocatorEntry, encode_header
from vhdtool.errors import UsageError
from vhdtool.layout import packed

Kind = Literal["fixed", "dynamic", "differencing"]
CREATOR: Final = b"win "
_TYPES = {
    "fixed": fmt.DiskType.FIXED,
    "dynamic": fmt.DiskType.DYNAMIC,
    "differencing": fmt.DiskType.DIFFERENCING,
}
_NO_PARENT = UUID(int=0)
_ENTRY = packed(fmt.BAT_ENTRY)


@dataclass(frozen=True, slots=True)
class Parent:
    """What a differencing image says of its parent: identity, time of its last change, and ways to it.

    ``relative`` becomes a W2ru locator, ``absolute`` a W2ku one, ``url`` a MacX one; ``name`` at most 255 UTF-16
    units.
    """

    unique_id: UUID
    timestamp: datetime | None = None
    name: str = ""
    relative: str | None = None
    absolute: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class VhdIdentity:
    """What tells an image from others: the id that a child names, and the time in the footer."""

    unique_id: UUID
    timestamp: datetime
    creator: bytes = CREATOR


class FixedVhdWriter:
    """A fixed VHD that is being written: an :class:`vhdtool.disk.image_writer.ImageWriter`.

    Raises :class:`UsageError` ``vhd-create-invalid``.
    """

    blocks = 0

    def __init__(self, file: HostFile, virtual_size: int, identity: VhdIdentity) -> None:
        check_vhd_shape(virtual_size, fmt.BLOCK_SIZE_DEFAULT)
        self.bytes_written = 0
        self._file = file
        self._size = virtual_size
        self._identity = identity

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """As :meth:`ImageWriter.put`."""
        self._file.write_at(offset, data)
        self.bytes_written += len(data)

    def finish(self, *, short_footer: bool = False) -> int:
        """As :meth:`ImageWriter.finish`; ``short_footer``: of 511 bytes, as before Virtual PC 2004."""
        footer = vhd_footer("fixed", self._size, self._identity)
        footer = footer[: fmt.SHORT_FOOTER_SIZE] if short_footer else footer
        self._file.truncate(self._size + len(footer))
        self.put(self._size, footer)
        return self._size + len(footer)


class VhdWriter:
    """A dynamic or differencing VHD that is being written: an :class:`vhdtool.disk.image_writer.ImageWriter`.

    It is differencing where there is a ``parent``. Raises :class:`UsageError` ``vhd-create-invalid``.
    """

    def __init__(
        self,
        file: HostFile,
        virtual_size: int,
        identity: VhdIdentity,
        *,
        block_size: int = fmt.BLOCK_SIZE_DEFAULT,
        parent: Parent | None = None,
    ) -> None:
        check_vhd_shape(virtual_size, block_size)
        self.bytes_written = 0
        self.blocks = 0
        self.block_size = block_size
        self._file = file
        self._size = virtual_size
        self._identity = identity
        self._parent = parent
        self._count = -(-virtual_size // block_size)
        self._bitmap_size = fmt.bitmap_size(block_size)
        self._bat = bytearray(b"\xff" * _sectors(self._count * _ENTRY.size))
        self._texts = _locator_texts(parent, self.bat_offset + len(self._bat))
        self._end: int = self.bat_offset + len(self._bat) + sum(_sectors(len(text)) for _, text in self._texts)

    @property
    def header_offset(self) -> int:
        """Where the dynamic header starts."""
        return fmt.FOOTER_SIZE

    @property
    def bat_offset(self) -> int:
        """Where the BAT starts."""
        offset: int = fmt.FOOTER_SIZE + fmt.HEADER_SIZE
        return offset

    @property
    def bitmap_size(self) -> int:
        """Bytes of a block's sector bitmap, which lies before its data."""
        return self._bitmap_size

    def allocate(self, block: int, bitmap: bytes | None = None) -> int:
        """Give a block that has none the next place and return it: that of its bitmap, which has all bits set."""
        place = self._end
        self._end += self._bitmap_size + self.block_size
        if place // fmt.SECTOR_SIZE >= fmt.BAT_HOLE:
            raise UsageError("vhd-create-invalid", "a VHD file can't grow past 2 TiB")
        _ENTRY.pack_into(self._bat, block * _ENTRY.size, place // fmt.SECTOR_SIZE)
        self.write(place, b"\xff" * max(1, self.block_size // fmt.SECTOR_SIZE // 8) if bitmap is None else bitmap)
        self.blocks += 1
        return place

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """As :meth:`ImageWriter.put`."""
        view = memoryview(data)
        while view:
            block, within = divmod(offset, self.block_size)
            (sector,) = _ENTRY.unpack_from(self._bat, block * _ENTRY.size)
            place = self.allocate(block) if sector == fmt.BAT_HOLE else sector * fmt.SECTOR_SIZE
            length = min(self.block_size - within, len(view))
            self.write(place + self._bitmap_size + within, view[:length])
            offset += length
            view = view[length:]

    def write(self, place: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes at a place in the file."""
        if data:
            self._file.write_at(place, data)
            self.bytes_written += len(data)

    def finish(self, *, short_footer: bool = False) -> int:
        """As :meth:`ImageWriter.finish`; ``short_footer``: of 511 bytes, as before Virtual PC 2004."""
        footer = vhd_footer("dynamic" if self._parent is None else "differencing", self._size, self._identity)
        last = footer[: fmt.SHORT_FOOTER_SIZE] if short_footer else footer
        self._file.truncate(self._end + len(last))
        header = _header(self.bat_offset, self._count, self.block_size, self._parent, self._texts)
        self.write(self.header_offset, encode_header(header))
        self.write(self.bat_offset, self._bat)
        for entry, text in self._texts:
            self.write(entry.data_offset, text)
        self.write(self._end, last)
        self.write(0, footer)
        return self._end + len(last)


def vhd_footer(kind: Kind, virtual_size: int, identity: VhdIdentity) -> bytes:
    """Return the 512 bytes of a new image's footer."""
    return encode_footer(
        Footer(
            features=fmt.FEATURES_RESERVED,
            format_version=fmt.FORMAT_VERSION,
            data_offset=fmt.NO_OFFSET if kind == "fixed" else fmt.FOOTER_SIZE,
            timestamp=identity.timestamp,
            creator_application=identity.creator,
            creator_version=0x000A0000,
            creator_host=b"Wi2k",
            original_size=virtual_size,
            current_size=virtual_size,
            geometry=geometry_of(virtual_size),
            disk_type=_TYPES[kind],
            unique_id=identity.unique_id,
            saved_state=False,
        )
    )


def geometry_of(virtual_size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, by the appendix "CHS Calculation" of the specification."""
    sectors = min(virtual_size // fmt.SECTOR_SIZE, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        tracks = sectors // per_track
    else:
        per_track = 17
        tracks = sectors // per_track
        heads = max(4, (tracks + 1023) // 1024)
        if tracks >= heads * 1024 or heads > 16:
            per_track, heads = 31, 16
            tracks = sectors // per_track
        if tracks >= heads * 1024:
            per_track, heads = 63, 16
            tracks = sectors // per_track
    return tracks // heads, heads, per_track


def check_vhd_shape(virtual_size: int, block_size: int) -> None:
    """Raise :class:`UsageError` ``vhd-create-invalid`` for measures that no VHD can have."""
    rules = {
        "a virtual size is a multiple of 512, up to 2040 GiB": 0 < virtual_size <= fmt.VIRTUAL_SIZE_MAX
        and virtual_size % fmt.SECTOR_SIZE == 0,
        "a block size is a power of 2, at least 512": block_size >= fmt.BLOCK_SIZE_MIN
        and block_size & (block_size - 1) == 0,
    }
    for rule, kept in rules.items():
        if not kept:
            raise UsageError("vhd-create-invalid", rule)


def _header(
    bat_offset: int, count: int, block_size: int, parent: Parent | None, texts: Sequence[tuple[LocatorEntry, bytes]]
) -> DynamicHeader:
    return DynamicHeader(
        offset=fmt.FOOTER_SIZE,
        data_offset=fmt.NO_OFFSET,
        table_offset=bat_offset,
        version=fmt.HEADER_VERSION,
        table_entries=count,
        block_size=block_size,
        parent_id=parent.unique_id if parent is not None else _NO_PARENT,
        parent_timestamp=parent.timestamp if parent is not None else None,
        parent_name=parent.name.encode("utf-16-be")[:510] if parent is not None else b"",
        locators=tuple(entry for entry, _ in texts),
        checksum_right=True,
    )


def _locator_texts(parent: Parent | None, offset: int) -> list[tuple[LocatorEntry, bytes]]:
    if parent is None:
        return []
    found = []
    for code, text, encoding in (
        (fmt.LOCATOR_RELATIVE, parent.relative, "utf-16-le"),
        (fmt.LOCATOR_ABSOLUTE, parent.absolute, "utf-16-le"),
        (fmt.LOCATOR_FILE_URL, parent.url, "utf-8"),
    ):
        if text is not None:
            data = text.encode(encoding)
            found.append((LocatorEntry(code, _sectors(len(data)), len(data), offset), data))
            offset += _sectors(len(data))
    return found


def _sectors(length: int) -> int:
    return -(-length // fmt.SECTOR_SIZE) * fmt.SECTOR_SIZE
