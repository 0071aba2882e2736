"""XPRESS with Huffman codes, one chunk at a time.

MS-XCA section 2.2 (LZ77+Huffman decompression). Own code, because dissect's decoder stops as soon as its look-ahead
has reached the end of the input, and so loses the last symbols of some chunks (13 of 463 that wimlib made; a test has
one).
"""

from __future__ import annotations

from vhdtool.fs.huffman import BitReader, copy_match, decode_table

LENGTHS_SIZE = 256  # bytes: 512 code lengths of four bits
MIN_MATCH = 3
BLOCK_SIZE = 65536  # bytes of output for which one set of code lengths holds


def decompress(data: bytes, size: int) -> bytes:
    """Return the ``size`` bytes that ``data`` decompresses to; raises :class:`ValueError` where it does not.

    ``size`` is at most 65536: the chunks of WOF and WIM are smaller.
    """
    if len(data) < LENGTHS_SIZE:
        raise ValueError("the code lengths are cut off")
    if size > BLOCK_SIZE:
        raise ValueError("the chunk is too large")
    lengths = [length for byte in data[:LENGTHS_SIZE] for length in (byte & 15, byte >> 4)]
    code = decode_table(lengths)
    reader = BitReader(data, LENGTHS_SIZE)
    output = bytearray()
    while len(output) < size:
        symbol = reader.symbol(code)
        if symbol < 256:
            output.append(symbol)
            continue
        length, offset_bits = symbol & 15, (symbol >> 4) & 15
        reader.ensure(16)  # the length bytes below lie behind the words that hold the offset's bits
        distance = (1 << offset_bits) | reader.read(offset_bits)
        if length == 15:
            extra = reader.take_bytes(1)[0]
            length = extra + 15 if extra < 255 else int.from_bytes(reader.take_bytes(2), "little")
        copy_match(output, distance, length + MIN_MATCH, size)
    return bytes(output)
