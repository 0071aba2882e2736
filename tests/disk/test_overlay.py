from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.disk.vhdx_files import MIB, make, memory_peak
from vhdtool.disk.chain import open_disk
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.device import WritableSlice
from vhdtool.disk.overlay import PAGE, Overlay, differing_sectors, merged
from vhdtool.errors import DamagedError, OutputError

SIZES = [3 * MIB, 3 * MIB + 512, 2 * MIB + PAGE + 1536, 512]


def raw_disk(folder, size, name="base.img"):
    """A raw disk of noise with zeros in it, and its bytes."""
    content = bytearray(random.Random(size).randbytes(size))
    content[size // 3 : size // 2] = bytes(size // 2 - size // 3)
    (folder / name).write_bytes(content)
    return open_disk(folder / name), content


def large_sector_disk(folder):
    path = folder / "large.vhdx"
    data = random.Random(1).randbytes(MIB)
    make(path, virtual_size=2 * MIB + 3 * PAGE, logical_sector_size=4096, blocks={0: Block(data=data)})
    disk = open_disk(path)
    return disk, bytearray(disk.read_at(0, disk.size))


def sectors_that_differ(old, new, sector):
    """Ranges of whole sectors, found one by one: the definition, not the code."""
    found = []
    for place in range(0, len(old), sector):
        if old[place : place + sector] != new[place : place + sector]:
            if found and sum(found[-1]) == place:
                found[-1] = found[-1][0], found[-1][1] + sector
            else:
                found.append((place, sector))
    return found


@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_as_a_bytearray(tmp_path, size, data):
    if not (tmp_path / "base.img").exists():
        raw_disk(tmp_path, size)[0].close()
    with open_disk(tmp_path / "base.img") as disk, Overlay(disk, spool_folder=tmp_path) as overlay:
        check_against_a_model(overlay, bytearray(disk.read_at(0, size)), data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_as_a_bytearray_with_large_sectors(tmp_path, data):
    if not (tmp_path / "large.vhdx").exists():
        large_sector_disk(tmp_path)[0].close()
    with open_disk(tmp_path / "large.vhdx") as disk, Overlay(disk) as overlay:
        assert overlay.logical_sector_size == 4096
        check_against_a_model(overlay, bytearray(disk.read_at(0, disk.size)), data)


def check_against_a_model(overlay, model, data):
    old, size = bytes(model), len(model)
    near_edges = st.one_of(
        st.integers(0, size),
        st.sampled_from([0, 511, 512, PAGE - 1, PAGE, MIB - 1, MIB, MIB + 1, size - 1, size]).map(
            lambda x: min(x, size)
        ),
    )
    lengths = st.one_of(st.integers(0, 9000), st.integers(0, 2 * MIB))
    for _ in range(data.draw(st.integers(1, 8))):
        offset = data.draw(near_edges)
        length = min(data.draw(lengths), size - offset)
        kind = data.draw(st.sampled_from(["write", "write", "restore", "read", "changed"]))
        if kind == "write":
            model[offset : offset + length] = bytes([data.draw(st.integers(0, 255))]) * length
            overlay.write_at(offset, memoryview(model)[offset : offset + length])
        elif kind == "restore":  # written, and what it was before
            model[offset : offset + length] = old[offset : offset + length]
            overlay.write_at(offset, old[offset : offset + length])
        elif kind == "read":
            assert overlay.read_at(offset, length + 77) == model[offset : offset + length + 77]
        else:
            assert list(overlay.changed()) == sectors_that_differ(old, model, overlay.logical_sector_size)
    assert overlay.read_at(0, size + 1) == model
    buffer = bytearray(b"\xee" * (size + 10))
    assert overlay.read_into(0, memoryview(buffer)) == size
    assert buffer == model + b"\xee" * 10
    assert list(overlay.changed()) == sectors_that_differ(old, model, overlay.logical_sector_size)
    written = list(overlay.written())
    assert all(
        any(a <= offset and offset + length <= a + b for a, b in written) for offset, length in overlay.changed()
    )
    assert all(one[0] + one[1] < other[0] for one, other in pairwise(written))


def test_the_disk_below_is_not_written(tmp_path):
    disk, content = raw_disk(tmp_path, 3 * MIB)
    with disk, Overlay(disk) as overlay:
        overlay.write_at(0, b"x" * (2 * MIB))
        assert disk.read_at(0, disk.size) == content
        assert overlay.base is disk
        assert overlay.path == str(tmp_path / "base.img")
    assert (tmp_path / "base.img").read_bytes() == content


def test_ranges_outside_the_disk(tmp_path):
    disk, content = raw_disk(tmp_path, MIB)
    with disk, Overlay(disk) as overlay:
        for offset, data in ((MIB, b"x"), (MIB - 1, b"xy"), (-1, b"x"), (MIB + 1, b"")):
            with pytest.raises(ValueError, match="outside"):
                overlay.write_at(offset, data)
        overlay.write_at(MIB, b"")
        assert list(overlay.changed()) == list(overlay.written()) == []
        assert overlay.read_at(MIB, 10) == overlay.read_at(MIB + 5, 10) == b""
        for call in (lambda: overlay.read_at(-1, 1), lambda: overlay.read_at(0, -1)):
            with pytest.raises(ValueError, match="negative"):
                call()
        assert overlay.read_at(0, MIB) == content


def test_whole_pages_are_not_read_from_below(tmp_path):
    disk, _ = raw_disk(tmp_path, 8 * MIB)
    with disk, Overlay(disk) as overlay:
        before = disk.bytes_read
        overlay.write_at(MIB, random.Random(3).randbytes(2 * MIB))
        assert disk.bytes_read == before
        overlay.write_at(5 * MIB + 100, b"abc")
        assert disk.bytes_read == before + PAGE
        overlay.write_at(5 * MIB + 200, b"abc")
        overlay.read_at(5 * MIB, PAGE)
        assert disk.bytes_read == before + PAGE


def test_changed_reads_only_what_was_written_and_once(tmp_path):
    disk, _ = raw_disk(tmp_path, 8 * MIB)
    with disk, Overlay(disk) as overlay:
        overlay.write_at(MIB, b"a" * PAGE)
        overlay.write_at(7 * MIB, b"b" * PAGE)
        before = disk.bytes_read
        expected = [(MIB, PAGE), (7 * MIB, PAGE)]
        assert list(overlay.changed()) == expected
        assert disk.bytes_read == before + 2 * PAGE
        assert list(overlay.changed()) == expected
        assert disk.bytes_read == before + 2 * PAGE
        overlay.write_at(7 * MIB, b"c" * PAGE)
        assert list(overlay.changed()) == expected
        assert disk.bytes_read == before + 3 * PAGE


def test_what_differs_stays_known_while_the_disk_below_becomes_the_new_one(tmp_path):
    """A commit in place changes the file under the overlay; what was changed must be told after it as well."""
    disk, _ = raw_disk(tmp_path, 2 * MIB)
    with disk, Overlay(disk) as overlay:
        overlay.write_at(512, b"new" * 512)
        expected = list(overlay.changed())
        with (tmp_path / "base.img").open("r+b") as file:
            file.seek(512)
            file.write(b"new" * 512)
        assert list(overlay.changed()) == expected == [(512, 1536)]


def test_ten_thousand_scattered_pages_need_little_memory(tmp_path):
    path = tmp_path / "big.img"
    with path.open("wb") as file:
        file.truncate(10_000 * MIB)
    with open_disk(path) as disk, memory_peak() as peak, Overlay(disk, spool_folder=tmp_path) as overlay:
        for number in range(10_000):
            overlay.write_at(number * MIB + number % 256 * PAGE, number.to_bytes(8, "big") * 512)
        assert sum(length for _, length in overlay.changed()) > 9_999 * PAGE - 512
        assert overlay.read_at(777 * MIB + 777 % 256 * PAGE, 8) == (777).to_bytes(8, "big")
    assert peak() < 12 * MIB


def test_a_large_change_in_a_row_needs_little_memory(tmp_path):
    path = tmp_path / "big.img"
    with path.open("wb") as file:
        file.truncate(1024 * MIB)
    piece = b"\x11" * (4 * MIB)
    with open_disk(path) as disk, memory_peak() as peak, Overlay(disk, spool_folder=tmp_path) as overlay:
        for place in range(0, 64 * MIB, len(piece)):
            overlay.write_at(place, piece)
        assert list(overlay.changed()) == [(0, 64 * MIB)]
    assert peak() < 8 * MIB


def test_the_spool_has_no_name_and_goes_with_the_overlay(tmp_path):
    disk, _ = raw_disk(tmp_path, MIB)
    spool = tmp_path / "spool"
    spool.mkdir()
    with disk:
        descriptors = Path("/proc/self/fd")
        before = len(list(descriptors.iterdir())) if descriptors.is_dir() else None
        overlay = Overlay(disk, spool_folder=spool)
        overlay.write_at(0, b"x")
        if os.name == "posix":
            assert list(spool.iterdir()) == []
        overlay.close()
        overlay.close()
        assert list(overlay.changed()) == []
        if before is not None:
            assert len(list(descriptors.iterdir())) == before


def test_a_spool_without_room(tmp_path, monkeypatch):
    disk, content = raw_disk(tmp_path, MIB)
    with disk, Overlay(disk, spool_folder=tmp_path) as overlay:
        overlay.write_at(0, b"first")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match="No space left") as caught:
            overlay.write_at(MIB // 2, b"x" * PAGE)
        assert caught.value.code == "spool-full"
        assert caught.value.hint
        monkeypatch.undo()
        assert overlay.read_at(0, MIB) == b"first" + content[5:]


def test_a_spool_folder_that_is_not_there(tmp_path):
    disk, _ = raw_disk(tmp_path, MIB)
    with disk, Overlay(disk, spool_folder=tmp_path / "no") as overlay:
        with pytest.raises(OutputError) as caught:
            overlay.write_at(0, b"x")
        assert caught.value.code == "spool-full"


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="reads with preadv are replaced")
def test_a_spool_that_fails(tmp_path, monkeypatch):
    disk, _ = raw_disk(tmp_path, MIB)
    with disk, Overlay(disk) as overlay:
        overlay.write_at(0, b"x" * PAGE)
        monkeypatch.setattr(os, "preadv", lambda *_: 0)
        with pytest.raises(OutputError) as caught:
            overlay.read_at(0, PAGE)
        assert caught.value.code == "spool-lost"

        def broken(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "preadv", broken)
        with pytest.raises(OutputError, match="Input/output error") as caught:
            overlay.read_at(0, PAGE)
        assert caught.value.code == "spool-lost"


def test_a_damaged_block_below_is_told_only_where_it_is_needed(tmp_path):
    path = tmp_path / "a.vhdx"
    layout = make(path, blocks={0: Block(data=b"a" * MIB), 1: Block(data=b"b" * MIB)})
    with path.open("r+b") as file:
        file.seek(layout.bat_offset + 8)
        file.write((5).to_bytes(8, "little"))  # a state that no block has
    with open_disk(path) as disk, Overlay(disk) as overlay:
        overlay.write_at(MIB, b"n" * PAGE)
        assert overlay.read_at(MIB, PAGE) == b"n" * PAGE
        with pytest.raises(DamagedError):
            overlay.write_at(MIB + PAGE + 1, b"n")
        with pytest.raises(DamagedError):
            list(overlay.changed())


def test_a_slice_of_an_overlay(tmp_path):
    disk, content = raw_disk(tmp_path, MIB)
    with disk, Overlay(disk) as overlay:
        part = WritableSlice(overlay, 1024, 4096)
        part.write_at(4090, b"123456")
        content[1024 + 4090 : 1024 + 4096] = b"123456"
        assert overlay.read_at(0, MIB) == content
        with pytest.raises(ValueError, match="outside"):
            part.write_at(4091, b"123456")


def test_ranges_that_touch_or_overlap_are_one():
    assert list(merged([(0, 5), (5, 5), (7, 1), (8, 4), (20, 1)])) == [(0, 12), (20, 1)]
    assert list(merged([])) == []


def test_sectors_that_differ_as_bits():
    old = bytes(4 * 512)
    new = old[:600] + b"x" + old[601:2047] + b"y"
    assert differing_sectors(new, old, 512) == 0b1010
    assert differing_sectors(old, old, 512) == 0
    assert differing_sectors(b"a" * 700, bytes(700), 512) == 0b11
