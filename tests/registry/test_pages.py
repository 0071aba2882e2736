from __future__ import annotations

import random

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.pages import HivePages

DATA = random.Random(1).randbytes(50_000)


class Counting(BytesSource):
    """Notes what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read_at(offset, length)


class Lying(BytesSource):
    """Promises twice the bytes that it has."""

    @property
    def size(self) -> int:
        return 2 * super().size


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (4095, 2), (0, 50_000), (4096, 4096), (49_000, 5000), (50_000, 1), (60_000, 10), (12_345, 0)],
)
def test_bytes_are_those_of_the_file(offset: int, length: int) -> None:
    assert HivePages(BytesSource(DATA), "hive").read_at(offset, length) == DATA[offset : offset + length]


def test_a_page_is_read_once_and_neighbours_come_together() -> None:
    source = Counting(DATA)
    pages = HivePages(source, "hive")
    pages.read_at(5000, 10)
    pages.read_at(5100, 10)
    assert source.reads == [(4096, 4096)]
    pages.read_at(0, 40_000)
    assert len(source.reads) == 3  # the page before the one that is there, and all after it
    assert pages.read_at(0, 40_000) == DATA[:40_000]
    assert len(source.reads) == 3


def test_the_cache_is_bounded() -> None:
    source = Counting(DATA)
    pages = HivePages(source, "hive", cached=2)
    for _ in range(3):
        for number in range(4):
            pages.read_at(number * 4096, 4)
    assert len(source.reads) == 12
    assert pages.read_at(0, 50_000) == DATA


def test_what_is_laid_over() -> None:
    pages = HivePages(BytesSource(DATA), "hive")
    pages.read_at(0, 8192)
    expected = bytearray(DATA)
    for offset, data in [(512, b"a" * 512), (4096, b"b" * 8192), (3584, b"c" * 1024), (512, b"d" * 512)]:
        pages.lay_over(offset, data)
        expected[offset : offset + len(data)] = data
    assert pages.read_at(0, 50_000) == expected
    assert pages.size == 50_000


def test_it_grows() -> None:
    pages = HivePages(BytesSource(DATA[:8192]), "hive")
    pages.lay_over(8192, b"x" * 4096)
    assert pages.size == 12_288
    assert pages.read_at(8000, 8000) == DATA[8000:8192] + b"x" * 4096
    pages.lay_over(20_480, b"y" * 4096)
    with pytest.raises(DamagedError) as caught:
        pages.read_at(12_288, 4096)
    assert (caught.value.code, caught.value.offset) == ("hive-truncated", 12_288)


def test_a_source_that_is_shorter_than_it_says() -> None:
    pages = HivePages(Lying(DATA[:8192]), "hive")
    assert pages.read_at(0, 8192) == DATA[:8192]
    for offset, length in ((8192, 4), (4000, 8000)):
        with pytest.raises(DamagedError) as caught:
            pages.read_at(offset, length)
        assert caught.value.code == "hive-truncated"
