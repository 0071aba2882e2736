from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from tests.registry.build_hive import NIL, build_hive, hbins_size
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.hive import Hive, Key

VALUES = {"one": 1, "Two": "zwei", "": "default", "höhe": b"\1\2\3\4\5"}
TREE = {"A": VALUES, r"A\below": {}, "B": {}}


def hive_of(raw: bytes) -> Hive:
    return Hive.open(BytesSource(raw))


def nk_of(raw: bytes, path: str) -> int:
    return got(hive_of(raw), path).offset + 4


def got(hive: Hive, path: str) -> Key:
    found = hive.key(path)
    assert found is not None
    return found


def changed(place: int, form: str, *fields: int, path: str = "A") -> Hive:
    raw = bytearray(build_hive(TREE))
    struct.pack_into(form, raw, nk_of(bytes(raw), path) + place, *fields)
    return hive_of(bytes(raw))


def test_what_a_key_says() -> None:
    written = 131_387_616_000_000_000  # 2017-05-09T00:00:00Z
    hive = hive_of(build_hive(TREE, classes={"A": "Größe"}, written={"A": written, "B": 0}))
    key = got(hive, "a")
    assert (key.name, key.path, key.class_name) == ("A", "A", "Größe")
    assert key.last_written == datetime(2017, 5, 9, tzinfo=UTC)
    assert got(hive, r"A\below").path == r"A\below"
    assert got(hive, "B").class_name is None
    assert got(hive, "B").last_written is None
    assert hive.root.path == ""
    assert hive.problems == ()


def test_a_time_that_cannot_be_one() -> None:
    assert changed(4, "<Q", 0xFFFFFFFFFFFFFFFF).key("A").last_written is None  # type: ignore[union-attr]


def test_values() -> None:
    key = got(hive_of(build_hive(TREE)), "A")
    assert [(value.name, value.data) for value in key.values()] == list(VALUES.items())
    for name, data in VALUES.items():
        for spelled in (name, name.upper(), name.lower()):
            value = key.value(spelled)
            assert value is not None
            assert value.data == data
    assert key.value("three") is None
    assert got(hive_of(build_hive(TREE)), "B").value() is None


@pytest.mark.parametrize("damage", [b"xx", b"\0\0"])
def test_another_value_that_is_damaged_does_not_matter(damage: bytes) -> None:
    raw = bytearray(build_hive(TREE))
    value = got(hive_of(bytes(raw)), "A").value("one")
    assert value is not None
    raw[value.offset + 4 : value.offset + 6] = damage
    hive = hive_of(bytes(raw))
    key = got(hive, "A")
    two = key.value("two")
    assert two is not None
    assert two.data == "zwei"
    for name in ("one", "three"):  # either may be the one that can't be read
        with pytest.raises(DamagedError) as caught:
            key.value(name)
        assert (caught.value.code, caught.value.offset) == ("hive-value", value.offset)
    assert [found.name for found in key.values()] == ["Two", "", "höhe"]
    assert {problem.code for problem in hive.problems} == {"hive-value"}


def test_another_key_that_is_damaged_does_not_matter() -> None:
    raw = bytearray(build_hive(TREE, lists="li"))
    place = nk_of(bytes(raw), "A")
    raw[place : place + 2] = bytes(2)
    hive = hive_of(bytes(raw))
    assert hive.key("B") is not None
    with pytest.raises(DamagedError) as caught:
        hive.key("A")
    assert (caught.value.code, caught.value.offset) == ("hive-key", place - 4)
    assert [key.name for key in hive.root.subkeys()] == ["B"]
    assert "hive-key" in {problem.code for problem in hive.problems}


@pytest.mark.parametrize("count", [5, 1000, 0x7FFFFFFF, NIL])
def test_more_values_than_the_list_has_room_for(count: int) -> None:
    """The cell has room for one more than there are: what it holds there is no value."""
    hive = changed(36, "<I", count)
    key = got(hive, "A")
    if count == 5:
        assert [value.name for value in key.values()] == list(VALUES)
        assert hive.problems
    else:
        with pytest.raises(DamagedError) as caught:
            list(key.values())
        assert caught.value.code == "hive-cell-size"


def test_a_value_that_is_listed_twice_is_told() -> None:
    raw = bytearray(build_hive(TREE))
    (cell,) = struct.unpack_from("<I", raw, nk_of(bytes(raw), "A") + 40)
    place = 4096 + cell + 4
    raw[place + 4 : place + 8] = raw[place : place + 4]
    hive = hive_of(bytes(raw))
    assert [value.name for value in got(hive, "A").values()] == ["one", "", "höhe"]
    assert hive.problems


def test_a_predefined_handle_has_no_values() -> None:
    """KEY_PREDEF_HANDLE: the number of values is a handle."""
    key = got(changed(2, "<H", 0x60), "A")
    assert list(key.values()) == []
    assert key.value("one") is None


@pytest.mark.parametrize("length", [300, 0x8000, 0xFFFF])
def test_a_name_that_leaves_its_cell(length: int) -> None:
    raw = bytearray(build_hive({"": {}}))
    struct.pack_into("<H", raw, nk_of(bytes(raw), "") + 72, length)
    with pytest.raises(DamagedError) as caught:
        hive_of(bytes(raw))
    assert caught.value.code == "hive-key"


def test_a_class_that_leaves_its_cell() -> None:
    key = got(changed(48, "<I", 0x20), "A")
    assert key.class_name is None  # no length
    raw = bytearray(build_hive(TREE, classes={"A": "Class"}))
    struct.pack_into("<H", raw, nk_of(bytes(raw), "A") + 74, 0xFFFF)
    with pytest.raises(DamagedError):
        _ = got(hive_of(bytes(raw)), "A").class_name


def test_a_key_that_lists_the_root() -> None:
    raw = bytearray(build_hive(TREE))
    (listed,) = struct.unpack_from("<I", raw, nk_of(bytes(raw), "A") + 28)
    struct.pack_into("<I", raw, 4096 + listed + 4 + 4, nk_of(bytes(raw), "") - 4 - 4096)
    hive = hive_of(bytes(raw))
    assert [key.path for key in hive.walk()] == ["", "A", "B"]
    assert "hive-key-shared" in {problem.code for problem in hive.problems}


def test_a_key_below_two_parents_counts_below_the_one_it_names() -> None:
    raw = bytearray(build_hive(TREE))
    (listed,) = struct.unpack_from("<I", raw, nk_of(bytes(raw), "A") + 28)
    struct.pack_into("<II", raw, nk_of(bytes(raw), "B") + 20, 1, 0)
    struct.pack_into("<I", raw, nk_of(bytes(raw), "B") + 28, listed)
    hive = hive_of(bytes(raw))
    assert [key.path for key in hive.walk()] == ["", "A", r"A\below", "B"]
    assert "hive-key-shared" in {problem.code for problem in hive.problems}


def test_a_wrong_parent_is_told() -> None:
    hive = changed(16, "<I", 0x4000)
    assert [key.path for key in hive.walk()] == ["", "A", r"A\below", "B"]
    assert {problem.code for problem in hive.problems} == {"hive-key-parent"}


def test_keys_that_fan_out_without_end() -> None:
    """Each of 64 levels lists the next one's keys twice over: 2^64 ways down, and a walk that ends."""
    levels = 64
    tree = {"\\".join(["k"] * (level + 1)): {} for level in range(levels)}
    tree |= {"\\".join(["k"] * level + ["l"]): {} for level in range(levels)}
    raw = bytearray(build_hive(tree))
    for level in range(1, levels):
        above = "\\".join(["k"] * (level - 1))
        one, other = (nk_of(bytes(raw), f"{above}\\{name}".strip("\\")) for name in ("k", "l"))
        struct.pack_into("<I", raw, other + 20, 2)
        raw[other + 28 : other + 32] = raw[one + 28 : one + 32]
    hive = hive_of(bytes(raw))
    assert sum(1 for _ in hive.walk()) == 2 * levels + 1
    assert hive.problems


@pytest.mark.parametrize("bit", range(0, 8 * 76, 5))
def test_a_flipped_bit_in_a_key(bit: int) -> None:
    raw = bytearray(build_hive(TREE))
    raw[nk_of(bytes(raw), "A") + bit // 8] ^= 1 << bit % 8
    hive = hive_of(bytes(raw))
    for key in hive.walk():
        try:
            _ = key.class_name, key.last_written, [value.data for value in key.values()]
        except DamagedError:
            continue


def test_a_hive_of_one_cell_after_the_other_zeroed() -> None:
    raw = build_hive(TREE)
    at = 4096 + 32
    while at < 4096 + hbins_size(raw):
        (size,) = struct.unpack_from("<i", raw, at)
        damaged = bytearray(raw)
        damaged[at : at + abs(size)] = bytes(abs(size))
        try:
            hive = hive_of(bytes(damaged))
            found = [(key.path, [value.data for value in key.values()], key.class_name) for key in hive.walk()]
        except DamagedError:
            pass
        else:
            assert len(found) == 4 or hive.problems or size > 0
        at += abs(size)
