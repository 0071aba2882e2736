"""Holes of host files."""

from __future__ import annotations

import os

import pytest

from vhdtool.disk.host_ranges import host_ranges
from vhdtool.errors import InputError

MIB = 1 << 20


def make(path):
    with path.open("wb") as file:
        file.truncate(40 * MIB)
        for place in (3 * MIB, 20 * MIB):
            file.seek(place)
            file.write(b"x" * MIB)


def test_outside_the_ranges_all_is_zeros(tmp_path):
    path = tmp_path / "file"
    make(path)
    ranges = list(host_ranges(str(path)))
    data = path.read_bytes()
    position = 0
    for start, length in ranges:
        assert start >= position
        assert not any(data[position:start])
        position = start + length
    assert position <= len(data)
    assert not any(data[position:])
    if path.stat().st_blocks * 512 < 10 * MIB:  # the host's file system has holes
        assert sum(length for _, length in ranges) < 10 * MIB


@pytest.mark.parametrize("size", [0, 5 * MIB])
def test_files_without_any_data(tmp_path, size):
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, size)
    assert sum(length for _, length in host_ranges(str(path))) in {0, size}


def test_a_host_that_does_not_tell_gives_the_whole_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    make(path)
    monkeypatch.delattr(os, "SEEK_DATA")
    assert list(host_ranges(str(path))) == [(0, 40 * MIB)]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError) as caught:
        list(host_ranges(str(tmp_path / "none")))
    assert caught.value.code == "cannot-open"
