"""The audit of a VHD: every BAT entry, the place of every block, sectors that bitmaps hide, unused space."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.audit_findings import AuditFinding, Measure, Severity
from vhdtool.disk.device import FileDevice
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhd_bat import VhdBat
from vhdtool.disk.vhd_header import DynamicHeader
from vhdtool.disk.vhdx_bitmap import runs_of

BLOCK_LIMIT = 1 << 21  # blocks whose places are compared with each other: 100 MiB of memory at most
_READ_SIZE = 1 << 20
_ZEROS = bytes(_READ_SIZE)


def audit_vhd(layer: VhdLayer, file: FileDevice, measure: Measure) -> Iterator[AuditFinding]:
    """Yield what is wrong in a VHD beyond the problems that opening it told; add to ``measure``."""
    audit = _VhdAudit(layer, file, measure)
    yield from audit.footer()
    if layer.bat is not None and layer.header is not None:
        yield from audit.header(layer.header, layer.bat)
        yield from audit.blocks(layer.bat)


class _VhdAudit:
    def __init__(self, layer: VhdLayer, file: FileDevice, measure: Measure) -> None:
        self._layer = layer
        self._file = file
        self._measure = measure
        self._size = layer.info.virtual_size
        self._block_size = layer.info.block_size or 0

    def _finding(self, code: str, severity: Severity, message: str, offset: int | None = None) -> AuditFinding:
        return AuditFinding(code, severity, message, self._file.path, offset)

    def footer(self) -> Iterator[AuditFinding]:
        """What the footer says of the disk."""
        footers = self._layer.footers
        footer, at = footers.footer, footers.tail.offset
        if footer.saved_state:
            message = "the machine that the image belongs to was saved, not shut down"
            yield self._finding("vhd-saved-state", "medium", message, at)
        if footers.tail.footer is not None and footers.tail.size == fmt.SHORT_FOOTER_SIZE:
            message = "the footer has 511 bytes, as before Virtual PC 2004"
            yield self._finding("vhd-footer-short", "info", message, at)
        if footer.geometry_size != footer.current_size:
            message = (
                f"the geometry reaches {footer.geometry_size} bytes and the disk has {footer.current_size}: "
                "usual with Hyper-V; Virtual PC takes the geometry"
            )
            yield self._finding("vhd-geometry-differs", "info", message, at)
        if not footer.features & fmt.FEATURES_RESERVED:
            message = "the footer's features lack the bit that is always set"
            yield self._finding("vhd-features", "low", message, at)

    def header(self, header: DynamicHeader, bat: VhdBat) -> Iterator[AuditFinding]:
        """What the dynamic disk header says of the table."""
        if header.table_entries != bat.count:
            message = f"the table has {header.table_entries} entries, the disk {bat.count} blocks"
            yield self._finding("vhd-bat-entries", "info", message, header.offset)

    def blocks(self, bat: VhdBat) -> Iterator[AuditFinding]:
        """Every entry, its place, its bitmap; then the places against each other."""
        data_end = self._layer.footers.data_end
        used_end = max(end for _, end in self._layer.reserved_ranges)
        places = array("Q")  # sector and block number in one integer: sorting it sorts by place
        for block, place in bat.entries():
            end = place + self._layer.bitmap_size + self._length(block)
            if end > data_end:
                message = f"block {block} lies past the end of the file"
                yield self._finding("vhd-block-outside-file", "high", message, bat.entry_offset(block))
                continue
            if any(place < stop and start < end for start, stop in self._layer.reserved_ranges):
                message = f"block {block} lies over header or table"
                yield self._finding("vhd-block-overlap", "high", message, bat.entry_offset(block))
                continue
            self._measure.blocks += 1
            used_end = max(used_end, min(place + self._layer.bitmap_size + self._block_size, data_end))
            if len(places) < BLOCK_LIMIT:
                places.append(place // fmt.SECTOR_SIZE << 32 | block)
            yield from self._hidden(block, place)
        yield from self._overlaps(bat, places)
        self._measure.tail_waste += data_end - used_end
        if data_end > used_end:
            message = f"{data_end - used_end} bytes before the footer are not used by anything"
            yield self._finding("vhd-tail-waste", "info", message, used_end)

    def _overlaps(self, bat: VhdBat, places: array[int]) -> Iterator[AuditFinding]:
        if len(places) >= BLOCK_LIMIT:
            message = f"only {BLOCK_LIMIT} blocks were checked for overlaps"
            yield self._finding("vhd-overlap-unchecked", "info", message)
        end, owner = 0, -1
        for packed_place in sorted(places):
            place, block = (packed_place >> 32) * fmt.SECTOR_SIZE, packed_place & 0xFFFFFFFF
            if place < end:
                message = f"block {block} lies over block {owner}"
                yield self._finding("vhd-block-overlap", "high", message, bat.entry_offset(block))
            if place + self._layer.bitmap_size + self._length(block) > end:
                end, owner = place + self._layer.bitmap_size + self._length(block), block

    def _hidden(self, block: int, place: int) -> Iterator[AuditFinding]:
        """Sectors of a dynamic image that hold data and that the bitmap calls unused: readers differ about them."""
        if self._layer.info.type != "dynamic":
            return
        sectors = self._length(block) // fmt.SECTOR_SIZE
        bitmap = self._layer.sector_bitmap(block, place)
        if bitmap is None:
            return
        data = place + self._layer.bitmap_size
        sector = 0
        for present, count in runs_of(bitmap, 0, sectors):
            if not present and self._holds_data(data + sector * fmt.SECTOR_SIZE, count * fmt.SECTOR_SIZE):
                message = f"block {block} holds data in sectors that its bitmap calls unused: readers differ about them"
                yield self._finding("vhd-bitmap-hides-data", "medium", message, place)
                return
            sector += count

    def _holds_data(self, offset: int, length: int) -> bool:
        for start in range(0, length, _READ_SIZE):
            data = self._file.read_at(offset + start, min(_READ_SIZE, length - start))
            if not _ZEROS.startswith(data):
                return True
        return False

    def _length(self, block: int) -> int:
        """The bytes of a block that the disk has."""
        return min(self._block_size, self._size - block * self._block_size)
