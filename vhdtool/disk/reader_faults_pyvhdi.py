"""Known faults of libvhdi 20260901 (pyvhdi), and what it is never asked because of another."""

from __future__ import annotations

from itertools import pairwise

from vhdtool.disk import vhd_format, vhdx_format
from vhdtool.disk.chain import ChainExtent, VirtualDisk
from vhdtool.disk.fault_places import (
    Avoided,
    Misreading,
    Ranges,
    Refusal,
    bitmap_entry,
    blocks_of,
    log_ignored,
    passed,
    payload_entry,
    state_of,
)
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_bitmap import runs_of

READER = "pyvhdi"
# every byte of a bitmap with the bits that come after a set one, most significant bit first as in a VHD
_AFTER_SET = bytes(((1 << byte.bit_length()) - 1) & ~byte for byte in range(256))
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _zero_in_child(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    if extent.kind == "zero" and extent.layer is not None:
        layer = disk.layers[extent.layer]
        if isinstance(layer, VhdxLayer) and layer.has_parent:
            yield extent.offset, extent.offset + extent.length


def _missing_sector_bitmap(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    """It reads the start of the file as the bitmap, so the sectors whose bit happens to be set there are wrong."""
    full = vhdx_format.BlockState.FULLY_PRESENT
    for layer, file in passed(disk, extent):
        if not isinstance(layer, VhdxLayer) or not layer.has_parent or layer.info.block_size is None:
            continue
        sector, block_size = layer.info.logical_sector_size, layer.info.block_size
        per_block = block_size // sector
        for block, start, stop in blocks_of(extent, block_size):
            if state_of(payload_entry(layer, block)) == full or state_of(bitmap_entry(layer, block)) == full:
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
    for layer, file in passed(disk, extent):
        if not isinstance(layer, VhdLayer) or layer.bat is None or layer.info.block_size is None:
            continue
        block_size = layer.info.block_size
        for block, start, stop in blocks_of(extent, block_size):
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
    Misreading("log-ignored", READER, "It does not replay the log of a VHDX.", log_ignored),
    Misreading(
        "zero-reads-parent",
        READER,
        "In a differencing VHDX it reads blocks of state ZERO, UNMAPPED and UNDEFINED from the parent.",
        _zero_in_child,
    ),
    Misreading(
        "sector-bitmap-missing",
        READER,
        "In a differencing VHDX it takes the start of the file for a sector bitmap that is not there.",
        _missing_sector_bitmap,
    ),
    Misreading(
        "bitmap-byte-run",
        READER,
        "In a VHD it takes all sectors after the first one that is set in a byte of a bitmap for set.",
        _bitmap_byte_run,
    ),
    Misreading(
        "past-parent-end",
        READER,
        "It fails to read past the end of a parent that is smaller than its child.",
        _past_parent,
    ),
)

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "region-table-copy",
        READER,
        "It opens no VHDX of whose two region tables one is damaged.",
        _damaged_region_table,
    ),
    Refusal(
        "header-copy",
        READER,
        "It opens no VHDX of whose two headers one has lost its signature.",
        _lost_header_signature,
    ),
    Refusal(
        "linkage2-only",
        READER,
        "It knows only parent_linkage: a child that names its parent by parent_linkage2 finds it not.",
        _linkage2_only,
    ),
    Refusal(
        "last-footer",
        READER,
        "It knows neither the copy of a VHD's footer at the start of the file nor footers of 511 bytes.",
        _no_last_footer,
    ),
)

AVOIDED: tuple[Avoided, ...] = (
    Avoided(
        "parent-into-block",
        READER,
        "A read of a differencing VHD that comes from the parent's sectors of one block into another reads the parent "
        "there as well.",
    ),
)
