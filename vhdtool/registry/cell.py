"""Cells: the pieces a hive is made of. Every access is held against the hive's size and the cell's own.

What several structures must not share (a key below two parents, a long list of two keys, a long value's data) is
remembered by its first owner. So a walk of any hive, however it lies, comes to an end after as many steps as it has
cells, and hands out no more bytes than a small multiple of its size.
"""

from __future__ import annotations

from vhdtool.errors import DamagedError, Problem
from vhdtool.layout import packed
from vhdtool.registry.format import BASE_BLOCK_SIZE, CELL, CELL_ALIGNMENT, HBIN, HBIN_SIGNATURE, NIL, PAGE_SIZE
from vhdtool.registry.pages import HivePages

PROBLEM_LIMIT = 1000
"""Problems of one hive that are kept; a broken one has thousands, of one cause."""

_CELL = packed(CELL)
_HBIN_SIZE = int(HBIN.sizeof())
_HINT = "The hive is damaged; the parts that do not use this cell can still be read."


class Cells:
    """Reads cells by their offset from the first hbin.

    ``hbins_size``: bytes of hbins that can be read. ``root``: the cell of the root key. ``minor``: the minor version,
    ``None`` where it is not known.
    """

    def __init__(self, pages: HivePages, hbins_size: int, root: int, path: str, minor: int | None) -> None:
        self.pages = pages
        self.hbins_size = hbins_size
        self.root = root
        self.path = path
        self.minor: int | None = minor
        self._owners: dict[int, int] = {}
        self._problems: dict[tuple[str, int | None], Problem] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found wrong up to now and did not stop the reading."""
        return tuple(self._problems.values())

    def record(self, cell: int, most: int) -> bytes:
        """Return the data of an allocated cell, its first ``most`` bytes where it holds more.

        Raises :class:`DamagedError` ``hive-cell-out-of-range``, ``hive-cell-size``, ``hive-cell-free``,
        ``hive-truncated``.
        """
        page, start, size = self._located(cell)
        start += _CELL.size
        end = start + min(size - _CELL.size, most)
        if end <= PAGE_SIZE:
            return page[start:end]
        return self.pages.read_at(BASE_BLOCK_SIZE + cell + _CELL.size, end - start)

    def require(self, cell: int, length: int, what: str) -> None:
        """Make sure that an allocated cell holds ``length`` bytes, without reading them. Raises as :meth:`read`."""
        found = self._located(cell)[2] - _CELL.size
        if found < length:
            raise self._too_small(cell, length, what, found)

    def _located(self, cell: int) -> tuple[bytes, int, int]:
        """Return the page that an allocated cell begins in, where in it, and the cell's size with its header."""
        if cell % CELL_ALIGNMENT or cell > self.hbins_size - CELL_ALIGNMENT:
            raise self._out_of_range(cell)
        number, start = divmod(cell + BASE_BLOCK_SIZE, PAGE_SIZE)
        page = self.pages.page(number)
        size = -_CELL.unpack_from(page, start)[0]
        if size < CELL_ALIGNMENT or size % CELL_ALIGNMENT or size > self.hbins_size - cell:
            raise self._bad_size(cell, size)
        if start < _HBIN_SIZE and page.startswith(HBIN_SIGNATURE):
            raise self._out_of_range(cell)
        return page, start, size

    def read(self, cell: int, length: int, what: str) -> bytes:
        """Return the first ``length`` bytes of a cell's data. Raises as :meth:`record`, and where it holds fewer."""
        data = self.record(cell, length)
        if len(data) < length:
            raise self._too_small(cell, length, what, len(data))
        return data

    def claim(self, cell: int, owner: int) -> bool:
        """Make ``owner`` the one owner of a cell; False where it has another one already."""
        return self._owners.setdefault(cell, owner) == owner

    def damaged(
        self, code: str, message: str, cell: int, *, expected: object = None, found: object = None
    ) -> DamagedError:
        """Make the error for something wrong in a cell."""
        offset = None if cell == NIL else BASE_BLOCK_SIZE + cell
        return DamagedError(code, message, path=self.path, offset=offset, expected=expected, found=found, hint=_HINT)

    @property
    def hopeless(self) -> bool:
        """Whether so much is wrong that no more problems are kept."""
        return len(self._problems) >= PROBLEM_LIMIT

    def note(self, error: DamagedError) -> None:
        """Keep an error as a problem: what it hit is left out, and reading goes on."""
        key = (error.code, error.offset)
        if key not in self._problems and not self.hopeless:
            found = "" if error.found is None else f", found {error.found}"
            wanted = "" if error.expected is None else f", expected {error.expected}"
            self._problems[key] = Problem(error.code, error.message + wanted + found, error.path, error.offset)

    def _too_small(self, cell: int, length: int, what: str, found: int) -> DamagedError:
        return self.damaged(
            "hive-cell-size", f"a cell is too small for {what}", cell, expected=f"{length} bytes", found=found
        )

    def _out_of_range(self, cell: int) -> DamagedError:
        return self.damaged(
            "hive-cell-out-of-range",
            "an offset leads to no cell",
            cell,
            expected=f"a multiple of 8 inside hbins of {self.hbins_size:#x} bytes",
            found=f"{cell:#x}",
        )

    def _bad_size(self, cell: int, size: int) -> DamagedError:
        if size <= 0:
            return self.damaged("hive-cell-free", "a cell that is in use is marked free", cell, found=-size)
        return self.damaged(
            "hive-cell-size",
            "a cell has an impossible size",
            cell,
            expected=f"a multiple of 8 up to {self.hbins_size - cell:#x}",
            found=f"{size:#x}",
        )
