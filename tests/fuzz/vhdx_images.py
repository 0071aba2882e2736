"""VHDX images written a second time, from the format's declarations alone, and what must be read from them.

The project's own writer makes images as Hyper-V makes them; this one makes any layout that MS-VHDX allows: every
block state, sector bitmaps, several chunks, pending logs. The model beside it is naive: sector by sector, no caches.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tests.fuzz.seals import crc32c
from vhdtool.disk import vhdx_format as f

MIB = 1 << 20
LOG_AT, LOG_LENGTH = MIB, MIB
METADATA_AT, METADATA_LENGTH = 2 * MIB, MIB
BAT_AT = 3 * MIB
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULL, PARTIAL = 0, 1, 2, 3, 6, 7


@dataclass(frozen=True)
class Layer:
    """One file of a chain. ``states`` by block; ``present`` by PARTIAL block: the sectors that are in this file.

    ``number`` is in every sector's content, so that no two files hold the same bytes.
    """

    number: int
    virtual_size: int
    states: Mapping[int, int]
    present: Mapping[int, frozenset[int]] = field(default_factory=dict)
    block_size: int = MIB
    sector_size: int = 512
    fixed: bool = False
    parent: Layer | None = None
    parent_path: str = ""
    anchors: frozenset[int] = frozenset()  # blocks that keep a file offset though they hold nothing (2.5.1.1)

    @property
    def data_guid(self) -> UUID:
        return UUID(int=0xDA7A << 64 | self.number)

    @property
    def blocks(self) -> int:
        return -(-self.virtual_size // self.block_size)

    @property
    def ratio(self) -> int:
        return (1 << 23) * self.sector_size // self.block_size


def sector_bytes(layer: Layer, block: int, sector: int) -> bytes:
    return struct.pack("<IIII", layer.number, block, sector, 0xFACE) * (layer.sector_size // 16)


def read_model(layer: Layer, offset: int, length: int) -> bytes:
    """What the disk holds, told by the rules of 2.5.1.1 one sector at a time."""
    end = min(offset + length, layer.virtual_size)
    if offset >= end:
        return b""
    size = layer.sector_size
    first, last = offset // size, -(-end // size)
    data = b"".join(_sector(layer, number) for number in range(first, last))
    return data[offset - first * size : end - first * size]


def _sector(layer: Layer | None, number: int) -> bytes:
    if layer is None:
        return bytes(512)
    size = layer.sector_size
    if number * size >= layer.virtual_size:
        return bytes(size)
    per_block = layer.block_size // size
    block, sector = divmod(number, per_block)
    state = layer.states.get(block, NOT_PRESENT)
    if state == FULL or (state == PARTIAL and sector in layer.present[block]):
        return sector_bytes(layer, block, sector)
    if state in (NOT_PRESENT, PARTIAL) and layer.parent is not None:
        return _sector(layer.parent, number)
    return bytes(size)


@dataclass
class Written:
    """Where things lie in the file: payload blocks, bitmap blocks by chunk, and the first free byte."""

    blocks: dict[int, int]
    bitmaps: dict[int, int]
    end: int


def write_vhdx(path: Path, layer: Layer) -> Written:
    """Write the image; the file is sparse."""
    ratio, blocks = layer.ratio, layer.blocks
    count = -(-blocks // ratio) * (ratio + 1) if layer.parent else blocks + (blocks - 1) // ratio
    bat_length = -(-count * 8 // MIB) * MIB
    place = BAT_AT + bat_length
    bat: dict[int, int] = {}
    written = Written({}, {}, 0)
    with path.open("wb") as file:
        for block, state in sorted(layer.states.items()):
            index = block + block // ratio
            bat[index] = state
            if state in (FULL, PARTIAL):
                per_block = layer.block_size // layer.sector_size
                inside = range(per_block) if state == FULL else sorted(layer.present[block])
                file.seek(place)
                if state == FULL:
                    file.write(b"".join(sector_bytes(layer, block, sector) for sector in inside))
                else:
                    file.write(b"\xee" * layer.block_size)  # must never be seen
                    for sector in inside:
                        file.seek(place + sector * layer.sector_size)
                        file.write(sector_bytes(layer, block, sector))
            if state in (FULL, PARTIAL) or block in layer.anchors:
                bat[index] |= place
                written.blocks[block] = place
                place += layer.block_size
        for chunk in sorted({block // ratio for block, state in layer.states.items() if state == PARTIAL}):
            bat[(chunk + 1) * (ratio + 1) - 1] = place | 6
            written.bitmaps[chunk] = place
            file.seek(place)
            file.write(_bitmap(layer, chunk))
            place += MIB
        for index, value in bat.items():
            file.seek(BAT_AT + index * 8)
            file.write(struct.pack("<Q", value))
        file.truncate(place)
        file.seek(0)
        file.write(
            f.FILE_IDENTIFIER.build(
                {"signature": b"vhdxfile", "creator": "model".encode("utf-16-le").ljust(512, b"\0")}
            )
        )
        for slot, sequence in zip(f.HEADER_OFFSETS, (7, 8), strict=True):
            file.seek(slot)
            file.write(header_bytes(layer, sequence))
        table = _region_table(bat_length)
        for slot in f.REGION_TABLE_OFFSETS:
            file.seek(slot)
            file.write(table)
        file.seek(METADATA_AT)
        file.write(_metadata(layer))
    written.end = place
    return written


def header_bytes(layer: Layer, sequence: int, log_guid: UUID | None = None) -> bytes:
    fields = {
        "signature": b"head", "checksum": 0, "sequence_number": sequence,
        "file_write_guid": UUID(int=layer.number + 1).bytes_le, "data_write_guid": layer.data_guid.bytes_le,
        "log_guid": log_guid.bytes_le if log_guid else bytes(16), "log_version": 0, "version": 1,
        "log_length": LOG_LENGTH, "log_offset": LOG_AT, "reserved": bytes(4016),
    }  # fmt: skip
    return seal(f.HEADER.build(fields))


def seal(data: bytes) -> bytes:
    """The CRC-32C at byte 4."""
    clear = data[:4] + bytes(4) + data[8:]
    return data[:4] + crc32c(clear).to_bytes(4, "little") + data[8:]


def _bitmap(layer: Layer, chunk: int) -> bytes:
    bits = bytearray(MIB)
    per_block = layer.block_size // layer.sector_size
    for block, sectors in layer.present.items():
        if block // layer.ratio == chunk and layer.states[block] == PARTIAL:
            for sector in sectors:
                bit = block % layer.ratio * per_block + sector
                bits[bit // 8] |= 1 << bit % 8
    return bytes(bits)


def _region_table(bat_length: int) -> bytes:
    head = f.REGION_TABLE_HEADER.build({"signature": b"regi", "checksum": 0, "entry_count": 2, "reserved": 0})
    rows = [(f.BAT_REGION, BAT_AT, bat_length), (f.METADATA_REGION, METADATA_AT, METADATA_LENGTH)]
    for guid, at, length in rows:
        head += f.REGION_ENTRY.build({"guid": guid.bytes_le, "file_offset": at, "length": length, "flags": 1})
    return seal(head.ljust(f.REGION_TABLE_SIZE, b"\0"))


def _metadata(layer: Layer) -> bytes:
    flags = (1 if layer.fixed else 0) | (2 if layer.parent else 0)
    items = [
        (f.FILE_PARAMETERS_ITEM, struct.pack("<II", layer.block_size, flags), 4),
        (f.VIRTUAL_DISK_SIZE_ITEM, struct.pack("<Q", layer.virtual_size), 6),
        (f.VIRTUAL_DISK_ID_ITEM, UUID(int=0x1D).bytes_le, 6),
        (f.LOGICAL_SECTOR_SIZE_ITEM, struct.pack("<I", layer.sector_size), 6),
        (f.PHYSICAL_SECTOR_SIZE_ITEM, struct.pack("<I", 4096), 6),
    ]
    if layer.parent is not None:
        items.append((f.PARENT_LOCATOR_ITEM, _locator(layer), 4))
    table = f.METADATA_TABLE_HEADER.build(
        {"signature": b"metadata", "reserved": 0, "entry_count": len(items), "reserved2": bytes(20)}
    )
    values = b""
    for guid, value, item_flags in items:
        table += f.METADATA_ENTRY.build(
            {
                "item_id": guid.bytes_le,
                "offset": f.METADATA_TABLE_SIZE + len(values),
                "length": len(value),
                "flags": item_flags,
                "reserved": 0,
            }
        )
        values += value
    return table.ljust(f.METADATA_TABLE_SIZE, b"\0") + values


def _locator(layer: Layer) -> bytes:
    assert layer.parent is not None
    pairs = [
        ("parent_linkage", f"{{{layer.parent.data_guid}}}"),
        ("relative_path", f".\\{layer.parent_path}"),
        ("absolute_win32_path", f"C:\\machines\\{layer.parent_path}"),
    ]
    head = f.PARENT_LOCATOR_HEADER.build(
        {"locator_type": f.PARENT_LOCATOR_TYPE.bytes_le, "reserved": 0, "key_value_count": len(pairs)}
    )
    at = len(head) + len(pairs) * f.PARENT_LOCATOR_ENTRY.sizeof()
    entries, texts = b"", b""
    for key, value in pairs:
        name, text = key.encode("utf-16-le"), value.encode("utf-16-le")
        entries += f.PARENT_LOCATOR_ENTRY.build(
            {
                "key_offset": at + len(texts),
                "value_offset": at + len(texts) + len(name),
                "key_length": len(name),
                "value_length": len(text),
            }
        )
        texts += name + text
    return head + entries + texts


# --- the log -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogWrite:
    """4096 bytes of ``data`` for ``offset``, or ``zeros`` bytes of nothing."""

    offset: int
    data: bytes = b""
    zeros: int = 0


def log_entry(writes: Sequence[LogWrite], *, guid: UUID, sequence: int, tail: int, size: int) -> bytes:
    """One entry (2.3.1); ``size`` is the file's, for both file offsets."""
    descriptors, sectors = b"", b""
    for write in writes:
        if write.zeros:
            descriptors += f.LOG_ZERO_DESCRIPTOR.build(
                {
                    "signature": b"zero",
                    "reserved": 0,
                    "zero_length": write.zeros,
                    "file_offset": write.offset,
                    "sequence_number": sequence,
                }
            )
            continue
        descriptors += f.LOG_DATA_DESCRIPTOR.build(
            {
                "signature": b"desc",
                "trailing_bytes": write.data[4092:],
                "leading_bytes": write.data[:8],
                "file_offset": write.offset,
                "sequence_number": sequence,
            }
        )
        sectors += f.LOG_DATA_SECTOR.build(
            {
                "signature": b"data",
                "sequence_high": sequence >> 32,
                "data": write.data[8:4092],
                "sequence_low": sequence & 0xFFFFFFFF,
            }
        )
    front = -(-(64 + len(descriptors)) // 4096) * 4096
    head = f.LOG_ENTRY_HEADER.build(
        {
            "signature": b"loge",
            "checksum": 0,
            "entry_length": front + len(sectors),
            "tail": tail,
            "sequence_number": sequence,
            "descriptor_count": len(writes),
            "reserved": 0,
            "log_guid": guid.bytes_le,
            "flushed_file_offset": size,
            "last_file_offset": size,
        }
    )
    return seal((head + descriptors).ljust(front, b"\0") + sectors)


def write_log(
    path: Path, layer: Layer, entries: Sequence[Sequence[LogWrite]], *, sequence: int = 100, start: int = 0
) -> None:
    """Put a pending log of ``entries`` into the image, the first at ``start`` of the log; it may wrap around."""
    guid = UUID(int=0x106)
    size = path.stat().st_size
    with path.open("r+b") as file:
        at = start
        for number, writes in enumerate(entries):
            made = log_entry(writes, guid=guid, sequence=sequence + number, tail=start, size=size)
            for step in range(0, len(made), 4096):
                file.seek(LOG_AT + at)
                file.write(made[step : step + 4096])
                at = (at + 4096) % LOG_LENGTH
        file.seek(f.HEADER_OFFSETS[1])
        file.write(header_bytes(layer, 9, guid))


def apply_log(path: Path, entries: Sequence[Sequence[LogWrite]]) -> None:
    """The naive model of a replay: every write in its order, into the file."""
    with path.open("r+b") as file:
        for writes in entries:
            for write in writes:
                file.seek(write.offset)
                file.write(write.data or bytes(write.zeros))
