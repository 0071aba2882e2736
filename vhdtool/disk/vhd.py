"""A VHD file as one layer of a virtual disk: fixed, dynamic, differencing.

Two questions have more than one answer in the field; both are answered as the specification and most readers do.

**The size of the disk** is the footer's current size. Cylinders x heads x sectors is another number in most images
that Hyper-V makes (a disk of 40 MiB says 963 x 5 x 17 sectors, 33,280 bytes less), because a geometry can't express
every size. Virtual PC, and QEMU for images of creators that it does not know, take the geometry; Hyper-V, Azure,
XenServer, libvhdi and 7-Zip the current size. QEMU's own images (creator ``qemu``) hold a size rounded up to the
geometry, so both agree there. (QEMU block/vpc.c, table of creators; microsoft/azure-linux-image-tools PR 364.)

**A sector whose bit is clear** in a block that is there was never written: in a differencing image it is the
parent's ("Implementing a Differencing Hard Disk"), in a dynamic one it reads as zeros, as libvhdi and blktap have it.
QEMU and dissect.hypervisor do not look at the bitmap and return whatever bytes lie there; 7-Zip fails where those are
not zeros. All writers known (Hyper-V, QEMU) set every bit when they allocate a block of a dynamic image, so the answers
differ only in images that contradict themselves: an audit names those (``vhd-bitmap-hides-data``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from vhdtool.bytesource import read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.device import FileDevice, LayerInfo, Origin, ParentLocator, Run
from vhdtool.disk.journal_found import JOURNAL_PENDING
from vhdtool.disk.vhd_bat import VhdBat
from vhdtool.disk.vhd_footer import Footers, looks_like_vhd, read_footers
from vhdtool.disk.vhd_header import DynamicHeader, read_header, read_parent_locators
from vhdtool.disk.vhd_move import MoveRecord, find_record
from vhdtool.disk.vhd_space import VhdBlockSpace
from vhdtool.disk.vhdx_bitmap import runs_of
from vhdtool.errors import DamagedError, Problem

__all__ = ["VhdLayer", "looks_like_vhd", "open_vhd"]

_TYPE_NAMES = {
    fmt.DiskType.FIXED: "fixed",
    fmt.DiskType.DYNAMIC: "dynamic",
    fmt.DiskType.DIFFERENCING: "differencing",
}
_ALL_PRESENT = b""  # in the place of a bitmap that has every bit set
_BITMAP_CACHE_LIMIT = 4 << 20  # bytes of bitmaps kept
_BITMAP_CACHE_COUNT = 4096
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # a VHD counts bits from the most significant


def open_vhd(file: FileDevice, *, journal: Problem | None = None) -> VhdLayer:
    """Open a VHD. Closing the layer closes ``file``; where opening fails, ``file`` stays open.

    ``journal``: what there is to tell of a journal beside the image, which ``file`` honours where it is pending.

    Raises :class:`DamagedError` ``vhd-footer-damaged``, ``vhd-size-invalid``, ``vhd-file-truncated``,
    ``vhd-header-damaged``, ``vhd-block-size-invalid``, ``vhd-bat-too-small``, ``vhd-bat-location``,
    ``vhd-bat-truncated``; :class:`UnsupportedError` ``vhd-version-unsupported``, ``vhd-type-unsupported``.
    """
    footers = read_footers(file, path=file.path)
    if footers.footer.disk_type == fmt.DiskType.FIXED:
        told = [] if journal is None else [journal]
        return VhdLayer(file, footers, None, (), [*_fixed_problems(file, footers), *told])
    header = read_header(file, footers.footer, path=file.path)
    bat = _open_bat(file, footers, header)
    problems: list[Problem] = [] if journal is None else [journal]
    unfinished = _unfinished(file, footers, header, bat)
    if unfinished is not None:
        message = "a change to the image was interrupted; the disk is whole, and vhdtool recover clears up"
        problems.append(Problem("vhd-commit-unfinished", message, file.path, unfinished.offset))
    if not header.checksum_right:
        message = "the dynamic disk header has a wrong checksum; what it says agrees with footer and table and is used"
        problems.append(Problem("vhd-header-checksum-bad", message, file.path, header.offset))
    locators: tuple[ParentLocator, ...] = ()
    if footers.footer.disk_type == fmt.DiskType.DIFFERENCING:
        locators, survived = read_parent_locators(file, header, path=file.path)
        problems += survived
    return VhdLayer(file, footers, (header, bat), locators, problems, unfinished=unfinished)


class VhdLayer:
    """An opened VHD: a :class:`vhdtool.disk.device.Layer`, and the facts that an audit of the file needs."""

    def __init__(
        self,
        file: FileDevice,
        footers: Footers,
        dynamic: tuple[DynamicHeader, VhdBat] | None,
        locators: tuple[ParentLocator, ...],
        problems: list[Problem],
        *,
        unfinished: MoveRecord | None = None,
    ) -> None:
        footer = footers.footer
        header, bat = dynamic if dynamic is not None else (None, None)
        self.footers = footers
        self.header = header
        self.bat = bat
        self.unfinished = unfinished  # what an interrupted commit in place has left
        self._file = file
        self._size = footer.current_size
        self._block_size = header.block_size if header is not None else 0
        self._bitmap_size = fmt.bitmap_size(self._block_size)
        self._reserved = _reserved_ranges(header, bat)
        self._bitmaps: dict[int, bytes] = {}
        self._bitmap_bytes = 0
        self._space = _block_space(header, bat, self._size)
        self._info = LayerInfo(
            path=file.path,
            format="vhd",
            type=_TYPE_NAMES[fmt.DiskType(footer.disk_type)],
            virtual_size=self._size,
            logical_sector_size=fmt.SECTOR_SIZE,
            physical_sector_size=fmt.SECTOR_SIZE,
            block_size=header.block_size if header is not None else None,
            file_size=file.size,
            identity=str(footer.unique_id),
            linkage=(str(header.parent_id),) if header and footer.disk_type == fmt.DiskType.DIFFERENCING else (),
            locators=locators,
            log="replayed" if any(problem.code == JOURNAL_PENDING for problem in problems) else None,
            creator=footer.creator,
            problems=(*footers.problems, *problems),
        )

    @property
    def info(self) -> LayerInfo:
        """The file's facts."""
        return self._info

    @property
    def parent_timestamp(self) -> datetime | None:
        """When the parent was last changed before this child was made; ``None`` where that is not stated."""
        return self.header.parent_timestamp if self.header is not None and self._info.linkage else None

    @property
    def bitmap_size(self) -> int:
        """The bytes of a block's sector bitmap, which lies before its data."""
        return self._bitmap_size

    @property
    def reserved_ranges(self) -> tuple[tuple[int, int], ...]:
        """Start and end of footer copy, dynamic header and table: where no block may lie."""
        return self._reserved

    def resolve(self, offset: int, length: int) -> Iterator[Run]:
        """Cut a range of the disk into runs; neighbours with one origin are merged.

        Raises :class:`DamagedError` ``vhd-block-outside-file``, ``vhd-block-overlap`` for the block it meets them
        in; :class:`ValueError` for a range outside the disk.
        """
        if offset < 0 or length < 0 or offset + length > self._size:
            raise ValueError("the range lies outside the disk")
        if length == 0:
            return iter(())
        if self.bat is None:
            return iter((Run(offset, length, Origin.DATA, offset),))
        block, within = divmod(offset, self._block_size)
        if length <= self._block_size - within:
            place = self._locate(self.bat, block)
            if place is None:
                return iter((Run(offset, length, Origin.PARENT),))
            if self._bitmap(block, place) is _ALL_PRESENT:
                return iter((Run(offset, length, Origin.DATA, place + self._bitmap_size + within),))
        return self._merged(self.bat, offset, offset + length)

    def read_stored(self, file_offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes of a DATA run."""
        self._file.read_exactly_into(file_offset, buffer)

    def sector_bitmap(self, block: int, place: int) -> bytes | None:
        """The bitmap of a block at ``place``, least significant bit first; ``None`` where no bit is clear.

        Nothing is judged, so an audit may ask for blocks that :meth:`resolve` refuses.
        """
        return self._read_bitmap(block, place) or None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _merged(self, bat: VhdBat, offset: int, end: int) -> Iterator[Run]:
        hole = offset  # where a run of the parent's bytes began that is not yet told
        for start, length, place in self._stored(bat, offset, end):
            if start > hole:
                yield Run(hole, start - hole, Origin.PARENT)
            yield Run(start, length, Origin.DATA, place)
            hole = start + length
        if end > hole:
            yield Run(hole, end - hole, Origin.PARENT)

    def _stored(self, bat: VhdBat, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Virtual offset, length and place of what the file holds of a range."""
        while offset < end:
            block, within = divmod(offset, self._block_size)
            holes_end = bat.holes_until(block)
            if holes_end > block:
                offset = holes_end * self._block_size
                continue
            block_end = min((block + 1) * self._block_size, end)
            place = self._locate(bat, block)
            if place is not None:
                bitmap = self._bitmap(block, place)
                data = place + self._bitmap_size
                if bitmap is _ALL_PRESENT:
                    yield offset, block_end - offset, data + within
                else:
                    yield from self._present(bitmap, block * self._block_size, offset, block_end, data)
            offset = block_end

    @staticmethod
    def _present(bitmap: bytes, block_start: int, offset: int, end: int, data: int) -> Iterator[tuple[int, int, int]]:
        first = (offset - block_start) // fmt.SECTOR_SIZE
        count = -(-(end - block_start) // fmt.SECTOR_SIZE) - first
        position = block_start + first * fmt.SECTOR_SIZE
        for present, sectors in runs_of(bitmap, first, count):
            next_position = position + sectors * fmt.SECTOR_SIZE
            if present:
                start = max(position, offset)
                yield start, min(next_position, end) - start, data + start - block_start
            position = next_position

    def _locate(self, bat: VhdBat, block: int) -> int | None:
        place = bat.place(block)
        if place is None:
            return None
        # the last block need not be longer in the file than the disk is
        needed = min(self._block_size, self._size - block * self._block_size)
        end = place + self._bitmap_size + needed
        if end > self.footers.data_end:
            raise self._misplaced(bat, block, "vhd-block-outside-file", f"lies past {self.footers.data_end:#x}", place)
        for start, stop in self._reserved:
            if place < stop and start < end:
                raise self._misplaced(bat, block, "vhd-block-overlap", "lies over header or table", place)
        return place

    def _misplaced(self, bat: VhdBat, block: int, code: str, what: str, place: int) -> DamagedError:
        return DamagedError(
            code,
            f"block {block} {what}",
            path=self._file.path,
            offset=bat.entry_offset(block),
            found=f"{place:#x}",
            hint=fmt.RESTORE_HINT,
        )

    def _claim(self, block: int, place: int) -> None:
        """Hold that no other block that was met lies in the same place."""
        if self._space is None or self.bat is None:
            return
        other = self._space.claim(block, place)
        if other is not None:
            raise self._misplaced(self.bat, block, "vhd-block-overlap", f"lies over block {other}", place)

    def _bitmap(self, block: int, place: int) -> bytes:
        known = self._bitmaps.get(block)
        if known is not None:
            return known
        self._claim(block, place)
        bitmap = self._read_bitmap(block, place)
        if len(self._bitmaps) >= _BITMAP_CACHE_COUNT or self._bitmap_bytes > _BITMAP_CACHE_LIMIT:
            self._bitmaps.clear()
            self._bitmap_bytes = 0
        self._bitmaps[block] = bitmap
        self._bitmap_bytes += len(bitmap)
        return bitmap

    def _read_bitmap(self, block: int, place: int) -> bytes:
        sectors = min(self._block_size, self._size - block * self._block_size) // fmt.SECTOR_SIZE
        data = read_exactly(
            self._file, place, -(-sectors // 8), path=self._file.path, what=f"the sector bitmap of block {block}"
        )
        whole, rest = divmod(sectors, 8)
        full = data.count(0xFF, 0, whole) == whole and (not rest or data[whole] >> (8 - rest) == (1 << rest) - 1)
        return _ALL_PRESENT if full else data.translate(_MIRRORED)


def _open_bat(file: FileDevice, footers: Footers, header: DynamicHeader) -> VhdBat:
    size = footers.footer.current_size
    blocks = -(-size // header.block_size)
    if header.table_entries < blocks:
        raise DamagedError(
            "vhd-bat-too-small",
            "the block allocation table has fewer entries than the disk has blocks",
            path=file.path,
            offset=header.offset,
            expected=f"at least {blocks}",
            found=header.table_entries,
            hint=fmt.RESTORE_HINT,
        )
    bat = VhdBat(file, header.table_offset, blocks, path=file.path)
    header_end = header.offset + fmt.HEADER_SIZE
    table_end = bat.offset + bat.length
    over_header = bat.offset < header_end and header.offset < table_end
    if bat.offset < fmt.FOOTER_SIZE or over_header or table_end > footers.data_end:
        raise DamagedError(
            "vhd-bat-location",
            "the block allocation table lies over another structure",
            path=file.path,
            offset=header.offset,
            found=f"{bat.offset:#x}",
            hint=fmt.RESTORE_HINT,
        )
    if footers.trusted and header.checksum_right:
        return bat
    # nothing vouches for the structures but that they fit together, so all of them must
    stored_size = fmt.bitmap_size(header.block_size) + header.block_size
    if header.table_entries != blocks or not bat.agrees(max(header_end, table_end), footers.data_end, stored_size):
        raise DamagedError(
            "vhd-header-damaged",
            "checksums are wrong, and the structures do not agree with each other",
            path=file.path,
            offset=header.offset,
            hint=fmt.RESTORE_HINT,
        )
    return bat


def _unfinished(file: FileDevice, footers: Footers, header: DynamicHeader, bat: VhdBat) -> MoveRecord | None:
    """The record of an interrupted commit; ``None`` where it is a block's content that looks like one."""
    record = find_record(file, footers.data_end, footers.footer.unique_id)
    if record is None or record.header_offset != header.offset or record.table_size != bat.length:
        return None
    if bat.offset not in {record.home_table, record.moved_table}:
        return None
    if bat.offset == record.moved_table and any(bat.place(number) != place for number, _, place in record.blocks):
        return None
    bitmap, size = fmt.bitmap_size(header.block_size), footers.footer.current_size
    for block, place in bat.entries():
        if place + bitmap + min(header.block_size, size - block * header.block_size) > record.offset:
            return None
    return record


def _fixed_problems(file: FileDevice, footers: Footers) -> list[Problem]:
    stored = footers.tail.offset
    size = footers.footer.current_size
    if stored < size:
        raise DamagedError(
            "vhd-file-truncated",
            "the file is shorter than the disk that it holds",
            path=file.path,
            offset=stored,
            expected=f"{size} bytes before the footer",
            found=f"{stored} bytes",
            hint=fmt.RESTORE_HINT,
        )
    if stored == size:
        return []
    message = f"the file holds {stored - size} bytes between the end of the disk and the footer"
    return [Problem("vhd-fixed-size-differs", message, file.path, size)]


def _block_space(header: DynamicHeader | None, bat: VhdBat | None, size: int) -> VhdBlockSpace | None:
    if header is None or bat is None:
        return None
    bitmap, last = fmt.bitmap_size(header.block_size), bat.count - 1
    return VhdBlockSpace(bitmap + header.block_size, last, bitmap + size - last * header.block_size)


def _reserved_ranges(header: DynamicHeader | None, bat: VhdBat | None) -> tuple[tuple[int, int], ...]:
    if header is None or bat is None:
        return ()
    return (
        (0, fmt.FOOTER_SIZE),
        (header.offset, header.offset + fmt.HEADER_SIZE),
        (bat.offset, bat.offset + bat.length),
    )
