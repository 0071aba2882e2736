"""Our writer against the declarations of the specification; tests/oracle/test_vhd.py shows its images to others."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.disk.vhd_files import KIB, MIB, open_disk, stored
from tests.disk.vhdx_files import pattern
from vhdtool.disk.create_vhd import Block, Parent, geometry_of, write_vhd
from vhdtool.disk.device import ParentKind, ParentLocator
from vhdtool.errors import OutputError, RefusedError, UsageError

ID, OTHER_ID = UUID("11111111-2222-4333-8444-555555555555"), UUID("99999999-2222-4333-8444-555555555555")
TIME = datetime(2020, 2, 29, 12, 0, tzinfo=UTC)
COMMON = {"virtual_size": 8 * MIB, "unique_id": ID, "timestamp": TIME}


def test_a_footer_by_the_letter(tmp_path):
    path = tmp_path / "a.vhd"
    layout = write_vhd(path, **COMMON)
    assert layout.file_size == path.stat().st_size == 512 + 1024 + 512 + 512
    footer = stored(path, 0, 512)
    assert footer == stored(path, layout.file_size - 512, 512)
    assert footer[:16] == b"conectix" + struct.pack(">II", 2, 0x10000)
    seconds = (TIME - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert struct.unpack(">QI4s", footer[16:32]) == (512, seconds, b"win ")
    assert struct.unpack(">QQ", footer[40:56]) == (8 * MIB, 8 * MIB)
    assert struct.unpack(">II", footer[60:68]) == (3, ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF)
    assert footer[68:84] == ID.bytes
    assert not any(footer[84:])
    header = stored(path, 512, 1024)
    assert struct.unpack(">8sQQIII", header[:36]) == (b"cxsparse", (1 << 64) - 1, 1536, 0x10000, 4, 2 * MIB)
    assert stored(path, 1536, 512) == b"\xff" * 512


@pytest.mark.parametrize(
    ("size", "geometry"),
    [  # as Hyper-V (40 MiB, 10 MiB) and QEMU (64 MiB, 127 GiB) write them
        (40 * MIB, (963, 5, 17)),
        (10 * MIB, (301, 4, 17)),
        (64 * MIB, (963, 8, 17)),
        (127 * 1024 * MIB, (65278, 16, 255)),
        (2040 * 1024 * MIB, (65535, 16, 255)),
    ],
)
def test_geometry(size, geometry):
    assert geometry_of(size) == geometry


def test_the_same_arguments_make_the_same_bytes(tmp_path):
    for name in ("a.vhd", "b.vhd"):
        write_vhd(tmp_path / name, **COMMON, blocks={1: Block(pattern(1, MIB))}, order=[3, 1])
    assert (tmp_path / "a.vhd").read_bytes() == (tmp_path / "b.vhd").read_bytes()


def test_blocks_in_the_order_asked_for(tmp_path):
    path = tmp_path / "a.vhd"
    blocks = {number: Block(pattern(number, 2 * MIB)) for number in (0, 1, 3)}
    layout = write_vhd(path, **COMMON, blocks=blocks, order=[3, 0])
    assert sorted(layout.blocks, key=layout.blocks.__getitem__) == [3, 0, 1]
    with open_disk(path) as disk:
        expected = [pattern(0, 2 * MIB), pattern(1, 2 * MIB), bytes(2 * MIB), pattern(3, 2 * MIB)]
        assert disk.read_at(0, disk.size) == b"".join(expected)


def test_a_fixed_image(tmp_path):
    path = tmp_path / "a.vhd"
    layout = write_vhd(path, **COMMON, kind="fixed", blocks={1: Block(lambda: pattern(1, 100))}, short_footer=True)
    assert layout.file_size == path.stat().st_size == 8 * MIB + 511
    with open_disk(path) as disk:
        assert disk.info.type == "fixed"
        assert disk.read_at(2 * MIB, 112) == pattern(1, 100).ljust(112, b"\0")


def test_a_child(tmp_path):
    base, path = tmp_path / "base.vhd", tmp_path / "child.vhd"
    write_vhd(base, **COMMON, blocks={0: Block(pattern(1, 2 * MIB))})
    parent = Parent(ID, None, "base.vhd", ".\\base.vhd", "C:\\vms\\base.vhd", "file://./base.vhd")
    child = COMMON | {"unique_id": OTHER_ID}
    bitmap = b"\x80" + bytes(511)
    write_vhd(path, **child, kind="differencing", parent=parent, blocks={0: Block(pattern(2, MIB), bitmap)})
    with open_disk(path) as disk:
        assert disk.layers[0].info.locators == (
            ParentLocator(ParentKind.RELATIVE, ".\\base.vhd"),
            ParentLocator(ParentKind.ABSOLUTE, "C:\\vms\\base.vhd"),
            ParentLocator(ParentKind.RELATIVE, "./base.vhd"),
            ParentLocator(ParentKind.NAME, "base.vhd"),
        )
        assert disk.read_at(0, 1024) == pattern(2, 512) + pattern(1, 1024)[512:]


@pytest.mark.parametrize(
    "wrong",
    [
        {"virtual_size": 0},
        {"virtual_size": 1000},
        {"virtual_size": 4 << 40},
        {"block_size": 0},
        {"block_size": 3 * KIB},
        {"kind": "differencing"},
        {"parent": Parent(ID)},
        {"blocks": {4: Block()}},
        {"blocks": {-1: Block()}},
        {"blocks": {0: Block(bytes(2 * MIB + 1))}},
    ],
)
def test_what_no_vhd_can_be(tmp_path, wrong):
    with pytest.raises(UsageError) as caught:
        write_vhd(tmp_path / "a.vhd", **(COMMON | wrong))
    assert caught.value.code == "vhd-create-invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "a.vhd"
    path.write_bytes(b"mine")
    with pytest.raises(RefusedError) as caught:
        write_vhd(path, **COMMON)
    assert (caught.value.code, path.read_bytes()) == ("file-exists", b"mine")
    with pytest.raises(OutputError) as caught:
        write_vhd(tmp_path / "no" / "folder.vhd", **COMMON)
    assert caught.value.code == "cannot-write"
