"""Which footer is believed, and when none is."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from tests.disk import vhd_files as files
from tests.disk.vhd_files import MIB, codes, make, open_disk, opened, overwrite, read_disk, set_footer, stored
from tests.fuzz.vhd_images import FIXED, read_model
from vhdtool.disk.device import FileDevice
from vhdtool.disk.vhd_footer import encode_footer, looks_like_vhd, parse_footer, read_footers
from vhdtool.errors import DamagedError, UnsupportedError


def looks(path):
    file = FileDevice(path)
    try:
        return looks_like_vhd(file)
    finally:
        file.close()


def fails(path):
    with pytest.raises(DamagedError) as caught:
        open_disk(path)
    assert caught.value.path == str(path)
    return caught.value.code


def test_a_footer_is_read_and_written(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    data = stored(path, 0, 512)
    footer = parse_footer(data)
    assert encode_footer(footer) == data
    assert footer.timestamp == datetime(2000, 1, 1, tzinfo=UTC)
    assert (footer.current_size, footer.disk_type, footer.geometry) == (8 * MIB, 3, (64, 16, 63))


@pytest.mark.parametrize(("kind", "copies"), [(3, "head"), (3, "tail"), (FIXED, "tail")])
def test_recognised_by_either_cookie(tmp_path, kind, copies):
    path = tmp_path / "a.vhd"
    make(path, kind=kind)
    assert looks(path)
    for place in {"head": (0,), "tail": (files.footer_at(path),)}[copies]:
        overwrite(path, place, bytes(512))
    assert looks(path) is (kind != FIXED)


def test_nothing_is_no_vhd(tmp_path):
    path = tmp_path / "empty"
    for content in (b"", b"conect", bytes(511), bytes(512), b"x" + b"conectix" + bytes(503)):
        path.write_bytes(content)
        assert not looks(path)


def test_the_copy_replaces_a_lost_footer(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path)
    with path.open("r+b") as file:
        file.truncate(files.footer_at(path))
    assert read_disk(path, lambda disk: codes(disk) == ["vhd-footer-damaged"]) == read_model(layer, 0, 8 * MIB)


@pytest.mark.parametrize(("copies", "code"), [("head", "vhd-footer-copy-damaged"), ("tail", "vhd-footer-damaged")])
def test_one_wrong_checksum_is_survived_and_told(tmp_path, copies, code):
    path = tmp_path / "a.vhd"
    layer = make(path)
    set_footer(path, files.CURRENT_SIZE, struct.pack(">Q", 4 * MIB), seal=False, copies=copies)
    with open_disk(path) as disk:
        assert codes(disk) == [code]
        assert disk.read_at(0, disk.size) == read_model(layer, 0, 8 * MIB)


def test_copies_that_differ_are_told(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.CURRENT_SIZE, struct.pack(">Q", 4 * MIB), copies="head")
    with open_disk(path) as disk:
        assert codes(disk) == ["vhd-footer-copies-differ"]
        assert disk.size == 8 * MIB


def test_no_right_checksum_where_all_else_agrees(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path)
    set_footer(path, files.UNIQUE_ID, b"changed by hand!", seal=False)
    with open_disk(path) as disk:
        assert codes(disk) == ["vhd-checksums-bad"]
        assert disk.read_at(0, disk.size) == read_model(layer, 0, 8 * MIB)


@pytest.mark.parametrize(
    ("block", "sector"), [(0, 0), (0, 1), (2, 1 << 30), (1, 20)], ids=["header", "table", "outside", "overlap"]
)
def test_no_right_checksum_and_a_table_that_disagrees(tmp_path, block, sector):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.UNIQUE_ID, b"changed by hand!", seal=False)
    files.set_entry(path, block, sector)
    assert fails(path) == "vhd-header-damaged"


def test_no_right_checksum_and_sizes_that_disagree(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.CURRENT_SIZE, struct.pack(">Q", 4 * MIB), seal=False)
    assert fails(path) == "vhd-header-damaged"


def test_no_right_checksum_and_copies_that_disagree(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.UNIQUE_ID, b"one", seal=False, copies="head")
    set_footer(path, files.UNIQUE_ID, b"two", seal=False, copies="tail")
    assert fails(path) == "vhd-footer-damaged"


def test_a_fixed_image_with_a_wrong_checksum(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path, kind=FIXED, virtual_size=MIB, blocks={})
    set_footer(path, files.TIMESTAMP, b"\x01", seal=False, copies="tail")
    with open_disk(path) as disk:
        assert codes(disk) == ["vhd-checksums-bad"]
        assert disk.read_at(0, MIB) == read_model(layer, 0, MIB)
    set_footer(path, files.CURRENT_SIZE, struct.pack(">Q", MIB - 512), seal=False, copies="tail")
    assert fails(path) == "vhd-footer-damaged"


def test_a_footer_of_511_bytes(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path, kind=FIXED, virtual_size=MIB, blocks={})
    with path.open("r+b") as file:
        file.truncate(MIB + 511)
    with open_disk(path) as disk:
        assert (disk.info.problems, disk.read_at(0, MIB)) == ((), read_model(layer, 0, MIB))
    dynamic = tmp_path / "b.vhd"
    layer = make(dynamic)
    with dynamic.open("r+b") as file:
        file.truncate(files.footer_at(dynamic) + 511)
    with open_disk(dynamic) as disk:
        assert (disk.info.problems, disk.read_at(0, disk.size)) == ((), read_model(layer, 0, 8 * MIB))


def test_a_copy_that_says_fixed_is_not_enough(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.TYPE, struct.pack(">I", 2), copies="head")
    overwrite(path, files.footer_at(path), bytes(512))
    assert fails(path) == "vhd-footer-damaged"


@pytest.mark.parametrize("size", [0, 513, (2040 << 30) + 512, 1 << 63])
def test_sizes_that_no_disk_has(tmp_path, size):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.CURRENT_SIZE, struct.pack(">Q", size))
    assert fails(path) == "vhd-size-invalid"


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (files.VERSION, 0x00020000, "vhd-version-unsupported"),
        (files.TYPE, 5, "vhd-type-unsupported"),
        (files.TYPE, 0, "vhd-type-unsupported"),
        (files.TYPE, 0xFFFFFFFF, "vhd-type-unsupported"),
    ],
)
def test_what_this_program_does_not_read(tmp_path, offset, value, code):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, offset, struct.pack(">I", value))
    with pytest.raises(UnsupportedError) as caught:
        open_disk(path)
    assert caught.value.code == code


def test_a_file_shorter_than_a_footer(tmp_path):
    path = tmp_path / "a.vhd"
    path.write_bytes(b"conectix" + bytes(100))
    file = FileDevice(path)
    with pytest.raises(DamagedError) as caught:
        read_footers(file)
    file.close()
    assert caught.value.code == "vhd-footer-damaged"


@pytest.mark.parametrize(
    ("creator", "text"), [(b"win ", "win 6.3"), (b"tap\0", "tap 6.3"), (bytes(4), None), (b"\xff\xfe\x01\x02", None)]
)
def test_the_creator_is_told(tmp_path, creator, text):
    path = tmp_path / "a.vhd"
    make(path)
    set_footer(path, files.CREATOR, creator)
    with opened(path) as layer:
        assert layer.info.creator == text
