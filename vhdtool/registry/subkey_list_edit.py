"""Changes to a key's list of subkeys: leaves grow, split below a list of leaves (ri), shrink and go.

Rules: a list keeps its kind of leaves; a new one has hash leaves from version 1.5 on, fast leaves before. A full leaf
is split in halves. No leaf is empty, and no list of leaves lies below another. Source: regf specification; limits in
:data:`vhdtool.registry.format.LEAF_LIMITS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vhdtool.layout import packed
from vhdtool.registry.cell import Cells
from vhdtool.registry.edited_cells import EditedCells
from vhdtool.registry.format import (
    FAST_ELEMENT,
    FAST_LEAF,
    HASH_ELEMENT,
    HASH_LEAF,
    HASH_LEAF_MINOR_VERSION,
    INDEX_ELEMENT,
    INDEX_ROOT,
    LEAF_LIMITS,
    NIL,
    SUBKEY_LIST,
)
from vhdtool.registry.key_node import KeyNode
from vhdtool.registry.names import fold, name_hash
from vhdtool.registry.subkey_list import ELEMENTS

_LIST = packed(SUBKEY_LIST)
_INDEX = packed(INDEX_ELEMENT)
_FAST = packed(FAST_ELEMENT)
_HASH = packed(HASH_ELEMENT)
_HINT_LENGTH = _FAST.size - _INDEX.size


@dataclass(slots=True)
class _List:
    """A leaf, or a list of leaves, as it lies in its cell."""

    cell: int
    kind: bytes
    elements: list[bytes]

    @property
    def stored(self) -> bytes:
        return _LIST.pack(self.kind, len(self.elements)) + b"".join(self.elements)

    def child(self, index: int) -> int:
        return int(_INDEX.unpack_from(self.elements[index])[0])


def insert_subkey(cells: EditedCells, parent: KeyNode, name: str, child: int) -> int:
    """List a key below ``parent``; return the cell of the parent's list as it is then.

    The list is sound and has no key of that name.
    """
    if not parent.subkey_count:
        kind = HASH_LEAF if cells.minor >= HASH_LEAF_MINOR_VERSION else FAST_LEAF
        return _store(cells, _List(NIL, kind, [_element(kind, name, child)]), parent.cell)
    root, leaves = _lists(cells.reader(), parent.subkey_list)
    number, index = _place(cells.reader(), leaves, fold(name))
    leaf = leaves[number]
    leaf.elements.insert(index, _element(leaf.kind, name, child))
    parts = _split(leaf)
    stored = [_store(cells, part, parent.cell) for part in parts]
    if root is None:
        if len(stored) == 1:
            return stored[0]
        root = _List(NIL, INDEX_ROOT, [])
    root.elements[number : number + 1] = [_INDEX.pack(cell) for cell in stored]
    return _store(cells, root, parent.cell)


def remove_subkey(cells: EditedCells, parent: KeyNode, child: int) -> int:
    """Take a key out of the list of ``parent``; return the cell of the list, NIL where it was the last."""
    root, leaves = _lists(cells.reader(), parent.subkey_list)
    packed_child = _INDEX.pack(child)
    for number, leaf in enumerate(leaves):
        kept = [element for element in leaf.elements if not element.startswith(packed_child)]
        if len(kept) == len(leaf.elements):
            continue
        leaf.elements = kept
        if kept:
            _store(cells, leaf, parent.cell)
            return parent.subkey_list
        cells.free(leaf.cell)
        if root is None:
            return NIL
        del root.elements[number]
        if root.elements:
            return _store(cells, root, parent.cell)
        cells.free(root.cell)
        return NIL
    raise ValueError("the key is in its parent's list")


def _lists(cells: Cells, cell: int) -> tuple[_List | None, list[_List]]:
    """Return the list of leaves, where there is one, and the leaves."""
    first = _read(cells, cell)
    if first.kind != INDEX_ROOT:
        return None, [first]
    return first, [_read(cells, first.child(index)) for index in range(len(first.elements))]


def _read(cells: Cells, cell: int) -> _List:
    kind, count = _LIST.unpack(cells.read(cell, _LIST.size, "a subkey list"))
    size = ELEMENTS[kind].size
    data = cells.read(cell, _LIST.size + count * size, "its subkeys")
    return _List(cell, kind, [data[at : at + size] for at in range(_LIST.size, len(data), size)])


def _store(cells: EditedCells, listed: _List, near: int) -> int:
    """Write a list where it was, or where it finds room: with some to spare, so that not each key moves it."""
    data = listed.stored
    if listed.cell == NIL:
        return cells.store(data, near)
    spare = len(listed.elements) // 8 * len(listed.elements[0])
    return cells.store_again(listed.cell, data, room=len(data) + spare)


def _place(cells: Cells, leaves: Sequence[_List], folded: str) -> tuple[int, int]:
    """Return the leaf that a name belongs to, and where in it."""
    low, high = 0, len(leaves) - 1
    while low < high:  # the last leaf that does not begin behind the name
        middle = (low + high + 1) // 2
        if _name(cells, leaves[middle], 0) <= folded:
            low = middle
        else:
            high = middle - 1
    number = low
    low, high = 0, len(leaves[number].elements)
    while low < high:
        middle = (low + high) // 2
        if _name(cells, leaves[number], middle) < folded:
            low = middle + 1
        else:
            high = middle
    return number, low


def _name(cells: Cells, leaf: _List, index: int) -> str:
    return fold(KeyNode(cells, leaf.child(index)).name)


def _split(leaf: _List) -> list[_List]:
    """Cut a leaf that has more keys than it may have into equal parts; the first keeps the cell."""
    count, limit = len(leaf.elements), LEAF_LIMITS[leaf.kind]
    if count <= limit:
        return [leaf]
    parts = max(2, -(-count // limit))
    bounds = [count * part // parts for part in range(parts + 1)]
    return [
        _List(leaf.cell if not first else NIL, leaf.kind, leaf.elements[first:last]) for first, last in pairwise(bounds)
    ]


def _element(kind: bytes, name: str, child: int) -> bytes:
    if kind == HASH_LEAF:
        return _HASH.pack(child, name_hash(name))
    if kind == FAST_LEAF:
        return _FAST.pack(child, name_hint(name))
    return _INDEX.pack(child)


def name_hint(name: str) -> bytes:
    """Return what a fast leaf keeps of a name: its first four characters, or nothing.

    A hint with a character above U+00FF is left void, for Windows compares names by it ("Fast leaf"; ReactOS,
    cmindex.c): a zero in the middle would stand for the name's end.
    """
    start = name[:_HINT_LENGTH]
    return bytes(_HINT_LENGTH) if max(start) > "\xff" else start.encode("latin-1").ljust(_HINT_LENGTH, b"\0")
