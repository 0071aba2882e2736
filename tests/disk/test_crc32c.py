from __future__ import annotations

import random

import pytest

from vhdtool.disk.crc32c import crc32c, crc32c_by_tables

# RFC 3720 appendix B.4, and the check value of the CRC catalogue
KNOWN = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
    (b"", 0),
]


@pytest.mark.parametrize(("data", "expected"), KNOWN)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
    assert crc32c_by_tables(data) == expected


def test_both_implementations_agree_at_every_length() -> None:
    source = random.Random(1)
    for length in [*range(40), 4096, 65535]:
        data = source.randbytes(length)
        assert crc32c(data) == crc32c_by_tables(data)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9])
def test_going_on_equals_one_piece(cut: int) -> None:
    data = b"123456789"
    assert crc32c(data[cut:], crc32c(data[:cut])) == 0xE3069283
    assert crc32c_by_tables(data[cut:], crc32c_by_tables(data[:cut])) == 0xE3069283
