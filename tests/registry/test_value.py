from __future__ import annotations

import struct

import pytest

from tests.registry.build_hive import DWORD_BIG_ENDIAN, EXPAND_SZ, LINK, QWORD, SEGMENT, Data, Typed, build_hive, utf16
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.hive import Hive, Value
from vhdtool.registry.value_data import type_name, typed_data


def value_of(data: Data, name: str = "v", **options: int) -> Value:
    return find(build_hive({"": {name: data}}, **options), name)  # type: ignore[arg-type]


def find(raw: bytes, name: str = "v") -> Value:
    found = Hive.open(BytesSource(raw)).root.value(name)
    assert found is not None
    return found


def changed(data: Data, place: int, form: str, *fields: int | bytes) -> Value:
    """The value ``v`` with this data, after something was written into its vk cell."""
    raw = bytearray(build_hive({"": {"v": data}}))
    struct.pack_into(form, raw, find(bytes(raw)).offset + 4 + place, *fields)
    return find(bytes(raw))


@pytest.mark.parametrize(
    ("data", "type_", "read"),
    [
        (5, "REG_DWORD", 5),
        (1 << 40, "REG_QWORD", 1 << 40),
        ("text", "REG_SZ", "text"),
        ("", "REG_SZ", ""),
        (b"", "REG_BINARY", b""),
        (b"a", "REG_BINARY", b"a"),
        (b"ab", "REG_BINARY", b"ab"),
        (b"abc", "REG_BINARY", b"abc"),
        (b"abcd", "REG_BINARY", b"abcd"),
        (b"abcde", "REG_BINARY", b"abcde"),
        (("one", "two"), "REG_MULTI_SZ", ("one", "two")),
        (("one", "", "two"), "REG_MULTI_SZ", ("one", "", "two")),
        ((), "REG_MULTI_SZ", ()),
        (Typed(DWORD_BIG_ENDIAN, b"\0\0\0\x2a"), "REG_DWORD_BIG_ENDIAN", 42),
        (Typed(EXPAND_SZ, utf16("%windir%\0rest")), "REG_EXPAND_SZ", "%windir%"),
        (Typed(LINK, utf16("\\Registry")), "REG_LINK", "\\Registry"),
        (Typed(4, b"ab"), "REG_DWORD", b"ab"),
        (Typed(QWORD, b"12345"), "REG_QWORD", b"12345"),
        (Typed(1, b"a\0b"), "REG_SZ", "a"),
        (Typed(1, b"\0\xd8\0\0"), "REG_SZ", "\ud800"),
        (Typed(0xFFFF0011, b"\xff"), "REG_UNKNOWN_0xffff0011", b"\xff"),
        (Typed(0x200000, b"x" * 9), "REG_UNKNOWN_0x200000", b"x" * 9),
        (Typed(0, b""), "REG_NONE", b""),
    ],
)
def test_types(data: Data, type_: str, read: object) -> None:
    value = value_of(data)
    assert (value.type_name, value.data) == (type_, read)
    assert type(value.data) is type(read)
    assert value.size == len(value.raw)


@pytest.mark.parametrize("minor", [3, 5])
@pytest.mark.parametrize("size", [SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 1, 100_000])
def test_long_data(size: int, minor: int) -> None:
    """Above 16,344 bytes in segments from version 1.4 on, in one cell before."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    assert value_of(data, minor=minor).raw == data


@pytest.mark.parametrize("name", ["", "Start", "größe", "имя", "x" * 16_000, "\ud800"])
def test_names(name: str) -> None:
    value = value_of(1, name)
    assert value.name == name
    assert value.data == 1


def test_a_tombstone() -> None:
    """The form of layered hives: type 0, flags 3, no data, offset nowhere."""
    value = changed(1, 4, "<IIIH", 0, 0xFFFFFFFF, 0, 3)
    assert (value.size, value.raw, value.type_name) == (0, b"", "REG_NONE")


@pytest.mark.parametrize(
    ("place", "form", "fields", "code"),
    [
        (4, "<I", (0x80000005,), "hive-value-data"),  # five bytes in four
        (4, "<I", (0x7FFFFFFF,), "hive-value-data"),  # longer than the hive
        (4, "<I", (4000,), "hive-cell-size"),  # longer than its cell
        (4, "<I", (SEGMENT + 1,), "hive-value-data"),
        (8, "<I", (0xFFFFFFFF,), "hive-cell-out-of-range"),
        (8, "<I", (0x10,), "hive-cell-free"),  # the head of the bin
        (8, "<I", (0x123,), "hive-cell-out-of-range"),
    ],
)
def test_lies_about_the_data(place: int, form: str, fields: tuple[int, ...], code: str) -> None:
    value = changed(b"0123456789", place, form, *fields)
    with pytest.raises(DamagedError) as caught:
        _ = value.data
    assert caught.value.code == code
    assert caught.value.offset is not None or fields == (0xFFFFFFFF,)


def big_value(change: str) -> bytes:
    raw = bytearray(build_hive({"": {"v": b"x" * 40_000}}))
    vk = find(bytes(raw)).offset + 4
    (record,) = struct.unpack_from("<I", raw, vk + 8)
    db = 4096 + record + 4
    (table,) = struct.unpack_from("<I", raw, db + 4)
    first = 4096 + table + 4
    match change:
        case "signature":
            raw[db : db + 2] = b"xx"
        case "count":
            struct.pack_into("<H", raw, db + 2, 2)
        case "many":
            struct.pack_into("<H", raw, db + 2, 0xFFFF)
        case "twice":
            raw[first : first + 4] = raw[first + 4 : first + 8]
        case "loop":
            struct.pack_into("<I", raw, db + 4, record)
        case "zero":
            raw[first : first + 12] = bytes(12)
    return bytes(raw)


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ("signature", {"hive-big-data"}),
        ("count", {"hive-big-data"}),
        ("many", {"hive-cell-size"}),
        ("twice", {"hive-big-data"}),
        ("loop", {"hive-cell-size", "hive-cell-out-of-range", "hive-big-data"}),
        ("zero", {"hive-cell-out-of-range", "hive-big-data"}),
    ],
)
def test_damaged_segments(change: str, codes: set[str]) -> None:
    value = find(big_value(change))
    assert value.size == 40_000
    with pytest.raises(DamagedError) as caught:
        _ = value.raw
    assert caught.value.code in codes


def test_what_is_no_value() -> None:
    for place, form, field in ((0, "<2s", b"nk"), (2, "<H", 0xFFFF), (2, "<H", 400)):
        with pytest.raises(DamagedError):
            changed(1, place, form, field)


def test_every_type_has_a_name() -> None:
    """The numbers of winnt.h."""
    assert [type_name(number) for number in (0, 1, 2, 3, 4, 5, 6, 7, 11)] == [
        "REG_NONE", "REG_SZ", "REG_EXPAND_SZ", "REG_BINARY", "REG_DWORD", "REG_DWORD_BIG_ENDIAN", "REG_LINK",
        "REG_MULTI_SZ", "REG_QWORD",
    ]  # fmt: skip
    assert type_name(12) == "REG_UNKNOWN_0xc"


def test_strings_without_their_ends() -> None:
    assert typed_data(7, utf16("a\0b")) == ("a", "b")
    assert typed_data(7, b"") == ()
    assert typed_data(1, utf16("whole")) == "whole"
    assert typed_data(1, b"a") == ""
