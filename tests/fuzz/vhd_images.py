"""VHD images written a second time ("Virtual Hard Disk Image Format Specification" 1.0), and what they must read as."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

DIFFERENCING, DYNAMIC, FIXED = 4, 3, 2
HOLE = 0xFFFFFFFF
FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
DYNAMIC_HEADER = struct.Struct(">8sQQIIII16sI4x512s")


@dataclass(frozen=True)
class VhdLayer:
    """One file of a chain. ``blocks`` by number: the sectors whose bitmap bit is set."""

    number: int
    virtual_size: int
    blocks: Mapping[int, frozenset[int]] = field(default_factory=dict)
    block_size: int = 2 << 20
    kind: int = DYNAMIC
    parent: VhdLayer | None = None
    parent_path: str = ""

    @property
    def unique_id(self) -> UUID:
        return UUID(int=0x7D << 64 | self.number)


def sector_bytes(layer: VhdLayer, sector: int) -> bytes:
    return struct.pack("<IIQ", layer.number, 0xFACE, sector) * 32


def read_model(layer: VhdLayer, offset: int, length: int) -> bytes:
    """What the disk holds, sector by sector. A dynamic image's bitmap bits do not matter; a child's do."""
    end = min(offset + length, layer.virtual_size)
    if offset >= end:
        return b""
    first, last = offset // 512, -(-end // 512)
    data = b"".join(_sector(layer, number) for number in range(first, last))
    return data[offset - first * 512 : end - first * 512]


def _sector(layer: VhdLayer | None, number: int) -> bytes:
    if layer is None or number * 512 >= layer.virtual_size:
        return bytes(512)
    if layer.kind == FIXED:
        return sector_bytes(layer, number)
    block, sector = divmod(number, layer.block_size // 512)
    if block in layer.blocks and sector in layer.blocks[block]:
        return sector_bytes(layer, number)
    return _sector(layer.parent, number)


def write_vhd(path: Path, layer: VhdLayer) -> dict[int, int]:
    """Write the image, sparse; return where the blocks lie (their bitmaps, in bytes)."""
    end = footer(layer)
    if layer.kind == FIXED:
        data = b"".join(sector_bytes(layer, number) for number in range(layer.virtual_size // 512))
        path.write_bytes(data + end)
        return {}
    count = -(-layer.virtual_size // layer.block_size)
    table_at = 512 + 1024
    locators, texts = b"", b""
    place = table_at + -(-count * 4 // 512) * 512
    if layer.parent is not None:
        for code, text in ((b"W2ru", f".\\{layer.parent_path}"), (b"W2ku", f"C:\\machines\\{layer.parent_path}")):
            data = text.encode("utf-16-le")
            locators += struct.pack(">4sIIIQ", code, 512, len(data), 0, place + len(texts))
            texts += data.ljust(512, b"\0")
    places: dict[int, int] = {}
    bitmap_size = -(-layer.block_size // 512 // 8 // 512) * 512
    with path.open("wb") as file:
        file.write(end)
        name = layer.parent_path.encode("utf-16-be").ljust(512, b"\0")
        parent_id = layer.parent.unique_id.bytes if layer.parent else bytes(16)
        header = DYNAMIC_HEADER.pack(
            b"cxsparse", 0xFFFFFFFFFFFFFFFF, table_at, 0x10000, count, layer.block_size, 0, parent_id, 0, name
        )
        header = (header + locators).ljust(1024, b"\0")
        file.write(header[:36] + complement(header).to_bytes(4, "big") + header[40:])
        file.seek(place)
        file.write(texts)
        place += len(texts)
        for block, sectors in sorted(layer.blocks.items()):
            places[block] = place
            bits = bytearray(bitmap_size)
            for sector in sectors:
                bits[sector // 8] |= 0x80 >> sector % 8
            file.seek(place)
            file.write(bits)
            for sector in sorted(sectors):
                file.seek(place + bitmap_size + sector * 512)
                file.write(sector_bytes(layer, block * (layer.block_size // 512) + sector))
            place += bitmap_size + layer.block_size
        file.seek(table_at)
        for block in range(count):
            file.write(struct.pack(">I", places[block] // 512 if block in places else HOLE))
        file.write(b"\xff" * (-count * 4 % 512))
        file.seek(place)
        file.write(end)
    return places


def footer(layer: VhdLayer) -> bytes:
    data = FOOTER.pack(
        b"conectix", 2, 0x10000, 0xFFFFFFFFFFFFFFFF if layer.kind == FIXED else 512, 0, b"win ",
        0x60003, b"Wi2k", layer.virtual_size, layer.virtual_size, 64, 16, 63, layer.kind, 0, layer.unique_id.bytes, 0,
    )  # fmt: skip
    return data[:64] + complement(data).to_bytes(4, "big") + data[68:]


def complement(data: bytes) -> int:
    return ~sum(data) & 0xFFFFFFFF
