"""Canonical Huffman codes and the bit order that LZX and XPRESS share: 16-bit little-endian words, high bit first."""

from __future__ import annotations

from collections.abc import Sequence

MAX_OVERRUN = 4  # words of zeros that may be read beyond the end: a code is looked up with more bits than it has

INVALID = -1


def decode_table(lengths: Sequence[int]) -> tuple[list[int], int]:
    """Return (table, bits): ``table[next bits of the stream]`` is ``symbol << 5 | length``, -1 for no symbol.

    ``lengths`` are the code lengths by symbol, 0 for unused. Raises :class:`ValueError` for an over-full code.
    """
    bits = max(lengths, default=0) or 1
    table: list[int] = []
    by_length: list[list[int]] = [[] for _ in range(bits + 1)]
    for symbol, length in enumerate(lengths):
        by_length[length].append(symbol)
    for length in range(1, bits + 1):
        repeat = 1 << (bits - length)
        for symbol in by_length[length]:
            table += [symbol << 5 | length] * repeat
        if len(table) > 1 << bits:
            raise ValueError("a Huffman code is over-full")
    table += [INVALID] * ((1 << bits) - len(table))
    return table, bits


class BitReader:
    """Reads bits; ``position`` is where the next unread word or byte lies."""

    __slots__ = ("bits", "count", "data", "overrun", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.bits = 0  # read but not used yet, right-aligned
        self.count = 0  # how many
        self.overrun = 0

    def ensure(self, count: int) -> None:
        """Have at least ``count`` bits at hand. Raises :class:`ValueError` well beyond the end of the data."""
        while self.count < count:
            word = int.from_bytes(self.data[self.position : self.position + 2], "little")
            if self.position + 2 > len(self.data):
                self.overrun += 1
                if self.overrun > MAX_OVERRUN:
                    raise ValueError("the compressed data ends too early")
            self.position += 2
            self.bits = self.bits << 16 | word
            self.count += 16

    def read(self, count: int) -> int:
        """Return the next ``count`` bits as a number."""
        if count == 0:
            return 0
        self.ensure(count)
        self.count -= count
        value = self.bits >> self.count
        self.bits &= (1 << self.count) - 1
        return value

    def symbol(self, code: tuple[list[int], int]) -> int:
        """Decode the next symbol of ``code``."""
        table, bits = code
        self.ensure(bits)
        entry = table[self.bits >> (self.count - bits)]
        if entry < 0:
            raise ValueError("the compressed data uses a code that does not exist")
        self.count -= entry & 31
        self.bits &= (1 << self.count) - 1
        return entry >> 5

    def take_bytes(self, count: int) -> bytes:
        """Return whole bytes from the next unread word on; the bits at hand stay."""
        data = self.data[self.position : self.position + count]
        if len(data) != count:
            raise ValueError("the compressed data ends too early")
        self.position += count
        return data


def copy_match(output: bytearray, distance: int, length: int, limit: int) -> None:
    """Append ``length`` bytes from ``distance`` back, overlapping as LZ77 does; ``limit`` bounds the output."""
    start = len(output) - distance
    if start < 0 or distance <= 0:
        raise ValueError("a match points before the start of the data")
    if len(output) + length > limit:
        raise ValueError("a match leads beyond the end of the data")
    if distance >= length:
        output += output[start : start + length]
    else:
        piece = output[start:]
        output += (piece * (length // distance + 1))[:length]
