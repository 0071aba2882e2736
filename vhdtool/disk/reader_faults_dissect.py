"""Known faults of dissect.hypervisor 3.21, and what it is never asked because of others."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.disk import vhd_format, vhdx_format
from vhdtool.disk.chain import ChainExtent, VirtualDisk
from vhdtool.disk.device import FileDevice
from vhdtool.disk.fault_places import (
    Avoided,
    Misreading,
    Ranges,
    Refusal,
    blocks_of,
    log_ignored,
    payload_entry,
    state_of,
)
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhdx import VhdxLayer

READER = "dissect.hypervisor"
_SEQUENCE_NUMBER = 8  # its place in a header (MS-VHDX 2.2.2)
_ASKS_PARENT = (vhdx_format.BlockState.PARTIALLY_PRESENT, vhdx_format.BlockState.NOT_PRESENT)
_FEATURES_RESERVED = 0x2  # always set in a footer; the reader takes a footer without it for one of 511 bytes


def _layers(disk: VirtualDisk) -> Iterator[tuple[VhdxLayer, FileDevice]]:
    for layer, file in zip(disk.layers, disk.files, strict=True):
        if isinstance(layer, VhdxLayer):
            yield layer, file


def _whole(extent: ChainExtent) -> Ranges:
    yield extent.offset, extent.offset + extent.length


def _past_parent(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    sizes = [layer.info.virtual_size for layer, _ in _layers(disk)]
    if extent.kind == "hole" and len(sizes) > 1:
        end = extent.offset + extent.length
        if end > min(sizes[1:]):
            yield max(extent.offset, min(sizes[1:])), end


def _partial_below_partial(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    """A parent is asked from whatever sector the child lacks, and finds its own bitmap only from every eighth.

    It then returns too few bytes, so all that is read together with them is wrong as well.
    """
    layers = [layer for layer, _ in _layers(disk)]
    sizes = [layer.info.block_size for layer in layers if layer.info.block_size is not None]
    if len(layers) < 3 or len(sizes) < len(layers):
        return
    for _, start, stop in blocks_of(extent, min(sizes)):
        partial = 0
        for layer, size in zip(layers, sizes, strict=True):
            if start >= layer.info.virtual_size:
                break
            state = state_of(payload_entry(layer, start // size))
            partial += state == vhdx_format.BlockState.PARTIALLY_PRESENT
            if state not in _ASKS_PARENT:
                break
        if partial > 1:
            yield start, stop


def _vhd_as_dynamic(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    if len(disk.layers) > 1 and isinstance(disk.layers[0], VhdLayer) and extent.layer != 0:
        yield from _whole(extent)


def _vhd_bitmap(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    layer = disk.layers[0]
    if not isinstance(layer, VhdLayer) or layer.bat is None or extent.layer == 0:
        return
    for block, start, stop in blocks_of(extent, layer.info.block_size or vhd_format.SECTOR_SIZE):
        if block < layer.bat.count and layer.bat.place(block) is not None:
            yield start, stop


def _first_region_table(disk: VirtualDisk) -> bool:
    return any(not layer.region_tables[0].valid for layer, _ in _layers(disk))


def _no_last_footer(disk: VirtualDisk) -> bool:
    layer = disk.layers[0]
    return isinstance(layer, VhdLayer) and not (
        layer.footers.tail.valid and layer.footers.footer.features & _FEATURES_RESERVED
    )


def _lost_region_signature(disk: VirtualDisk) -> bool:
    return any(
        file.read_at(offset, 4) != vhdx_format.REGION_SIGNATURE
        for _, file in _layers(disk)
        for offset in vhdx_format.REGION_TABLE_OFFSETS
    )


def _lost_header_signature(disk: VirtualDisk) -> bool:
    """It takes the header with the higher number, whether or not it is one."""
    for layer, file in _layers(disk):
        first, second = (file.read_at(copy.offset, 16) for copy in layer.headers)
        numbers = [int.from_bytes(header[_SEQUENCE_NUMBER:], "little") for header in (first, second)]
        chosen = first if numbers[0] > numbers[1] else second
        if chosen[:4] != vhdx_format.HEADER_SIGNATURE:
            return True
    return False


def _unknown_metadata(disk: VirtualDisk) -> bool:
    return any(item.name is None for layer, _ in _layers(disk) for item in layer.metadata_items)


def _no_relative_path(disk: VirtualDisk) -> bool:
    return any(layer.has_parent and "relative_path" not in layer.parent_entries for layer, _ in _layers(disk))


MISREADINGS: tuple[Misreading, ...] = (
    Misreading("log-not-replayed", READER, "It does not replay the log of a VHDX.", log_ignored),
    Misreading(
        "below-parent-end",
        READER,
        "It fails to read past the end of a parent that is smaller than its child.",
        _past_parent,
    ),
    Misreading(
        "partial-below-partial",
        READER,
        "It misreads the sector bitmap of a parent that is asked from another sector than every eighth.",
        _partial_below_partial,
    ),
    Misreading("vhd-as-dynamic", READER, "It reads a differencing VHD as if it had no parent.", _vhd_as_dynamic),
    Misreading("vhd-bitmap", READER, "It does not look at the sector bitmaps of a VHD.", _vhd_bitmap),
)

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "first-region-table",
        READER,
        "It takes the first region table of a VHDX, whatever its checksum.",
        _first_region_table,
        asked=False,
    ),
    Refusal(
        "vhd-footer",
        READER,
        "It takes the end of the file for the footer of a VHD, whatever it holds.",
        _no_last_footer,
        asked=False,
    ),
    Refusal(
        "region-table-signature",
        READER,
        "It opens no VHDX of whose two region tables one has lost its signature.",
        _lost_region_signature,
    ),
    Refusal(
        "header-signature",
        READER,
        "It opens no VHDX whose higher numbered header has lost its signature.",
        _lost_header_signature,
    ),
    Refusal("unknown-metadata", READER, "It opens no VHDX with metadata that it does not know.", _unknown_metadata),
    Refusal(
        "no-relative-path",
        READER,
        "It opens no VHDX that names its parent by other than relative_path.",
        _no_relative_path,
    ),
)

AVOIDED: tuple[Avoided, ...] = (
    Avoided(
        "crosses-blocks",
        READER,
        "A read of a VHDX that starts inside a block and ends in another returns wrong bytes.",
    ),
    Avoided(
        "partial-from-odd-sector",
        READER,
        "A read of a differencing VHDX from another sector than every eighth misreads the sector bitmap.",
    ),
)
