from __future__ import annotations

import random

import pytest

from vhdtool.fs.xpress import decompress

# The example of MS-XCA for "abc" a hundred times: code lengths by nibble, then the symbols.
ABC = bytes.fromhex("00" * 48 + "3023" + "00" * 78 + "02" + "00" * 14 + "20" + "00" * 112 + "a8dc0000ff2601")


def test_the_example_of_the_specification() -> None:
    assert decompress(ABC, 300) == b"abc" * 100


def test_a_chunk_that_ends_too_early() -> None:
    for end in range(0, len(ABC) - 3, 17):
        with pytest.raises(ValueError, match=r"early|cut off|code|match"):
            decompress(ABC[:end], 300)


def test_a_size_that_is_not_the_datas() -> None:
    with pytest.raises(ValueError, match="beyond the end"):
        decompress(ABC, 200)
    with pytest.raises(ValueError, match="too large"):
        decompress(ABC, 1 << 20)


def test_noise_ends_in_a_value_error_or_in_bytes() -> None:
    source = random.Random(1)
    for _ in range(60):
        data = bytearray(ABC.ljust(600, b"\x5a"))
        for _ in range(source.randint(1, 30)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            assert len(decompress(bytes(data), 4096)) == 4096
        except ValueError:
            continue
