"""New-style transaction logs (Windows 8.1 and later): entries of pages, each guarded by two hashes.

Source: regf specification, "Log entries". Entries follow one another from the second sector on; the first has the
sequence number of the log's base block, each one more than the one before. Behind them lie remnants of older ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vhdtool.layout import packed
from vhdtool.registry.format import (
    DIRTY_PAGE,
    LOG_ENTRY,
    LOG_ENTRY_HASHED,
    LOG_ENTRY_SIGNATURE,
    PAGE_SIZE,
    SECTOR_SIZE,
)
from vhdtool.registry.marvin32 import marvin32
from vhdtool.registry.transaction_log import LogBudget, TransactionLog

_ENTRY = packed(LOG_ENTRY)
_PAGE = packed(DIRTY_PAGE)
_CODE = "hive-log-entry"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry whose hashes are right. ``pages``: offset from the first hbin, bytes. ``hbins_size`` in bytes."""

    sequence: int
    flags: int
    hbins_size: int
    pages: tuple[tuple[int, bytes], ...]


def log_entries(log: TransactionLog, budget: LogBudget) -> Iterator[LogEntry]:
    """Yield the entries of a log that are to be applied, in order.

    Raises :class:`DamagedError` ``hive-log-entry`` at an entry that was to be applied and is damaged, or was not
    written to its end, and ``hive-log-too-large``.
    """
    place = SECTOR_SIZE
    sequence = log.base.primary_sequence
    while True:
        head = log.source.read_at(place, _ENTRY.size)
        if len(head) < _ENTRY.size or not head.startswith(LOG_ENTRY_SIGNATURE):
            return
        _, size, flags, number, hbins_size, count, hash_1, hash_2 = _ENTRY.unpack(head)
        if marvin32(head[:LOG_ENTRY_HASHED]) != hash_2:
            raise log.damaged("the head of a log entry has the wrong hash", place, code=_CODE)
        if number != sequence:
            return
        listed = _ENTRY.size + count * _PAGE.size
        if size % SECTOR_SIZE or listed > size or not hbins_size or hbins_size % PAGE_SIZE:
            raise log.damaged("a log entry has impossible sizes", place, code=_CODE)
        budget.take(log, place, size)
        body = log.source.read_at(place + _ENTRY.size, size - _ENTRY.size)
        if len(body) < size - _ENTRY.size or marvin32(body) != hash_1:
            raise log.damaged("a log entry is not whole: its hash is wrong", place, code=_CODE)
        yield LogEntry(number, flags, hbins_size, tuple(_pages(log, place, body, count, hbins_size)))
        place += size
        sequence = (sequence + 1) & 0xFFFFFFFF


def _pages(log: TransactionLog, place: int, body: bytes, count: int, hbins_size: int) -> Iterator[tuple[int, bytes]]:
    start = count * _PAGE.size
    for offset, length in _PAGE.iter_unpack(body[:start]):
        end = start + length
        if not length or length % SECTOR_SIZE or offset % SECTOR_SIZE:
            raise log.damaged("a page of a log entry is no whole number of sectors", place, code=_CODE)
        if offset + length > hbins_size or end > len(body):
            raise log.damaged("a page of a log entry lies outside", place, code=_CODE, found=f"{offset:#x}")
        yield offset, body[start:end]
        start = end
