from __future__ import annotations

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.base import Extent
from vhdtool.fs.runs import RunStream, damaged, runs_overlap

DEVICE = MemoryDevice(b"".join(bytes([number]) * 512 for number in range(16)))


def stream(runs: list[tuple[int | None, int]], size: int, initialized: int | None = None) -> RunStream:
    return RunStream(DEVICE, runs, 512, size=size, initialized=size if initialized is None else initialized, what="/f")


def test_runs_holes_and_the_end() -> None:
    found = stream([(3, 2), (None, 1), (1, 1)], 2000)
    expected = (bytes([3]) * 512 + bytes([4]) * 512 + bytes(512) + bytes([1]) * 512)[:2000]
    assert found.read_at(0, 10_000) == expected
    for offset in (0, 1, 511, 512, 1023, 1500, 1999, 2000, 99999):
        assert found.read_at(offset, 700) == expected[offset : offset + 700]
    assert found.extents() == (Extent(0, 1536, 1024), Extent(1536, 512, 464))


def test_beyond_the_initialized_size_are_zeros_and_not_the_disk() -> None:
    found = stream([(3, 4)], 2048, 700)
    assert found.read_at(0, 2048) == (bytes([3]) * 512 + bytes([4]) * 188).ljust(2048, b"\0")
    assert found.extents() == (Extent(0, 1536, 700),)


def test_a_huge_size_costs_nothing_until_it_is_read() -> None:
    found = stream([(3, 1)], 1 << 60, 100)
    assert found.read_at((1 << 60) - 4, 100) == bytes(4)


def test_runs_that_end_before_the_data() -> None:
    with pytest.raises(DamagedError):
        stream([(3, 1)], 513)


def test_a_volume_that_is_cut_off_is_an_error_and_not_zeros() -> None:
    with pytest.raises(DamagedError) as caught:
        stream([(15, 2)], 1024).read_at(0, 1024)
    assert caught.value.code == "truncated"


def test_arguments_and_empty_files() -> None:
    assert stream([], 0).read_at(0, 10) == b""
    with pytest.raises(ValueError, match="negative"):
        stream([], 0).read_at(-1, 1)
    assert damaged("x", "/f").code == "filesystem-damaged"


def test_clusters_used_twice() -> None:
    assert not runs_overlap([(5, 2), (None, 9), (3, 2), (7, 1)])
    assert runs_overlap([(5, 2), (6, 1)])
