from __future__ import annotations

import random
import struct

import pytest

from vhdtool.fs.lzx import decompress


def uncompressed_block(content: bytes) -> bytes:
    """A block of type 3 by the LZX specification: 3 bits type, 1 bit, 16 bits size, to the word, three offsets."""
    bits = f"{3:03b}" + "0" + f"{len(content):016b}"
    bits = bits.ljust(32, "0")
    words = b"".join(struct.pack("<H", int(bits[at : at + 16], 2)) for at in (0, 16))
    return words + struct.pack("<III", 1, 1, 1) + content + bytes(len(content) & 1)


def test_uncompressed_blocks_one_after_another() -> None:
    first, second = b"odd" * 3, bytes(range(100))
    assert decompress(uncompressed_block(first) + uncompressed_block(second), 109) == first + second


def test_x86_calls_are_turned_back() -> None:
    # A call at 0 to the absolute place 0x1000, and one at 10 to 0x1000: relative to where they stand.
    content = b"\xe8" + struct.pack("<i", 0x1000) + bytes(5) + b"\xe8" + struct.pack("<i", 0x1000) + bytes(20)
    expected = b"\xe8" + struct.pack("<i", 0x1000) + bytes(5) + b"\xe8" + struct.pack("<i", 0x1000 - 10) + bytes(20)
    assert decompress(uncompressed_block(content), len(content)) == expected


def test_calls_in_the_last_ten_bytes_are_left_alone() -> None:
    content = bytes(20) + b"\xe8" + struct.pack("<i", 0x1000) + bytes(5)
    assert decompress(uncompressed_block(content), len(content)) == content


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff" * 40, uncompressed_block(b"abcd")[:-2]])
def test_damaged_chunks_are_value_errors(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decompress(data, 4)


def test_a_chunk_is_at_most_the_window() -> None:
    with pytest.raises(ValueError, match="too large"):
        decompress(b"", 32769)


def test_noise_ends_in_a_value_error_or_in_bytes() -> None:
    source = random.Random(2)
    for _ in range(60):
        data = bytes([0, source.choice((0x20, 0x30, 0x40, 0x50))]) + source.randbytes(400)
        try:
            assert len(decompress(data, 5000)) == 5000
        except ValueError:
            continue
