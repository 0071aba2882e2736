"""Known faults of foreign readers, each a predicate: which reader, on which structure, over which bytes.

A second opinion is worth what the second reader is worth. Where a fault of it is known, exactly the bytes that the
fault can touch are left out of the comparison, and counted under the fault's name; a test reproduces each in the
installed reader, so a fault that its authors repair is noticed and goes from this list.

All of them were met in libvhdi 20260901 (pyvhdi).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from vhdtool.disk import vhd_format, vhdx_format
from vhdtool.disk.bat_pages import PAGE_SIZE
from vhdtool.disk.chain import ChainExtent, VirtualDisk
from vhdtool.disk.device import FileDevice, Layer
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_bitmap import runs_of

Ranges = Iterator[tuple[int, int]]  # virtual start and end, in bytes
_ENTRY = vhdx_format.BAT_ENTRY_SIZE
# every byte of a bitmap with the bits that come after a set one, most significant bit first as in a VHD
_AFTER_SET = bytes(((1 << byte.bit_length()) - 1) & ~byte for byte in range(256))
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Misreading:
    """The reader returns wrong bytes, or an error, for some ranges: those that ``ranges`` names in an extent."""

    name: str
    reader: str
    summary: str
    ranges: Callable[[VirtualDisk, ChainExtent], Ranges]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reader does not open a chain that is in order, or can be used in spite of its damage."""

    name: str
    reader: str
    summary: str
    applies: Callable[[VirtualDisk], bool]


def _passed(disk: VirtualDisk, extent: ChainExtent) -> Iterator[tuple[Layer, FileDevice]]:
    """The layers that were asked for an extent, down to the one that had it."""
    last = len(disk.layers) if extent.layer is None else extent.layer + 1
    return zip(disk.layers[:last], disk.files[:last], strict=True)


def _blocks(extent: ChainExtent, block_size: int) -> Iterator[tuple[int, int, int]]:
    """Number of each block that an extent touches, and the extent's start and end in it."""
    offset, end = extent.offset, extent.offset + extent.length
    while offset < end:
        block = offset // block_size
        stop = min((block + 1) * block_size, end)
        yield block, offset, stop
        offset = stop


def _vhdx_entry(layer: VhdxLayer, index: int) -> int:
    """A BAT entry as the replayed log leaves it."""
    data = bytearray(_ENTRY)
    layer.read_stored(layer.bat_range[0] + index * _ENTRY, memoryview(data))
    return int.from_bytes(data, "little")


def _payload_index(layer: VhdxLayer, block: int) -> int:
    return block + block // layer.chunk_ratio


def _bitmap_index(layer: VhdxLayer, block: int) -> int:
    return (block // layer.chunk_ratio + 1) * (layer.chunk_ratio + 1) - 1


def _zero_in_child(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    if extent.kind == "zero" and extent.layer is not None:
        layer = disk.layers[extent.layer]
        if isinstance(layer, VhdxLayer) and layer.has_parent:
            yield extent.offset, extent.offset + extent.length


def _missing_sector_bitmap(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    """It reads the start of the file as the bitmap, so the sectors whose bit happens to be set there are wrong."""
    for layer, file in _passed(disk, extent):
        if not isinstance(layer, VhdxLayer) or not layer.has_parent or layer.info.block_size is None:
            continue
        sector, block_size = layer.info.logical_sector_size, layer.info.block_size
        per_block = block_size // sector
        for block, start, stop in _blocks(extent, block_size):
            full, present = vhdx_format.BlockState.FULLY_PRESENT, vhdx_format.BAT_STATE_MASK
            if _vhdx_entry(layer, _payload_index(layer, block)) & present == full:
                continue
            if _vhdx_entry(layer, _bitmap_index(layer, block)) & present == full:
                continue
            bits = file.read_at(block % layer.chunk_ratio * per_block // 8, per_block // 8).ljust(per_block // 8, b"\0")
            yield from _marked(bits, block * block_size, sector, start, stop)


def _marked(bits: bytes, block_start: int, sector: int, start: int, stop: int) -> Ranges:
    """The parts of a range of a block whose sectors have their bit set, least significant bit first."""
    first = (start - block_start) // sector
    count = -(-(stop - block_start) // sector) - first
    position = block_start + first * sector
    for marked, length in runs_of(bits, first, count):
        if marked:
            yield max(start, position), min(stop, position + length * sector)
        position += length * sector


def _bitmap_byte_run(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    """Once a bit is set, it takes the rest of the bitmap's byte for set as well."""
    for layer, file in _passed(disk, extent):
        if not isinstance(layer, VhdLayer) or layer.bat is None or layer.info.block_size is None:
            continue
        block_size = layer.info.block_size
        for block, start, stop in _blocks(extent, block_size):
            place = layer.bat.place(block) if block < layer.bat.count else None
            if place is None:
                continue
            sectors = block_size // vhd_format.SECTOR_SIZE
            stored = file.read_at(place, max(1, sectors // 8)).ljust(max(1, sectors // 8), b"\0")
            wrong = stored.translate(_AFTER_SET).translate(_MIRRORED)
            if any(wrong):
                yield from _marked(wrong, block * block_size, vhd_format.SECTOR_SIZE, start, stop)


def _past_parent(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    if extent.kind == "hole" and len(disk.layers) > 1:
        shortest = min(layer.info.virtual_size for layer in disk.layers[1:])
        end = extent.offset + extent.length
        if end > shortest:
            yield max(extent.offset, shortest), end


def _log_ignored(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    """Bytes that a replayed log changes: by a BAT entry, by a sector bitmap, or themselves."""
    for number, (layer, file) in enumerate(_passed(disk, extent)):
        if not isinstance(layer, VhdxLayer) or layer.replay is None or layer.info.block_size is None:
            continue
        if _structures_in_log(layer, file):
            yield extent.offset, extent.offset + extent.length
            return
        for block, start, stop in _blocks(extent, layer.info.block_size):
            if _block_in_log(layer, file, block):
                yield start, stop
            elif extent.layer == number and extent.file_offset is not None:
                place = extent.file_offset + start - extent.offset
                for first, last in _changed(layer, file, place, stop - start):
                    yield start + first, start + last


def _structures_in_log(layer: VhdxLayer, file: FileDevice) -> bool:
    ranges = [(offset, vhdx_format.REGION_TABLE_SIZE) for offset in vhdx_format.REGION_TABLE_OFFSETS]
    ranges += [(region.offset, region.length) for region in layer.regions if region.name == "metadata"]
    return any(True for offset, length in ranges for _ in _changed(layer, file, offset, length))


def _block_in_log(layer: VhdxLayer, file: FileDevice, block: int) -> bool:
    bat = layer.bat_range[0]
    for index in (_payload_index(layer, block), _bitmap_index(layer, block)):
        offset = bat + index * _ENTRY
        if index * _ENTRY < layer.bat_range[1] and any(True for _ in _changed(layer, file, offset, _ENTRY)):
            return True
    if _vhdx_entry(layer, _payload_index(layer, block)) & vhdx_format.BAT_STATE_MASK != (
        vhdx_format.BlockState.PARTIALLY_PRESENT
    ):
        return False
    size = (layer.info.block_size or 0) // layer.info.logical_sector_size // 8
    bitmap = _vhdx_entry(layer, _bitmap_index(layer, block)) & vhdx_format.BAT_OFFSET_MASK
    return any(True for _ in _changed(layer, file, bitmap + block % layer.chunk_ratio * size, size))


def _changed(layer: VhdxLayer, file: FileDevice, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The parts of a range of the file, counted from its start, that the log changes."""
    for start in range(0, length, PAGE_SIZE):
        stop = min(start + PAGE_SIZE, length)
        replayed = bytearray(stop - start)
        layer.read_stored(offset + start, memoryview(replayed))
        if file.read_at(offset + start, stop - start) != replayed:
            yield start, stop


def _damaged_region_table(disk: VirtualDisk) -> bool:
    return any(isinstance(layer, VhdxLayer) and not all(t.valid for t in layer.region_tables) for layer in disk.layers)


def _lost_header_signature(disk: VirtualDisk) -> bool:
    return any(
        isinstance(layer, VhdxLayer)
        and any(file.read_at(copy.offset, 4) != vhdx_format.HEADER_SIGNATURE for copy in layer.headers)
        for layer, file in zip(disk.layers, disk.files, strict=True)
    )


def _linkage2_only(disk: VirtualDisk) -> bool:
    return any(
        isinstance(child, VhdxLayer) and bool(child.info.linkage) and child.info.linkage[0] != parent.info.identity
        for child, parent in pairwise(disk.layers)
    )


def _no_last_footer(disk: VirtualDisk) -> bool:
    return any(
        isinstance(layer, VhdLayer)
        and (not layer.footers.tail.valid or layer.footers.tail.size != vhd_format.FOOTER_SIZE)
        and layer.footers.trusted
        for layer in disk.layers
    )


MISREADINGS: tuple[Misreading, ...] = (
    Misreading("log-ignored", "pyvhdi", "It does not replay the log of a VHDX.", _log_ignored),
    Misreading(
        "zero-reads-parent",
        "pyvhdi",
        "In a differencing VHDX it reads blocks of state ZERO, UNMAPPED and UNDEFINED from the parent.",
        _zero_in_child,
    ),
    Misreading(
        "sector-bitmap-missing",
        "pyvhdi",
        "In a differencing VHDX it takes the start of the file for a sector bitmap that is not there.",
        _missing_sector_bitmap,
    ),
    Misreading(
        "bitmap-byte-run",
        "pyvhdi",
        "In a VHD it takes all sectors after the first one that is set in a byte of a bitmap for set.",
        _bitmap_byte_run,
    ),
    Misreading(
        "past-parent-end",
        "pyvhdi",
        "It fails to read past the end of a parent that is smaller than its child.",
        _past_parent,
    ),
)

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "region-table-copy",
        "pyvhdi",
        "It opens no VHDX of whose two region tables one is damaged.",
        _damaged_region_table,
    ),
    Refusal(
        "header-copy",
        "pyvhdi",
        "It opens no VHDX of whose two headers one has lost its signature.",
        _lost_header_signature,
    ),
    Refusal(
        "linkage2-only",
        "pyvhdi",
        "It knows only parent_linkage: a child that names its parent by parent_linkage2 finds it not.",
        _linkage2_only,
    ),
    Refusal(
        "last-footer",
        "pyvhdi",
        "It knows neither the copy of a VHD's footer at the start of the file nor footers of 511 bytes.",
        _no_last_footer,
    ),
)
