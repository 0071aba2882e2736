"""Checksums of the formats, written a second time: the engine makes damage consistent with them.

Own code on purpose: a checksum that the code under test computes wrongly must not be believed here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from tests.dirty_hives import marvin32
from tests.fuzz.mutate import Patch, Seal, View


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as VHDX uses it. Zeros at the end are walked too: 64 KiB take a few milliseconds."""
    value = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        value = (value >> 8) ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def crc32c_seal(file: str, offset: int, length: int, at: int, name: str, *, strict: bool = True) -> Seal:
    """A little-endian CRC-32C at ``at``, computed over the range with its own four bytes zero."""

    def renew(view: View) -> Sequence[Patch]:
        data = bytearray(view.read(offset, length))
        data[at - offset : at - offset + 4] = bytes(4)
        return [Patch(file, at, crc32c(bytes(data)).to_bytes(4, "little"))]

    return Seal(file, offset, length, name, renew, strict)


def crc32_seal(file: str, offset: int, length: int, at: int, name: str) -> Seal:
    """A little-endian CRC-32 (GPT); ``at`` may lie outside the range (the partition array)."""

    def renew(view: View) -> Sequence[Patch]:
        data = bytearray(view.read(offset, length))
        if offset <= at < offset + length:
            data[at - offset : at - offset + 4] = bytes(4)
        return [Patch(file, at, zlib.crc32(data).to_bytes(4, "little"))]

    return Seal(file, offset, length, name, renew)


def complement_seal(file: str, offset: int, length: int, at: int, name: str) -> Seal:
    """VHD: the one's complement of the sum of all bytes, big-endian."""

    def renew(view: View) -> Sequence[Patch]:
        data = bytearray(view.read(offset, length))
        data[at - offset : at - offset + 4] = bytes(4)
        return [Patch(file, at, (~sum(data) & 0xFFFFFFFF).to_bytes(4, "big"))]

    return Seal(file, offset, length, name, renew)


def base_block_seal(file: str, name: str) -> Seal:
    """A hive's base block, or a log's: the XOR of 127 words at 508, with its two special cases."""

    def renew(view: View) -> Sequence[Patch]:
        value = 0
        for (word,) in struct.iter_unpack("<I", view.read(0, 508)):
            value ^= word
        value = {0xFFFFFFFF: 0xFFFFFFFE, 0: 1}.get(value, value)
        return [Patch(file, 508, value.to_bytes(4, "little"))]

    return Seal(file, 0, 512, name, renew)


def log_entry_seal(file: str, offset: int, length: int) -> Seal:
    """One HvLE entry: hash 1 (at 24) over all behind the header, hash 2 (at 32) over the first 32 bytes."""

    def renew(view: View) -> Sequence[Patch]:
        head = bytearray(view.read(offset, 32))
        head[24:32] = marvin32(view.read(offset + 40, length - 40)).to_bytes(8, "little")
        return [
            Patch(file, offset + 24, bytes(head[24:32])),
            Patch(file, offset + 32, marvin32(bytes(head)).to_bytes(8, "little")),
        ]

    return Seal(file, offset, length, "HvLE", renew, strict=False)
