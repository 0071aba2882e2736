"""How far the numbers of a hive's logs have come: a hive that is written clean must be ahead of them.

Windows ignores the logs of a clean hive, whatever they hold. A later crash makes the hive dirty again, and then an
entry counts that is not below the hive's own number. So an edited hive gets a number above all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vhdtool.bytesource import ByteSource
from vhdtool.errors import VhdtoolError
from vhdtool.layout import packed
from vhdtool.registry.base_block import BaseBlock, parse_base_block
from vhdtool.registry.format import (
    FILE_TYPES_OLD_LOG,
    LOG_ENTRY,
    LOG_ENTRY_HASHED,
    LOG_ENTRY_SIGNATURE,
    SECTOR_SIZE,
)
from vhdtool.registry.marvin32 import marvin32

ENTRIES_LIMIT = 4096
"""Entries of one log that are looked at: Windows writes the log anew long before."""

_ENTRY = packed(LOG_ENTRY)
_MASK = 0xFFFFFFFF
_HALF = 1 << 31


def next_sequence(base: BaseBlock, logs: Iterable[tuple[str, ByteSource]]) -> int:
    """Return the number that a hive gets when it is written: above its own, and above all of its logs.

    Numbers wrap around: what lies less than half the circle ahead is higher. Only the heads of the entries are read,
    and their hash verified: an entry whose pages are damaged counts as well, which does no harm.
    """
    highest = base.primary_sequence
    for number in (base.secondary_sequence, *(number for _, log in logs for number in _numbers(log))):
        if 0 < (number - highest) & _MASK < _HALF:
            highest = number
    return (highest + 1) & _MASK


def has_old_log(base: BaseBlock, logs: Iterable[tuple[str, ByteSource]]) -> bool:
    """Tell whether a log of Windows 8 or older lies beside the hive that bears the time of its last write."""
    for _, source in logs:
        log = _base_block(source)
        if log is not None and log.file_type in FILE_TYPES_OLD_LOG and log.last_written == base.last_written:
            return True
    return False


def _base_block(source: ByteSource) -> BaseBlock | None:
    try:
        base = parse_base_block(source.read_at(0, SECTOR_SIZE))
    except VhdtoolError:  # a log that can't be read is one that Windows can't apply
        return None
    return base if base is not None and base.valid else None


def _numbers(source: ByteSource) -> Iterator[int]:
    base = _base_block(source)
    if base is None:
        return
    yield base.primary_sequence
    yield base.secondary_sequence
    place = SECTOR_SIZE
    for _ in range(ENTRIES_LIMIT):
        try:
            head = source.read_at(place, _ENTRY.size)
        except VhdtoolError:
            return
        if len(head) < _ENTRY.size or not head.startswith(LOG_ENTRY_SIGNATURE):
            return
        _, size, _, number, *_, hash_2 = _ENTRY.unpack(head)
        if size < _ENTRY.size or size % SECTOR_SIZE or marvin32(head[:LOG_ENTRY_HASHED]) != hash_2:
            return
        yield number
        place += size
