from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from tests.registry.build_hive import build_hive, hbins_size, sealed
from tests.registry.build_log import SECTOR, dirt_log, dirty, entry, hvle_log
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.base_block import parse_base_block
from vhdtool.registry.hive import Hive
from vhdtool.registry.log import recover
from vhdtool.registry.pages import HivePages


def state(number: int, keys: int = 3) -> bytes:
    """The hive after so many changes."""
    tree = {f"Key{key}": {"n": number} for key in range(keys)}
    return build_hive({"": {"changes": number}, **tree})


BEFORE = state(0)
SEQUENCE = 40


def opened(hive: bytes, *logs: bytes) -> Hive:
    return Hive.open(
        BytesSource(hive), [(f"SYSTEM.LOG{number}", BytesSource(log)) for number, log in enumerate(logs, 1)]
    )


def changes(hive: Hive) -> object:
    value = hive.root.value("changes")
    assert value is not None
    return value.data


def codes(hive: Hive) -> set[str]:
    return {problem.code for problem in hive.problems}


def log_of(numbers: Sequence[int], sequence: int = SEQUENCE) -> bytes:
    """A log whose entries make these states of the hive, one after the other."""
    return hvle_log(BEFORE, [entry(state(number), sequence + place) for place, number in enumerate(numbers)], sequence)


CRASHED = dirty(BEFORE, SEQUENCE + 1, SEQUENCE)


# --- new format ----------------------------------------------------------------------------------------------------


def test_entries_are_applied_in_order() -> None:
    hive = opened(CRASHED, log_of([1, 2, 3]))
    assert (hive.state, hive.logs_applied, changes(hive), hive.problems) == ("recovered", ("SYSTEM.LOG1",), 3, ())
    image = hive.image.read_at(0, hive.image.size)
    assert image[4096:] == state(3)[4096:]
    assert Hive.open(BytesSource(image)).state == "clean"


@pytest.mark.parametrize("turned", [False, True])
def test_two_logs_one_after_the_other(turned: bool) -> None:
    logs = [log_of([1, 2]), log_of([3, 4], SEQUENCE + 2)]
    hive = opened(CRASHED, *(reversed(logs) if turned else logs))
    assert (hive.state, changes(hive), hive.problems) == ("recovered", 4, ())
    assert len(hive.logs_applied) == 2


def test_logs_that_do_not_join_on() -> None:
    hive = opened(CRASHED, log_of([1, 2]), log_of([9], SEQUENCE + 5))
    assert (hive.state, hive.logs_applied, changes(hive)) == ("recovered", ("SYSTEM.LOG1",), 2)
    assert codes(hive) == {"hive-log-gap"}


def test_sequence_numbers_wrap_around() -> None:
    last = 0xFFFFFFFF
    log = hvle_log(BEFORE, [entry(state(1), last), entry(state(2), 0)], last)
    other = hvle_log(BEFORE, [entry(state(3), 1)], 1)
    for logs in ((log, other), (other, log)):
        hive = opened(dirty(BEFORE, 0, last), *logs)
        assert (hive.state, changes(hive), hive.problems) == ("recovered", 3, ())


def test_older_logs_are_not_applied() -> None:
    hive = opened(CRASHED, log_of([1, 2], SEQUENCE - 10))
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert codes(hive) == {"hive-dirty", "hive-log-not-applicable"}


def test_remnants_of_an_earlier_round_are_no_damage() -> None:
    log = log_of([1, 2]) + entry(state(9), SEQUENCE - 7)
    hive = opened(CRASHED, log)
    assert (changes(hive), hive.problems) == (2, ())


@pytest.mark.parametrize("place", [4, 16, 24, 32, 100, 4000])
def test_a_torn_entry_ends_the_log_and_is_told(place: int) -> None:
    good = log_of([1])
    bad = bytearray(entry(state(2), SEQUENCE + 1))
    bad[place] ^= 0x40
    hive = opened(CRASHED, good + bytes(bad) + entry(state(3), SEQUENCE + 2))
    assert (hive.state, changes(hive)) == ("recovered", 1)
    assert codes(hive) == {"hive-log-entry"}
    (problem,) = hive.problems
    assert (problem.path, problem.offset) == ("SYSTEM.LOG1", len(good))


@pytest.mark.parametrize("left", [40, 512, 4096])
def test_a_log_that_is_cut_off(left: int) -> None:
    log = log_of([1])
    hive = opened(CRASHED, log + entry(state(2), SEQUENCE + 1)[:left])
    assert changes(hive) == 1
    assert codes(hive) == {"hive-log-entry"}


def test_a_log_with_no_good_entry() -> None:
    log = bytearray(log_of([1]))
    log[SECTOR + 200] ^= 1
    hive = opened(CRASHED, bytes(log))
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert codes(hive) == {"hive-dirty", "hive-log-entry"}


def test_the_hive_grows() -> None:
    after = state(5, keys=200)
    assert hbins_size(after) > hbins_size(BEFORE)
    hive = opened(CRASHED, hvle_log(BEFORE, [entry(after, SEQUENCE)], SEQUENCE))
    # the root cell of the base block is the one of before: both hives have it at the same place
    assert (hive.state, hive.problems) == ("recovered", ())
    assert len(list(hive.walk())) == 201
    assert hive.image.size == len(after)


def test_a_hive_that_grew_further_than_its_log_has_pages() -> None:
    after = state(5, keys=200)
    pages = [page for page in range(hbins_size(after) // 4096) if page != 3]
    hive = opened(CRASHED, hvle_log(BEFORE, [entry(after, SEQUENCE, pages)], SEQUENCE))
    try:
        found = len(list(hive.walk()))
    except DamagedError as error:
        assert error.code.startswith("hive-")  # noqa: PT017
    else:
        assert found < 201
        assert hive.problems


def test_a_broken_base_block_takes_the_latest_log_alone() -> None:
    raw = bytearray(CRASHED)
    raw[508] ^= 1
    hive = opened(bytes(raw), log_of([1, 2]), log_of([3, 4], SEQUENCE + 2))
    assert (hive.state, hive.logs_applied, changes(hive)) == ("recovered", ("SYSTEM.LOG2",), 4)
    assert codes(hive) == {"hive-base-block"}  # told: with a sound one both logs would have counted


def test_a_log_of_another_hive_is_not_applied() -> None:
    """The last part of the file name in the base block tells; the path before it differs for one hive as well."""
    tree = {"": {"changes": 1}}
    system, software, other_path = (
        build_hive(tree, file_name=name)
        for name in (r"\SystemRoot\System32\Config\SYSTEM", r"emRoot\System32\Config\SOFTWARE", r"\??\C:\mount\system")
    )
    crashed = dirty(system, SEQUENCE + 1, SEQUENCE)
    hive = opened(crashed, hvle_log(software, [entry(state(2), SEQUENCE)], SEQUENCE))
    assert (hive.state, changes(hive)) == ("dirty", 1)
    assert codes(hive) == {"hive-dirty", "hive-log-foreign"}
    hive = opened(crashed, hvle_log(other_path, [entry(state(2), SEQUENCE)], SEQUENCE))
    assert (hive.state, hive.problems) == ("recovered", ())


def test_a_lost_base_block_comes_from_the_log() -> None:
    hive = opened(bytes(512) + CRASHED[512:], log_of([7]))
    assert (hive.state, changes(hive)) == ("recovered", 7)


@pytest.mark.parametrize("size", [0, 100, 511, 512, 70_000])
def test_logs_that_were_never_used(size: int) -> None:
    hive = opened(CRASHED, bytes(size))
    assert (hive.state, codes(hive)) == ("dirty", {"hive-dirty"})
    assert (opened(CRASHED, bytes(size), log_of([1])).problems) == ()


@pytest.mark.parametrize("place", [0, 4, 40, 300, 508])
def test_a_log_with_a_broken_base_block_is_told(place: int) -> None:
    log = bytearray(log_of([1]))
    log[place] ^= 1
    hive = opened(CRASHED, bytes(log))
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert codes(hive) == {"hive-dirty", "hive-log-damaged"}


def test_logs_that_are_too_large_are_not_looked_at() -> None:
    """The limit is on the bytes of entries; what is beyond is told, and the hive is not called recovered."""
    base = parse_base_block(CRASHED)
    log = log_of([1, 2, 3])
    pages = HivePages(BytesSource(CRASHED), "SYSTEM")
    told = recover(pages, base, [("SYSTEM.LOG1", BytesSource(log))], limit=len(log) - SECTOR - 1)
    assert not told.complete
    assert [problem.code for problem in told.problems] == ["hive-log-too-large"]


@pytest.mark.parametrize(
    ("place", "value"), [(0, 0x10), (0, 0xFFFFF000), (4, 0), (4, 0x7FFFFE00), (4, 100), (0, 0x1100)]
)
def test_pages_that_lie_are_not_applied(place: int, value: int) -> None:
    """With hashes that are right: made so on purpose."""
    from tests.dirty_hives import marvin32  # noqa: PLC0415

    made = bytearray(entry(state(1), SEQUENCE))
    struct.pack_into("<I", made, 40 + place, value)
    struct.pack_into("<Q", made, 24, marvin32(bytes(made[40:])))
    struct.pack_into("<Q", made, 32, marvin32(bytes(made[:32])))
    hive = opened(CRASHED, hvle_log(BEFORE, [bytes(made)], SEQUENCE))
    if (place, value) == (0, 0x1100):
        return  # an offset of whole sectors inside the bins: nothing tells that it is wrong
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert codes(hive) == {"hive-dirty", "hive-log-entry"}


# --- old format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 2])
def test_sectors_are_laid_over(kind: int) -> None:
    after = state(6)
    hive = opened(dirty(BEFORE, 2, 1), dirt_log(BEFORE, after, kind=kind))
    assert (hive.state, hive.logs_applied, changes(hive), hive.problems) == ("recovered", ("SYSTEM.LOG1",), 6, ())
    assert hive.image.read_at(4096, hbins_size(after)) == after[4096:]


def test_an_old_log_makes_the_hive_grow_beyond_one_sector_of_bits() -> None:
    """More than 2 MiB: the bitmap then ends behind the second sector, and the data with it."""
    after = build_hive({"": {"changes": 8}, **{f"Key{key}": {"n": b"x" * 16_000} for key in range(150)}})
    assert hbins_size(after) > 2 << 20
    hive = opened(dirty(BEFORE, 2, 1), dirt_log(BEFORE, after))
    assert (hive.state, changes(hive)) == ("recovered", 8)
    assert len(list(hive.walk())) == 151
    assert hive.problems == ()


def test_an_old_log_of_another_time() -> None:
    after = sealed(state(6), written=99)
    hive = opened(dirty(BEFORE, 2, 1), dirt_log(BEFORE, after))
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert codes(hive) == {"hive-dirty", "hive-log-not-applicable"}


def test_an_old_log_that_was_not_written_to_its_end() -> None:
    log = sealed(dirt_log(BEFORE, state(6)), secondary=1)
    hive = opened(dirty(BEFORE, 2, 1), log)
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert len(hive.problems) > 1


@pytest.mark.parametrize("cut", [1, 512, 1000])
def test_an_old_log_that_is_cut_off(cut: int) -> None:
    hive = opened(dirty(BEFORE, 2, 1), dirt_log(BEFORE, state(6, keys=90))[:-cut])
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert codes(hive) == {"hive-dirty", "hive-log-damaged"}


def test_an_old_log_without_its_bitmap() -> None:
    log = bytearray(dirt_log(BEFORE, state(6)))
    log[SECTOR : SECTOR + 4] = b"DERT"
    hive = opened(dirty(BEFORE, 2, 1), bytes(log))
    assert codes(hive) == {"hive-dirty", "hive-log-damaged"}


@pytest.mark.parametrize("size", [0, 4097, 0xFFFFF000])
def test_an_old_log_of_an_impossible_size(size: int) -> None:
    hive = opened(dirty(BEFORE, 2, 1), sealed(dirt_log(BEFORE, state(6)), hbins=size))
    assert (hive.state, changes(hive)) == ("dirty", 0)
    assert len(hive.problems) > 1


class Unreadable(BytesSource):
    """A file that the file system can't give."""

    def read_at(self, offset: int, length: int) -> bytes:
        raise DamagedError("file-damaged", "a run of the file lies outside the volume", path="SYSTEM.LOG1", offset=7)


def test_a_log_that_the_file_system_cannot_give() -> None:
    logs = [("SYSTEM.LOG1", Unreadable(bytes(8192))), ("SYSTEM.LOG2", BytesSource(log_of([1])))]
    hive = Hive.open(BytesSource(CRASHED), logs)
    assert (hive.state, changes(hive)) == ("recovered", 1)
    assert codes(hive) == {"hive-log-unreadable"}
