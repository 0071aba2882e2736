"""A change to a VHDX in place, with the power cut anywhere: every reader that replays logs sees the old disk or the
new one; where one sector of the BAT changes, one that does not replay logs does as well."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import pytest

from tests.crash.power_cut import (
    CrashFaultError,
    Expected,
    Platter,
    Reader,
    State,
    View,
    crash_seed,
    dose,
    judge,
    pending_at,
    record,
    seldom,
)
from tests.crash.vhdx_scenarios import (
    IMAGE,
    SCENARIOS,
    Scenario,
    after_recovery,
    by_dissect,
    by_qemu,
    by_us,
)
from tests.disk.vhdx_files import IDENTITY, MIB, make, opened, pattern, read_all
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.recover_vhdx import recover_vhdx
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.disk.vhdx_log_writer import write_logged
from vhdtool.progress import SILENT

NAMED = {scenario.name: scenario for scenario in SCENARIOS}
NEW_ONLY = frozenset({View.NEW})
# the flushes of a commit that has to fold back, in their order
(
    _GUID_1, _GUID_2, _RECORD, COPIES, FLIP_1, FLIP_2, TABLE, CLEAR_1, CLEAR_2,
    HOMES, _HOME_1, _HOME_2, HOME_TABLE, REST_1, REST_2, _END,
) = range(16)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_old_or_new(tmp_path: Path, scenario: Scenario) -> None:
    folder, expected = scenario.prepare(tmp_path)
    recording = scenario.record(folder)
    assert scenario.content(folder) == expected.new
    readers = [by_us(scenario, expected), after_recovery(scenario, expected)]
    count = dose(scenario.count)
    tally = judge(recording, readers, seed=crash_seed(), count=count, work=tmp_path / "work")
    assert tally.states >= count
    for reader in readers:
        seen = tally.seen(reader.name)
        assert set(seen) == {View.OLD, View.NEW}
        assert min(seen.values()) >= 5


@pytest.mark.oracle
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.qemu or one.dissect], ids=str)
def test_old_or_new_for_foreign_readers(tmp_path: Path, scenario: Scenario) -> None:
    folder, expected = scenario.prepare(tmp_path)
    readers = [by_qemu(scenario, expected, every=seldom(6 if scenario.audited else 25))] if scenario.qemu else []
    if scenario.dissect:
        readers.append(by_dissect(scenario, expected))
    recording = scenario.record(folder)
    tally = judge(recording, readers, seed=crash_seed(), count=dose(scenario.count), work=tmp_path / "work")
    for reader in readers:
        assert set(tally.seen(reader.name)) == {View.OLD, View.NEW}


# --- recovery that is interrupted itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dynamic", "no-fold", "differencing", "wide", "pending-log"])
def test_recovery_can_be_interrupted(tmp_path: Path, name: str) -> None:
    """The power goes at some flush of a commit, and goes again while ``recover`` is at work."""
    scenario, seed = NAMED[name], crash_seed()
    folder, _ = scenario.prepare(tmp_path)
    recording = scenario.record(folder)
    platter = Platter(recording, tmp_path / "stable")
    flushes = recording.flushes[2:]  # before there is nothing to recover but a pending log
    recoveries = 0
    for stop in sorted(random.Random(seed).sample(flushes, min(len(flushes), dose(3)))):
        platter.advance(stop)
        pending = dict.fromkeys(pending_at(recording.operations, stop))
        for kept in ({}, pending):
            again = tmp_path / f"again-{stop}-{len(kept)}"
            platter.make(State(stop, "chosen", kept), again)
            side = scenario.content(again)
            second = record(again, lambda store, again=again: recover_vhdx(str(again / IMAGE), store, SILENT))
            if not second.operations:
                continue
            recoveries += 1
            only = Expected(side, side)
            judge(
                second, [by_us(scenario, only), after_recovery(scenario, only)], seed=seed,
                count=dose(12), work=tmp_path / "work", starts=NEW_ONLY, ends=NEW_ONLY,
            )  # fmt: skip
    assert recoveries >= 3


# --- metadata through the log ----------------------------------------------------------------------------------------


def test_metadata_is_changed_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    item = UUID(int=9)
    blocks = {1: Block(data=pattern(1, MIB))}
    make(folder / IMAGE, blocks=blocks, metadata_items=[(item, fmt.METADATA_IS_USER, pattern(5, 4 * 4096))])

    def metadata(state: Path) -> bytes:
        with opened(state / IMAGE) as layer:
            data = bytearray(3 * 4096)
            layer.read_stored(place, memoryview(data))
            assert layer.data_write_guid == IDENTITY.data_write
        assert read_all(state / IMAGE)[MIB : 2 * MIB] == pattern(1, MIB)
        return bytes(data)

    with opened(folder / IMAGE) as layer:
        start = next(one.offset for one in layer.metadata_items if one.item_id == item)
    place = -(-start // 4096) * 4096  # the item's whole sectors
    new = pattern(6, 3 * 4096)
    expected = Expected(metadata(folder), new)
    writes = [DataWrite(place + at, new[at : at + 4096]) for at in range(0, len(new), 4096)]
    recording = record(folder, lambda store: write_logged(str(folder / IMAGE), writes, store))
    reader = Reader("vhdtool", lambda state: expected.view(metadata(state)))
    tally = judge(recording, [reader], seed=crash_seed(), count=dose(60), work=tmp_path / "work")
    assert set(tally.seen("vhdtool")) == {View.OLD, View.NEW}


# --- the harness sees what a flush is for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("dynamic", [COPIES]),
        ("dynamic", [HOMES]),
        ("wide", [TABLE]),
        ("wide", [FLIP_1, FLIP_2]),
        ("dynamic", [CLEAR_1, CLEAR_2]),
        ("dynamic", [REST_1, REST_2]),
    ],
)
def test_a_flush_left_out_is_seen(tmp_path: Path, name: str, left_out: list[int]) -> None:
    scenario = NAMED[name]
    folder, expected = scenario.prepare(tmp_path)
    recording = scenario.record(folder)
    assert len(recording.flushes) == 16
    for number in reversed(left_out):
        recording = recording.without_flush(number)
    with pytest.raises(CrashFaultError, match="vhdtool sees wrong"):
        judge(recording, [by_us(scenario, expected)], seed=5, count=600, work=tmp_path / "work")
