"""A fixed VHD or raw image replaced by its changed copy; power cuts are in tests/crash/test_copy_in_place.py."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.disk.commits import changed, folder_state
from tests.disk.flat_images import MIB, SIZE, make_flat
from tests.disk.in_place import CHANGES, Full, commit, refused
from tests.disk.vhd_files import SAVED, set_footer
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_copy import CopyInPlaceCommit
from vhdtool.disk.host_store import OS_STORE
from vhdtool.disk.recover_copy import copy_name
from vhdtool.errors import ChangedError, OutputError, RefusedError
from vhdtool.progress import SILENT

KINDS = pytest.mark.parametrize("kind", ["vhd", "raw"])


@KINDS
def test_the_image_holds_the_change_and_nothing_is_left_beside_it(tmp_path, kind):
    path = make_flat(tmp_path, kind)
    before = path.stat()
    end = path.read_bytes()[SIZE:]
    written = commit(CopyInPlaceCommit, path, CHANGES)
    after = path.stat()
    assert (written.path, written.blocks, written.file_size_before) == (str(path), 0, before.st_size)
    assert path.read_bytes()[SIZE:] == end
    assert after.st_ino != before.st_ino
    assert after.st_mtime_ns >= before.st_mtime_ns
    assert list(path.parent.iterdir()) == [path]


def test_holes_stay_holes(tmp_path):
    path = make_flat(tmp_path, "raw")
    if path.stat().st_blocks * 512 > 5 * MIB:
        pytest.skip("the host's file system has no holes")
    written = commit(CopyInPlaceCommit, path, CHANGES)
    assert path.stat().st_blocks * 512 < 5 * MIB
    assert written.bytes_written < 5 * MIB


def test_mode_stays_and_is_there_from_the_start(tmp_path):
    path = make_flat(tmp_path, "raw")
    path.chmod(0o640)
    with changed(path, CHANGES) as overlay:
        steps = CopyInPlaceCommit(overlay, Target("in-place"))
        steps.prepare(SILENT)
        assert stat.S_IMODE(Path(copy_name(str(path))).stat().st_mode) == 0o640
        steps.finish(SILENT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(tmp_path):
    path = make_flat(tmp_path, "raw")
    link = tmp_path / "elsewhere" / "link.img"
    link.parent.mkdir()
    link.symlink_to(os.path.relpath(path, link.parent))
    written = commit(CopyInPlaceCommit, link, CHANGES)
    assert written.path == str(link)
    assert link.is_symlink()
    assert path.read_bytes()[1000:1005] == b"hello"
    assert list(link.parent.iterdir()) == [link]
    assert list(path.parent.iterdir()) == [path]


def test_a_copy_that_an_earlier_attempt_left_is_no_hindrance(tmp_path):
    path = make_flat(tmp_path, "raw")
    Path(copy_name(str(path))).write_bytes(b"half of it")
    commit(CopyInPlaceCommit, path, CHANGES)
    assert list(path.parent.iterdir()) == [path]


@KINDS
def test_what_is_abandoned_leaves_nothing(tmp_path, kind):
    path = make_flat(tmp_path, kind)
    before = folder_state(path.parent)
    with changed(path, CHANGES) as overlay:
        steps = CopyInPlaceCommit(overlay, Target("in-place"))
        steps.prepare(SILENT)
        assert folder_state(path.parent) != before
        steps.abandon()
        steps.abandon()
    assert folder_state(path.parent) == before


def test_an_image_with_several_names_is_refused(tmp_path):
    path = make_flat(tmp_path, "raw")
    path.with_name("other.img").hardlink_to(path)
    error = refused(CopyInPlaceCommit, path, RefusedError, "image-hard-linked")
    assert (error.exit_code, error.found) == (4, "2")


def test_the_disk_of_a_saved_machine_is_refused(tmp_path):
    path = make_flat(tmp_path, "vhd")
    set_footer(path, SAVED, b"\1", copies="tail")
    refused(CopyInPlaceCommit, path, RefusedError, "vhd-saved-state")


def test_a_folder_in_the_place_of_the_copy_is_refused(tmp_path):
    path = make_flat(tmp_path, "raw")
    Path(copy_name(str(path))).mkdir()
    refused(CopyInPlaceCommit, path, RefusedError, "not-a-regular-file")


def test_no_room_for_a_copy_names_the_journal(tmp_path):
    path = make_flat(tmp_path, "vhd")
    error = refused(CopyInPlaceCommit, path, OutputError, "no-room", Full(12 * MIB))
    assert "--journal" in str(error.hint)
    commit(CopyInPlaceCommit, path, CHANGES, Full(17 * MIB))


def test_a_clone_needs_room_for_the_change_alone(tmp_path):
    path = make_flat(tmp_path, "raw")

    class Cloning:
        """As a file system that shares extents."""

        def __init__(self, room: int) -> None:
            self._room = room

        def free_space(self, path: str) -> int:
            assert path
            return self._room

        def create(self, name: str):
            file = OS_STORE.create(name)

            def clone_from(source: str) -> bool:
                file.write_at(0, Path(source).read_bytes())
                return True

            file.clone_from = clone_from
            return file

        def __getattr__(self, name: str) -> object:
            return getattr(OS_STORE, name)

    refused(CopyInPlaceCommit, path, OutputError, "no-room", Cloning(8 * MIB))
    written = commit(CopyInPlaceCommit, path, CHANGES, Cloning(9 * MIB))
    assert written.bytes_written < MIB


def test_a_name_that_may_not_last_is_told(tmp_path):
    path = make_flat(tmp_path, "raw")

    class Forgetful:
        def flush_folder(self, path: str) -> None:
            raise OutputError("cannot-write", "can't flush the folder", path=path)

        def __getattr__(self, name: str) -> object:
            return getattr(OS_STORE, name)

    with changed(path, CHANGES) as overlay:
        steps = CopyInPlaceCommit(overlay, Target("in-place"), Forgetful())
        steps.prepare(SILENT)
        with pytest.raises(ChangedError) as caught:
            steps.finish(SILENT)
        steps.abandon()
    assert (caught.value.code, caught.value.exit_code) == ("commit-unfinished", 8)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes()[1000:1005] == b"hello"


def test_finishing_needs_a_preparation(tmp_path):
    path = make_flat(tmp_path, "raw")
    with changed(path, CHANGES) as overlay, pytest.raises(ValueError, match="prepared"):
        CopyInPlaceCommit(overlay, Target("in-place")).finish(SILENT)
