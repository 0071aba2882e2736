from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import digests, image_in
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_child import ChildCommit
from vhdtool.disk.commit_copy import CopyInPlaceCommit
from vhdtool.disk.commit_journal import JournalCommit
from vhdtool.disk.commit_output import OutputCommit
from vhdtool.disk.commit_vhd import VhdInPlaceCommit
from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit
from vhdtool.disk.committing import OpinionOptions, commit_changes, commit_for
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import ChangedError, UsageError

IN_PLACE = Target("in-place", no_children=True)


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("windows-guest.vhdx", IN_PLACE, VhdxInPlaceCommit),
        ("windows-guest.vhd", IN_PLACE, VhdInPlaceCommit),
        ("windows-guest-child.vhd", IN_PLACE, VhdInPlaceCommit),
        ("raw", IN_PLACE, CopyInPlaceCommit),
        ("raw", Target("in-place", journal=True), JournalCommit),
        ("windows-guest.vhdx", Target("child", "c.vhdx"), ChildCommit),
        ("windows-guest.vhd", Target("output", "o.vhd"), OutputCommit),
    ],
)
def test_steps_follow_from_target_and_format(name, target, kind, tmp_path):
    with open_disk(image_in(tmp_path, name)) as disk, Overlay(disk) as overlay:
        assert type(commit_for(overlay, target)) is kind


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("windows-guest.vhdx", Target("in-place", journal=True)),
        ("windows-guest.vhd", Target("in-place", journal=True)),
        ("raw", Target("output", "o.raw", journal=True)),
    ],
)
def test_journal_is_for_images_without_blocks(name, target, tmp_path):
    with open_disk(image_in(tmp_path, name)) as disk, Overlay(disk) as overlay, pytest.raises(UsageError) as caught:
        commit_for(overlay, target)
    assert caught.value.code == "target-contradicts"


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), ZeroDivisionError("a fault of ours")])
def test_interruption_in_place_never_says_that_the_image_is_untouched(trouble, tmp_path, monkeypatch):
    image = image_in(tmp_path, "windows-guest.vhdx")

    def interrupted(*_: object) -> None:
        raise trouble

    monkeypatch.setattr(VhdxInPlaceCommit, "finish", interrupted)
    with open_disk(image) as disk, Overlay(disk) as overlay:
        overlay.write_at(5 << 20, b"changed")
        with pytest.raises(ChangedError) as caught:
            commit_changes(overlay, IN_PLACE, opinions=OpinionOptions(seed=1))
    assert (caught.value.code, caught.value.exit_code) == ("commit-interrupted", 8)
    assert "recover" in (caught.value.hint or "")


@pytest.mark.parametrize("kind", ["child", "output"])
def test_interruption_of_a_new_file_leaves_nothing(kind, tmp_path, monkeypatch):
    image = image_in(tmp_path, "windows-guest.vhdx")
    before = digests(tmp_path)
    commit = {"child": ChildCommit, "output": OutputCommit}[kind]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commit, "finish", interrupted)
    with open_disk(image) as disk, Overlay(disk) as overlay:
        overlay.write_at(5 << 20, b"changed")
        with pytest.raises(KeyboardInterrupt):
            commit_changes(overlay, Target(kind, str(tmp_path / "new.vhdx")))
    assert digests(tmp_path) == before


def test_same_seed_asks_for_the_same_sample(tmp_path):
    samples = []
    for number in range(2):
        folder = Path(tmp_path, str(number))
        folder.mkdir()
        image = image_in(folder, "windows-guest.vhdx")
        with open_disk(image) as disk, Overlay(disk) as overlay:
            overlay.write_at(5 << 20, b"changed")
            done = commit_changes(overlay, IN_PLACE, opinions=OpinionOptions(seed=7))
        samples.append((done.seed, done.before.sampled_bytes, done.before.confirmed_bytes))
    assert samples[0] == samples[1]
    assert samples[0][0] == 7
