"""A VHD as a layer: where its bytes are, and what damage does to that."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from datetime import UTC, datetime

import pytest

from tests.disk import vhd_files as files
from tests.disk.vhd_files import KIB, MIB, PER_BLOCK, WHOLE, codes, make, open_disk, opened, read_disk, set_header
from tests.fuzz.vhd_images import DIFFERENCING, FIXED, read_model
from vhdtool.disk.device import Origin, ParentKind, ParentLocator, Run
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError


def fails(path, offset=None):
    with pytest.raises(DamagedError) as caught, open_disk(path) as disk:
        disk.read_at(0, disk.size)
    assert caught.value.path == str(path)
    assert offset is None or caught.value.offset == offset
    return caught.value.code


def test_facts(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path)
    with opened(path) as found:
        info = found.info
        assert (info.path, info.format, info.type) == (str(path), "vhd", "dynamic")
        assert (info.virtual_size, info.block_size, info.logical_sector_size) == (8 * MIB, 2 * MIB, 512)
        assert (info.identity, info.linkage, info.locators) == (str(layer.unique_id), (), ())
        assert (info.log, info.creator, info.problems) == (None, "win 6.3", ())
        assert info.file_size == path.stat().st_size
        assert found.parent_timestamp is None


def test_a_fixed_image_is_one_run(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path, kind=FIXED, virtual_size=3 * MIB, blocks={})
    with opened(path) as found:
        assert list(found.resolve(100, 5000)) == [Run(100, 5000, Origin.DATA, 100)]
        assert found.info.type == "fixed"
        assert found.info.block_size is None
        with pytest.raises(ValueError, match="outside"):
            found.resolve(3 * MIB, 1)
    assert read_disk(path) == read_model(layer, 0, 3 * MIB)


@pytest.mark.parametrize("block_size", [512, KIB, 512 * KIB, 2 * MIB, 4 * MIB])
def test_blocks_of_every_size(tmp_path, block_size):
    path = tmp_path / "a.vhd"
    per_block = block_size // 512
    count = -(-MIB // block_size)
    blocks = {block: frozenset(range(per_block)) for block in range(0, count, 3)}
    layer = make(path, virtual_size=MIB - 512, block_size=block_size, blocks=blocks)
    assert read_disk(path) == read_model(layer, 0, MIB - 512)


def test_any_range(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path, blocks={0: WHOLE, 1: frozenset({0, 7, 8, 9, 4095}), 3: frozenset(range(100, 300))})
    source = random.Random(5)
    with open_disk(path) as disk:
        for _ in range(200):
            offset, length = source.randrange(8 * MIB), source.randrange(5000)
            assert disk.read_at(offset, length) == read_model(layer, offset, length)


def test_runs_are_merged(tmp_path):
    path = tmp_path / "a.vhd"
    make(path, blocks={1: frozenset(range(8, 16))})
    place = files.entry(path, 1) * 512 + 512
    with opened(path) as layer:
        start = 2 * MIB + 8 * 512
        assert list(layer.resolve(0, 8 * MIB)) == [
            Run(0, start, Origin.PARENT),
            Run(start, 4096, Origin.DATA, place + 4096),
            Run(start + 4096, 8 * MIB - start - 4096, Origin.PARENT),
        ]
        assert list(layer.resolve(0, 0)) == []


def test_sectors_that_a_dynamic_image_never_wrote_are_zeros(tmp_path):
    """The bitmap says what was written; libvhdi and 7-Zip follow it, QEMU returns what lies there."""
    path = tmp_path / "a.vhd"
    make(path, blocks={0: WHOLE})
    bitmap = files.entry(path, 0) * 512
    files.overwrite(path, bitmap, b"\xf0")
    data = read_disk(path)
    assert data[4 * 512 : 8 * 512] == bytes(4 * 512)
    assert any(data[3 * 512 : 4 * 512])
    assert any(data[8 * 512 : 9 * 512])


def test_the_last_block_may_end_with_the_disk(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path, virtual_size=2 * MIB + 1024, blocks={1: WHOLE})
    footer = files.stored(path, files.footer_at(path), 512)
    end = files.entry(path, 1) * 512 + 512 + 1024
    with path.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(footer)
    assert read_disk(path) == read_model(layer, 0, 2 * MIB + 1024)


def test_a_table_longer_than_needed(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path)
    set_header(path, files.ENTRIES, struct.pack(">I", 100))
    assert read_disk(path) == read_model(layer, 0, 8 * MIB)


@pytest.mark.parametrize(
    ("creator", "size"), [(b"win ", 8 * MIB), (b"vpc ", 8 * MIB), (b"qemu", 8 * MIB), (b"????", 8 * MIB)]
)
def test_the_size_is_the_current_size_whoever_made_the_image(tmp_path, creator, size):
    path = tmp_path / "a.vhd"
    make(path)
    files.set_footer(path, files.CREATOR, creator)
    files.set_footer(path, files.GEOMETRY, struct.pack(">HBB", 100, 4, 17))
    with open_disk(path) as disk:
        assert disk.size == size


def test_what_a_child_says_of_its_parent(tmp_path):
    base, path = tmp_path / "base.vhd", tmp_path / "child.vhd"
    parent = make(base)
    make(path, 2, kind=DIFFERENCING, parent=parent, parent_path="base.vhd")
    set_header(path, files.PARENT_TIME, struct.pack(">I", 86400))
    with opened(path) as layer:
        assert layer.info.linkage == (str(parent.unique_id),)
        assert layer.info.locators == (
            ParentLocator(ParentKind.RELATIVE, ".\\base.vhd"),
            ParentLocator(ParentKind.ABSOLUTE, "C:\\machines\\base.vhd"),
            ParentLocator(ParentKind.NAME, "base.vhd"),
        )
        assert layer.parent_timestamp == datetime(2000, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "kind", "path"),
    [
        (b"file://./base.vhd", ParentKind.RELATIVE, "./base.vhd"),
        (b"file:///images/the%20base.vhd\0", ParentKind.ABSOLUTE, "/images/the base.vhd"),
        (b"file://localhost/images/base.vhd", ParentKind.ABSOLUTE, "/images/base.vhd"),
    ],
)
def test_locators_of_xenserver(tmp_path, url, kind, path):
    image = tmp_path / "child.vhd"
    make(image, 2, kind=DIFFERENCING, parent=make(tmp_path / "b.vhd"), parent_path="b.vhd")
    place = 2048  # the first locator's text lies behind the table
    files.overwrite(image, place, url)
    set_header(image, 576, struct.pack(">4sIIIQ", b"MacX", 512, len(url), 0, place))
    with opened(image) as layer:
        assert ParentLocator(kind, path) in layer.info.locators


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack(">4sIIIQ", b"W2ru", 512, 0, 0, 2048),
        struct.pack(">4sIIIQ", b"W2ru", 512, 0xFFFFFFFF, 0, 2048),
        struct.pack(">4sIIIQ", b"W2ru", 512, 20, 0, (1 << 64) - 1),
        struct.pack(">4sIIIQ", b"MacX", 512, 20, 0, 2048),
    ],
    ids=["empty", "long", "outside", "no-url"],
)
def test_a_damaged_locator_is_told_and_another_is_used(tmp_path, entry):
    base, path = tmp_path / "base.vhd", tmp_path / "child.vhd"
    parent = make(base)
    make(path, 2, kind=DIFFERENCING, parent=parent, parent_path="base.vhd")
    set_header(path, 576, entry)
    with open_disk(path) as disk:
        assert codes(disk) == ["vhd-parent-locator-damaged"]
        assert disk.info.parents == (str(base),)


def test_a_wrong_header_checksum_where_all_else_agrees(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path)
    set_header(path, files.PARENT_TIME, b"\x01", seal=False)
    assert read_disk(path, lambda disk: codes(disk) == ["vhd-header-checksum-bad"]) == read_model(layer, 0, 8 * MIB)
    with open_disk(path) as disk:
        assert codes(disk) == ["vhd-header-checksum-bad"]


@pytest.mark.parametrize(
    ("offset", "value"),
    [(files.BLOCK_SIZE, 4 * MIB), (files.BLOCK_SIZE, MIB), (files.ENTRIES, 5), (files.TABLE_OFFSET + 4, 2048)],
)
def test_a_wrong_header_checksum_and_a_field_that_disagrees(tmp_path, offset, value):
    path = tmp_path / "a.vhd"
    make(path)
    set_header(path, offset, struct.pack(">I", value), seal=False)
    assert fails(path) in {"vhd-header-damaged", "vhd-bat-too-small"}


@pytest.mark.parametrize(
    ("offset", "data", "code"),
    [
        (0, b"cxsparsf", "vhd-header-damaged"),
        (files.BLOCK_SIZE, struct.pack(">I", 0), "vhd-block-size-invalid"),
        (files.BLOCK_SIZE, struct.pack(">I", 256), "vhd-block-size-invalid"),
        (files.BLOCK_SIZE, struct.pack(">I", 3 * MIB), "vhd-block-size-invalid"),
        (files.BLOCK_SIZE, struct.pack(">I", 0xFFFFFFFF), "vhd-block-size-invalid"),
        (files.ENTRIES, struct.pack(">I", 3), "vhd-bat-too-small"),
        (files.BLOCK_SIZE, struct.pack(">I", 512), "vhd-bat-too-small"),
        (files.TABLE_OFFSET, struct.pack(">Q", 0), "vhd-bat-location"),
        (files.TABLE_OFFSET, struct.pack(">Q", 512), "vhd-bat-location"),
        (files.TABLE_OFFSET, struct.pack(">Q", 1 << 40), "vhd-bat-truncated"),
        (files.TABLE_OFFSET, struct.pack(">Q", (1 << 64) - 1), "vhd-bat-truncated"),
    ],
)
def test_header_fields_that_lie_with_right_checksums(tmp_path, offset, data, code):
    path = tmp_path / "a.vhd"
    make(path)
    set_header(path, offset, data)
    assert fails(path) == code


def test_another_version_of_the_header(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    set_header(path, files.HEADER_VERSION, struct.pack(">I", 0x00020000))
    with pytest.raises(UnsupportedError) as caught:
        open_disk(path)
    assert caught.value.code == "vhd-version-unsupported"


@pytest.mark.parametrize("offset", [0, 256, 1 << 40, (1 << 64) - 1])
def test_a_header_that_is_nowhere(tmp_path, offset):
    path = tmp_path / "a.vhd"
    make(path)
    files.set_footer(path, files.DATA_OFFSET, struct.pack(">Q", offset))
    assert fails(path) == "vhd-header-damaged"


@pytest.mark.parametrize(
    ("sector", "code"),
    [
        (0, "vhd-block-overlap"),
        (1, "vhd-block-overlap"),
        (3, "vhd-block-overlap"),
        (0xFFFFFFFE, "vhd-block-outside-file"),
        (None, "vhd-block-outside-file"),
    ],
    ids=["footer", "header", "table", "far", "into-the-footer"],
)
def test_blocks_that_lie_where_none_may(tmp_path, sector, code):
    path = tmp_path / "a.vhd"
    make(path)
    files.set_entry(path, 2, files.entry(path, 2) + 1 if sector is None else sector)
    assert fails(path, files.TABLE_AT + 8) == code
    with open_disk(path) as disk:  # the other blocks are still there
        assert any(disk.read_at(0, 512))


@pytest.mark.parametrize("shift", [0, 1, -1, PER_BLOCK])
def test_two_blocks_in_one_place(tmp_path, shift):
    path = tmp_path / "a.vhd"
    make(path, blocks={0: WHOLE, 1: WHOLE, 2: WHOLE})
    files.set_entry(path, 1, files.entry(path, 2 if shift <= 0 else 0) + shift)
    assert fails(path) == "vhd-block-overlap"


@pytest.mark.parametrize("keep", [0, 1, 100, 511, 512, 1000, 1536, 1540, 2048, 3 * MIB])
def test_truncated_files(tmp_path, keep):
    path = tmp_path / "a.vhd"
    make(path)
    with path.open("r+b") as file:
        file.truncate(keep)
    with pytest.raises(VhdtoolError) as caught, open_disk(path) as disk:
        disk.read_at(0, disk.size)
    assert caught.value.exit_code == 3


def test_a_fixed_image_that_lost_its_middle(tmp_path):
    path = tmp_path / "a.vhd"
    make(path, kind=FIXED, virtual_size=MIB, blocks={})
    data = path.read_bytes()
    path.write_bytes(data[: MIB // 2] + data[-512:])
    assert fails(path) == "vhd-file-truncated"


def test_a_fixed_image_with_room_before_its_footer(tmp_path):
    path = tmp_path / "a.vhd"
    layer = make(path, kind=FIXED, virtual_size=MIB, blocks={})
    data = path.read_bytes()
    path.write_bytes(data[:-512] + bytes(MIB) + data[-512:])
    with open_disk(path) as disk:
        assert codes(disk) == ["vhd-fixed-size-differs"]
        assert disk.read_at(0, 2 * MIB) == read_model(layer, 0, MIB)


def test_a_large_sparse_disk_costs_little(tmp_path):
    path = tmp_path / "a.vhd"
    size = 2040 << 30
    last = size // (2 * MIB) - 1
    make(path, virtual_size=size, blocks={last: WHOLE})
    tracemalloc.start()
    began = time.monotonic()
    with open_disk(path) as disk:
        assert [extent.kind for extent in disk.extents()] == ["hole", "data"]
        assert disk.read_at(size - 512, 512) != bytes(512)
        assert disk.read_at(0, MIB) == bytes(MIB)
        assert disk.bytes_read < 5 * MIB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - began < 5
    assert peak < 10 * MIB


def test_a_table_of_tiny_blocks_is_not_read_into_memory(tmp_path):
    """A sparse file whose table has 2^31 entries: opening must not depend on it."""
    path = tmp_path / "a.vhd"
    make(path)
    size = 1 << 40
    files.set_footer(path, files.CURRENT_SIZE, struct.pack(">Q", size))
    set_header(path, files.BLOCK_SIZE, struct.pack(">I", 512))
    set_header(path, files.ENTRIES, struct.pack(">I", size // 512))
    table = 1 << 30
    set_header(path, files.TABLE_OFFSET, struct.pack(">Q", table))
    footer = files.stored(path, 0, 512)
    with path.open("r+b") as file:
        file.seek(table + size // 512 * 4)
        file.write(footer)
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(DamagedError), open_disk(path) as disk:  # all entries are 0: they lie over the footer
        disk.read_at(size // 2, 4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - began < 1
    assert peak < 2 * MIB
