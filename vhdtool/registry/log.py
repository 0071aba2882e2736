"""Recovery of a dirty hive from its transaction logs, in memory.

Source: regf specification, "Dirty state of a hive", "Multiple transaction log files". A clean hive's logs are never
looked at, whatever they hold. The old format is read in :mod:`dirt_log`, the new one in :mod:`hvle_log`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, Problem, VhdtoolError
from vhdtool.layout import packed
from vhdtool.registry.base_block import BaseBlock, parse_base_block, recovered_base_block
from vhdtool.registry.dirt_log import dirty_runs
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    FILE_TYPE_NEW_LOG,
    FILE_TYPES_OLD_LOG,
    HBIN,
    HBIN_SIGNATURE,
    LOG_WORK_LIMIT,
    SECTOR_SIZE,
)
from vhdtool.registry.hvle_log import log_entries
from vhdtool.registry.pages import HivePages
from vhdtool.registry.transaction_log import LogBudget, TransactionLog

_HBIN = packed(HBIN)
_HALF = 1 << 31
_MASK = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the logs did.

    ``base``: the base block as it is after recovery, ``None`` where nothing was applied. ``logs``: names of those
    that were applied. ``complete``: False where entries had to be left that could not be looked at.
    """

    base: BaseBlock | None
    logs: tuple[str, ...]
    complete: bool
    problems: tuple[Problem, ...]


def recover(
    pages: HivePages, base: BaseBlock | None, logs: Sequence[tuple[str, ByteSource]], *, limit: int = LOG_WORK_LIMIT
) -> Recovery:
    """Lay over ``pages`` what the logs of a dirty hive hold.

    ``base``: the hive's base block, ``None`` where it has none. ``limit``: most bytes of logs that are looked at.
    """
    return _Recoverer(pages, base, limit).recover(logs)


class _Recoverer:
    def __init__(self, pages: HivePages, base: BaseBlock | None, limit: int) -> None:
        self._pages = pages
        self._stated = base
        self._base = base if base is not None and base.valid else None
        self._budget = LogBudget(limit)
        self._problems: list[Problem] = []

    def recover(self, logs: Iterable[tuple[str, ByteSource]]) -> Recovery:
        valid = [log for name, source in logs if (log := self._opened(name, source)) is not None]
        new = [log for log in valid if log.base.file_type == FILE_TYPE_NEW_LOG]
        old = [log for log in valid if log.base.file_type in FILE_TYPES_OLD_LOG]
        base, names = self._by_entries(new)
        if base is None:
            base, names = self._by_sectors(old)
        if base is None and not self._problems:
            self._problems += [
                Problem("hive-log-not-applicable", "the log is of another time than the hive", log.name)
                for log in valid
            ]
        return Recovery(base, names, not self._budget.exceeded, tuple(self._problems))

    def _opened(self, name: str, source: ByteSource) -> TransactionLog | None:
        """Read a log's base block; ``None`` for a log that was never used, or is damaged."""
        try:
            if source.size < SECTOR_SIZE:
                return None
            sector = source.read_at(0, SECTOR_SIZE)
        except VhdtoolError as error:  # a log that the file system can't give must not cost us the hive
            self._problems.append(Problem("hive-log-unreadable", str(error), name, error.offset))
            return None
        base = parse_base_block(sector)
        if base is not None and base.valid:
            return TransactionLog(name, source, base)
        if any(sector):
            self._problems.append(Problem("hive-log-damaged", "the log's base block is damaged", name, 0))
        return None

    def _by_entries(self, logs: Sequence[TransactionLog]) -> tuple[BaseBlock | None, tuple[str, ...]]:
        """Apply the entries of new-style logs: those with the earlier ones first, each one more than the last."""
        base, logs = self._base, _sorted(logs)
        if base is None:
            logs = logs[-1:]  # an invalid base block: only the log with the latest entries is used
        else:
            logs = [log for log in logs if _not_before(log.base.primary_sequence, base.secondary_sequence)]
            logs = [log for log in logs if not self._is_foreign(log, base)]
        names: list[str] = []
        recovered: BaseBlock | None = None
        expected: int | None = None
        for log in logs:
            if expected is not None and log.base.primary_sequence != expected:
                self._problems.append(
                    Problem(
                        "hive-log-gap",
                        f"the log begins with entry {log.base.primary_sequence}, but the last one applied "
                        f"calls for {expected}: the entries of this log are lost",
                        log.name,
                        0,
                    )
                )
                break
            expected = log.base.primary_sequence
            try:
                for entry in log_entries(log, self._budget):
                    for offset, data in entry.pages:
                        self._pages.lay_over(BASE_BLOCK_SIZE + offset, data)
                    expected = (entry.sequence + 1) & _MASK
                    recovered = recovered_base_block(
                        recovered or base or log.base, entry.sequence, entry.hbins_size, entry.flags
                    )
                    if log.name not in names:
                        names.append(log.name)
            except VhdtoolError as error:  # of the log itself, or of the file that it is
                self._problems.append(Problem(error.code, str(error), log.name, error.offset))
        return recovered, tuple(names)

    def _is_foreign(self, log: TransactionLog, base: BaseBlock) -> bool:
        """Tell whether a log is of a hive of another name: nothing else but its numbers ties it to this one."""
        ours, its = base.file_name, log.base.file_name
        if not ours or not its or ours == its:
            return False
        self._problems.append(
            Problem(
                "hive-log-foreign", f"the log is of the hive {its!r}, this one is {ours!r}: not applied", log.name, 0
            )
        )
        return True

    def _by_sectors(self, logs: Sequence[TransactionLog]) -> tuple[BaseBlock | None, tuple[str, ...]]:
        """Apply the first old-style log that is whole and of the hive's last write."""
        written = self._last_written()
        for log in logs:
            whole = log.base.primary_sequence == log.base.secondary_sequence
            if not whole or log.base.last_written not in written:
                continue
            try:
                runs = dirty_runs(log, self._pages, self._budget)
            except VhdtoolError as error:  # of the log itself, or of the file that it is
                self._problems.append(Problem(error.code, str(error), log.name, error.offset))
                continue
            for offset, data in runs:
                self._pages.lay_over(BASE_BLOCK_SIZE + offset, data)
            base = recovered_base_block(log.base, log.base.primary_sequence, log.base.hbins_size, None)
            return base, (log.name,)
        return None, ()

    def _last_written(self) -> set[int]:
        """The times that a log of this hive may bear.

        The base block has the time of the last write. Where its checksum is wrong Windows takes that of the first
        hbin instead; we take both, for the same 64 bits do not come about by damage.
        """
        times = set() if self._stated is None else {self._stated.last_written}
        if self._base is not None:
            return times
        try:
            head = self._pages.read_at(BASE_BLOCK_SIZE, _HBIN.size)
        except DamagedError:
            return times
        if len(head) == _HBIN.size:
            signature, _, _, _, timestamp, _ = _HBIN.unpack(head)
            if signature == HBIN_SIGNATURE:
                times.add(timestamp)
        return times


def _sorted(logs: Sequence[TransactionLog]) -> list[TransactionLog]:
    """Sort by sequence number, which wraps around: what lies less than half the circle ahead is later."""
    if not logs:
        return []
    first = logs[0].base.primary_sequence
    return sorted(logs, key=lambda log: (log.base.primary_sequence - first + _HALF) & _MASK)


def _not_before(sequence: int, other: int) -> bool:
    return (sequence - other) & _MASK < _HALF
