"""A fixed VHD or raw image replaced by its changed copy: whenever the power goes, it is the old file or the new one."""

from __future__ import annotations

import pytest

from tests.crash.flat_scene import FlatScene, commit, content, make
from tests.crash.power_cut import Reader, View, crash_seed, dose, flushes_that_matter, judge
from tests.crash.recording import RecordingStore
from vhdtool.disk.commit_copy import CopyInPlaceCommit
from vhdtool.errors import ChangedError, OutputError

COUNT = 110


@pytest.mark.parametrize("kind", ["vhd", "short vhd", "raw"])
@pytest.mark.parametrize("reflinks", [False, True])
def test_old_or_new_to_us_and_after_recover(tmp_path, kind, reflinks):
    scene = FlatScene(kind, CopyInPlaceCommit, tmp_path, reflinks=reflinks)
    seen = judge(scene.recording, scene.readers(), seed=crash_seed(), count=dose(COUNT), work=tmp_path / "states").seen(
        "ours"
    )
    assert seen[View.OLD] >= 10
    assert seen[View.NEW] >= 2


@pytest.mark.oracle
def test_old_or_new_to_foreign_readers(tmp_path):
    scene = FlatScene("vhd", CopyInPlaceCommit, tmp_path)
    judge(scene.recording, scene.foreign(), seed=crash_seed(), count=dose(COUNT), work=tmp_path / "states")


def test_each_flush_left_out_is_seen(tmp_path):
    scene = FlatScene("vhd", CopyInPlaceCommit, tmp_path)
    readers = [Reader("ours", scene.ours)]
    found = flushes_that_matter(
        scene.recording, lambda one: judge(one, readers, seed=4, count=150, work=tmp_path / "states")
    )
    assert set(found) == {0, 1}  # the copy's, and the folder's


@pytest.mark.parametrize("kind", ["vhd", "raw"])
@pytest.mark.parametrize("lasting", [1, None])
def test_a_call_that_fails_leaves_the_old_image_or_says_that_it_is_changed(tmp_path, kind, lasting):
    calls = 0
    while True:
        folder = tmp_path / str(calls)
        path = folder / make(folder, kind)
        before = path.read_bytes()
        try:
            commit(path, CopyInPlaceCommit, RecordingStore(folder, fail_from=calls, fail_for=lasting))
        except OutputError:
            assert path.read_bytes() == before
            assert lasting is None or [each.name for each in folder.iterdir()] == [path.name]
        except ChangedError:
            assert content(path) != before
        else:
            break
        calls += 1
    assert calls > 6
