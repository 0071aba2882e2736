"""A change to a VHDX in place, with the power cut anywhere: the old disk or the new one, for every reader that replays
logs, and, where one sector of the BAT changes, also for one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.power_cut import (
    Reader,
    Recording,
    Tally,
    View,
    crash_seed,
    dose,
    judge,
)
from tests.crash.vhdx_scenarios import (
    SCENARIOS,
    Scenario,
    after_recovery,
    by_dissect,
    by_qemu,
    by_us,
)

NAMED = {scenario.name: scenario for scenario in SCENARIOS}


def judged(scenario: Scenario, recording: Recording, readers: list[Reader], tmp_path: Path, seed: int) -> Tally:
    return judge(recording, readers, seed=seed, count=dose(scenario.count), work=tmp_path / "work")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_old_or_new(tmp_path: Path, scenario: Scenario) -> None:
    folder, expected = scenario.prepare(tmp_path)
    recording = scenario.record(folder)
    assert scenario.content(folder) == expected.new
    readers = [by_us(scenario, expected), after_recovery(scenario, expected)]
    tally = judged(scenario, recording, readers, tmp_path, crash_seed())
    assert tally.states >= min(dose(scenario.count), 40) * 0.9
    for reader in readers:
        seen = tally.seen(reader.name)
        assert set(seen) == {View.OLD, View.NEW}
        assert min(seen.values()) >= 5


@pytest.mark.oracle
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.qemu or one.dissect], ids=str)
def test_old_or_new_for_foreign_readers(tmp_path: Path, scenario: Scenario) -> None:
    folder, expected = scenario.prepare(tmp_path)
    readers = [by_qemu(scenario, expected, every=6)] if scenario.qemu else []
    if scenario.dissect:
        readers.append(by_dissect(scenario, expected))
    tally = judged(scenario, scenario.record(folder), readers, tmp_path, crash_seed())
    for reader in readers:
        assert set(tally.seen(reader.name)) == {View.OLD, View.NEW}
