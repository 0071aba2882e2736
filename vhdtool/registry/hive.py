r"""A registry hive, read lazily; a dirty one is recovered in memory from its logs.

Nothing is read but what is asked for: opening takes the base block and the root key, looking up a key takes the pages
on the way to it. The source is never written.

    >>> hive = Hive.open(source, [("SYSTEM.LOG1", log)], path="SYSTEM")  # doctest: +SKIP
    >>> hive.key(r"Select").value("Current").data  # doctest: +SKIP
    1
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import packed
from vhdtool.registry.base_block import BaseBlock, parse_base_block
from vhdtool.registry.cell import Cells
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    FILE_TYPE_NEW_LOG,
    FILE_TYPES_OLD_LOG,
    HBIN,
    HBIN_SIGNATURE,
    MAJOR_VERSION,
    OLDEST_MINOR_VERSION,
    PAGE_SIZE,
    SECTOR_SIZE,
)
from vhdtool.registry.key import Key
from vhdtool.registry.log import Recovery, recover
from vhdtool.registry.pages import HivePages
from vhdtool.registry.value import Value

__all__ = ["Hive", "HiveState", "Key", "Value"]

HiveState = Literal["clean", "recovered", "dirty"]
"""``clean``: written to its end, logs ignored. ``recovered``: from its logs. ``dirty``: they can't repair it."""

_HBIN = packed(HBIN)


class Hive:
    """A hive.

    ``path`` is what it is called in errors. ``logs_applied`` names the logs whose content was laid over it, in the
    order in which that was done. ``base`` is the base block after recovery; ``image`` gives the bytes of the hive
    after recovery, ``file`` those of the file as it lies there, ``logs`` the logs beside it, used or not.
    """

    def __init__(
        self,
        cells: Cells,
        base: BaseBlock,
        *,
        file: ByteSource,
        logs: tuple[tuple[str, ByteSource], ...],
        state: HiveState,
        logs_applied: tuple[str, ...],
        problems: tuple[Problem, ...],
    ) -> None:
        self.path = cells.path
        self.state: HiveState = state
        self.logs_applied = logs_applied
        self.base = base
        self.file = file
        self.logs = logs
        self.root = Key(cells, base.root_cell, None)
        self._cells = cells
        self._problems = problems

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong and did not stop the reading: at opening, and in what was read since."""
        return self._problems + self._cells.problems

    @property
    def image(self) -> HivePages:
        """The hive file as it is after recovery; with its base block clean where ``state`` is ``recovered``."""
        return self._cells.pages

    @classmethod
    def open(cls, source: ByteSource, logs: Sequence[tuple[str, ByteSource]] = (), *, path: str = "hive") -> Self:
        """Open a hive with the logs that lie beside it, given by name and bytes.

        A log is read only where the hive is dirty. Raises :class:`DamagedError` ``not-a-hive``,
        :class:`UnsupportedError` ``hive-is-log`` and ``hive-version``, and what reading the root key raises.
        """
        found = parse_base_block(source.read_at(0, SECTOR_SIZE))
        if found is not None and found.valid:
            _refuse_other_kinds(found, path)
        pages = HivePages(source, path)
        clean = found is not None and found.clean
        recovery = Recovery(None, (), True, ()) if clean else recover(pages, found, logs)
        base = recovery.base or found
        if base is None:
            raise DamagedError(
                "not-a-hive", "this is no registry hive", path=path, offset=0, expected="the signature regf"
            )
        problems = list(recovery.problems)
        state: HiveState = "clean" if clean else "recovered"
        if recovery.base is None or not recovery.complete:
            state = "clean" if clean else "dirty"
        else:
            pages.lay_over(0, base.sector)
        problems += _troubles(state, found, path)
        hbins_size = _readable(base, pages.size, path, problems)
        cells = Cells(pages, hbins_size, base.root_cell, path, base.minor_version)
        _check_first_hbin(pages, path, problems)
        return cls(
            cells, base, file=source, logs=tuple(logs), state=state, logs_applied=recovery.logs,
            problems=tuple(problems),
        )  # fmt: skip

    def walk(self) -> Iterator[Key]:
        """Yield all keys, parents first; what can't be read is left out and noted among the problems."""
        return self.root.walk()

    def key(self, path: str) -> Key | None:
        r"""Find a key by its path from the root (``ControlSet001\Services\vmbus``); the empty path is the root.

        Without regard to case, and without walking. ``None`` where a key on the way does not exist. Raises
        :class:`DamagedError` where a key that may be on the way can't be read.
        """
        key: Key | None = self.root
        for name in path.split("\\"):
            if name and key is not None:
                key = key.subkey(name)
        return key


def _refuse_other_kinds(base: BaseBlock, path: str) -> None:
    if base.file_type in (*FILE_TYPES_OLD_LOG, FILE_TYPE_NEW_LOG):
        raise UnsupportedError(
            "hive-is-log",
            "this is the transaction log of a hive, not a hive",
            path=path,
            offset=0,
            hint="Open the hive itself; logs that lie beside it are used where they are needed.",
        )
    if base.major != MAJOR_VERSION or base.minor < OLDEST_MINOR_VERSION:
        raise UnsupportedError(
            "hive-version",
            "hives of this version can't be read",
            path=path,
            offset=0,
            expected=f"{MAJOR_VERSION}.{OLDEST_MINOR_VERSION} or later (Windows NT 3.5)",
            found=f"{base.major}.{base.minor}",
        )


def _troubles(state: HiveState, found: BaseBlock | None, path: str) -> list[Problem]:
    """Return what is wrong with the hive file as it lies there."""
    problems = []
    if state == "dirty":
        message = "the hive was not written to its end, and its logs do not repair it: what it says may be stale"
        problems.append(Problem("hive-dirty", message, path, 0))
    if found is None or not found.valid:
        message = "the hive's base block is damaged"
        if state == "recovered":
            message += ": it was taken from the latest log, and only that log could be applied"
        problems.append(Problem("hive-base-block", message, path, 0))
    return problems


def _readable(base: BaseBlock, size: int, path: str, problems: list[Problem]) -> int:
    """Return how many bytes of hbins can be read."""
    there = max(0, size - BASE_BLOCK_SIZE)
    stated = base.hbins_size
    whole = stated > 0 and stated % PAGE_SIZE == 0
    if not base.valid and (not whole or stated > there):
        return there  # nothing that the base block says counts for much
    if not whole:
        problems.append(Problem("hive-bins-size", f"the hive claims {stated:#x} bytes of hbins", path, 0))
    if stated > there:
        message = f"the hive is cut off: it claims {stated:#x} bytes of hbins, {there:#x} are there"
        problems.append(Problem("hive-truncated", message, path, size))
    return min(stated, there)


def _check_first_hbin(pages: HivePages, path: str, problems: list[Problem]) -> None:
    head = pages.read_at(BASE_BLOCK_SIZE, _HBIN.size)
    if len(head) < _HBIN.size or _HBIN.unpack(head)[:2] != (HBIN_SIGNATURE, 0):
        problems.append(Problem("hive-bin", "the first hbin does not begin where it belongs", path, BASE_BLOCK_SIZE))
