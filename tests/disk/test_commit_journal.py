"""A fixed VHD or raw image changed by a journal; power cuts are in tests/crash/test_journal.py."""

from __future__ import annotations

import pytest

from tests.crash.power_cut import record
from tests.crash.recording import Create, Flush, FlushFolder, Unlink, Write
from tests.disk.commits import changed
from tests.disk.flat_images import MIB, make_flat
from tests.disk.in_place import CHANGES, Full, commit, flushed, refused, stopped
from tests.disk.vhd_files import SAVED, set_footer
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_journal import RAW_NOTE, JournalCommit
from vhdtool.errors import OutputError, RefusedError
from vhdtool.progress import SILENT

KINDS = pytest.mark.parametrize("kind", ["vhd", "raw"])


@KINDS
def test_the_image_holds_the_change_and_nothing_is_left_beside_it(tmp_path, kind):
    path = make_flat(tmp_path, kind)
    before = path.stat()
    written = commit(JournalCommit, path, CHANGES)
    assert path.stat().st_ino == before.st_ino
    assert (written.path, written.blocks, written.file_size) == (str(path), 0, before.st_size)
    assert 2 * sum(map(len, CHANGES.values())) < written.bytes_written < 64 << 10
    assert list(path.parent.iterdir()) == [path]
    assert written.notes == ((RAW_NOTE,) if kind == "raw" else ())


def test_the_order_of_the_steps(tmp_path):
    """The journal is whole before it counts, and counts before the footer is marked; the footer returns at last."""
    path = make_flat(tmp_path, "vhd")
    operations = record(path.parent, lambda store: commit(JournalCommit, path, CHANGES, store)).operations
    image, journal = 0, 1
    footer_at = path.stat().st_size - 512
    steps = []
    for one in operations:
        match one:
            case Create() | FlushFolder() | Unlink():
                steps.append(type(one).__name__)
            case Flush(number):
                steps.append(f"flush {number}")
            case Write(number, offset, data):
                what = "body" if number == journal and offset else "head" if number == journal else "sectors"
                if number == image and offset == footer_at:
                    what = data[:8].decode()
                if not steps or steps[-1] != what:
                    steps.append(what)
    assert steps == [
        "Create", "body", "flush 1", "FlushFolder", "head", "flush 1",
        "vhdtool ", "flush 0", "sectors", "flush 0", "conectix", "flush 0", "Unlink", "FlushFolder",
    ]  # fmt: skip


def test_no_change_changes_nothing(tmp_path):
    path = make_flat(tmp_path, "raw")
    before = path.read_bytes()
    commit(JournalCommit, path, {100: before[100:200]})
    assert path.read_bytes() == before


def test_a_symbolic_link_stays_one(tmp_path):
    path = make_flat(tmp_path, "raw")
    link = tmp_path / "link.img"
    link.symlink_to(path)
    commit(JournalCommit, link, CHANGES)
    assert link.is_symlink()
    assert path.read_bytes()[1000:1005] == b"hello"


def test_an_image_with_several_names_is_refused(tmp_path):
    """By another name the journal would not be found."""
    path = make_flat(tmp_path, "raw")
    path.with_name("other.img").hardlink_to(path)
    refused(JournalCommit, path, RefusedError, "image-hard-linked")


def test_the_disk_of_a_saved_machine_is_refused(tmp_path):
    path = make_flat(tmp_path, "vhd")
    set_footer(path, SAVED, b"\1", copies="tail")
    refused(JournalCommit, path, RefusedError, "vhd-saved-state")


@KINDS
@pytest.mark.parametrize("steps", [0, 2])
def test_a_journal_that_is_there_is_dealt_with_first(tmp_path, kind, steps):
    path = make_flat(tmp_path, kind)
    stopped(JournalCommit, path, flushed(steps))
    path.with_name(f"{path.name}.vhdtool-journal").touch()
    error = refused(JournalCommit, path, RefusedError, "image-needs-recovery")
    assert error.hint == f"Bring {'it' if steps else 'the image'} to rest first: vhdtool recover {path}"


def test_no_room_is_told_before_anything_is_written(tmp_path):
    path = make_flat(tmp_path, "vhd")
    refused(JournalCommit, path, OutputError, "no-room", Full(MIB))
    commit(JournalCommit, path, CHANGES, Full(MIB + (64 << 10)))


def test_finishing_needs_a_preparation(tmp_path):
    path = make_flat(tmp_path, "raw")
    with changed(path, CHANGES) as overlay, pytest.raises(ValueError, match="prepared"):
        JournalCommit(overlay, Target("in-place")).finish(SILENT)
