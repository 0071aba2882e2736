"""Keys (nk): names, times, values, subkeys. Source: regf specification, "Key node".

Going through subkeys or values leaves out those that are damaged and notes each among the hive's problems; asking
for one by name raises the damage, where it can't be excluded that it is the one asked for. So ``None`` means: the
key has none of that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from vhdtool.errors import DamagedError
from vhdtool.layout import packed
from vhdtool.registry.cell import Cells
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    KEY_CELL_LIMIT,
    KEY_COMPRESSED_NAME,
    KEY_DEPTH_LIMIT,
    KEY_NODE,
    KEY_PREDEFINED_HANDLE,
    KEY_SIGNATURE,
    NIL,
    VALUE_ELEMENT,
)
from vhdtool.registry.names import decode_name, fold
from vhdtool.registry.subkey_list import LONG_LIST, SubkeyList, read_subkey_list
from vhdtool.registry.value import Value

_NODE = packed(KEY_NODE)
_VALUE_ELEMENT = packed(VALUE_ELEMENT)
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_LOST = "{}: Windows does not find it by its name"


class Key:
    """One key. ``name`` is its own name; what hangs below it is read when it is asked for."""

    __slots__ = (
        "_cell", "_cells", "_class_length", "_class_name", "_depth", "_flags", "_last_written", "_parent",
        "_stated_parent", "_subkey_count", "_subkey_list", "_value_count", "_value_list", "name",
    )  # fmt: skip

    def __init__(self, cells: Cells, cell: int, parent: Key | None) -> None:
        record = cells.record(cell, KEY_CELL_LIMIT)
        if len(record) < _NODE.size:
            raise cells.damaged("hive-cell-size", "a cell is too small for a key", cell, found=len(record))
        (
            signature, self._flags, self._last_written, _, _, _, self._stated_parent, self._subkey_count, _,
            self._subkey_list, _, self._value_count, self._value_list, _, self._class_name, _, _, _, _, _, _, _,
            name_length, self._class_length,
        ) = _NODE.unpack_from(record)  # fmt: skip
        if signature != KEY_SIGNATURE:
            raise cells.damaged("hive-key", "this is no key", cell, expected="nk", found=signature.hex())
        end = _NODE.size + name_length
        if end > len(record):
            raise cells.damaged("hive-key", "a key's name leaves its cell", cell, found=f"{name_length} bytes")
        self.name = decode_name(record[_NODE.size : end], compressed=bool(self._flags & KEY_COMPRESSED_NAME))
        self._cells = cells
        self._cell = cell
        self._parent = parent
        self._depth: int = 0 if parent is None else parent._depth + 1
        if self._depth > KEY_DEPTH_LIMIT:
            raise cells.damaged(
                "hive-too-deep", "keys are nested too deep", cell, expected=f"at most {KEY_DEPTH_LIMIT} levels"
            )

    @property
    def path(self) -> str:
        """The path from the root, which has the empty one."""
        names = []
        key = self
        while key._parent is not None:
            names.append(key.name)
            key = key._parent
        return "\\".join(reversed(names))

    @property
    def last_written(self) -> datetime | None:
        """When the key was last changed, UTC; ``None`` where nothing is noted or the time can't be one."""
        if not self._last_written:
            return None
        try:
            return _EPOCH + timedelta(microseconds=self._last_written // 10)
        except OverflowError:
            return None

    @property
    def offset(self) -> int:
        """Place of the nk cell in the hive file, in bytes."""
        return BASE_BLOCK_SIZE + self._cell

    @property
    def class_name(self) -> str | None:
        """The key's class, where it has one. Raises :class:`DamagedError`."""
        if self._class_name == NIL or not self._class_length:
            return None
        raw = self._cells.read(self._class_name, self._class_length, "a key's class name")
        return decode_name(raw, compressed=False)

    def walk(self) -> Iterator[Key]:
        """Yield the key itself and all keys below it, parents first; what can't be read is left out and noted."""
        waiting: list[Iterator[Key]] = [iter((self,))]
        while waiting:
            key = next(waiting[-1], None)
            if key is None:
                waiting.pop()
                continue
            yield key
            waiting.append(key._readable_subkeys())

    def subkeys(self, start: str = "") -> Iterator[Key]:
        """Yield the subkeys in the hive's order; damaged ones are left out and noted.

        With ``start`` only those whose names are not below it; the way to the first is found by halves. Raises
        :class:`DamagedError` where the list itself can't be read.
        """
        listed = self._listed()
        if listed is None:
            return
        for error in listed.damaged:
            self._cells.note(error)
        self._note_count(listed)
        least = fold(start)
        first = self._first_not_below(listed, least) if start else 0
        seen: set[int] = set()
        before = ""
        for index, cell in enumerate(islice(listed.cells(), first, None), first):
            try:
                if cell in seen:
                    raise self._cells.damaged("hive-key-shared", "a key is listed twice", cell)
                seen.add(cell)
                child = self._child(cell)
            except DamagedError as error:
                self._cells.note(error)
                continue
            folded = fold(child.name)
            if folded <= before:
                self._note("hive-subkey-order", "a key's subkeys are not in order", found=repr(child.name))
            before = folded
            if not listed.may_name(index, folded):
                self._note_mark(child)
            if folded >= least:
                yield child

    def subkey(self, name: str) -> Key | None:
        """Find a subkey by its name, without regard to case.

        The list's hashes or hints lead to it. Where they do not, the list is searched in its order; where its marks
        or its order are found to be wrong, or the name is not plain ASCII (hivex leaves wrong hashes for those), it
        is walked. What only that finds is noted: Windows does not see it.

        Raises :class:`DamagedError` where the list can't be read, or the key that may be the one.
        """
        listed = self._listed()
        if listed is None:
            return None
        wanted = fold(name)
        damage = list(listed.damaged)
        for index in listed.candidates(wanted):
            try:
                child = Key(self._cells, listed.cell(index), self)
            except DamagedError as error:
                damage.append(error)
                continue
            if fold(child.name) == wanted:
                return self._adopted(child)
        found = self._searched(listed, wanted, damage)
        if found is None:
            self._note_count(listed)  # a shortened list may have held it
            if damage:
                raise damage[0]
        return found

    def values(self) -> Iterator[Value]:
        """Yield the values in the hive's order; damaged ones are left out and noted.

        Raises :class:`DamagedError` where the list itself can't be read.
        """
        seen: set[int] = set()
        for cell in self._value_cells():
            try:
                if cell in seen:
                    raise self._cells.damaged("hive-value", "a value is listed twice", cell)
                seen.add(cell)
                value = Value(self._cells, cell)
            except DamagedError as error:
                self._cells.note(error)
                continue
            yield value

    def value(self, name: str = "") -> Value | None:
        """Find a value by its name, without regard to case; the empty name is the default value.

        Of several with one name the first counts. Raises :class:`DamagedError` where the list can't be read, or a
        value that may be the one.
        """
        wanted = fold(name)
        damage = None
        for cell in self._value_cells():
            try:
                value = Value(self._cells, cell)
            except DamagedError as error:
                damage = damage or error
                continue
            if fold(value.name) == wanted:
                return value
        if damage is not None:
            raise damage
        return None

    def _listed(self) -> SubkeyList | None:
        if not self._subkey_count:
            if self._subkey_list != NIL:
                self._note("hive-subkey-count", "a key that has no subkeys has a list of them")
            return None
        return read_subkey_list(self._cells, self._subkey_list, self._cell)

    def _note_count(self, listed: SubkeyList) -> None:
        if len(listed) != self._subkey_count:
            self._note(
                "hive-subkey-count", "a key's number of subkeys is not that of its list",
                expected=self._subkey_count, found=len(listed),
            )  # fmt: skip

    def _readable_subkeys(self) -> Iterator[Key]:
        try:
            yield from self.subkeys()
        except DamagedError as error:
            self._cells.note(error)

    def _first_not_below(self, listed: SubkeyList, least: str) -> int:
        """Find where a name is or would be; where a key on the way can't be read, the list's beginning."""
        low, high = 0, len(listed)
        while low < high:
            middle = (low + high) // 2
            try:
                below = fold(Key(self._cells, listed.cell(middle), self).name) < least
            except DamagedError:
                return 0
            low, high = (middle + 1, high) if below else (low, middle)
        return low

    def _value_cells(self) -> Iterator[int]:
        if not self._value_count or self._flags & KEY_PREDEFINED_HANDLE:
            return
        if self._value_count > LONG_LIST and not self._cells.claim(self._value_list, self._cell):
            raise self._cells.damaged("hive-cell-shared", "a list of values belongs to two keys", self._value_list)
        size = _VALUE_ELEMENT.size * self._value_count
        for (cell,) in _VALUE_ELEMENT.iter_unpack(self._cells.read(self._value_list, size, "a list of values")):
            yield cell

    def _searched(self, listed: SubkeyList, wanted: str, damage: list[DamagedError]) -> Key | None:
        """Search by order, and walk where that can't be relied upon; add the damage that may hide the key."""
        place, reliable = self._place(listed, wanted)
        in_order = place is not None
        if place is None and not (reliable and wanted.isascii()):
            place = self._walked(listed, wanted, damage)
        if place is None:
            return None
        child = self._child(listed.cell(place))
        if listed.has_mark(place):
            self._note_mark(child)
        elif not in_order:
            self._note("hive-subkey-order", _LOST.format("a key is not where its name belongs"), found=repr(child.name))
        return child

    def _place(self, listed: SubkeyList, wanted: str) -> tuple[int | None, bool]:
        """Search in halves. Returns the place, and whether nothing met on the way speaks against a ``None``."""
        low, high = 0, len(listed)
        bounds = ["", "\U0010ffff"]
        while low < high:
            middle = (low + high) // 2
            try:
                folded = fold(Key(self._cells, listed.cell(middle), self).name)
            except DamagedError:
                return None, False
            if folded == wanted:
                return middle, True
            if not bounds[0] < folded < bounds[1] or not listed.may_name(middle, folded):
                return None, False
            if folded < wanted:
                low, bounds[0] = middle + 1, folded
            else:
                high, bounds[1] = middle, folded
        return None, True

    def _walked(self, listed: SubkeyList, wanted: str, damage: list[DamagedError]) -> int | None:
        for index, cell in enumerate(listed.cells()):
            try:
                if fold(Key(self._cells, cell, self).name) == wanted:
                    return index
            except DamagedError as error:
                if listed.may_name(index, wanted):
                    damage.append(error)
        return None

    def _child(self, cell: int) -> Key:
        return self._adopted(Key(self._cells, cell, self))

    def _adopted(self, child: Key) -> Key:
        """Return a child that is no other key's.

        Every key says who its parent is. One that names another counts as ours only if that other does not list it,
        and no third key has it already: so keys are a tree, whatever the lists say.
        """
        if child._stated_parent == self._cell and child._cell != self._cells.root:
            return child
        taken = child._cell == self._cells.root or self._cells.hopeless or self._is_listed_elsewhere(child)
        if taken or not self._cells.claim(child._cell, self._cell):
            raise self._cells.damaged(
                "hive-key-shared", "a key is listed below another than its parent", child._cell, found=repr(child.name)
            )
        self._cells.note(
            self._cells.damaged(
                "hive-key-parent", "a key names another parent than the one that lists it", child._cell,
                expected=f"{self._cell:#x}", found=f"{child._stated_parent:#x}",
            )
        )  # fmt: skip
        return child

    def _is_listed_elsewhere(self, child: Key) -> bool:
        try:
            stated = Key(self._cells, child._stated_parent, None)
            listed = stated._listed()
        except DamagedError:
            return False
        return listed is not None and child._cell in listed.cells()

    def _note(self, code: str, message: str, *, expected: object = None, found: object = None) -> None:
        self._cells.note(self._cells.damaged(code, message, self._cell, expected=expected, found=found))

    def _note_mark(self, child: Key) -> None:
        message = _LOST.format("the hash or hint of a key is wrong")
        self._cells.note(self._cells.damaged("hive-subkey-hash", message, child._cell, found=repr(child.name)))
