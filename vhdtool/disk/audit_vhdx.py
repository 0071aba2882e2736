"""The audit of a VHDX: every BAT entry, the place of every block, the copies, the space behind the last block."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.bytesource import read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.audit_findings import AuditFinding, Measure, Severity
from vhdtool.disk.device import FileDevice
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_bat import BatEntry
from vhdtool.layout import packed

OVERLAP_FILE_LIMIT = 256 << 40  # a byte for each MiB: 256 MiB of memory for a file of this size, 64 KiB for 64 GiB
_HEADER = packed(fmt.HEADER)
_ENTRY = packed(fmt.BAT_ENTRY)
_PAGE_SIZE = 64 * fmt.KIB
_STORED = frozenset({fmt.BlockState.FULLY_PRESENT, fmt.BlockState.PARTIALLY_PRESENT})
_ANCHORED = frozenset({fmt.BlockState.UNDEFINED, fmt.BlockState.UNMAPPED})
_EMPTY = frozenset({fmt.BlockState.NOT_PRESENT, fmt.BlockState.ZERO})


def audit_vhdx(layer: VhdxLayer, file: FileDevice, measure: Measure) -> Iterator[AuditFinding]:
    """Yield what is wrong in a VHDX beyond the problems that opening it told; add to ``measure``."""
    audit = _VhdxAudit(layer, file, measure)
    yield from audit.structures()
    yield from audit.blocks()
    yield from audit.tail()


class _VhdxAudit:
    def __init__(self, layer: VhdxLayer, file: FileDevice, measure: Measure) -> None:
        self._layer = layer
        self._file = file
        self._measure = measure
        self._block_size = layer.info.block_size or 0
        self._size = layer.stored_size
        self._used = bytearray(-(-self._size // fmt.MIB)) if self._size <= OVERLAP_FILE_LIMIT else None
        self._end = fmt.HEADER_SECTION_SIZE
        self._chunk_is_partial = False

    def _finding(self, code: str, severity: Severity, message: str, offset: int | None = None) -> AuditFinding:
        return AuditFinding(code, severity, message, self._file.path, offset)

    def structures(self) -> Iterator[AuditFinding]:
        """Headers, regions, log; take their places."""
        for copy in self._layer.headers:
            data = read_exactly(self._file, copy.offset, fmt.HEADER_SIZE, path=self._file.path, what="a header")
            if copy.valid and any(_HEADER.unpack(data)[-1]):
                yield self._finding("vhdx-header-reserved", "low", "a header has reserved bytes set", copy.offset)
        self._take(0, fmt.HEADER_SECTION_SIZE)
        if self._layer.log_range is not None:
            self._take(*self._layer.log_range)
        for region in self._layer.regions:
            self._take(region.offset, region.length)
            if region.name is None:
                yield self._finding("vhdx-region-unknown", "info", f"an unknown region, {region.guid}", region.offset)
            elif not region.required:
                message = f"the {region.name} region is not marked as required, as QEMU leaves it"
                yield self._finding("vhdx-region-not-required", "info", message, region.offset)
            if region.offset + region.length > self._size:
                message = f"the file ends inside the {region.name or region.guid} region"
                yield self._finding("vhdx-region-truncated", "low", message, region.offset)
        if self._used is None:
            message = "the file is too large for its blocks to be checked for overlaps"
            yield self._finding("vhdx-overlap-unchecked", "info", message)

    def blocks(self) -> Iterator[AuditFinding]:
        """Every BAT entry and the place it names."""
        yield from self._reserved_bits()
        for entry in self._layer.bat_entries():
            if entry.kind == "payload":
                yield from self._payload(entry)
            else:
                yield from self._bitmap(entry)

    def tail(self) -> Iterator[AuditFinding]:
        """The space behind the last thing in use."""
        waste = max(0, self._size - self._end)
        self._measure.tail_waste += waste
        if waste:
            message = f"{waste} bytes at the end of the file are not used by anything"
            yield self._finding("vhdx-tail-waste", "info", message, self._end)
        if self._size % fmt.MIB:
            message = "the file is no whole number of MiB long"
            yield self._finding("vhdx-file-size", "info", message, self._size)

    def _reserved_bits(self) -> Iterator[AuditFinding]:
        offset, length = self._layer.bat_range
        for start in range(0, length, _PAGE_SIZE):
            page = bytearray(min(_PAGE_SIZE, length - start))
            self._layer.read_stored(offset + start, memoryview(page))
            for index, (value,) in enumerate(_ENTRY.iter_unpack(page)):
                if value & fmt.BAT_RESERVED_MASK:
                    place = offset + start + index * _ENTRY.size
                    yield self._finding("vhdx-bat-reserved-bits", "low", "a BAT entry has reserved bits set", place)

    def _payload(self, entry: BatEntry) -> Iterator[AuditFinding]:
        state, number, at = entry.state, entry.block_number, self._entry_offset(entry)
        partial = state == fmt.BlockState.PARTIALLY_PRESENT
        if partial:
            self._chunk_is_partial = True
        if state in {4, 5} or (partial and not self._layer.has_parent):
            message = f"payload block {number} has state {state}, which it must not have"
            yield self._finding("vhdx-block-state", "high", message, at)
        elif self._layer.leave_blocks_allocated and state not in _STORED:
            message = f"payload block {number} of a fixed image has state {state} instead of 6"
            yield self._finding("vhdx-fixed-block-absent", "medium", message, at)
        if state in _EMPTY and entry.file_offset:
            message = f"payload block {number} of state {state} names a place in the file"
            yield self._finding("vhdx-block-offset-unused", "low", message, at)
        elif state in _ANCHORED and entry.file_offset:
            message = f"payload block {number} of state {state} keeps its place in the file"
            yield self._finding("vhdx-soft-anchor", "info", message, at)
            yield from self._place(f"payload block {number}", entry, self._block_size, at)
        elif state in _STORED:
            self._measure.blocks += 1
            # QEMU made images whose last block ends with the disk instead of with the block
            length = min(self._block_size, self._layer.info.virtual_size - number * self._block_size)
            length = max(length, min(self._block_size, self._size - entry.file_offset))
            yield from self._place(f"payload block {number}", entry, length, at)

    def _bitmap(self, entry: BatEntry) -> Iterator[AuditFinding]:
        state, number, at = entry.state, entry.block_number, self._entry_offset(entry)
        needed, self._chunk_is_partial = self._chunk_is_partial, False
        if state not in {fmt.BlockState.NOT_PRESENT, fmt.BlockState.FULLY_PRESENT}:
            message = f"sector bitmap block {number} has state {state}, which it must not have"
            yield self._finding("vhdx-block-state", "high", message, at)
        elif state == fmt.BlockState.FULLY_PRESENT:
            if not self._layer.has_parent:
                message = f"sector bitmap block {number} is there, and the image has no parent"
                yield self._finding("vhdx-bitmap-not-needed", "low", message, at)
            yield from self._place(f"sector bitmap block {number}", entry, fmt.BITMAP_BLOCK_SIZE, at)
        if needed and self._layer.has_parent and state != fmt.BlockState.FULLY_PRESENT:
            message = f"partially present blocks need sector bitmap block {number}, which is not in the file"
            yield self._finding("vhdx-bitmap-missing", "high", message, at)

    def _place(self, what: str, entry: BatEntry, length: int, at: int) -> Iterator[AuditFinding]:
        start, end = entry.file_offset, entry.file_offset + length
        if end > self._size:
            yield self._finding("vhdx-block-outside-file", "high", f"{what} lies past the end of the file", at)
        elif start < fmt.HEADER_SECTION_SIZE or not self._take(start, length):
            yield self._finding("vhdx-block-overlap", "high", f"{what} lies over another structure or block", at)

    def _take(self, offset: int, length: int) -> bool:
        """Mark a range as used; tell whether it was free."""
        self._end = max(self._end, offset + length)
        if self._used is None:
            return True
        first, last = offset // fmt.MIB, min(-(-(offset + length) // fmt.MIB), len(self._used))
        if first >= last:
            return True
        free = not any(self._used[first:last])
        self._used[first:last] = b"\1" * (last - first)
        return free

    def _entry_offset(self, entry: BatEntry) -> int:
        return self._layer.bat_range[0] + entry.bat_index * fmt.BAT_ENTRY_SIZE
