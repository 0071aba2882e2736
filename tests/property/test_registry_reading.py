"""Arbitrary hives read as they were meant: names, order, lookups, values; and the rules of names."""

from __future__ import annotations

import struct
from functools import cache

from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.fuzz import inputs
from tests.fuzz.hive_images import SEGMENT, HiveImage, KeyModel, walk
from vhdtool.bytesource import BytesSource
from vhdtool.registry.hive import Hive, Key
from vhdtool.registry.names import fold, name_hash

UNITS = st.integers(1, 0xFFFF)
ODD = "aAzZ09_ éÉÿŸßẞſΐıİǆǅǄкКлюЮ☃\uff21\uff41\ud801\udc28\U00010428\ue000\uffff"


@cache
def upcase_file() -> tuple[int, ...]:
    """The $UpCase file of an NTFS volume that mkntfs made: the same table, from another hand."""
    data = inputs.seed("ntfs")
    start = data.find(struct.pack("<97H", *range(97)))
    table = struct.unpack("<65536H", data[start : start + 131072])
    assert table[ord("z")] == ord("Z")
    return table


def upcase(unit: int) -> int:
    return upcase_file()[unit]


def text(units: list[int]) -> str:
    return struct.pack(f"<{len(units)}H", *units).decode("utf-16-le", "surrogatepass")


def paired(name: str) -> str:
    """The name as it comes out of UTF-16: surrogates that make a pair are one character."""
    return name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


NAMES = (
    st.one_of(
        st.text(st.sampled_from(ODD), min_size=1, max_size=8),
        st.text(st.characters(codec="latin-1", min_codepoint=1), min_size=1, max_size=20),
        st.lists(UNITS, min_size=1, max_size=8).map(text),
    )
    .map(paired)
    .filter(lambda name: "\\" not in name and "\0" not in name)
)


def folded_units(name: str) -> tuple[int, ...]:
    return tuple(map(ord, fold(name)))


@given(st.lists(UNITS, min_size=1, max_size=12))
def test_names_are_folded_unit_by_unit(units: list[int]) -> None:
    assert folded_units(text(units)) == tuple(upcase(unit) for unit in units)


@given(st.lists(NAMES, min_size=2, max_size=6))
def test_the_order_of_names_is_total_and_knows_no_case(names: list[str]) -> None:
    for one in names:
        assert fold(folded_back(one)) == fold(one)
        assert name_hash(folded_back(one)) == name_hash(one)
    ordered = sorted(names, key=fold)
    assert [folded_units(name) for name in ordered] == sorted(list_of(name) for name in names)


def list_of(name: str) -> tuple[int, ...]:
    raw = name.encode("utf-16-le", "surrogatepass")
    return tuple(upcase(unit) for unit in struct.unpack(f"<{len(raw) // 2}H", raw))


@st.composite
def keys(draw: st.DrawFn, depth: int = 3) -> KeyModel:
    name = draw(NAMES)
    model = KeyModel(name, draw(values()), [], draw(st.one_of(st.none(), st.text(max_size=5).filter(encodable))))
    model.written = draw(st.one_of(st.just(0), st.integers(0, 1 << 64).map(lambda number: number % (1 << 64))))
    if depth:
        seen: set[str] = set()
        for child in draw(st.lists(keys(depth - 1), max_size=4)):
            if fold(child.name) not in seen:
                seen.add(fold(child.name))
                model.subkeys.append(child)
    return model


def encodable(name: str) -> bool:
    return all(not 0xD800 <= ord(letter) < 0xE000 for letter in name) and "\0" not in name


@st.composite
def values(draw: st.DrawFn) -> dict[str, tuple[int, bytes]]:
    found: dict[str, tuple[int, bytes]] = {}
    seen: set[str] = set()
    for name in draw(st.lists(st.one_of(st.just(""), NAMES), max_size=4)):
        if fold(name) not in seen:
            seen.add(fold(name))
            kind = draw(st.one_of(st.integers(0, 11), st.sampled_from([0x200000, 0xFFFF0007, 0xFFFFFFFF])))
            found[name] = (kind, draw(data()))
    return found


class LongBytes(bytes):
    """Data whose report is short."""

    def __repr__(self) -> str:
        return f"bytes([{self[0]}]) * {len(self)}"


def data() -> st.SearchStrategy[bytes]:
    short = st.one_of(st.binary(max_size=12), st.text(max_size=10).filter(encodable).map(utf16))
    long = st.sampled_from([SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 5, 50_000])
    return st.one_of(
        short, short, st.builds(lambda size, seed: LongBytes(bytes([seed]) * size), long, st.integers(0, 255))
    )


def utf16(content: str) -> bytes:
    return content.encode("utf-16-le") + b"\0\0"


def check(key: Key, model: KeyModel) -> None:
    assert key.class_name == (model.class_name or None)
    read = list(key.values())
    assert [(value.name, value.type, value.raw) for value in read] == [
        (name, kind, raw) for name, (kind, raw) in model.values.items()
    ]
    for value in read:
        assert value.size == len(value.raw)
        assert isinstance(value.data, int | str | tuple | bytes)
        found = key.value(value.name)
        assert found is not None
        assert found.offset == value.offset
    names = [child.name for child in key.subkeys()]
    assert names == sorted((child.name for child in model.subkeys), key=list_of)
    for child in model.subkeys:
        for spelled in (child.name, folded_back(child.name), child.name.swapcase()):
            found_key = key.subkey(spelled)
            if list_of(spelled) == list_of(child.name):
                assert found_key is not None, (spelled, child.name)
                assert found_key.name == child.name
        check_key = key.subkey(child.name)
        assert check_key is not None
        check(check_key, child)


def folded_back(name: str) -> str:
    return struct.pack(f"<{len(list_of(name))}H", *list_of(name)).decode("utf-16-le", "surrogatepass")


@given(keys(), st.sampled_from([b"lh", b"lf", b"li"]), st.integers(1, 4), st.sampled_from([3, 5]))
@example(KeyModel("r", {}, [KeyModel("École"), KeyModel("ÿ")]), b"lf", 4, 3)
def test_hives_read_as_they_were_written(model: KeyModel, kind: bytes, leaf: int, minor: int) -> None:
    image = HiveImage(upcase, kind=kind, leaf=leaf, minor=minor)
    raw = image.finish(image.key(model, root=True))
    hive = Hive.open(BytesSource(raw), path="hive")
    assert hive.state == "clean"
    assert hive.problems == ()
    assert hive.root.name == model.name
    check(hive.root, model)
    for path, key in walk(model).items():
        if path and "\\" not in key.name:
            found = hive.key(path)
            assert found is not None, path
            assert found.name == key.name
            assert found.path == path


@given(keys(), NAMES)
def test_a_key_that_is_not_there_is_not_found(model: KeyModel, name: str) -> None:
    assume(all(list_of(child.name) != list_of(name) for child in model.subkeys))
    for kind in (b"lh", b"lf", b"li"):
        image = HiveImage(upcase, kind=kind)
        hive = Hive.open(BytesSource(image.finish(image.key(model, root=True))), path="hive")
        assert hive.root.subkey(name) is None
        assert hive.key(name) is None


@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=40, unique=True), st.sampled_from([b"lh", b"lf", b"li"]))
def test_many_subkeys_are_found_through_every_kind_of_list(numbers: list[int], kind: bytes) -> None:
    model = KeyModel("root", {}, [KeyModel(f"Key {number:x}") for number in numbers])
    image = HiveImage(upcase, kind=kind, leaf=7)
    hive = Hive.open(BytesSource(image.finish(image.key(model, root=True))), path="hive")
    for number in numbers:
        found = hive.key(f"kEY {number:X}")
        assert found is not None
        assert found.name == f"Key {number:x}"
