"""Lists of subkeys: leaves of keys (lf, lh, li), and the list of leaves (ri).

Source: regf specification, "Index leaf", "Fast leaf", "Hash leaf", "Index root". The keys of all leaves together are
sorted; a hash leaf keeps a hash of each name, a fast leaf its first four characters, an index leaf nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from vhdtool.errors import DamagedError
from vhdtool.layout import packed
from vhdtool.registry.cell import PROBLEM_LIMIT, Cells
from vhdtool.registry.format import (
    FAST_ELEMENT,
    FAST_LEAF,
    HASH_ELEMENT,
    HASH_LEAF,
    INDEX_ELEMENT,
    INDEX_LEAF,
    INDEX_ROOT,
    SUBKEY_LIST,
)
from vhdtool.registry.names import folded_hash, hint_may_name

LONG_LIST = 64
"""A list of more elements belongs to one key only (see :mod:`vhdtool.registry.cell`)."""

_LIST = packed(SUBKEY_LIST)
_CELL = packed(INDEX_ELEMENT)
_FAST = packed(FAST_ELEMENT)
_HASH = packed(HASH_ELEMENT)
ELEMENTS = {INDEX_LEAF: _CELL, FAST_LEAF: _FAST, HASH_LEAF: _HASH, INDEX_ROOT: _CELL}


class Leaf:
    """One leaf: ``kind`` is its signature."""

    __slots__ = ("_elements", "_size", "kind")

    def __init__(self, kind: bytes, elements: bytes) -> None:
        self.kind = kind
        self._elements = elements
        self._size = ELEMENTS[kind].size

    def __len__(self) -> int:
        return len(self._elements) // self._size

    def cell(self, index: int) -> int:
        """The cell of a key."""
        return int(_CELL.unpack_from(self._elements, index * self._size)[0])

    def cells(self) -> Iterator[int]:
        """Yield the cells of the keys, in the leaf's order."""
        for element in ELEMENTS[self.kind].iter_unpack(self._elements):
            yield element[0]

    def may_name(self, index: int, folded: str) -> bool:
        """Tell whether the hash or hint of an element allows a name; an index leaf allows every name."""
        if self.kind == HASH_LEAF:
            return bool(_HASH.unpack_from(self._elements, index * self._size)[1] == folded_hash(folded))
        if self.kind == FAST_LEAF:
            return hint_may_name(_FAST.unpack_from(self._elements, index * self._size)[1], folded)
        return True

    def candidates(self, folded: str) -> Iterator[int]:
        """Yield the indexes of the elements whose hash or hint allows a name; none of an index leaf."""
        if self.kind == HASH_LEAF:
            yield from self._with_hash(folded_hash(folded))
        elif self.kind == FAST_LEAF:
            for index, (_, hint) in enumerate(_FAST.iter_unpack(self._elements)):
                if hint_may_name(hint, folded):
                    yield index

    def _with_hash(self, value: int) -> Iterator[int]:
        wanted = _HASH.pack(0, value)[_CELL.size :]
        place = self._elements.find(wanted)
        while place >= 0:
            index, inside = divmod(place, self._size)
            if inside == _CELL.size:
                yield index
            place = self._elements.find(wanted, place + 1)


class SubkeyList:
    """All leaves of a key, as one list. ``damaged``: leaves that can't be read, and why."""

    def __init__(self, leaves: tuple[Leaf, ...], damaged: tuple[DamagedError, ...]) -> None:
        self.leaves = leaves
        self.damaged = damaged
        self._starts = list(accumulate(map(len, leaves), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def cell(self, index: int) -> int:
        """The cell of a key, by its place in the whole list."""
        leaf, inside = self._place(index)
        return leaf.cell(inside)

    def may_name(self, index: int, folded: str) -> bool:
        """Tell whether the hash or hint of an element allows a name."""
        leaf, inside = self._place(index)
        return leaf.may_name(inside, folded)

    def has_mark(self, index: int) -> bool:
        """Tell whether an element has a hash or hint beside it."""
        return self._place(index)[0].kind != INDEX_LEAF

    def candidates(self, folded: str) -> Iterator[int]:
        """Yield the indexes of the keys whose hash or hint allows a name."""
        for start, leaf in zip(self._starts, self.leaves, strict=False):
            for index in leaf.candidates(folded):
                yield start + index

    def cells(self) -> Iterator[int]:
        """Yield the cells of the keys, in the list's order."""
        for leaf in self.leaves:
            yield from leaf.cells()

    def _place(self, index: int) -> tuple[Leaf, int]:
        number = bisect_right(self._starts, index) - 1
        return self.leaves[number], index - self._starts[number]


def read_subkey_list(cells: Cells, cell: int, owner: int) -> SubkeyList:
    """Read a key's list of subkeys. ``owner`` is the key's cell.

    Raises :class:`DamagedError` ``hive-subkey-list``, ``hive-cell-shared`` and those of cells; for a leaf below an
    ``ri`` that can't be read the error is kept in ``damaged``.
    """
    kind, elements = _read(cells, cell, owner)
    if kind != INDEX_ROOT:
        return SubkeyList((Leaf(kind, elements),), ())
    leaves, damaged, seen = [], [], set()
    left = cells.hbins_size
    for (leaf,) in _CELL.iter_unpack(elements):
        try:
            if leaf in seen:
                raise cells.damaged("hive-subkey-list", "a leaf of subkeys is listed twice", leaf)
            seen.add(leaf)
            leaf_kind, leaf_elements = _read(cells, leaf, owner)
            if leaf_kind == INDEX_ROOT:
                raise cells.damaged(
                    "hive-subkey-list", "a list of leaves is where a leaf belongs", leaf, expected="lf, lh or li"
                )
            left -= len(leaf_elements)
            if left < 0:
                damaged.append(cells.damaged("hive-subkey-list", "leaves of subkeys lie one in the other", leaf))
                break
            leaves.append(Leaf(leaf_kind, leaf_elements))
        except DamagedError as error:
            damaged.append(error)
            if len(damaged) >= PROBLEM_LIMIT:
                break
    return SubkeyList(tuple(leaves), tuple(damaged))


def _read(cells: Cells, cell: int, owner: int) -> tuple[bytes, bytes]:
    kind, count = _LIST.unpack(cells.read(cell, _LIST.size, "a subkey list"))
    element = ELEMENTS.get(kind)
    if element is None:
        raise cells.damaged(
            "hive-subkey-list", "this is no list of subkeys", cell, expected="lf, lh, li or ri", found=kind.hex()
        )
    if count > LONG_LIST and not cells.claim(cell, owner):
        raise cells.damaged("hive-cell-shared", "a list of subkeys belongs to two keys", cell)
    return kind, cells.read(cell, _LIST.size + count * element.size, "its subkeys")[_LIST.size :]
