from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.disk.vhd_files import KIB, MIB, WHOLE, open_disk
from tests.fuzz import vhd_images, vhdx_images
from tests.fuzz.vhd_images import DIFFERENCING, VhdLayer
from tests.fuzz.vhdx_images import FULL, Layer
from vhdtool.disk import children
from vhdtool.disk.children import ChildSearch, find_children, refuse_parent_in_place
from vhdtool.disk.commit import Target
from vhdtool.errors import InputError, RefusedError

IN_PLACE = Target("in-place")
PARENT = Layer(1, 2 * MIB, {0: FULL})
VHD_PARENT = VhdLayer(1, 4 * MIB, {0: WHOLE})


def make(path: Path, layer: Layer = PARENT) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    vhdx_images.write_vhdx(path, layer)
    return path


def make_child(path: Path, parent_path: str, parent: Layer = PARENT, number: int = 2) -> Path:
    return make(path, Layer(number, parent.virtual_size, {0: FULL}, parent=parent, parent_path=parent_path))


def make_vhd(path: Path, layer: VhdLayer = VHD_PARENT) -> Path:
    vhd_images.write_vhd(path, layer)
    return path


def make_vhd_child(path: Path, parent_path: str, parent: VhdLayer = VHD_PARENT) -> Path:
    layer = VhdLayer(2, parent.virtual_size, {0: WHOLE}, parent=parent)
    return make_vhd(path, replace(layer, kind=DIFFERENCING, parent_path=parent_path))


def find(path: Path, *folders: Path) -> ChildSearch:
    return find_children(str(path), [str(folder) for folder in folders])


def refused(path: Path, target: Target = IN_PLACE) -> RefusedError:
    before = hashlib.sha256(path.read_bytes()).digest()
    with open_disk(path) as disk, pytest.raises(RefusedError) as raised:
        refuse_parent_in_place(disk, target)
    assert raised.value.exit_code == 4
    assert hashlib.sha256(path.read_bytes()).digest() == before
    return raised.value


def allowed(path: Path, target: Target = IN_PLACE, besides: tuple[str, ...] = ()) -> tuple[str, ...]:
    with open_disk(path) as disk:
        return refuse_parent_in_place(disk, target, besides=besides)


def test_a_child_beside_its_parent(tmp_path: Path) -> None:
    parent = make(tmp_path / "base.vhdx")
    child = make_child(tmp_path / "child.AVHDX", "base.vhdx")
    make_child(tmp_path / "grandchild.vhdx", "child.AVHDX", Layer(2, 2 * MIB, {}), 3)
    make(tmp_path / "other.vhdx", Layer(9, MIB, {}))
    (tmp_path / "damaged.vhdx").write_bytes(b"vhdxfile" + bytes(4096))
    (tmp_path / "notes.txt").write_text("base.vhdx")
    found = find(parent)
    assert found == ChildSearch((str(child),), (), (str(tmp_path),), 4, 1, complete=True)
    error = refused(parent)
    assert error.code == "is-a-parent"
    assert error.found == str(child)


def test_the_users_word_does_not_outweigh_a_child_that_is_there(tmp_path: Path) -> None:
    parent = make_vhd(tmp_path / "base.vhd")
    make_vhd_child(tmp_path / "child.vhd", "base.vhd")
    assert refused(parent, Target("in-place", no_children=True)).code == "is-a-parent"


def test_a_child_that_is_about_to_be_merged(tmp_path: Path) -> None:
    parent = make(tmp_path / "base.vhdx")
    child = make_child(tmp_path / "child.vhdx", "base.vhdx")
    other = tmp_path / "link.vhdx"
    other.symlink_to(child)
    (note,) = allowed(parent, besides=(str(other),))
    assert "No child" in note
    make_child(tmp_path / "second.vhdx", "base.vhdx", number=3)
    with open_disk(parent) as disk, pytest.raises(RefusedError) as raised:
        refuse_parent_in_place(disk, IN_PLACE, besides=(str(child),))
    assert raised.value.found == str(tmp_path / "second.vhdx")


def test_a_child_in_a_folder_below_one_that_is_named(tmp_path: Path) -> None:
    parent = make(tmp_path / "bases" / "base.vhdx")
    child = make_child(tmp_path / "machines" / "one" / "disks" / "one.vhdx", "..\\..\\..\\bases\\base.vhdx")
    (note,) = allowed(parent)
    assert note.startswith(f"No child was found among 0 other images in {parent.parent};")
    assert "can't be used any more" in note
    assert find(parent, tmp_path / "machines").children == (str(child),)
    named = Target("in-place", children_folders=(str(tmp_path / "machines"),))
    assert refused(parent, named).found == str(child)


def test_folders_that_contain_each_other_are_counted_once(tmp_path: Path) -> None:
    parent = make(tmp_path / "base.vhdx")
    make_child(tmp_path / "below" / "child.vhdx", "..\\base.vhdx")
    os.link(parent, tmp_path / "base-link.vhdx")
    (tmp_path / "below" / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = find(parent, tmp_path, tmp_path / "below")
    assert (len(found.children), found.files_looked_at) == (1, 1)


def test_through_a_symbolic_link_both_folders_are_searched(tmp_path: Path) -> None:
    parent = make(tmp_path / "store" / "base.vhdx")
    child = make_child(tmp_path / "store" / "child.vhdx", "base.vhdx")
    (tmp_path / "names").mkdir()
    link = tmp_path / "names" / "base.vhdx"
    link.symlink_to(parent)
    assert find(link).children == (str(child),)


@pytest.mark.parametrize("suffix", ["vhdx", "vhd"])
def test_the_child_of_a_copy_is_not_ours(tmp_path: Path, suffix: str) -> None:
    maker, child_maker = (make, make_child) if suffix == "vhdx" else (make_vhd, make_vhd_child)
    base = maker(tmp_path / f"base.{suffix}")
    copy = tmp_path / f"copy.{suffix}"
    shutil.copy2(base, copy)
    child = child_maker(tmp_path / f"child.{suffix}", f"base.{suffix}")
    assert find(base).children == (str(child),)
    assert find(copy).children == ()
    base.unlink()  # now nothing else fits
    assert find(copy).children == (str(child),)


def test_a_child_of_another_state_is_told_and_does_not_stop_us(tmp_path: Path) -> None:
    parent = make(tmp_path / "base.vhdx", Layer(7, 2 * MIB, {}))
    stray = make_child(tmp_path / "child.vhdx", "base.vhdx")
    found = find(parent)
    assert (found.children, found.strays) == ((), (str(stray),))
    first, second = allowed(parent)
    assert first.startswith(f"{stray} names this file as its parent")
    assert "No child" in second


def test_a_vhd_is_refused_without_the_users_word(tmp_path: Path) -> None:
    parent = make_vhd(tmp_path / "base.vhd")
    error = refused(parent)
    assert error.code == "children-unknown"
    assert "--no-children" in str(error.hint)
    (note,) = allowed(parent, Target("in-place", no_children=True))
    assert "by your word" in note


def test_a_raw_image_has_no_children(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(64 * KIB))
    make_child(tmp_path / "child.vhdx", "disk.raw")
    assert allowed(raw) == ()


def test_limits_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = make(tmp_path / "base.vhdx")
    for number in range(3):
        make(tmp_path / f"other{number}.vhdx", Layer(20 + number, MIB, {}))
    (tmp_path / "named" / "deep").mkdir(parents=True)
    monkeypatch.setattr(children, "MOST_FILES", 2)
    found = find(parent)
    assert (found.files_looked_at, found.complete) == (2, False)
    assert "not all of it" in allowed(parent)[0]
    monkeypatch.setattr(children, "MOST_FILES", 100)
    monkeypatch.setattr(children, "MOST_ENTRIES", 2)
    assert not find(parent).complete
    monkeypatch.setattr(children, "MOST_ENTRIES", 100)
    monkeypatch.setattr(children, "DEEPEST", 0)
    assert find(parent, tmp_path / "named").complete  # it is one of those that were named
    monkeypatch.setattr(children, "DEEPEST", 1)
    (tmp_path / "named" / "deep" / "deeper").mkdir()
    assert not find(parent, tmp_path / "named").complete
    assert not find(parent, tmp_path / "no-such-folder").complete


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        find(tmp_path / "none.vhdx")
    assert raised.value.code == "cannot-open"
