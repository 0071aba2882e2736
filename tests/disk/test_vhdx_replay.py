from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.disk.vhdx_files import memory_peak, pattern
from vhdtool.disk.device import FileDevice
from vhdtool.disk.vhdx_replay import Overlay
from vhdtool.errors import DamagedError

SECTOR = 4096
SIZE = 16 * SECTOR + 100
CONTENT = pattern(1, SIZE + 16)[:SIZE]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileDevice]:
    path: Path = tmp_path_factory.mktemp("replay") / "file"
    path.write_bytes(CONTENT)
    device = FileDevice(path)
    yield device
    device.close()


write = st.tuples(st.just("data"), st.integers(0, 19), st.integers(2, 200))
zero = st.tuples(st.just("zero"), st.integers(0, 19), st.integers(0, 20))


@given(st.lists(st.one_of(write, zero), max_size=30), st.data())
def test_reads_equal_writing_in_order(
    file: FileDevice, writes: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    size = 20 * SECTOR
    expected = bytearray(CONTENT.ljust(size, b"\0"))
    overlay = Overlay()
    for kind, sector, value in writes:
        start = sector * SECTOR
        if kind == "data":
            overlay.write(start, pattern(value, SECTOR))
            expected[start : start + SECTOR] = pattern(value, SECTOR)
        else:
            overlay.zero(start, value * SECTOR)
            end = min(size, start + value * SECTOR)
            expected[start:end] = bytes(max(0, end - start))
    replayed = overlay.over(file, size)
    assert replayed.read_at(0, size) == expected
    for _ in range(5):
        offset = data.draw(st.integers(0, size))
        length = data.draw(st.integers(0, size - offset))
        assert replayed.read_at(offset, length) == expected[offset : offset + length]


def test_the_end_of_the_file(file: FileDevice) -> None:
    replayed = Overlay().over(file, SIZE)
    assert replayed.size == SIZE
    assert replayed.read_at(SIZE - 10, 100) == CONTENT[-10:]
    assert replayed.read_at(SIZE, 1) == b""
    with pytest.raises(DamagedError) as caught:
        replayed.read_exactly_into(SIZE - 10, memoryview(bytearray(11)))
    assert caught.value.code == "truncated"


def test_an_endless_zero_range_costs_nothing(file: FileDevice) -> None:
    with memory_peak() as peak:
        overlay = Overlay()
        overlay.zero(2 * SECTOR, 1 << 63)
        overlay.write(4 * SECTOR, pattern(7, SECTOR))
        replayed = overlay.over(file, 1 << 62)
        found = replayed.read_at(SECTOR, 4 * SECTOR)
        assert replayed.read_at(1 << 61, 10) == bytes(10)
    assert found == CONTENT[SECTOR : 2 * SECTOR] + bytes(2 * SECTOR) + pattern(7, SECTOR)
    assert peak() < 1 << 20


def test_where_written_data_ends(file: FileDevice) -> None:
    overlay = Overlay()
    assert overlay.data_end == 0
    overlay.zero(0, 1 << 40)
    assert overlay.data_end == 0
    overlay.write(8 * SECTOR, bytes(SECTOR))
    assert overlay.data_end == 9 * SECTOR
    assert overlay.over(file, SIZE).size == SIZE
