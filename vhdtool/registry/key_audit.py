"""What one key consists of, and everything that is wrong with it.

The same look serves editing (a damaged key is not edited), deleting (which cells to give back), the gate behind each
edit and the check of a whole hive. Rules: regf specification, and what holds in every genuine hive of our collection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from vhdtool.errors import DamagedError
from vhdtool.layout import packed
from vhdtool.registry.cell import PROBLEM_LIMIT, Cells
from vhdtool.registry.format import (
    BIG_DATA,
    BIG_DATA_MINOR_VERSION,
    BIG_DATA_SEGMENT,
    BIG_DATA_SIGNATURE,
    DATA_INLINE,
    INDEX_ELEMENT,
    INDEX_ROOT,
    KEY_HIVE_ENTRY,
    KEY_NAME_LIMIT,
    KEY_PREDEFINED_HANDLE,
    KEY_VALUE,
    NIL,
    SEGMENT_ELEMENT,
    SUBKEY_LIST,
    VALUE_COMPRESSED_NAME,
    VALUE_ELEMENT,
    VALUE_NAME_LIMIT,
    VALUE_SIGNATURE,
    VALUE_TOMBSTONE,
)
from vhdtool.registry.key_node import KeyNode
from vhdtool.registry.names import decode_name, fold, is_latin
from vhdtool.registry.subkey_list import ELEMENTS, Leaf

WARNING_CODES = frozenset({"hive-max-name-length", "hive-root-flag"})
"""Faults of genuine hives that Windows lives with: two of 2012 have too small a maximum, offreg marks no root."""

_VALUE = packed(KEY_VALUE)
_VALUE_ELEMENT = packed(VALUE_ELEMENT)
_BIG_DATA = packed(BIG_DATA)
_SEGMENT = packed(SEGMENT_ELEMENT)
_LIST = packed(SUBKEY_LIST)
_INDEX = packed(INDEX_ELEMENT)
_USUAL = 256  # bytes of a value's cell that are read at once


@dataclass(frozen=True, slots=True)
class ValueRecord:
    """A value. ``data`` are the cells that its data takes; ``size`` counts bytes of data; ``place`` as stored."""

    cell: int
    name: str
    type: int
    size: int
    inline: bool
    place: int
    tombstone: bool
    data: tuple[int, ...]


@dataclass(slots=True)
class KeyAudit:
    """A key's parts. ``cells``: those it owns, its record first; subkeys' and security cells are not among them."""

    node: KeyNode
    cells: list[int]
    values: list[ValueRecord] = field(default_factory=list)
    subkeys: list[KeyNode] = field(default_factory=list)
    errors: list[DamagedError] = field(default_factory=list)

    def refuse_damage(self) -> None:
        """Raise the first :class:`DamagedError` that is more than a warning."""
        for error in self.errors:
            if error.code not in WARNING_CODES:
                raise error


def audit_key(cells: Cells, node: KeyNode, *, values: bool = True, subkeys: bool = True) -> KeyAudit:
    """Look at a key's own record, and as asked at its values and at its lists of subkeys."""
    return _Auditor(cells, node).audit(values=values, subkeys=subkeys)


class _EnoughError(Exception):
    """So much is wrong that the rest is not looked at."""


class _Auditor:
    def __init__(self, cells: Cells, node: KeyNode) -> None:
        self._cells = cells
        self._node = node
        self._found = KeyAudit(node, [node.cell])
        self._left = cells.hbins_size  # bytes: parts of a key that overlap are not looked at for ever

    def audit(self, *, values: bool, subkeys: bool) -> KeyAudit:
        looks = [self._record]
        if values:
            looks.append(self._values)
        if subkeys:
            looks.append(self._subkeys)
        looks.append(self._own)
        with suppress(_EnoughError):
            for look in looks:
                try:
                    look()
                except DamagedError as error:
                    self._note(error)
        return self._found

    def _own(self) -> None:
        if len(set(self._found.cells)) < len(self._found.cells):
            self._wrong("hive-cell-shared", "a cell has two uses in one key", self._node.cell)

    def _note(self, error: DamagedError) -> None:
        self._found.errors.append(error)
        if len(self._found.errors) >= PROBLEM_LIMIT:
            raise _EnoughError

    def _spend(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            self._wrong("hive-cell-shared", "a key claims more than the hive has", self._node.cell)
            raise _EnoughError

    def _wrong(self, code: str, message: str, cell: int, *, expected: object = None, found: object = None) -> None:
        self._note(self._cells.damaged(code, message, cell, expected=expected, found=found))

    # --- the record itself -----------------------------------------------------------------------------------------

    def _record(self) -> None:
        node, cells = self._node, self._cells
        is_root = node.cell == cells.root
        if is_root and not node.flags & KEY_HIVE_ENTRY:
            self._wrong("hive-root-flag", "the root key is not marked as such", node.cell, found=f"{node.flags:#x}")
        if not is_root and node.flags & KEY_HIVE_ENTRY:
            self._wrong("hive-key", "a key that is no root is marked as one", node.cell, found=f"{node.flags:#x}")
        if not node.name and not is_root:
            self._wrong("hive-key-name", "a key has no name", node.cell)
        if node.utf16_name_length > KEY_NAME_LIMIT * 2 or node.name_length % (1 if node.compressed else 2):
            self._wrong("hive-key-name", "a key's name has an impossible length", node.cell, found=node.name_length)
        if node.name and not node.compressed and is_latin(node.name):
            self._wrong("hive-key-name", "a key's name is stored as UTF-16 without need", node.cell)
        if node.class_name != NIL and node.class_length:
            cells.require(node.class_name, node.class_length, "a key's class name")
            self._found.cells.append(node.class_name)

    # --- values ----------------------------------------------------------------------------------------------------

    def _values(self) -> None:
        node = self._node
        if node.flags & KEY_PREDEFINED_HANDLE:
            return
        if not node.value_count:
            if node.value_list != NIL:
                self._wrong("hive-value-count", "a key that has no values has a list of them", node.cell)
            return
        size = node.value_count * _VALUE_ELEMENT.size
        listed = self._cells.read(node.value_list, size, "a list of values")
        self._found.cells.append(node.value_list)
        names: set[str] = set()
        longest_name = longest_data = 0
        for (cell,) in _VALUE_ELEMENT.iter_unpack(listed):
            self._spend(_VALUE.size)
            try:
                value, name_length = self._value(cell)
            except DamagedError as error:
                self._note(error)
                continue
            folded = fold(value.name)
            if folded in names:
                self._wrong("hive-value-twice", "a key has two values of one name", cell, found=repr(value.name))
            names.add(folded)
            longest_name = max(longest_name, name_length)
            longest_data = max(longest_data, value.size)
        if longest_name > node.max_value_name_length or longest_data > node.max_value_data_length:
            self._wrong(
                "hive-max-lengths", "a key's longest value is longer than it says", node.cell,
                expected=f"at least {longest_name} and {longest_data}",
                found=f"{node.max_value_name_length} and {node.max_value_data_length}",
            )  # fmt: skip

    def _value(self, cell: int) -> tuple[ValueRecord, int]:
        """Return a value, and the bytes that its name has in UTF-16."""
        record = self._cells.record(cell, _USUAL)
        if len(record) < _VALUE.size:
            raise self._cells.damaged("hive-cell-size", "a cell is too small for a value", cell, found=len(record))
        signature, length, stated, place, kind, flags, _ = _VALUE.unpack_from(record)
        if signature != VALUE_SIGNATURE:
            raise self._cells.damaged("hive-value", "this is no value", cell, expected="vk", found=signature.hex())
        if _VALUE.size + length > len(record):
            if length > VALUE_NAME_LIMIT:
                raise self._cells.damaged("hive-value", "a value's name is too long", cell, found=length)
            self._spend(length)
            record = self._cells.read(cell, _VALUE.size + length, "a value's name")
        compressed = bool(flags & VALUE_COMPRESSED_NAME)
        name = decode_name(record[_VALUE.size : _VALUE.size + length], compressed=compressed)
        if length and not compressed and (length % 2 or is_latin(name)):
            self._wrong("hive-value", "a value's name is stored as UTF-16 without need", cell)
        self._found.cells.append(cell)
        size, inline = stated & ~DATA_INLINE, bool(stated & DATA_INLINE)
        tombstone = bool(flags & VALUE_TOMBSTONE)
        data: tuple[int, ...] = ()
        if inline and size > _INDEX.size:
            self._wrong("hive-value-data", "a value holds more in itself than it can", cell, found=size)
        elif not inline and not tombstone:
            data = self._data(cell, size, place)
        value = ValueRecord(cell, name, kind, size, inline, place, tombstone, data)
        self._found.values.append(value)
        return value, length * 2 if compressed else length

    def _data(self, cell: int, size: int, place: int) -> tuple[int, ...]:
        if size <= _INDEX.size:
            self._wrong("hive-value-data", "data that a value can hold in itself lies outside", cell, found=size)
            if not size:
                return ()
        if size > BIG_DATA_SEGMENT and (self._cells.minor or 0) >= BIG_DATA_MINOR_VERSION:
            taken = self._big_data(size, place)
        else:
            self._cells.require(place, size, "a value's data")
            taken = (place,)
        self._found.cells += taken
        return taken

    def _big_data(self, size: int, place: int) -> tuple[int, ...]:
        cells = self._cells
        signature, count, table = _BIG_DATA.unpack(cells.read(place, _BIG_DATA.size, "a list of data"))
        needed = -(-size // BIG_DATA_SEGMENT)
        if signature != BIG_DATA_SIGNATURE or count != needed:
            raise cells.damaged(
                "hive-big-data", "the data of a long value is not in segments", place,
                expected=f"db and {needed} segments", found=f"{signature.hex()} and {count}",
            )  # fmt: skip
        listed = cells.read(table, _SEGMENT.size * count, "a list of data segments")
        segments = [segment for (segment,) in _SEGMENT.iter_unpack(listed)]
        self._spend(size)
        for number, segment in enumerate(segments):
            cells.require(segment, min(BIG_DATA_SEGMENT, size - number * BIG_DATA_SEGMENT), "a segment of data")
        return place, table, *segments

    # --- subkeys ---------------------------------------------------------------------------------------------------

    def _subkeys(self) -> None:
        node = self._node
        if not node.subkey_count:
            if node.subkey_list != NIL:
                self._wrong("hive-subkey-count", "a key that has no subkeys has a list of them", node.cell)
            return
        count, before = 0, ""
        longest_name = longest_class = 0
        for leaf in self._leaves():
            for index, cell in enumerate(leaf.cells()):
                count += 1
                try:
                    child = KeyNode(self._cells, cell)
                except DamagedError as error:
                    self._note(error)
                    continue
                self._found.subkeys.append(child)
                before = self._listed(child, leaf, index, before)
                longest_name = max(longest_name, child.utf16_name_length)
                longest_class = max(longest_class, child.class_length if child.class_name != NIL else 0)
        if count != node.subkey_count:
            self._wrong(
                "hive-subkey-count", "a key's number of subkeys is not that of its list", node.cell,
                expected=node.subkey_count, found=count,
            )  # fmt: skip
        if longest_name > node.max_name_length:
            self._wrong(
                "hive-max-name-length", "a key's subkey has a longer name than it says", node.cell,
                expected=f"at least {longest_name}", found=node.max_name_length,
            )  # fmt: skip
        if longest_class > node.max_class_length:
            self._wrong(
                "hive-max-lengths", "a key's subkey has a longer class than it says", node.cell,
                expected=f"at least {longest_class}", found=node.max_class_length,
            )  # fmt: skip

    def _listed(self, child: KeyNode, leaf: Leaf, index: int, before: str) -> str:
        """Check one subkey against its place in the list; return its folded name."""
        folded = fold(child.name)
        if folded == before and folded:
            self._wrong("hive-subkey-twice", "a key has two subkeys of one name", child.cell, found=repr(child.name))
        elif folded < before:
            self._wrong(
                "hive-subkey-order", "a key's subkeys are not in order", self._node.cell, found=repr(child.name)
            )
        if not leaf.may_name(index, folded):
            self._wrong("hive-subkey-hash", "the hash or hint of a key is wrong", child.cell, found=repr(child.name))
        if child.parent != self._node.cell:
            self._wrong(
                "hive-key-parent", "a key names another parent than the one that lists it", child.cell,
                expected=f"{self._node.cell:#x}", found=f"{child.parent:#x}",
            )  # fmt: skip
        return folded

    def _leaves(self) -> Iterator[Leaf]:
        place = self._node.subkey_list
        kind, elements = self._list(place)
        if kind != INDEX_ROOT:
            yield Leaf(kind, elements)
            return
        seen: set[int] = set()
        for (leaf,) in _INDEX.iter_unpack(elements):
            try:
                if leaf in seen:
                    raise self._cells.damaged("hive-subkey-list", "a leaf of subkeys is listed twice", leaf)
                seen.add(leaf)
                leaf_kind, leaf_elements = self._list(leaf)
            except DamagedError as error:
                self._note(error)
                continue
            if leaf_kind == INDEX_ROOT:
                self._wrong("hive-subkey-list", "a list of leaves is where a leaf belongs", leaf)
                continue
            yield Leaf(leaf_kind, leaf_elements)

    def _list(self, cell: int) -> tuple[bytes, bytes]:
        kind, count = _LIST.unpack(self._cells.read(cell, _LIST.size, "a subkey list"))
        element = ELEMENTS.get(kind)
        if element is None:
            raise self._cells.damaged("hive-subkey-list", "this is no list of subkeys", cell, found=kind.hex())
        if not count:
            self._wrong("hive-subkey-list", "a list of subkeys is empty", cell)
        self._spend(_LIST.size + count * element.size)
        data = self._cells.read(cell, _LIST.size + count * element.size, "its subkeys")
        self._found.cells.append(cell)
        return kind, data[_LIST.size :]
