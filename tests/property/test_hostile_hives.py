"""Hives made to hurt: lists that lead in circles or name one thing many times, cells that overlap, lying sizes.

Each ends within bounds of time and memory with one clear error, or is read with a reported problem.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.fuzz.hive_images import NIL, SEGMENT, HiveImage, KeyModel, nk, vk
from tests.fuzz.hive_targets import add_hive
from tests.fuzz.target import Content
from tests.property.bounds import bounded
from vhdtool.bytesource import BytesSource
from vhdtool.errors import InputError
from vhdtool.registry.hive import Hive


def image() -> HiveImage:
    return HiveImage(lambda unit: ord(chr(unit).upper()) if unit < 128 else unit)


def read(raw: bytes) -> tuple[str, ...]:
    """Walk all of it; the code of the error, or the reported problems."""
    content = Content()
    fault: InputError | None = None
    with bounded():
        try:
            add_hive(content, Hive.open(BytesSource(raw), path="hive"), whole=True)
        except InputError as error:
            fault = error
    if fault is None:
        return content.seen().notes
    assert fault.message
    assert fault.offset is not None
    return (fault.code,)


def one_key(made: HiveImage, *, subkeys: tuple[int, int] = (0, NIL), values: tuple[int, int] = (0, NIL)) -> bytes:
    """A hive whose root has these lists: (count, cell)."""
    return made.finish(made.cell(nk(b"root", 0x2C, subkeys=subkeys, values=values)))


def leaf(cells: list[int], name_hash: int = 0) -> bytes:
    return struct.pack("<2sH", b"lh", len(cells)) + b"".join(struct.pack("<II", cell, name_hash) for cell in cells)


# --- looping -------------------------------------------------------------------------------------------------------


def self_listed() -> bytes:
    """The root is its own subkey."""
    made = image()
    root = made.cell(bytes(80))
    subkeys = made.cell(leaf([root]))
    made.bins[root + 4 : root + 84] = nk(b"root", 0x2C, subkeys=(1, subkeys))
    return made.finish(root)


def grandparent_listed() -> bytes:
    """The list of a subkey names the root."""
    made = image()
    root, child = made.cell(bytes(80)), made.cell(bytes(80))
    down, up = made.cell(leaf([child])), made.cell(leaf([root]))
    made.bins[root + 4 : root + 84] = nk(b"root", 0x2C, subkeys=(1, down))
    made.bins[child + 4 : child + 84] = nk(b"chld", parent=root, subkeys=(1, up))
    return made.finish(root)


def list_of_itself() -> bytes:
    """An ri that names itself."""
    made = image()
    at = made.cell(bytes(8))
    made.bins[at + 4 : at + 12] = struct.pack("<2sHI", b"ri", 1, at)
    return one_key(made, subkeys=(1, at))


def segments_of_itself() -> bytes:
    """A big data record whose list of segments is itself."""
    made = image()
    at = made.cell(bytes(12))
    made.bins[at + 4 : at + 12] = struct.pack("<2sHI", b"db", 2, at)
    value = made.cell(vk(b"big", 2 * SEGMENT, at, 3))
    return one_key(made, values=(1, made.cell(struct.pack("<I", value))))


@pytest.mark.parametrize("build", [self_listed, grandparent_listed, list_of_itself, segments_of_itself])
def test_structures_that_lead_in_a_circle(build: Callable[[], bytes]) -> None:
    assert read(build())


def test_a_deep_line_of_keys_ends() -> None:
    """3,000 keys, each below the other; Windows allows 512."""
    made = image()
    cells = [made.cell(bytes(80)) for _ in range(3000)]
    for number, cell in enumerate(cells):
        below = (
            (1, made.cell(leaf([cells[number + 1]], made.name_hash("deep")))) if number + 1 < len(cells) else (0, NIL)
        )
        made.bins[cell + 4 : cell + 84] = nk(b"deep", parent=cells[number - 1] if number else NIL, subkeys=below)
    assert read(made.finish(cells[0])) == ("hive-too-deep",)


# --- one thing named many times ------------------------------------------------------------------------------------


def test_a_list_of_lists_that_names_one_leaf_many_times() -> None:
    made = image()
    keys = [made.cell(nk(b"key%d" % number)) for number in range(2)]
    one_leaf = made.cell(leaf(keys * 30_000))
    root_list = made.cell(struct.pack("<2sH", b"ri", 60_000) + struct.pack("<I", one_leaf) * 60_000)
    assert read(one_key(made, subkeys=(NIL, root_list)))


def test_a_value_that_is_listed_many_times() -> None:
    made = image()
    data = made.cell(b"x" * 16_000)
    value = made.cell(vk(b"same", 16_000, data, 3))
    assert read(one_key(made, values=(200_000, made.cell(struct.pack("<I", value) * 200_000))))


def test_a_segment_that_is_named_many_times() -> None:
    made = image()
    segment = made.cell(b"x" * SEGMENT)
    table = made.cell(struct.pack("<I", segment) * 65_535)
    record = made.cell(struct.pack("<2sHI4x", b"db", 65_535, table))
    value = made.cell(vk(b"big", 65_535 * SEGMENT, record, 3))
    assert read(one_key(made, values=(1, made.cell(struct.pack("<I", value)))))


# --- oversized -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1 << 16, 1 << 24, 1 << 30, 0x7FFFFFFF, 0xFFFFFFFF])
def test_counts_that_the_lists_do_not_have(count: int) -> None:
    made = image()
    model = KeyModel("root", {"a": (1, b"a\0\0\0\0\0"), "b": (4, b"1234")}, [KeyModel("one"), KeyModel("two")])
    root = made.key(model, root=True)
    for place in (20, 36):  # subkey_count, value_count
        raw = bytearray(made.finish(root))
        struct.pack_into("<I", raw, 4096 + root + 4 + place, count)
        assert read(bytes(raw))


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0x7FFFFFF0, 1 << 28, 100_000])
@pytest.mark.parametrize("minor", [3, 5])
def test_values_longer_than_the_hive(size: int, minor: int) -> None:
    made = HiveImage(lambda unit: unit, minor=minor)
    value = made.cell(vk(b"long", size, made.cell(b"short"), 3))
    assert read(one_key(made, values=(1, made.cell(struct.pack("<I", value)))))


@pytest.mark.parametrize("length", [0xFFFF, 0x8000, 300])
def test_names_longer_than_their_cells(length: int) -> None:
    made = image()
    root = made.key(KeyModel("root", {"value": (4, b"1234")}), root=True)
    raw = bytearray(made.finish(root))
    struct.pack_into("<H", raw, 4096 + root + 4 + 72, length)
    assert read(bytes(raw))


@pytest.mark.parametrize("size", [0, 4096, 1 << 20, 0x7FFFF000, 0xFFFFF000, 0xFFFFFFFF, 4097])
def test_bins_of_another_size_than_the_file(size: int) -> None:
    made = image()
    raw = bytearray(made.finish(made.key(KeyModel("root", {}, [KeyModel(f"key{n}") for n in range(200)]), root=True)))
    struct.pack_into("<I", raw, 40, size)
    total = 0
    for (word,) in struct.iter_unpack("<I", raw[:508]):
        total ^= word
    struct.pack_into("<I", raw, 508, total)
    if size != len(made.bins):
        assert read(bytes(raw))


# --- overlapping, zeroed, truncated --------------------------------------------------------------------------------


def plain() -> tuple[HiveImage, bytes]:
    made = image()
    keys = [KeyModel(f"key{n}", {"v": (4, struct.pack("<I", n))}, [KeyModel("below")]) for n in range(20)]
    return made, made.finish(made.key(KeyModel("root", {}, keys), root=True))


def test_a_cell_that_reaches_over_its_neighbours() -> None:
    """Each allocated cell in turn is given the size of all that is left of its bin: read as before, or refused."""
    _, raw = plain()
    clean = Content()
    add_hive(clean, Hive.open(BytesSource(raw), path="hive"), whole=True)
    at = 4096 + 32
    while at < len(raw):
        size = -struct.unpack_from("<i", raw, at)[0]
        if size <= 0:
            break
        longer = bytearray(raw)
        struct.pack_into("<i", longer, at, -(4096 - at % 4096))
        content = Content()
        try:
            add_hive(content, Hive.open(BytesSource(bytes(longer)), path="hive"), whole=True)
        except InputError:
            pass  # exit code 3, the other good end
        else:
            assert content.seen().content == clean.seen().content or content.seen().notes
        at += size


@pytest.mark.parametrize("step", range(24))
def test_a_hive_cut_off_anywhere(step: int) -> None:
    _, raw = plain()
    assert read(raw[: len(raw) * step // 24])


def test_a_hive_with_one_sector_zeroed() -> None:
    _, raw = plain()
    clean = Content()
    add_hive(clean, Hive.open(BytesSource(raw), path="hive"), whole=True)
    for at in range(0, len(raw), 512):
        if not any(raw[at : at + 512]):
            continue
        damaged = raw[:at] + bytes(512) + raw[at + 512 :]
        content = Content()
        try:
            with bounded():
                add_hive(content, Hive.open(BytesSource(damaged), path="hive"), whole=True)
        except InputError:
            continue  # exit code 3, the other good end
        assert content.seen().notes or content.seen().content == clean.seen().content, hex(at)
