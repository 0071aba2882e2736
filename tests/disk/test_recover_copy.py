"""The copy that an interrupted change left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disk.commits import folder_state
from tests.disk.flat_images import make_flat
from tests.disk.in_place import flushed, stopped
from vhdtool.disk.commit_copy import CopyInPlaceCommit
from vhdtool.disk.recover_copy import copy_name, recover_copy
from vhdtool.errors import RefusedError


def test_it_is_removed(tmp_path):
    path = make_flat(tmp_path, "vhd")
    before = folder_state(path.parent)
    Path(copy_name(str(path))).write_bytes(b"half of it")
    recovered = recover_copy(str(path))
    assert recovered is not None
    assert (recovered.path, recovered.action, recovered.bytes_written) == (str(path), "cleared", 0)
    assert folder_state(path.parent) == before
    assert recover_copy(str(path)) is None


def test_after_a_power_cut_too(tmp_path):
    path = make_flat(tmp_path, "raw")
    before = folder_state(path.parent)
    stopped(CopyInPlaceCommit, path, flushed(0))
    recover_copy(str(path))
    assert folder_state(path.parent) == before


def test_through_a_link_as_well(tmp_path):
    path = make_flat(tmp_path, "raw")
    link = tmp_path / "link.img"
    link.symlink_to(path)
    copy = Path(copy_name(str(path)))
    copy.touch()
    assert recover_copy(str(link)) is not None
    assert not copy.exists()


@pytest.mark.parametrize("what", ["folder", "link", "two names"])
def test_what_is_no_copy_of_ours_stays(tmp_path, what):
    path = make_flat(tmp_path, "raw")
    copy = Path(copy_name(str(path)))
    if what == "folder":
        copy.mkdir()
    elif what == "link":
        copy.symlink_to(path)
    else:
        copy.touch()
        copy.with_name("mine").hardlink_to(copy)
    before = folder_state(path.parent)
    with pytest.raises(RefusedError) as caught:
        recover_copy(str(path))
    assert caught.value.code == "not-a-regular-file"
    assert folder_state(path.parent) == before


def test_copies_of_other_images_stay(tmp_path):
    path = make_flat(tmp_path, "raw")
    path.with_name(".disk.img.bak.vhdtool-copy").touch()
    path.with_name("disk.img.vhdtool-copy").touch()
    before = folder_state(path.parent)
    assert recover_copy(str(path)) is None
    assert folder_state(path.parent) == before
