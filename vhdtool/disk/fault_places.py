"""What a known fault of a foreign reader is, and how its places in a chain of files are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vhdtool.disk import vhdx_format
from vhdtool.disk.bat_pages import PAGE_SIZE
from vhdtool.disk.chain import ChainExtent, VirtualDisk
from vhdtool.disk.device import FileDevice, Layer
from vhdtool.disk.vhdx import VhdxLayer

Ranges = Iterator[tuple[int, int]]  # virtual start and end, in bytes
_ENTRY = vhdx_format.BAT_ENTRY_SIZE


@dataclass(frozen=True, slots=True)
class Misreading:
    """The reader returns wrong bytes, or an error, for some ranges: those that ``ranges`` names in an extent."""

    name: str
    reader: str
    summary: str
    ranges: Callable[[VirtualDisk, ChainExtent], Ranges]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reader does not open a chain that is in order, or can be used in spite of its damage.

    Where ``asked`` is false it may open it, but as something that nobody wrote, so it is not asked at all.
    """

    name: str
    reader: str
    summary: str
    applies: Callable[[VirtualDisk], bool]
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Avoided:
    """A fault that no range suffers from, because :mod:`vhdtool.disk.foreign_reader` never asks in the way it needs."""

    name: str
    reader: str
    summary: str


def passed(disk: VirtualDisk, extent: ChainExtent) -> Iterator[tuple[Layer, FileDevice]]:
    """Give the layers that were asked for an extent, down to the one that had it."""
    last = len(disk.layers) if extent.layer is None else extent.layer + 1
    return zip(disk.layers[:last], disk.files[:last], strict=True)


def blocks_of(extent: ChainExtent, block_size: int) -> Iterator[tuple[int, int, int]]:
    """Give the number of each block that an extent touches, and the extent's start and end in it."""
    offset, end = extent.offset, extent.offset + extent.length
    while offset < end:
        block = offset // block_size
        stop = min((block + 1) * block_size, end)
        yield block, offset, stop
        offset = stop


def payload_entry(layer: VhdxLayer, block: int) -> int:
    """Return the BAT entry of a block, as the replayed log leaves it."""
    return _entry(layer, _payload_index(layer, block))


def bitmap_entry(layer: VhdxLayer, block: int) -> int:
    """Return the BAT entry of the sector bitmap that a block belongs to."""
    return _entry(layer, _bitmap_index(layer, block))


def state_of(entry: int) -> int:
    """Return the state in a BAT entry."""
    return entry & vhdx_format.BAT_STATE_MASK


def log_ignored(disk: VirtualDisk, extent: ChainExtent) -> Ranges:
    """Give the bytes that a replayed log changes: by a BAT entry, by a sector bitmap, or themselves."""
    for number, (layer, file) in enumerate(passed(disk, extent)):
        if not isinstance(layer, VhdxLayer) or layer.replay is None or layer.info.block_size is None:
            continue
        if _structures_in_log(layer, file):
            yield extent.offset, extent.offset + extent.length
            return
        for block, start, stop in blocks_of(extent, layer.info.block_size):
            if _block_in_log(layer, file, block):
                yield start, stop
            elif extent.layer == number and extent.file_offset is not None:
                place = extent.file_offset + start - extent.offset
                for first, last in _changed(layer, file, place, stop - start):
                    yield start + first, start + last


def _entry(layer: VhdxLayer, index: int) -> int:
    data = bytearray(_ENTRY)
    layer.read_stored(layer.bat_range[0] + index * _ENTRY, memoryview(data))
    return int.from_bytes(data, "little")


def _payload_index(layer: VhdxLayer, block: int) -> int:
    return block + block // layer.chunk_ratio


def _bitmap_index(layer: VhdxLayer, block: int) -> int:
    return (block // layer.chunk_ratio + 1) * (layer.chunk_ratio + 1) - 1


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
    if state_of(payload_entry(layer, block)) != vhdx_format.BlockState.PARTIALLY_PRESENT:
        return False
    size = (layer.info.block_size or 0) // layer.info.logical_sector_size // 8
    bitmap = bitmap_entry(layer, block) & vhdx_format.BAT_OFFSET_MASK
    return any(True for _ in _changed(layer, file, bitmap + block % layer.chunk_ratio * size, size))


def _changed(layer: VhdxLayer, file: FileDevice, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The parts of a range of the file, counted from its start, that the log changes."""
    for start in range(0, length, PAGE_SIZE):
        stop = min(start + PAGE_SIZE, length)
        replayed = bytearray(stop - start)
        layer.read_stored(offset + start, memoryview(replayed))
        if file.read_at(offset + start, stop - start) != replayed:
            yield start, stop
