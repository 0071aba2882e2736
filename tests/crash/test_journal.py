"""A fixed VHD or raw image changed by a journal: we see the old disk or the new one, others too or they refuse."""

from __future__ import annotations

import random

import pytest

from tests.crash.flat_scene import FlatScene, commit, content, make
from tests.crash.power_cut import (
    Platter,
    State,
    View,
    crash_seed,
    dose,
    flushes_that_matter,
    judge,
    record,
)
from tests.crash.recording import RecordingStore
from vhdtool.disk.commit_journal import JournalCommit
from vhdtool.disk.recover_journal import recover_journal
from vhdtool.errors import ChangedError, OutputError

COUNT = 120


@pytest.mark.parametrize("kind", ["vhd", "short vhd", "raw"])
def test_old_or_new_to_us_and_after_recover(tmp_path, kind):
    scene = FlatScene(kind, JournalCommit, tmp_path)
    seen = judge(scene.recording, scene.readers(), seed=crash_seed(), count=dose(COUNT), work=tmp_path / "states").seen(
        "ours"
    )
    assert seen[View.OLD] >= 10
    assert seen[View.NEW] >= 10


@pytest.mark.oracle
def test_old_or_new_or_a_refusal_to_foreign_readers(tmp_path):
    scene = FlatScene("vhd", JournalCommit, tmp_path)
    tally = judge(
        scene.recording,
        scene.foreign(may_refuse=True),
        seed=crash_seed(),
        count=dose(COUNT),
        work=tmp_path / "states",
    )
    for name in ("qemu", "7zz", "pyvhdi", "dissect"):
        seen = tally.seen(name)
        assert seen[View.OLD] >= 5
        assert seen[View.REFUSED] >= 5
        assert seen[View.NEW] >= 1


@pytest.mark.parametrize("kind", ["vhd", "raw"])
def test_each_flush_that_holds_something_up_is_missed(tmp_path, kind):
    scene = FlatScene(kind, JournalCommit, tmp_path)
    readers = scene.readers()
    if kind == "vhd":
        readers += scene.foreign(may_refuse=True, every=1000)
    found = flushes_that_matter(
        scene.recording, lambda one: judge(one, readers, seed=6, count=200, work=tmp_path / "states")
    )
    # the journal's body, its name in the folder, its first sector; the mark; the sectors; the footer. Not the removal:
    # it may be late, because a journal that was applied does no harm
    assert set(found) == set(range(6 if kind == "vhd" else 4))
    assert len(scene.recording.flushes) == len(found) + 1


@pytest.mark.parametrize("kind", ["vhd", "raw"])
def test_power_goes_again_while_recovering(tmp_path, kind):
    scene = FlatScene(kind, JournalCommit, tmp_path)
    source = random.Random(crash_seed())
    platter = Platter(scene.recording, tmp_path / "stable")
    views = set()
    for stop in range(1, len(scene.recording.operations) + 1):
        platter.advance(stop)
        folder = tmp_path / f"stopped-{stop}"
        platter.make(State(stop, "none", {}), folder)
        view = scene.ours(folder)
        again = record(folder, lambda store, folder=folder: recover_journal(str(folder / scene.name), store))
        if not again.operations:
            continue
        only = frozenset({view})
        judge(
            again,
            scene.readers(),
            seed=source.getrandbits(32),
            count=dose(20),
            work=tmp_path / "again",
            starts=only,
            ends=only,
        )
        views.add(view)
    assert views == {View.OLD, View.NEW}


@pytest.mark.parametrize("kind", ["vhd", "raw"])
@pytest.mark.parametrize("lasting", [1, None])
def test_a_call_that_fails_leaves_the_old_image_or_says_that_it_is_changed(tmp_path, kind, lasting):
    calls, changed, hints, views = 0, 0, set(), set()
    while True:
        folder = tmp_path / str(calls)
        path = folder / make(folder, kind)
        old, before = content(path), path.read_bytes()
        try:
            commit(path, JournalCommit, RecordingStore(folder, fail_from=calls, fail_for=lasting))
        except OutputError:
            assert path.read_bytes() == before
            assert content(path) == old
        except ChangedError as error:
            changed += 1
            hints.add(error.hint == f"Finish it: vhdtool recover {path}")
            views.add(content(path) == old)
        else:
            break
        recover_journal(str(path))
        assert [each.name for each in folder.iterdir()] == [path.name]
        calls += 1
    assert calls > 8
    assert changed > 3
    assert hints == {True}
    assert False in views  # True as well where the journal's removal failed
