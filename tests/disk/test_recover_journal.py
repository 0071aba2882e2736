"""A pending journal: what is read of its image, what is refused, and how it is finished."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.disk.commits import changed, folder_state
from tests.disk.flat_images import make_flat
from tests.disk.in_place import CHANGES, flushed, stopped
from tests.disk.vhd_files import overwrite
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_copy import CopyInPlaceCommit
from vhdtool.disk.commit_journal import JournalCommit
from vhdtool.disk.journal import journal_name
from vhdtool.disk.recover_journal import recover_journal
from vhdtool.disk.vhd import VhdLayer
from vhdtool.errors import DamagedError, RefusedError, VhdtoolError
from vhdtool.progress import SILENT

KINDS = pytest.mark.parametrize("kind", ["vhd", "raw"])
COUNTS = 2  # the flush that makes the journal count
LAST = {"vhd": 4, "raw": 3}  # of the sectors


def interrupted(tmp_path: Path, kind: str, flush: int = COUNTS) -> tuple[Path, bytes, bytes]:
    """An image whose change stopped after a flush; its disk before, and as it shall be."""
    path = make_flat(tmp_path, kind)
    with changed(path, CHANGES) as overlay:
        old, new = overlay.base.read_at(0, overlay.size), overlay.read_at(0, overlay.size)
    stopped(JournalCommit, path, flushed(flush))
    return path, old, new


def content(path: Path) -> tuple[bytes, list[str]]:
    with open_disk(path) as disk:
        return disk.read_at(0, disk.size), [problem.code for problem in disk.info.problems]


@KINDS
@pytest.mark.parametrize("flush", [2, 3, 4])
def test_reading_honours_it_and_changes_nothing(tmp_path, kind, flush):
    path, _, new = interrupted(tmp_path, kind, min(flush, LAST[kind]))
    before = folder_state(path.parent)
    assert content(path) == (new, ["journal-pending"])
    with open_disk(path) as disk:
        layer = disk.layers[0]
        assert layer.info.log == disk.info.log == "replayed"
        assert isinstance(layer, VhdLayer) is (kind == "vhd")
        assert layer.info.file_size == path.stat().st_size
    assert folder_state(path.parent) == before


def test_also_through_a_link(tmp_path):
    path, _, new = interrupted(tmp_path, "raw")
    link = tmp_path / "link.img"
    link.symlink_to(path)
    assert content(link) == (new, ["journal-pending"])
    assert recover_journal(str(link)) is not None
    assert content(path) == (new, [])


@KINDS
def test_recovering_finishes_it(tmp_path, kind):
    path, _, new = interrupted(tmp_path, kind, LAST[kind] - 1)
    recovered = recover_journal(str(path))
    assert recovered is not None
    assert (recovered.path, recovered.action) == (str(path), "finished")
    assert recovered.bytes_written >= sum(map(len, CHANGES.values()))
    assert content(path) == (new, [])
    assert list(path.parent.iterdir()) == [path]
    assert recover_journal(str(path)) is None


@KINDS
def test_one_that_is_not_complete_counts_for_nothing(tmp_path, kind):
    path, old, _ = interrupted(tmp_path, kind, 1)
    assert content(path) == (old, ["journal-incomplete"])
    with open_disk(path) as disk:
        assert disk.info.log is None
    recovered = recover_journal(str(path))
    assert recovered is not None
    assert recovered.action == "rolled-back"
    assert list(path.parent.iterdir()) == [path]


@KINDS
def test_without_one_nothing_is_done(tmp_path, kind):
    path = make_flat(tmp_path, kind)
    before = folder_state(path.parent)
    assert recover_journal(str(path)) is None
    assert folder_state(path.parent) == before


@KINDS
def test_one_of_another_image_is_ignored_and_told(tmp_path, kind):
    path, old, _ = interrupted(tmp_path, kind)
    overwrite(path, 1500, b"#")
    other = old[:1500] + b"#" + old[1501:]
    assert content(path) == (other, ["journal-foreign"])
    before = folder_state(path.parent)
    with pytest.raises(RefusedError) as caught:
        recover_journal(str(path))
    assert (caught.value.code, caught.value.path) == ("journal-useless", journal_name(str(path)))
    assert folder_state(path.parent) == before


@KINDS
def test_a_damaged_one_is_ignored_and_told_while_the_image_is_whole(tmp_path, kind):
    path, old, _ = interrupted(tmp_path, kind)
    overwrite(Path(journal_name(str(path))), 2000, b"#")
    assert content(path) == (old, ["journal-damaged"])
    before = folder_state(path.parent)
    with pytest.raises(RefusedError):
        recover_journal(str(path))
    assert folder_state(path.parent) == before


@pytest.mark.parametrize("damage", ["removed", "damaged", "of another"])
def test_a_marked_image_is_not_read_without_its_journal(tmp_path, damage):
    path, _, _ = interrupted(tmp_path, "vhd", 3)
    journal = Path(journal_name(str(path)))
    if damage == "removed":
        journal.unlink()
    elif damage == "damaged":
        overwrite(journal, 2000, b"#")
    else:
        overwrite(path, path.stat().st_size - 512 + 128, b"other journal id")
    before = folder_state(path.parent)
    for act in (content, lambda path: recover_journal(str(path))):
        with pytest.raises(DamagedError) as caught:
            act(path)
        assert caught.value.code == "journal-missing"
        assert caught.value.expected == str(journal)
    assert folder_state(path.parent) == before


def test_a_mark_with_its_journal_is_enough(tmp_path):
    """Between mark and footer the sectors may hold anything."""
    path, _, new = interrupted(tmp_path, "vhd", 3)
    overwrite(path, 1024, b"#" * 512)
    assert content(path) == (new, ["journal-pending"])
    recover_journal(str(path))
    assert content(path) == (new, [])


@KINDS
def test_no_commit_goes_over_a_pending_one(tmp_path, kind):
    path, _, _ = interrupted(tmp_path, kind)
    before = folder_state(path.parent)
    for steps in (JournalCommit, CopyInPlaceCommit):
        with changed(path, {0: b"more"}) as overlay, pytest.raises(RefusedError) as caught:
            steps(overlay, Target("in-place")).prepare(SILENT)
        assert caught.value.code == "image-needs-recovery"
    assert folder_state(path.parent) == before


def test_something_else_with_that_name_is_told_and_stays(tmp_path):
    path = make_flat(tmp_path, "raw")
    Path(journal_name(str(path))).write_bytes(b"something else")
    before = folder_state(path.parent)
    assert content(path)[1] == ["journal-damaged"]
    with pytest.raises(RefusedError):
        recover_journal(str(path))
    assert folder_state(path.parent) == before


def test_flipped_bytes_never_do_harm_unseen(tmp_path):
    path, old, new = interrupted(tmp_path, "raw")
    journal = Path(journal_name(str(path)))
    whole = journal.read_bytes()
    source = random.Random(3)
    for _ in range(200):
        data = bytearray(whole)
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        journal.write_bytes(data)
        seen, problems = content(path)
        assert (seen, problems[0]) in {(old, "journal-damaged"), (old, "journal-version-unsupported")}
        with pytest.raises(VhdtoolError):
            recover_journal(str(path))
    journal.write_bytes(whole)
    assert content(path)[0] == new
