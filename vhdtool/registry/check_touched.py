"""The gate behind each edit: everything that was touched is looked at again, and all else must be as it was.

It compares two states of a hive. Which pages differ it finds by itself; of the bins they lie in, each cell must be

- part of a key that was touched (which :func:`audit_key` finds sound), or a security cell that such a key uses, or
- the same, byte by byte, as before, and not part of what a touched key had before.

So a cell that is lost, used twice, or changed behind the editor's back is found without a walk through the hive.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping

from vhdtool.errors import DamagedError, Problem
from vhdtool.registry.base_block import parse_base_block
from vhdtool.registry.cell import Cells
from vhdtool.registry.format import BASE_BLOCK_SIZE, KEY_SECURITY, NIL, PAGE_SIZE, SECTOR_SIZE
from vhdtool.registry.hbin import HEADER_SIZE, Bin, Bins
from vhdtool.registry.key import Key
from vhdtool.registry.key_audit import WARNING_CODES, audit_key
from vhdtool.registry.key_node import KeyNode
from vhdtool.registry.security_cell import read_security
from vhdtool.registry.touched import Part, Touched

_WHOLE = 1 << 31
_SECURITY_SIZE = int(KEY_SECURITY.sizeof())


def check_touched(before: Cells, after: Cells, touched: Touched) -> tuple[Problem, ...]:
    """Check what lies between two states of a hive; ``after`` lies over ``before``.

    ``touched``: the keys that were changed. Faults that the hive had before, elsewhere, are not told. ``after`` is a
    reader that nothing was noted in yet; it must be of the state after the base block was written.

    Raises :class:`DamagedError` where an hbin that was written to was damaged before: Windows does not load a hive
    whose cells do not fill their bins.
    """
    gate = _Gate(before, after, touched)
    gate.look_before()
    try:
        gate.check()
    except DamagedError as error:
        after.note(error)
    return tuple(problem for problem in after.problems if problem.code not in WARNING_CODES)


class _Gate:
    def __init__(self, before: Cells, after: Cells, touched: Touched) -> None:
        self._before = before
        self._after = after
        self._touched = touched
        self._owned_before = _Owned()
        self._owned_after = _Owned()
        self._kept_security: set[int] = set()
        self._freed_security: set[int] = set()
        self._cells_before: dict[Bin, dict[int, int]] = {}  # of bins with pages that differ: offset, stored size

    def look_before(self) -> None:
        """Look at what was touched, as it was."""
        self._owned_before.gather(self._before, self._touched.before, note=False)
        bins = Bins(self._before.pages, self._before.hbins_size, self._before.path)
        end = 0
        for number in self._after.pages.laid:
            offset = number * PAGE_SIZE - BASE_BLOCK_SIZE
            if end <= offset < self._before.hbins_size and self._differs(number):
                one = bins.holding(offset)
                self._cells_before[one] = dict(bins.cells(one))
                end = one.end
        touched = list(self._cells_before)
        used = {cell for cells in self._cells_before.values() for cell, size in cells.items() if size < 0}
        for cell in self._owned_before.cells:
            if cell not in used and _holds(touched, cell):
                raise self._before.damaged("hive-cell-out-of-range", "an offset leads into the middle of a cell", cell)

    def check(self) -> None:
        """Look at what was touched, as it is, and compare."""
        self._owned_after.gather(self._after, self._touched.after, note=True)
        self._check_names()
        self._check_base_block()
        self._check_security()
        bins = Bins(self._after.pages, self._after.hbins_size, self._after.path)
        checked = [*self._cells_before, *bins.walk(self._before.hbins_size)]
        used_before: set[int] = set()
        used_after: set[int] = set()
        for one in checked:
            sizes_before, sizes_after = self._cells_before.get(one, {}), dict(bins.cells(one))
            self._check_head(one)
            self._check_cells(sizes_before, sizes_after)
            used_before |= {cell for cell, size in sizes_before.items() if size < 0}
            used_after |= {cell for cell, size in sizes_after.items() if size < 0}
        self._check_owned(checked, used_before, used_after)

    def _wrong(self, code: str, message: str, cell: int, *, expected: object = None, found: object = None) -> None:
        self._after.note(self._after.damaged(code, message, cell, expected=expected, found=found))

    # --- keys ------------------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        """Each touched key is found by its name, below its parent, and is the one that it was."""
        for node in self._owned_after.nodes.values():
            was = self._owned_before.nodes.get(node.cell)
            if was is not None and not self._touched.is_created(node.cell) and _fixed(was) != _fixed(node):
                self._wrong("hive-key", "what no edit is about was changed in a key", node.cell)
            if node.cell == self._after.root:
                continue
            try:
                found = Key(self._after, node.parent, None).subkey(node.name)
            except DamagedError as error:
                self._after.note(error)
                continue
            if found is None or found.offset != BASE_BLOCK_SIZE + node.cell:
                self._wrong("hive-key-lost", "a key is not found by its name", node.cell, found=repr(node.name))

    def _check_base_block(self) -> None:
        base = parse_base_block(self._after.pages.read_at(0, SECTOR_SIZE))
        if base is None or not base.clean:
            self._wrong("hive-base-block", "the base block is not that of a hive written to its end", NIL)
        elif (base.hbins_size, base.root_cell) != (self._after.hbins_size, self._before.root):
            self._wrong("hive-bins-size", "the base block tells of another hive", NIL)

    def _check_security(self) -> None:
        """Compare the counts of security cells with the uses of the keys, and look at the ring beside them."""
        uses_before = Counter(node.security for node in self._owned_before.nodes.values())
        uses_after = Counter(node.security for node in self._owned_after.nodes.values())
        changed = {cell for cell in uses_before | uses_after if uses_before[cell] != uses_after[cell]}
        beside: set[int] = set()
        for cell in changed:
            was = read_security(self._before, cell)
            expected = was.references + uses_after[cell] - uses_before[cell]
            if expected == 0:
                self._freed_security.add(cell)
                beside |= {was.next, was.previous}
            elif (found := read_security(self._after, cell).references) != expected:
                self._wrong(
                    "hive-security-count", "a security cell counts other than its uses", cell,
                    expected=expected, found=found,
                )  # fmt: skip
        beside -= self._freed_security
        self._kept_security = (changed | beside) - self._freed_security
        for cell in self._kept_security:
            self._check_ring(cell, closed=cell in beside)

    def _check_ring(self, cell: int, *, closed: bool) -> None:
        """A security cell is as it was, but for its count; one beside a cell that is gone has new neighbours."""
        was, found = read_security(self._before, cell), read_security(self._after, cell)
        if closed:
            whole = read_security(self._after, found.next).previous == cell
            whole = whole and read_security(self._after, found.previous).next == cell
        else:
            whole = (found.next, found.previous) == (was.next, was.previous)
        if not whole:
            self._wrong("hive-security", "the ring of security cells is broken", cell)
        if self._before.record(cell, _WHOLE)[_SECURITY_SIZE:] != self._after.record(cell, _WHOLE)[_SECURITY_SIZE:]:
            self._wrong("hive-security", "a security descriptor was changed", cell)

    # --- bins ------------------------------------------------------------------------------------------------------

    def _differs(self, page: int) -> bool:
        return self._before.pages.read_at(page * PAGE_SIZE, PAGE_SIZE) != self._after.pages.page(page)

    def _check_head(self, one: Bin) -> None:
        place = BASE_BLOCK_SIZE + one.offset
        same = self._before.pages.read_at(place, HEADER_SIZE) == self._after.pages.read_at(place, HEADER_SIZE)
        if one.offset < self._before.hbins_size and not same:
            self._wrong("hive-bin", "the head of an hbin was changed", one.offset)

    def _check_cells(self, before: Mapping[int, int], after: Mapping[int, int]) -> None:
        for cell, size in after.items():
            if size > 0:
                self._check_free(cell, size, before, after)
            elif cell not in self._owned_after.cells and cell not in self._kept_security:
                self._check_same(cell, size, before)
        for cell, size in before.items():
            gone = size < 0 and after.get(cell, 0) >= 0
            if gone and cell not in self._owned_before.cells and cell not in self._freed_security:
                self._wrong("hive-cell-lost", "a cell was freed that no edit let go of", cell)

    def _check_free(self, cell: int, size: int, before: Mapping[int, int], after: Mapping[int, int]) -> None:
        """Free cells that touch are one; those that were apart before, where nothing changed, are left alone."""
        following = after.get(cell + size, 0)
        if following > 0 and not (before.get(cell) == size and before.get(cell + size) == following):
            self._wrong("hive-free-cells", "two free cells touch", cell)

    def _check_same(self, cell: int, size: int, before: Mapping[int, int]) -> None:
        if cell in self._owned_before.cells:
            self._wrong("hive-cell-orphan", "a cell is in use that no key uses any more", cell)
        elif before.get(cell) != size:
            self._wrong("hive-cell-orphan", "a cell is in use that no key uses", cell)
        elif self._before.record(cell, _WHOLE) != self._after.record(cell, _WHOLE):
            self._wrong("hive-cell-changed", "a cell was changed that no edit was about", cell)

    def _check_owned(self, bins: list[Bin], used_before: set[int], used_after: set[int]) -> None:
        """What touched keys consist of are whole cells, and no one else's."""
        for cell in self._owned_after.cells:
            if _holds(bins, cell):
                if cell not in used_after:
                    self._wrong("hive-cell-out-of-range", "an offset leads into the middle of a cell", cell)
                mine = cell in self._owned_before.cells or cell in self._freed_security
                if cell in used_before and not mine:
                    self._wrong("hive-cell-shared", "a cell belongs to a key that was not touched", cell)
            elif cell not in self._owned_before.cells:
                self._wrong("hive-cell-shared", "a cell belongs to a key that was not touched", cell)


class _Owned:
    """The cells that touched keys consist of, in one state of the hive."""

    def __init__(self) -> None:
        self.nodes: dict[int, KeyNode] = {}
        self.cells: dict[int, int] = {}

    def gather(self, cells: Cells, keys: Mapping[int, Part], *, note: bool) -> None:
        for key, parts in keys.items():
            node = KeyNode(cells, key)
            self.nodes[key] = node
            audit = audit_key(cells, node, values=Part.VALUES in parts, subkeys=Part.SUBKEYS in parts)
            for error in audit.errors if note else ():
                cells.note(error)
            for cell in audit.cells:
                if self.cells.setdefault(cell, key) != key and note:
                    cells.note(cells.damaged("hive-cell-shared", "a cell belongs to two keys", cell))


def _fixed(node: KeyNode) -> tuple[object, ...]:
    """What of a key stays as it is."""
    return (
        node.flags, node.parent, node.security, node.class_name, node.class_length, node.stored_name,
        node.access_bits, node.layer_bits, node.user_flags, node.debug, node.volatile_subkey_count,
        node.volatile_subkey_list,
    )  # fmt: skip


def _holds(bins: list[Bin], cell: int) -> bool:
    place = bisect_right(bins, cell, key=_offset) - 1
    return place >= 0 and cell < bins[place].end


def _offset(one: Bin) -> int:
    return one.offset
