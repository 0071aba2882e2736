"""The gate sees what was done behind the editor's back, and says nothing about what was wrong before."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.registry.build_hive import PAGE, build_hive
from tests.registry.hive_faults import (
    DATA_PLACE,
    DATA_SIZE,
    FLAGS,
    MAX_VALUE_DATA,
    NAME,
    PARENT,
    SECURITY,
    SK_COUNT,
    SK_NEXT,
    SOUND,
    SUBKEY_LIST,
    SUBKEYS,
    VALUE_LIST,
    VALUE_NAME,
    VALUES,
    Bytes,
)
from vhdtool.bytesource import BytesSource
from vhdtool.errors import OutputError
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive


class Halfway(Bytes):
    """A hive in the middle of being edited: what is put here, the editor does not know of."""

    def __init__(self, raw: bytes = SOUND) -> None:
        self.editor = HiveEditor(Hive.open(BytesSource(raw), path="SYSTEM"))
        assert self.editor.set_value("Values", "n", 3, b"as long as this")
        assert self.editor.set_value("Values", "new", 3, b"as long as that")
        assert self.editor.create_key(r"Many\Key99")
        assert self.editor.delete_key(r"Many\Key11")
        self.pages = self.editor._cells.pages
        self.raw = bytearray(self.pages.read_at(0, self.pages.size))
        self.hive = Hive.open(BytesSource(bytes(self.raw)))

    def finish(self) -> str | None:
        """The code of the rule that the gate says is broken; None where it lets the hive pass."""
        now = self.pages.read_at(0, self.pages.size)
        for place in range(0, len(self.raw), 512):
            if self.raw[place : place + 512] != now[place : place + 512]:
                self.pages.lay_over(place, bytes(self.raw[place : place + 512]))
        try:
            self.editor.finish()
        except OutputError as error:
            return broken_rule(error)
        return None


def broken_rule(error: OutputError) -> str:
    assert (error.code, error.exit_code) == ("hive-check-failed", 7)
    return error.message.partition("(")[2].partition(")")[0]


def test_an_honest_edit_passes() -> None:
    assert Halfway().finish() is None


def flip(place: Callable[[Halfway], int], mask: int = 1) -> Callable[[Halfway], None]:
    def change(at: Halfway) -> None:
        at.raw[place(at)] ^= mask

    return change


def put(place: Callable[[Halfway], int], value: int, form: str = "<I") -> Callable[[Halfway], None]:
    return lambda at: at.put(place(at), value, form)


def freed(at: Halfway) -> None:
    at.free(at.data("Select", "Current"))


def taken(at: Halfway) -> None:
    """A free cell is marked as in use."""
    place = PAGE + 32
    while True:
        if (place % PAGE) == 0 and at.raw[place : place + 4] == b"hbin":
            place += 32
        size = at.get(place, "<i")
        if size > 0:
            at.put(place, -size, "<i")
            return
        place -= size


def split_free(at: Halfway) -> None:
    place = PAGE + 32
    while True:
        if (place % PAGE) == 0 and at.raw[place : place + 4] == b"hbin":
            place += 32
        size = at.get(place, "<i")
        if size > 16:
            at.put(place, 8, "<i")
            at.put(place + 8, size - 8, "<i")
            return
        place += abs(size)


def another_keys_data(at: Halfway) -> None:
    at.put(at.data("Values", "new") + DATA_PLACE, at.get(at.data(r"Last\Filler000", "text") + DATA_PLACE))


def own_data_twice(at: Halfway) -> None:
    at.put(at.data("Values", "new") + DATA_PLACE, at.get(at.data("Values", "n") + DATA_PLACE))


def swapped(at: Halfway) -> None:
    listed = at.cell(at.data("Many") + SUBKEY_LIST) + 4
    entries = bytes(at.raw[listed : listed + 16])
    at.raw[listed : listed + 16] = entries[8:] + entries[:8]


SABOTAGE = {
    "a key that was not touched": (flip(lambda at: at.data("Select") + 4), "hive-cell-changed"),
    "a value that was not touched": (flip(lambda at: at.data("Select", "Current") + DATA_PLACE), "hive-cell-changed"),
    "data in another bin": (
        flip(lambda at: at.cell(at.data(r"Last\Filler059", "text") + DATA_PLACE) + 3),
        "hive-cell-changed",
    ),
    "a cell of another key is freed": (freed, "hive-cell-lost"),
    "a cell that nobody uses": (taken, "hive-cell-orphan"),
    "free cells that touch": (split_free, "hive-free-cells"),
    "the data of another key": (another_keys_data, "hive-"),
    "one cell for two values": (own_data_twice, "hive-"),
    "a wrong number of subkeys": (put(lambda at: at.data("Many") + SUBKEYS, 39), "hive-subkey-count"),
    "a wrong number of values": (put(lambda at: at.data("Values") + VALUES, 4), "hive-"),
    "a list of values elsewhere": (put(lambda at: at.data("Values") + VALUE_LIST, 0x21), "hive-cell-out-of-range"),
    "a wrong order": (swapped, "hive-subkey-order"),
    "a wrong hash": (flip(lambda at: at.cell(at.data("Many") + SUBKEY_LIST) + 8), "hive-subkey-hash"),
    "a wrong parent": (put(lambda at: at.data(r"Many\Key99") + PARENT, 0x20), "hive-key-parent"),
    "a wrong name": (flip(lambda at: at.data(r"Many\Key99") + NAME), "hive-subkey-"),
    "a wrong name of a value": (flip(lambda at: at.data("Values", "new") + VALUE_NAME, 0x80), None),
    "a lost value": (flip(lambda at: at.data("Values", "new")), "hive-value"),
    "too small a maximum": (put(lambda at: at.data("Values") + MAX_VALUE_DATA, 7), "hive-max-lengths"),
    "data beyond its cell": (put(lambda at: at.data("Values", "new") + DATA_SIZE, 4000), "hive-cell-size"),
    "a flag of a key": (flip(lambda at: at.data("Values") + FLAGS, 0x10), "hive-key"),
    "a count of uses": (flip(lambda at: at.cell(at.data("Many") + SECURITY) + SK_COUNT), "hive-"),
    "the ring of security cells": (flip(lambda at: at.cell(at.data("Many") + SECURITY) + SK_NEXT, 8), "hive-"),
    "a security descriptor": (flip(lambda at: at.cell(at.data("Many") + SECURITY) + 24), "hive-"),
    "the head of a bin": (flip(lambda at: PAGE + 20), "hive-bin"),
    "the size of a bin": (put(lambda at: PAGE + 8, 2 * PAGE), "hive-"),
    "a cell beyond its bin": (put(lambda at: at.data("Values") - 4, -0x2000, "<i"), "hive-"),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_what_was_done_behind_the_editors_back(name: str) -> None:
    change, code = SABOTAGE[name]
    at = Halfway()
    before = bytes(at.raw)
    change(at)
    assert bytes(at.raw) != before
    found = at.finish()
    if code is None:
        assert found is None  # a name is as good as another: that is for the readers who read values back
    else:
        assert found is not None
        assert found.startswith(code)


@pytest.mark.parametrize("step", range(4))
def test_most_single_bytes_are_guarded(step: int) -> None:
    """A byte of each 32 flipped: all that is not free, slack, data of a touched value or a time is noticed."""
    unnoticed = []
    at = Halfway()
    free = bytearray(len(at.raw))
    place = PAGE
    while place < len(at.raw):
        if place % PAGE == 0 and at.raw[place : place + 4] == b"hbin":
            place += 32
        size = at.get(place, "<i")
        if size > 0:
            free[place + 4 : place + size] = b"\1" * (size - 4)
        place += abs(size)
    for place in range(PAGE + step * 8 + 3, len(SOUND), 32 * 7):
        if not free[place]:
            at = Halfway()
            at.raw[place] ^= 0x40
            if at.finish() is None:
                unnoticed.append(place)
    assert len(unnoticed) <= 6, [hex(place) for place in unnoticed]


def test_faults_from_before_elsewhere_do_not_matter() -> None:
    """A hive with free cells that touch, cells that nobody uses and a damaged key elsewhere can be edited."""
    at = Bytes()
    last = len(at.raw) - PAGE
    at.put(at.data("Big") + MAX_VALUE_DATA, 1)
    at.put(at.data(r"Last\Filler030") + VALUES, 0)
    assert last
    assert Halfway(bytes(at.raw)).finish() is None


def test_a_hive_full_of_free_cells_that_touch() -> None:
    """As hivex leaves them: those beside what is freed are joined, the others left as they are."""
    raw = bytearray(build_hive({"Key": {"v": b"x" * 1000}, "Other": {"w": b"y" * 2000}}))
    place = PAGE + 32
    while (size := struct.unpack_from("<i", raw, place)[0]) < 0:
        place -= size
    for cell in range(place, place + size, 16):
        struct.pack_into("<i", raw, cell, min(16, place + size - cell))
    editor = HiveEditor(Hive.open(BytesSource(bytes(raw))))
    assert editor.create_key(r"Key\New")
    assert editor.delete_value("Other", "w")
    assert editor.finish().changed
