from __future__ import annotations

import pytest

from vhdtool.fs.huffman import INVALID, BitReader, copy_match, decode_table


def test_canonical_codes_in_order_of_length_and_symbol() -> None:
    # Lengths 2, 1, 3, 3: codes 10, 0, 110, 111 (RFC 1951 section 3.2.2 has the same rule).
    table, bits = decode_table([2, 1, 3, 3])
    assert bits == 3
    assert [entry >> 5 for entry in table] == [1, 1, 1, 1, 0, 0, 2, 3]
    assert [entry & 31 for entry in table] == [1, 1, 1, 1, 2, 2, 3, 3]


def test_incomplete_codes_have_holes_and_overfull_ones_are_refused() -> None:
    assert decode_table([2])[0][1:] == [INVALID] * 3
    assert decode_table([])[0] == [INVALID, INVALID]
    with pytest.raises(ValueError, match="over-full"):
        decode_table([1, 1, 1])


def test_bits_come_from_little_endian_words_high_bit_first() -> None:
    reader = BitReader(bytes([0x34, 0x12, 0x78, 0x56]))
    assert [reader.read(4) for _ in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_reading_well_beyond_the_end_is_refused() -> None:
    reader = BitReader(b"\x01")
    with pytest.raises(ValueError, match="too early"):
        [reader.read(8) for _ in range(100)]


def test_matches_overlap_and_stay_inside() -> None:
    output = bytearray(b"abc")
    copy_match(output, 2, 5, 100)
    assert output == b"abcbcbcb"
    for distance, length in ((9, 1), (0, 1), (1, 93), (-1, 1)):
        with pytest.raises(ValueError, match="match"):
            copy_match(output, distance, length, 100)
