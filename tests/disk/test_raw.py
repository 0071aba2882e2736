from __future__ import annotations

import os

import pytest

from tests.disk.vhd_files import MIB, codes, make, open_disk
from tests.disk.vhdx_files import make_plain
from vhdtool.errors import DamagedError, InputError, UnsupportedError


def test_a_raw_image_is_its_bytes(tmp_path):
    path = tmp_path / "disk.raw"
    content = os.urandom(4096 + 512)
    path.write_bytes(content)
    with open_disk(path) as disk:
        assert (disk.info.format, disk.info.type, disk.size, disk.logical_sector_size) == ("raw", "fixed", 4608, 512)
        assert disk.read_at(0, 10_000) == content
        assert disk.read_at(511, 2) == content[511:513]
        assert disk.read_at(4608, 1) == b""
        assert [(e.kind, e.offset, e.length, e.file_offset) for e in disk.extents()] == [("data", 0, 4608, 0)]
        assert disk.info.problems == ()


@pytest.mark.parametrize("size", [0, 1, 511, 513, 4095])
def test_what_has_no_whole_sectors(tmp_path, size):
    path = tmp_path / "x"
    path.write_bytes(b"\x33" * size)
    with pytest.raises(InputError) as caught:
        open_disk(path)
    assert caught.value.code == "not-a-disk"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("offset", "signature", "kind"),
    [
        (0, b"QFI\xfb\0\0\0\3", "QCOW"),
        (0, b"KDMV\1\0\0\0", "VMDK"),
        (64, b"\x7f\x10\xda\xbe", "VDI"),
        (0, b"EVF\x09\x0d\x0a\xff\x00", "Expert Witness"),
        (0, b"regf", "registry hive"),
        (0, b"MSCF\0\0\0\0", "cabinet"),
        (0, b"MSWIM\0\0\0", "WIM"),
        (32769, b"CD001", "ISO 9660"),
        (0, b"\x1f\x8b\x08", "gzip"),
        (0, b"\xfd7zXZ\0", "xz"),
        (257, b"ustar", "tar"),
        (65536 - 512, b"koly", "Apple"),
    ],
)
def test_other_kinds_are_named(tmp_path, offset, signature, kind):
    path = tmp_path / "x.vhd"
    content = bytearray(65536)
    content[offset : offset + len(signature)] = signature
    path.write_bytes(content)
    with pytest.raises(UnsupportedError, match=kind) as caught:
        open_disk(path)
    assert (caught.value.code, caught.value.offset) == ("other-format", offset)
    assert caught.value.hint
    assert "{" not in caught.value.hint


@pytest.mark.parametrize("name", ["a.vhdx", "a.img"])
def test_a_vhdx_without_its_signature_is_not_raw(tmp_path, name):
    path = tmp_path / name
    make_plain(path)
    with path.open("r+b") as file:
        file.write(b"vhdxfilf")
    with pytest.raises(DamagedError) as caught:
        open_disk(path)
    assert caught.value.code == "vhdx-signature-damaged"


def test_a_dynamic_vhd_without_its_footers_is_not_raw(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    with path.open("r+b") as file:
        file.write(bytes(512))
        file.seek(-512, os.SEEK_END)
        file.write(bytes(512))
    with pytest.raises(DamagedError) as caught:
        open_disk(path)
    assert caught.value.code == "vhd-footer-damaged"


def test_a_raw_disk_that_is_named_as_a_vhd(tmp_path):
    path = tmp_path / "a.VHD"
    path.write_bytes(bytes(MIB))
    with open_disk(path) as disk:
        assert (disk.info.format, codes(disk)) == ("raw", ["vhd-footer-missing"])


def test_large_sectors_show_in_the_partition_table(tmp_path):
    path = tmp_path / "a.raw"
    for place, sector_size in ((512, 512), (4096, 4096)):
        content = bytearray(MIB)
        content[place : place + 8] = b"EFI PART"
        path.write_bytes(content)
        with open_disk(path) as disk:
            assert disk.logical_sector_size == sector_size


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "missing"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no FIFOs")
        os.mkfifo(path)  # opening it would wait for a writer
    elif kind == "device":
        path.symlink_to(os.devnull)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(InputError) as caught:
        open_disk(path)
    expected = {"fifo": "not-a-disk", "device": "not-a-disk", "directory": "is-a-directory", "missing": "cannot-open"}
    assert caught.value.code in {expected[kind], "cannot-open"}
