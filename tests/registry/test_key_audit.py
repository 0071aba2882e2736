"""Keys whose parts overlap: looked at in bounded time and memory, and refused."""

from __future__ import annotations

import struct

import pytest

from tests.property.bounds import bounded
from tests.registry.build_hive import PAGE, SEGMENT, build_hive
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.check import check_hive
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive, Key

COUNT = 15_000
UNIT = struct.pack("<i2sH", -0x10000, b"lh", 0x1FFE)  # at every eighth byte a cell with a leaf of 8,190 keys
TREE = {
    "Key": {"v": 1},
    "Key\\Below": {},
    "Data": {"leaves": b"\0\0\0\0" + UNIT * 24_000, "list": b"\0" * (4 * COUNT + 8)},
}


def data_cell(hive: Hive, raw: bytes, name: str) -> int:
    key = hive.key("Data")
    assert key is not None
    value = key.value(name)
    assert value is not None
    return int(struct.unpack_from("<I", raw, value.offset + 4 + 8)[0])


def overlapping(field: int, count_field: int, count: int, head: bytes) -> bytes:
    """A hive whose key has a list of cells that lie one in the other."""
    raw = bytearray(build_hive(TREE, minor=3))
    hive = Hive.open(BytesSource(bytes(raw)))
    leaves, place = data_cell(hive, raw, "leaves"), data_cell(hive, raw, "list")
    elements = struct.pack(f"<{COUNT}I", *(leaves + 8 + 8 * number for number in range(COUNT)))
    raw[PAGE + place + 4 : PAGE + place + 4 + len(head) + len(elements)] = head + elements
    key = hive.key("Key")
    assert key is not None
    struct.pack_into("<I", raw, key.offset + 4 + field, place)
    struct.pack_into("<I", raw, key.offset + 4 + count_field, count)
    return bytes(raw)


def subkeys(raw: bytes) -> Key:
    found = Hive.open(BytesSource(raw)).key("Key")
    assert found is not None
    return found


def test_leaves_that_overlap() -> None:
    raw = overlapping(28, 20, 1, struct.pack("<2sH", b"ri", COUNT))
    with bounded():
        assert check_hive(BytesSource(raw))
    for change in (
        lambda one: one.create_key(r"Key\New"),
        lambda one: one.delete_key(r"Key\Below"),
        lambda one: one.delete_key("Key"),
    ):
        with bounded(), pytest.raises(DamagedError):
            change(HiveEditor(Hive.open(BytesSource(raw))))


def test_leaves_that_are_none() -> None:
    """Each element leads nowhere."""
    raw = overlapping(28, 20, 1, struct.pack("<2sH", b"ri", COUNT))
    raw = raw.replace(UNIT, bytes(8))
    with bounded():
        assert check_hive(BytesSource(raw))
        assert [key.path for key in Hive.open(BytesSource(raw)).walk()]
    with bounded(), pytest.raises(DamagedError):
        subkeys(raw).subkey("Below")


def test_leaves_that_overlap_are_read_in_bounds() -> None:
    raw = overlapping(28, 20, 1, struct.pack("<2sH", b"ri", COUNT))
    with bounded():
        hive = Hive.open(BytesSource(raw))
        assert [key.path for key in hive.walk()]
    with bounded(), pytest.raises(DamagedError):
        subkeys(raw).subkey("Below")


def test_values_that_overlap() -> None:
    """Each claims a name of 32,766 bytes, or data that needs all segments there are."""
    raw = bytearray(overlapping(40, 36, COUNT, b""))
    leaves = data_cell(Hive.open(BytesSource(bytes(raw))), raw, "leaves")
    unit = struct.pack("<i2sH", -0x10000, b"vk", 32_766)
    raw[PAGE + leaves + 8 : PAGE + leaves + 8 + len(unit) * 23_000] = unit * 23_000
    with bounded():
        assert check_hive(BytesSource(bytes(raw)))
    with bounded(), pytest.raises(DamagedError):
        HiveEditor(Hive.open(BytesSource(bytes(raw)))).set_value("Key", "v", 4, b"\1\0\0\0")


def test_long_data_that_is_listed_by_many_values() -> None:
    raw = bytearray(build_hive({"Key": {f"v{number}": b"x" * (SEGMENT * 3) for number in range(60)}}))
    hive = Hive.open(BytesSource(bytes(raw)))
    key = hive.key("Key")
    assert key is not None
    places = [value.offset + 4 + 8 for value in key.values()]
    for place in places:
        raw[place : place + 4] = raw[places[0] : places[0] + 4]
    with bounded():
        problems = check_hive(BytesSource(bytes(raw)))
    assert "hive-cell-shared" in {problem.code for problem in problems}
    with bounded(), pytest.raises(DamagedError) as caught:
        HiveEditor(Hive.open(BytesSource(bytes(raw)))).delete_value("Key", "v0")
    assert caught.value.code == "hive-cell-shared"
