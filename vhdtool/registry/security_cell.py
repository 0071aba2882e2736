"""Security cells (sk): a ring of them, each with the number of keys that use it.

Source: regf specification, "Key security". A count that is too low is the dangerous fault: letting go of what looks
like the last use would free a cell that other keys still name. chntpw leaves such counts. So a cell whose count comes
to 0 is freed only if no other key is found using it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass

from vhdtool.errors import DamagedError
from vhdtool.layout import offset_of, packed
from vhdtool.registry.cell import Cells
from vhdtool.registry.edited_cells import EditedCells
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    CELL,
    CELL_ALIGNMENT,
    KEY_DEPTH_LIMIT,
    KEY_NODE,
    KEY_SECURITY,
    KEY_SIGNATURE,
    PAGE_SIZE,
    SECURITY_SIGNATURE,
)
from vhdtool.registry.key_node import KeyNode
from vhdtool.registry.subkey_list import read_subkey_list

_SECURITY = packed(KEY_SECURITY)
_HEADER = int(CELL.sizeof())
_SECURITY_PLACE = offset_of(KEY_NODE, "security")
_CHUNK = 256  # pages that a search reads at once
_ASKED = 32  # siblings that are asked for their security cell


@dataclass(frozen=True, slots=True)
class SecurityCell:
    """An sk. ``references`` is what it says of the keys that use it; ``size`` the bytes of its descriptor."""

    cell: int
    next: int
    previous: int
    references: int
    size: int


def read_security(cells: Cells, cell: int) -> SecurityCell:
    """Read an sk. Raises :class:`DamagedError` ``hive-security`` and those of cells."""
    signature, _, after, before, references, size = _SECURITY.unpack(
        cells.read(cell, _SECURITY.size, "a security cell")
    )
    if signature != SECURITY_SIGNATURE:
        raise cells.damaged("hive-security", "this is no security cell", cell, expected="sk", found=signature.hex())
    cells.require(cell, _SECURITY.size + size, "a security descriptor")
    return SecurityCell(cell, after, before, references, size)


def inherited_security(cells: Cells, parent: KeyNode) -> int:
    """Choose the sk of a new key: what more than half of its siblings have, else that of the parent.

    Siblings that were created below the same parent inherited the same; the parent's own descriptor has entries that
    are not meant for those below it. A few siblings, evenly spread, speak for all.
    """
    if not parent.subkey_count:
        return parent.security
    listed = read_subkey_list(cells, parent.subkey_list, parent.cell)
    step = -(-len(listed) // _ASKED)
    asked = [KeyNode(cells, listed.cell(index)).security for index in range(0, len(listed), step)]
    ((cell, count),) = Counter(asked).most_common(1)
    return cell if count * 2 > len(asked) else parent.security


def add_use(cells: EditedCells, cell: int) -> None:
    """Count one key more. Raises as :func:`read_security`."""
    found = read_security(cells.reader(), cell)
    cells.set_fields(cell, KEY_SECURITY, references=found.references + 1)


def check_uses(cells: Cells, uses: Counter[int], gone: Set[int]) -> None:
    """Make sure that the uses of the keys ``gone`` can be taken away, before anything is changed.

    Raises as :func:`read_security`, and :class:`DamagedError` ``hive-security-count`` where a count is too low: for
    a count that would come to 0 the whole hive is read once, to see that no other key uses the cell.
    """
    unused = set()
    for cell, count in uses.items():
        found = read_security(cells, cell)
        if found.references < count:
            raise _low_count(cells, cell, found.references)
        if found.references > count:
            continue
        unused.add(cell)
        for neighbour, back in ((found.next, "previous"), (found.previous, "next")):
            if getattr(read_security(cells, neighbour), back) != cell:
                raise cells.damaged("hive-security", "the ring of security cells is broken", cell)
    for node in _users(cells, unused) if unused else ():
        if node.cell not in gone:
            raise _low_count(cells, node.security, uses[node.security])


def drop_uses(cells: EditedCells, uses: Counter[int]) -> None:
    """Take away the uses of keys that are gone, and free the cells that nobody uses any more.

    To be called after :func:`check_uses`.
    """
    for cell, count in uses.items():
        found = read_security(cells.reader(), cell)
        if found.references > count:
            cells.set_fields(cell, KEY_SECURITY, references=found.references - count)
            continue
        cells.set_fields(found.previous, KEY_SECURITY, next=found.next)
        cells.set_fields(found.next, KEY_SECURITY, previous=found.previous)
        cells.free(cell)


def _low_count(cells: Cells, cell: int, count: int) -> DamagedError:
    return cells.damaged("hive-security-count", "more keys use a security cell than it counts", cell, found=count)


def _users(cells: Cells, wanted: Set[int]) -> Iterator[KeyNode]:
    """Yield keys of the tree that use one of the cells, found by their look: the whole hive is read once."""
    signature = re.compile(re.escape(KEY_SIGNATURE))
    for start in range(0, cells.hbins_size, _CHUNK * PAGE_SIZE):
        length = min(_CHUNK * PAGE_SIZE, cells.hbins_size - start)
        data = cells.pages.read_at(BASE_BLOCK_SIZE + start, length)
        for match in signature.finditer(data):
            cell = start + match.start() - _HEADER
            if cell % CELL_ALIGNMENT:
                continue
            field = data[match.start() + _SECURITY_PLACE : match.start() + _SECURITY_PLACE + 4]
            if len(field) == 4 and int.from_bytes(field, "little") not in wanted:
                continue
            try:
                node = KeyNode(cells, cell)
            except DamagedError:
                continue  # it only looked like a key
            if node.security in wanted and _is_in_tree(cells, node):
                yield node


def _is_in_tree(cells: Cells, node: KeyNode) -> bool:
    """Tell whether a record is a key of the tree, and not what a deleted one left behind."""
    try:
        for _ in range(KEY_DEPTH_LIMIT):
            if node.cell == cells.root:
                return True
            parent = KeyNode(cells, node.parent)
            if not parent.subkey_count:
                return False
            listed = read_subkey_list(cells, parent.subkey_list, parent.cell)
            if node.cell not in listed.cells():
                return False
            node = parent
    except DamagedError:
        return False
    return False
