"""Old-style transaction logs (before Windows 8.1): a bitmap of dirty sectors, then the sectors.

Source: regf specification, "Dirty vector", "Dirty pages".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.errors import DamagedError
from vhdtool.layout import packed
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    DIRTY_VECTOR,
    DIRTY_VECTOR_SIGNATURE,
    HBIN,
    HBIN_SIGNATURE,
    PAGE_SIZE,
    SECTOR_SIZE,
)
from vhdtool.registry.pages import HivePages
from vhdtool.registry.transaction_log import LogBudget, TransactionLog

_VECTOR = packed(DIRTY_VECTOR)
_HBIN = packed(HBIN)


def dirty_runs(log: TransactionLog, pages: HivePages, budget: LogBudget) -> Sequence[tuple[int, bytes]]:
    """Return the sectors of a log, neighbours joined: offset from the first hbin, bytes.

    ``pages``: the hive as it is, to which the hbins of the log are held. Raises :class:`DamagedError`
    ``hive-log-damaged`` for a log that is not whole or whose hbins are not those of the hive,
    ``hive-log-too-large``.
    """
    hbins_size = log.base.hbins_size
    if not hbins_size or hbins_size % PAGE_SIZE:
        raise log.damaged("the log is of a hive of an impossible size", 0, found=f"{hbins_size:#x}")
    bitmap_size = hbins_size // SECTOR_SIZE // 8
    budget.take(log, SECTOR_SIZE, bitmap_size)
    if log.read(SECTOR_SIZE, _VECTOR.size, "its bitmap") != DIRTY_VECTOR_SIGNATURE:
        raise log.damaged("the log has no bitmap", SECTOR_SIZE, expected="DIRT")
    start = SECTOR_SIZE + _VECTOR.size
    bitmap = log.read(start, bitmap_size, "its bitmap")
    place = -(-(start + bitmap_size) // SECTOR_SIZE) * SECTOR_SIZE
    found = []
    for first, count in _bit_runs(bitmap):
        offset, length = first * SECTOR_SIZE, count * SECTOR_SIZE
        budget.take(log, place, length)
        data = log.read(place, length, "its sectors")
        _compare_hbins(log, pages, place, offset, data)
        found.append((offset, data))
        place += length
    return found


def _bit_runs(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """Yield first bit and length of each run of set bits; the lowest bit of a byte is the first."""
    first = count = 0
    for index, byte in enumerate(bitmap):
        if byte == 0xFF and count:
            count += 8
            continue
        if not byte and not count:
            continue
        for bit in range(8):
            if byte >> bit & 1:
                first = first if count else index * 8 + bit
                count += 1
            elif count:
                yield first, count
                count = 0
    if count:
        yield first, count


def _compare_hbins(log: TransactionLog, pages: HivePages, place: int, offset: int, data: bytes) -> None:
    """Hold the hbins that begin in a run of sectors to those of the hive: Windows stops at one that does not fit."""
    for inside in range(-offset % PAGE_SIZE, len(data) - _HBIN.size, PAGE_SIZE):
        try:
            there = pages.read_at(BASE_BLOCK_SIZE + offset + inside, _HBIN.size)
        except DamagedError:
            continue  # the hive is shorter, or cut off: nothing to compare with
        if len(there) < _HBIN.size:
            continue
        signature, own, *_ = _HBIN.unpack(there)
        if signature != HBIN_SIGNATURE or own != offset + inside:
            continue  # no hbin begins here
        logged = _HBIN.unpack_from(data, inside)
        if logged[:2] != (signature, own) or logged[2] < PAGE_SIZE:
            raise log.damaged("an hbin in the log is not that of the hive", place + inside)
