from __future__ import annotations

import struct

import pytest

from vhdtool.disk import vhd_format as fmt
from vhdtool.layout import offset_of, packed

# sizes and offsets as the tables of the specification give them
FOOTER_OFFSETS = {
    "cookie": 0, "features": 8, "format_version": 12, "data_offset": 16, "timestamp": 24, "creator_application": 28,
    "creator_version": 32, "creator_host": 36, "original_size": 40, "current_size": 48, "cylinders": 56, "heads": 58,
    "sectors_per_track": 59, "disk_type": 60, "checksum": 64, "unique_id": 68, "saved_state": 84, "reserved": 85,
}  # fmt: skip
HEADER_OFFSETS = {
    "cookie": 0, "data_offset": 8, "table_offset": 16, "header_version": 24, "table_entries": 28, "block_size": 32,
    "checksum": 36, "parent_id": 40, "parent_timestamp": 56, "reserved": 60, "parent_name": 64, "locators": 576,
    "reserved2": 768,
}  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "size", "offsets"), [(fmt.FOOTER, 512, FOOTER_OFFSETS), (fmt.HEADER, 1024, HEADER_OFFSETS)]
)
def test_layouts_are_those_of_the_specification(layout, size, offsets):
    assert layout.sizeof() == size
    assert {name: offset_of(layout, name) for name in offsets} == offsets


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (fmt.FOOTER, ">8sIIQI4sI4sQQHBBII16sB427x"),
        (fmt.HEADER, ">8sQQIIII16sI4x512s192s256x"),
        (fmt.LOCATOR, ">4sII4xQ"),
        (fmt.BAT_ENTRY, ">I"),
    ],
)
def test_hot_paths_unpack_what_the_declarations_say(layout, expected):
    derived, other = packed(layout), struct.Struct(expected)
    data = bytes(index * 7 % 256 for index in range(layout.sizeof()))
    assert derived.size == other.size == layout.sizeof()
    assert derived.unpack(data) == other.unpack(data)


def test_checksum_leaves_its_own_field_out():
    structure = bytes(range(16))
    others = sum(structure) - sum(structure[4:8])
    assert fmt.checksum_of(structure, 4) == others ^ 0xFFFFFFFF
    sealed = fmt.sealed(structure, 4)
    assert int.from_bytes(sealed[4:8], "big") == fmt.checksum_of(sealed, 4)


@pytest.mark.parametrize(("block_size", "size"), [(512, 512), (512 << 10, 512), (2 << 20, 512), (4 << 20, 1024)])
def test_a_bitmap_takes_whole_sectors(block_size, size):
    assert fmt.bitmap_size(block_size) == size
