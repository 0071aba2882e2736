"""The strict check of a whole hive: everything that genuine hives keep to, held against each bin, cell and key.

Windows itself loads hives that break some of these rules, and repairs others. Of 148 hives that others collected the
rules here leave 104 without a finding; the rest are dirty, or damaged on purpose. What a hive must not show, beside
broken structures: cells that no key uses, or two; free cells that touch; names out of order, twice, or with a wrong
hash; wrong counts of keys, values and uses of security cells; too small maxima; a root that is not marked as one.

The whole hive is read, and some 100 bytes of memory are needed for each of its cells: this is for tests, and for hives
one has doubts about. Behind an edit stands :mod:`check_touched`.
"""

from __future__ import annotations

from collections import Counter

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, Problem
from vhdtool.registry.base_block import BaseBlock, parse_base_block
from vhdtool.registry.cell import Cells
from vhdtool.registry.check_touched import check_touched
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    CELL_ALIGNMENT,
    KEY_DEPTH_LIMIT,
    MAJOR_VERSION,
    NEWEST_MINOR_VERSION,
    NIL,
    OLDEST_MINOR_VERSION,
    PAGE_SIZE,
    SECTOR_SIZE,
)
from vhdtool.registry.hbin import Bins
from vhdtool.registry.key_audit import WARNING_CODES, KeyAudit, audit_key
from vhdtool.registry.key_node import KeyNode
from vhdtool.registry.pages import HivePages
from vhdtool.registry.security_cell import read_security

__all__ = ["WARNING_CODES", "check_hive", "check_touched"]

ORPHANS_TOLD = 20
"""Cells that no key uses: so many are told one by one."""


def check_hive(source: ByteSource, *, path: str = "hive") -> tuple[Problem, ...]:
    """Return all that is wrong with a hive's file as it lies there, at most 1000 findings; logs are not looked at.

    Those of :data:`WARNING_CODES` are found in genuine hives too. Reading takes about 0.3 s for each MiB.
    """
    base = parse_base_block(source.read_at(0, SECTOR_SIZE))
    if base is None:
        return (Problem("not-a-hive", "this is no registry hive: it lacks the signature regf", path, 0),)
    return _Checker(source, base, path).check()


class _Checker:
    def __init__(self, source: ByteSource, base: BaseBlock, path: str) -> None:
        pages = HivePages(source, path)
        there = max(0, source.size - BASE_BLOCK_SIZE) // PAGE_SIZE * PAGE_SIZE
        self._base = base
        self._cells = Cells(pages, min(base.hbins_size, there), base.root_cell, path, base.minor)
        self._bins = Bins(pages, self._cells.hbins_size, path)
        self._there = there
        self._sizes: dict[int, int] = {}  # of the cells in use
        self._owners: dict[int, int] = {}
        self._uses: Counter[int] = Counter()

    def check(self) -> tuple[Problem, ...]:
        self._check_base_block()
        whole = self._check_bins()
        try:
            self._check_keys()
            self._check_security()
        except DamagedError as error:
            self._cells.note(error)
        if whole:
            self._check_orphans()
        return self._cells.problems

    def _wrong(self, code: str, message: str, cell: int, *, expected: object = None, found: object = None) -> None:
        self._cells.note(self._cells.damaged(code, message, cell, expected=expected, found=found))

    def _check_base_block(self) -> None:
        base = self._base
        if not base.valid:
            self._wrong("hive-base-block", "the base block has a wrong checksum", NIL)
        if base.primary_sequence != base.secondary_sequence:
            self._wrong(
                "hive-dirty", "the hive was not written to its end", NIL,
                expected=base.primary_sequence, found=base.secondary_sequence,
            )  # fmt: skip
        known = base.major == MAJOR_VERSION and OLDEST_MINOR_VERSION <= base.minor <= NEWEST_MINOR_VERSION
        if not known or base.file_type:
            self._wrong("hive-version", "the hive has no known version, or is a log", NIL)
        if not base.hbins_size or base.hbins_size % PAGE_SIZE:
            self._wrong("hive-bins-size", "the hbins have an impossible size", NIL, found=f"{base.hbins_size:#x}")
        if base.hbins_size > self._there:
            self._wrong(
                "hive-truncated",
                "the hive is cut off",
                NIL,
                expected=f"{base.hbins_size:#x}",
                found=f"{self._there:#x}",
            )

    def _check_bins(self) -> bool:
        """Walk bins and cells; tell whether all could be read."""
        whole = True
        try:
            for one in self._bins.walk():
                try:
                    self._check_cells(self._bins.cells(one))
                except DamagedError as error:
                    self._cells.note(error)
                    whole = False
        except DamagedError as error:
            self._cells.note(error)
            return False
        return whole

    def _check_cells(self, cells: list[tuple[int, int]]) -> None:
        free_end = -1
        for cell, size in cells:
            if size < 0:
                self._sizes[cell] = -size
                continue
            if cell == free_end:
                self._wrong("hive-free-cells", "two free cells touch", cell)
            free_end = cell + size

    # --- keys ------------------------------------------------------------------------------------------------------

    def _check_keys(self) -> None:
        root = KeyNode(self._cells, self._base.root_cell)
        left = self._cells.hbins_size // CELL_ALIGNMENT * 2  # cells, each told of once more than it should be
        waiting = [(root, 0)]
        while waiting:
            node, depth = waiting.pop()
            if depth >= KEY_DEPTH_LIMIT:
                self._wrong("hive-too-deep", "keys are nested too deep", node.cell)
                continue
            audit = audit_key(self._cells, node)
            for error in audit.errors:
                self._cells.note(error)
            left -= len(audit.cells) + len(audit.subkeys)
            if left < 0:
                raise self._cells.damaged("hive-cell-shared", "keys claim more cells than there are", node.cell)
            if node.cell in self._owners:
                self._wrong("hive-cell-shared", "a key is listed twice", node.cell)
                continue
            self._claim(audit)
            self._uses[node.security] += 1
            waiting += [(child, depth + 1) for child in audit.subkeys]

    def _claim(self, audit: KeyAudit) -> None:
        """Make a key the owner of its cells."""
        node = audit.node.cell
        for cell in audit.cells:
            if cell not in self._sizes:
                self._wrong("hive-cell-out-of-range", "an offset leads into the middle of a cell", cell)
            if self._owners.setdefault(cell, node) != node:
                self._wrong("hive-cell-shared", "a cell belongs to two keys", cell)

    # --- security cells --------------------------------------------------------------------------------------------

    def _check_security(self) -> None:
        """Follow the ring of security cells from one that a key uses."""
        start = min(self._uses, default=NIL)
        seen: set[int] = set()
        cell = start
        while cell not in seen:
            seen.add(cell)
            found = read_security(self._cells, cell)
            if self._owners.setdefault(cell, cell) != cell or cell not in self._sizes:
                self._wrong("hive-cell-shared", "a security cell has another use", cell)
            if found.references != self._uses[cell]:
                self._wrong(
                    "hive-security-count", "a security cell counts other than its uses", cell,
                    expected=self._uses[cell], found=found.references,
                )  # fmt: skip
            if read_security(self._cells, found.next).previous != cell:
                self._wrong("hive-security", "the ring of security cells is broken", cell)
                return
            cell = found.next
        for missing in self._uses.keys() - seen:
            self._wrong("hive-security", "a key uses a security cell that is not in the ring", missing)

    def _check_orphans(self) -> None:
        orphans = sorted(self._sizes.keys() - self._owners.keys())
        for cell in orphans[:ORPHANS_TOLD]:
            self._wrong("hive-cell-orphan", "a cell is in use that no key uses", cell, found=f"{len(orphans)} such")
