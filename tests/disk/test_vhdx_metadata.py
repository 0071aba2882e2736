from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.vhdx_files import IDENTITY, MIB, PARENT, codes, make, make_plain, opened, overwrite
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Layout
from vhdtool.disk.vhdx_locator import encode_parent_locator
from vhdtool.disk.vhdx_metadata import encode_metadata
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError

UNKNOWN = UUID("99999999-9999-4999-8999-999999999999")
REQUIRED = fmt.METADATA_IS_REQUIRED
Items = dict[UUID, bytes]


def usual() -> Items:
    return {
        fmt.FILE_PARAMETERS_ITEM: struct.pack("<II", MIB, 0),
        fmt.VIRTUAL_DISK_SIZE_ITEM: struct.pack("<Q", 4 * MIB),
        fmt.LOGICAL_SECTOR_SIZE_ITEM: struct.pack("<I", 512),
        fmt.PHYSICAL_SECTOR_SIZE_ITEM: struct.pack("<I", 4096),
        fmt.VIRTUAL_DISK_ID_ITEM: IDENTITY.virtual_disk.bytes_le,
    }


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, Layout]:
    path = tmp_path / "plain.vhdx"
    return path, make_plain(path)


def put(image: tuple[Path, Layout], items: Items) -> None:
    path, layout = image
    overwrite(path, layout.metadata_offset, encode_metadata([(item, REQUIRED, data) for item, data in items.items()]))


def patch_entry(image: tuple[Path, Layout], index: int, layout: str, offset: int, *values: int) -> None:
    path, places = image
    overwrite(path, places.metadata_offset + 32 + index * 32 + offset, struct.pack(layout, *values))


def refused(path: Path) -> VhdtoolError:
    with pytest.raises(VhdtoolError) as caught, opened(path):
        pass
    return caught.value


def test_what_the_items_say(image: tuple[Path, Layout]) -> None:
    put(image, usual())
    with opened(image[0]) as layer:
        info = layer.info
        assert (info.type, info.virtual_size, info.block_size) == ("dynamic", 4 * MIB, MIB)
        assert (info.logical_sector_size, info.physical_sector_size) == (512, 4096)
        assert layer.virtual_disk_id == IDENTITY.virtual_disk
        assert [item.name for item in layer.metadata_items] == [
            "file-parameters",
            "virtual-disk-size",
            "logical-sector-size",
            "physical-sector-size",
            "virtual-disk-id",
        ]
        assert codes(layer) == []


def test_an_unknown_optional_item_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "extra.vhdx"
    make(path, metadata_items=[(UNKNOWN, fmt.METADATA_IS_USER, b"note"), (UNKNOWN, 0, b"")])
    with opened(path) as layer:
        assert [(item.name, item.length, item.is_user) for item in layer.metadata_items[-2:]] == [
            (None, 4, True),
            (None, 0, False),
        ]


@pytest.mark.parametrize("flags", [REQUIRED, REQUIRED | fmt.METADATA_IS_USER])
def test_an_unknown_required_item_is_refused(tmp_path: Path, flags: int) -> None:
    path = tmp_path / "extra.vhdx"
    make(path, metadata_items=[(UNKNOWN, flags, b"note")])
    error = refused(path)
    assert isinstance(error, UnsupportedError)
    assert error.code == "vhdx-metadata-unknown-required"


@pytest.mark.parametrize("item", [fmt.PHYSICAL_SECTOR_SIZE_ITEM, fmt.VIRTUAL_DISK_ID_ITEM])
def test_items_that_reading_can_do_without(image: tuple[Path, Layout], item: UUID) -> None:
    put(image, {key: data for key, data in usual().items() if key != item})
    with opened(image[0]) as layer:
        assert codes(layer) == ["vhdx-metadata-item-missing"]
        assert layer.info.virtual_size == 4 * MIB


@pytest.mark.parametrize("item", [fmt.FILE_PARAMETERS_ITEM, fmt.VIRTUAL_DISK_SIZE_ITEM, fmt.LOGICAL_SECTOR_SIZE_ITEM])
def test_items_that_must_be_there(image: tuple[Path, Layout], item: UUID) -> None:
    put(image, {key: data for key, data in usual().items() if key != item})
    assert refused(image[0]).code == "vhdx-metadata-item-missing"


@pytest.mark.parametrize(
    ("item", "data"),
    [
        *[(fmt.FILE_PARAMETERS_ITEM, struct.pack("<II", size, 0)) for size in (0, 1, MIB // 2, 3 * MIB, 512 * MIB)],
        (fmt.FILE_PARAMETERS_ITEM, struct.pack("<I", MIB)),
        *[(fmt.VIRTUAL_DISK_SIZE_ITEM, struct.pack("<Q", size)) for size in (0, 1, 511, (64 << 40) + 512, 2**64 - 512)],
        *[(fmt.LOGICAL_SECTOR_SIZE_ITEM, struct.pack("<I", size)) for size in (0, 1, 1024, 2**32 - 1)],
        *[(fmt.PHYSICAL_SECTOR_SIZE_ITEM, struct.pack("<I", size)) for size in (0, 520)],
        (fmt.VIRTUAL_DISK_ID_ITEM, bytes(15)),
        (fmt.VIRTUAL_DISK_SIZE_ITEM, b""),
    ],
)
def test_values_that_none_may_have(image: tuple[Path, Layout], item: UUID, data: bytes) -> None:
    put(image, usual() | {item: data})
    error = refused(image[0])
    assert isinstance(error, DamagedError)
    assert error.code == "vhdx-metadata-value"
    assert error.offset is not None


def test_a_size_is_a_multiple_of_large_sectors(image: tuple[Path, Layout]) -> None:
    changed = {fmt.LOGICAL_SECTOR_SIZE_ITEM: struct.pack("<I", 4096)}
    put(image, usual() | changed | {fmt.VIRTUAL_DISK_SIZE_ITEM: struct.pack("<Q", 4 * MIB + 512)})
    assert refused(image[0]).code == "vhdx-metadata-value"


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 8),
        (8, 8),
        (65535, 8),
        (MIB - 4, 8),
        (MIB, 8),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (65536, MIB + 1),
        (65536, 0xFFFFFFFF),
    ],
)
def test_items_outside_their_region(image: tuple[Path, Layout], offset: int, length: int) -> None:
    patch_entry(image, 0, "<II", 16, offset, length)
    assert refused(image[0]).code == "vhdx-metadata-item-location"


def test_items_that_overlap(image: tuple[Path, Layout]) -> None:
    patch_entry(image, 1, "<I", 16, 65536 + 4)
    assert refused(image[0]).code == "vhdx-metadata-item-overlap"


def test_an_item_twice(image: tuple[Path, Layout]) -> None:
    path, layout = image
    entries = [(fmt.VIRTUAL_DISK_SIZE_ITEM, REQUIRED, struct.pack("<Q", size)) for size in (4 * MIB, 8 * MIB)]
    overwrite(path, layout.metadata_offset, encode_metadata(entries))
    assert refused(path).code == "vhdx-metadata-item-twice"


@pytest.mark.parametrize(("place", "data"), [(0, b"METADATA"), (0, bytes(32)), (10, b"\xff\xff"), (10, b"\x00\x08")])
def test_a_damaged_table(image: tuple[Path, Layout], place: int, data: bytes) -> None:
    overwrite(image[0], image[1].metadata_offset + place, data)
    assert refused(image[0]).code == "vhdx-metadata-table-damaged"


@pytest.mark.parametrize("kept", [0, 100, 65536, 65540])
def test_truncated(image: tuple[Path, Layout], kept: int) -> None:
    with image[0].open("r+b") as file:
        file.truncate(image[1].metadata_offset + kept)
    assert refused(image[0]).code == "truncated"


def test_leave_blocks_allocated_is_ignored_in_a_child(image: tuple[Path, Layout]) -> None:
    flags = fmt.LEAVE_BLOCKS_ALLOCATED | fmt.HAS_PARENT
    items = {fmt.FILE_PARAMETERS_ITEM: struct.pack("<II", MIB, flags)}
    put(image, usual() | items | {fmt.PARENT_LOCATOR_ITEM: encode_parent_locator(PARENT)})
    with opened(image[0]) as layer:
        assert layer.info.type == "differencing"
        assert not layer.leave_blocks_allocated
        assert layer.has_parent


def test_a_child_without_a_locator(image: tuple[Path, Layout]) -> None:
    put(image, usual() | {fmt.FILE_PARAMETERS_ITEM: struct.pack("<II", MIB, fmt.HAS_PARENT)})
    assert refused(image[0]).code == "vhdx-metadata-item-missing"
