from __future__ import annotations

import struct

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.fs.wof import WofAlgorithm, WofFile, wof_algorithm


def info(provider: int, algorithm: int, version: int = 1) -> bytes:
    return struct.pack("<IIII", version, provider, 1, algorithm)


@pytest.mark.parametrize(
    ("number", "name", "chunk_size"),
    [(0, "wof-xpress4k", 4096), (1, "wof-lzx", 32768), (2, "wof-xpress8k", 8192), (3, "wof-xpress16k", 16384)],
)
def test_algorithms(number: int, name: str, chunk_size: int) -> None:
    found = wof_algorithm(info(2, number), "/f")
    assert (found.name, found.chunk_size) == (name, chunk_size)


@pytest.mark.parametrize("data", [info(1, 0), info(2, 4), info(3, 0), info(2, 0)[:12]])
def test_what_is_not_known_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedError) as caught:
        wof_algorithm(data, "/f")
    assert caught.value.code == "wof-algorithm"


def test_a_cut_off_reparse_point() -> None:
    with pytest.raises(DamagedError):
        wof_algorithm(b"\x01", "/f")


def repeat(data: bytes, size: int) -> bytes:
    """A compression for tests: one byte, repeated."""
    if len(data) != 1:
        raise ValueError("not one byte")
    return data * size


ALGORITHM = WofAlgorithm("test", 4, repeat)
# Chunks: "a" for aaaa, "b" for bbbb, "wxyz" stored, "c" for the last two.
TABLE = struct.pack("<III", 1, 2, 6)
STORED = TABLE + b"ab" + b"wxyz" + b"c"


def test_chunks_stored_and_compressed() -> None:
    found = WofFile("/f", BytesSource(STORED), 14, ALGORITHM)
    content = b"aaaabbbbwxyzcc"
    for offset in range(16):
        for length in (0, 1, 3, 20):
            assert found.read_at(offset, length) == content[offset : offset + length]
    assert found.size == 14
    assert found.extents() == ()


def test_wide_offsets_from_four_gibibytes_on() -> None:
    class Sparse:
        """The stored stream of a file of 4 GiB in chunks of 1 GiB: a table of 64-bit offsets."""

        size = 4 * 1

        def read_at(self, offset: int, length: int) -> bytes:
            return (struct.pack("<QQQ", 1, 2, 3) + b"abcd")[offset : offset + length]

    source = Sparse()
    source.size = 24 + 4
    found = WofFile("/f", source, 1 << 32, WofAlgorithm("test", 1 << 30, lambda data, size: data))
    assert found.read_at(1 << 30, 1) == b"b"


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        TABLE,
        TABLE[:5],
        struct.pack("<III", 9, 2, 6) + STORED[12:],
        struct.pack("<III", 1, 1, 6) + STORED[12:],
        struct.pack("<III", 1, 2, 0xFFFFFFF0) + STORED[12:],
        struct.pack("<III", 2, 3, 7) + b"aab" + STORED[14:],
    ],
)
def test_damaged_streams(stored: bytes) -> None:
    with pytest.raises(DamagedError) as caught:
        WofFile("/f", BytesSource(stored), 14, ALGORITHM).read_at(0, 14)
    assert caught.value.path == "/f"


def test_empty_file() -> None:
    assert WofFile("/f", BytesSource(b""), 0, ALGORITHM).read_at(0, 5) == b""


def test_the_cache_is_bounded() -> None:
    count = 200_000
    table = b"".join(struct.pack("<I", at) for at in range(1, count))
    found = WofFile("/f", BytesSource(table + b"q" * count), 4 * count, ALGORITHM)
    for offset in range(0, 4 * count, 4096):
        assert found.read_at(offset, 2) == b"qq"
    assert len(found._cache) * 4 <= 256 * 1024 + 4
