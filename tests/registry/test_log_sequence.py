from __future__ import annotations

import struct

import pytest

from tests.registry.build_hive import build_hive, sealed
from tests.registry.build_log import dirt_log, entry, hvle_log
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry import log_sequence
from vhdtool.registry.base_block import BaseBlock, parse_base_block
from vhdtool.registry.log_sequence import has_old_log, next_sequence

HIVE = build_hive({"Key": {"n": 1}}, sequences=(100, 100))


def base(raw: bytes = HIVE) -> BaseBlock:
    found = parse_base_block(raw[:512])
    assert found is not None
    return found


def following(*logs: bytes, raw: bytes = HIVE) -> int:
    return next_sequence(base(raw), [(f"LOG{number}", BytesSource(log)) for number, log in enumerate(logs)])


def log_of(first: int, count: int) -> bytes:
    return hvle_log(HIVE, [entry(HIVE, (first + number) % (1 << 32), [0]) for number in range(count)], first)


def test_without_logs_it_is_the_next_number() -> None:
    assert following() == following(b"", bytes(512), b"x" * 600) == 101
    assert following(raw=sealed(HIVE, primary=0xFFFFFFFF, secondary=0xFFFFFFFF)) == 0


def test_it_is_above_every_entry_of_every_log() -> None:
    assert following(log_of(2107, 24)) == 2131
    assert following(log_of(2107, 24), log_of(3000, 2)) == 3002
    assert following(log_of(40, 5)) == 101
    assert following(dirt_log(HIVE, build_hive({}), sequence=150)) == 151


def test_numbers_that_wrapped_around_are_higher() -> None:
    raw = sealed(HIVE, primary=0xFFFFFFF0, secondary=0xFFFFFFF0)
    assert following(log_of(0xFFFFFFFE, 5), raw=raw) == 3
    assert following(log_of(0x10000, 5), raw=sealed(HIVE, primary=0xF0000000, secondary=0xF0000000)) == 0x10005


def test_an_entry_counts_though_its_pages_are_damaged() -> None:
    log = bytearray(log_of(2107, 3))
    log[-1] ^= 1
    assert following(bytes(log)) == 2110


def test_what_is_no_entry_ends_the_log() -> None:
    """A head with a wrong hash, and sizes that lead nowhere."""
    log = bytearray(log_of(2107, 3))
    second = 512 + struct.unpack_from("<I", log, 516)[0]
    log[second + 12] ^= 0xFF
    assert following(bytes(log)) == 2108
    log = bytearray(log_of(2107, 3))
    struct.pack_into("<I", log, 516, 0)
    assert following(bytes(log)) == 2108  # the base block has the number of the first


def test_a_damaged_base_block_of_a_log_counts_for_nothing() -> None:
    log = bytearray(log_of(2107, 3))
    log[508] ^= 1
    assert following(bytes(log)) == 101


def test_a_log_of_very_many_entries_ends_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sequence, "ENTRIES_LIMIT", 4)
    assert following(log_of(2107, 9)) == 2111


class Unreadable(BytesSource):
    def read_at(self, offset: int, length: int) -> bytes:
        if offset >= 512:
            raise DamagedError("file-unreadable", "a hole")
        return super().read_at(offset, length)


def test_a_log_that_can_not_be_read_costs_nothing() -> None:
    assert next_sequence(base(), [("LOG1", Unreadable(log_of(2107, 3)))]) == 2108
    assert not has_old_log(base(), [("LOG1", Unreadable(b""))])


def test_an_old_log_is_one_of_the_last_write() -> None:
    log = dirt_log(HIVE, HIVE)
    assert has_old_log(base(), [("LOG", BytesSource(log))])
    assert not has_old_log(base(), [("LOG", BytesSource(sealed(log, written=5)))])
    assert not has_old_log(base(), [("LOG1", BytesSource(log_of(100, 2)))])
