"""Builds transaction logs for tests, after the public description (msuhanov/regf), old and new format."""

from __future__ import annotations

from collections.abc import Iterable

from tests.dirty_hives import log_entry
from tests.registry.build_hive import PAGE, hbins_size, sealed

SECTOR = 512


def hvle_log(header: bytes, entries: Iterable[bytes], sequence: int) -> bytes:
    """A new-style log: the base block of ``header``, then entries, the first of which has number ``sequence``."""
    return sealed(header[:SECTOR], type=6, primary=sequence, secondary=sequence) + b"".join(entries)


def entry(after: bytes, sequence: int, pages: Iterable[int] | None = None) -> bytes:
    """An entry that makes these pages (all, if not said) those of ``after``."""
    return log_entry(after, list(range(hbins_size(after) // PAGE) if pages is None else pages), sequence)


def dirty(hive: bytes, primary: int = 2, secondary: int = 1) -> bytes:
    """The hive as a crash leaves it: its second sequence number was not written."""
    return sealed(hive, primary=primary, secondary=secondary)


def dirt_log(before: bytes, after: bytes, *, sequence: int = 2, kind: int = 1) -> bytes:
    """An old-style log that makes ``after`` of ``before``: a bit for each sector of the hbins, then the sectors."""
    size = hbins_size(after)
    bitmap, sectors = bytearray(size // SECTOR // 8), b""
    for number in range(size // SECTOR):
        start = PAGE + number * SECTOR
        data = after[start : start + SECTOR]
        if before[start : start + SECTOR] != data:
            bitmap[number // 8] |= 1 << number % 8
            sectors += data
    head = sealed(after[:SECTOR], type=kind, primary=sequence, secondary=sequence) + b"DIRT" + bitmap
    return head.ljust(-(-len(head) // SECTOR) * SECTOR, b"\0") + sectors
