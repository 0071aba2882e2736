"""LZX as WIM files and WOF use it: chunks of at most 32 KiB, each for itself, in a window of the same size.

"Microsoft LZX Data Compression Format" (Cabinet SDK) and MS-PATCH section 2; the differences in WIM (the default
block size told by one bit, the x86 translation always on with a file size of 12,000,000) as wimlib documents them.
"""

from __future__ import annotations

import struct

from vhdtool.fs.huffman import BitReader, copy_match, decode_table

WINDOW = 32768
VERBATIM, ALIGNED, UNCOMPRESSED = 1, 2, 3
POSITION_SLOTS = 30  # of a 32 KiB window
MAIN_SYMBOLS = 256 + 8 * POSITION_SLOTS
LENGTH_SYMBOLS = 249
PRETREE_SYMBOLS = 20
ALIGNED_SYMBOLS = 8
X86_FILE_SIZE = 12_000_000

_EXTRA_BITS = [0, 0, 0, 0, *(slot // 2 - 1 for slot in range(4, POSITION_SLOTS))]
_BASE = [sum(1 << bits for bits in _EXTRA_BITS[:slot]) for slot in range(POSITION_SLOTS)]
_OFFSETS = struct.Struct("<III")
_INT32 = struct.Struct("<i")

Code = tuple[list[int], int]


def decompress(data: bytes, size: int) -> bytes:
    """Return the ``size`` bytes (at most 32768) of one chunk; raises :class:`ValueError` where it does not decode."""
    if size > WINDOW:
        raise ValueError("the chunk is too large")
    chunk = _Chunk(data, size)
    while len(chunk.output) < size:
        chunk.block()
    _undo_x86(chunk.output)
    return bytes(chunk.output)


class _Chunk:
    """State that lasts from block to block: the code lengths and the three recent offsets."""

    def __init__(self, data: bytes, size: int) -> None:
        self.reader = BitReader(data)
        self.size = size
        self.output = bytearray()
        self.main_lengths = [0] * MAIN_SYMBOLS
        self.length_lengths = [0] * LENGTH_SYMBOLS
        self.recent = [1, 1, 1]

    def block(self) -> None:
        """Decode one block onto the output."""
        reader = self.reader
        kind = reader.read(3)
        size = WINDOW if reader.read(1) else reader.read(16)
        if size == 0 or len(self.output) + size > self.size:
            raise ValueError("a block has an impossible size")
        end = len(self.output) + size
        if kind == UNCOMPRESSED:
            self._uncompressed(size)
        elif kind in (VERBATIM, ALIGNED):
            aligned = None
            if kind == ALIGNED:
                aligned = decode_table([reader.read(3) for _ in range(ALIGNED_SYMBOLS)])
            self._read_lengths(self.main_lengths, 0, 256)
            self._read_lengths(self.main_lengths, 256, MAIN_SYMBOLS)
            self._read_lengths(self.length_lengths, 0, LENGTH_SYMBOLS)
            self._matches(decode_table(self.main_lengths), decode_table(self.length_lengths), aligned, end)
        else:
            raise ValueError(f"block type {kind} does not exist")

    def _uncompressed(self, size: int) -> None:
        reader = self.reader
        # To the next word; a whole word where the stream stands at one already.
        reader.ensure(1)
        reader.bits = reader.count = 0
        self.recent = list(_OFFSETS.unpack(reader.take_bytes(_OFFSETS.size)))
        self.output += reader.take_bytes(size)
        if size & 1 and reader.position < len(reader.data):
            reader.position += 1

    def _matches(self, main: Code, lengths: Code, aligned: Code | None, end: int) -> None:
        reader, output, recent = self.reader, self.output, self.recent
        while len(output) < end:
            symbol = reader.symbol(main)
            if symbol < 256:
                output.append(symbol)
                continue
            slot, length = (symbol - 256) >> 3, symbol & 7
            if length == 7:
                length += reader.symbol(lengths)
            if slot < 3:
                distance = recent[slot]
                recent[slot] = recent[0]
                recent[0] = distance
            else:
                extra = _EXTRA_BITS[slot]
                if aligned is not None and extra >= 3:
                    low = reader.read(extra - 3) << 3
                    distance = _BASE[slot] + low + reader.symbol(aligned) - 2
                else:
                    distance = _BASE[slot] + reader.read(extra) - 2
                recent[2], recent[1], recent[0] = recent[1], recent[0], distance
            copy_match(output, distance, length + 2, end)

    def _read_lengths(self, lengths: list[int], start: int, end: int) -> None:
        """Read code lengths, told as differences from those of the block before."""
        reader = self.reader
        pretree = decode_table([reader.read(4) for _ in range(PRETREE_SYMBOLS)])
        at = start
        while at < end:
            symbol = reader.symbol(pretree)
            if symbol < 17:
                lengths[at] = (lengths[at] - symbol) % 17
                at += 1
                continue
            if symbol == 19:
                run = 4 + reader.read(1)
                difference = reader.symbol(pretree)
                if difference > 16:
                    raise ValueError("a run of code lengths has no length")
                value = (lengths[at] - difference) % 17
            else:
                run = 4 + reader.read(4) if symbol == 17 else 20 + reader.read(5)
                value = 0
            # Some encoders let a run go beyond the last symbol; what is beyond means nothing.
            run = min(run, end - at)
            lengths[at : at + run] = [value] * run
            at += run


def _undo_x86(output: bytearray) -> None:
    """Turn the absolute targets of x86 calls back into relative ones."""
    at = output.find(b"\xe8")
    last = len(output) - 10
    while 0 <= at < last:
        (target,) = _INT32.unpack_from(output, at + 1)
        if -at <= target < X86_FILE_SIZE:
            _INT32.pack_into(output, at + 1, target - at if target >= 0 else target + X86_FILE_SIZE)
        at = output.find(b"\xe8", at + 5)
