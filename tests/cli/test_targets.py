"""Where changes go: what each option of a target does, as a user sees it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in, refused, start_of
from tests.cli.harness import run
from vhdtool.disk.chain import open_disk

SET = ["services", "set"]
WORDS = ["vmicvss=disabled"]


def locators(image: Path) -> dict[str, str]:
    with open_disk(image) as disk:
        return {locator.kind.value: locator.path for locator in disk.layers[0].info.locators}


@pytest.mark.parametrize("name", ["windows-guest.vhdx", "windows-guest.vhd"])
def test_child_names_its_parent_by_relative_path_alone(name, tmp_path):
    image = image_in(tmp_path, name)
    below = tmp_path / "below"
    below.mkdir()
    child = below / f"child{image.suffix}"
    changed(*SET, image, *WORDS, "--child", child)
    named = locators(child)
    assert named["relative_path"] == f"..\\{name}"
    assert "absolute_win32_path" not in named
    assert not any("/" in path for path in named.values())
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.copytree(tmp_path, moved, copy_function=shutil.copy2)
    assert start_of(moved / "below" / child.name, "vmicvss") == "disabled"


@pytest.mark.parametrize("name", ["windows-guest.vhdx", "windows-guest.vhd"])
def test_path_on_the_windows_host_is_stored_when_it_is_told(name, tmp_path):
    image = image_in(tmp_path, name)
    child = tmp_path / f"child{image.suffix}"
    told = rf"D:\Hyper-V\{name}"
    changed(*SET, image, *WORDS, "--child", child, "--parent-windows-path", told)
    prefix = "\\\\?\\" if image.suffix == ".vhdx" else ""  # MS-VHDX 2.6.2.6.3
    assert locators(child)["absolute_win32_path"] == prefix + told
    posix = ["--parent-windows-path", "/images/a.vhdx"]
    assert run(*SET, str(image), *WORDS, "--child", str(tmp_path / f"b{image.suffix}"), *posix).code == 2


def test_vhd_child_says_that_a_copy_must_keep_the_time_of_its_parent(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhd")
    document = changed(*SET, image, *WORDS, "--child", tmp_path / "child.vhd")
    assert any("time" in note for note in document["receipt"]["notes"])


def test_children_in_another_folder_are_found_when_it_is_named(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    image = image_in(tmp_path, "windows-guest.vhdx")
    changed(*SET, image, *WORDS, "--child", elsewhere / "child.vhdx")
    before = digests(elsewhere) | {image.name: digests_of(image)}
    result = refused(*SET, image, *WORDS, "--in-place", "--children", elsewhere)
    assert result.json["error"]["code"] == "is-a-parent"
    assert "child.vhdx" in result.json["error"]["message"]
    assert digests(elsewhere) | {image.name: digests_of(image)} == before
    document = changed(*SET, image, *WORDS, "--in-place")
    assert any("child" in note or "differencing" in note for note in document["receipt"]["notes"])


def digests_of(path: Path) -> str:
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_fold_back_gives_the_room_back(tmp_path):
    folded, unfolded = tmp_path / "folded", tmp_path / "unfolded"
    for folder in (folded, unfolded):
        folder.mkdir()
    one, two = (image_in(folder, "windows-guest.vhdx") for folder in (folded, unfolded))
    size = one.stat().st_size
    changed(*SET, one, *WORDS, "--in-place")
    changed(*SET, two, *WORDS, "--in-place", "--no-fold")
    assert one.stat().st_size == size
    assert two.stat().st_size > size
    assert start_of(one, "vmicvss") == start_of(two, "vmicvss") == "disabled"
    assert run("disk", "verify", str(one)).code == 0


@pytest.mark.parametrize("kind", ["raw", "fixed"])
def test_journal_instead_of_a_copy(kind, tmp_path):
    image = image_in(tmp_path, "raw")
    if kind == "fixed":
        fixed = tmp_path / "fixed.vhd"
        assert run("disk", "convert", str(image), str(fixed), "--type", "fixed").code == 0
        image.unlink()
        image = fixed
    inode = image.stat().st_ino
    document = changed(*SET, image, *WORDS, "--in-place", "--journal", "--no-children")
    assert image.stat().st_ino == inode, "the file itself is written"
    assert start_of(image, "vmicvss") == "disabled"
    assert list(digests(tmp_path)) == [image.name], "the journal is gone"
    if kind == "raw":
        assert any("raw image" in note for note in document["receipt"]["notes"])


def test_symbolic_link_to_an_image_stays_one(tmp_path):
    real = image_in(tmp_path, "raw")
    link = tmp_path / "link.raw"
    link.symlink_to(real.name)
    changed(*SET, link, *WORDS, "--in-place")
    assert link.is_symlink()
    assert start_of(real, "vmicvss") == "disabled"


def test_mode_of_a_replaced_image_is_kept(tmp_path):
    image = image_in(tmp_path, "raw")
    image.chmod(0o640)
    changed(*SET, image, *WORDS, "--in-place")
    assert image.stat().st_mode & 0o777 == 0o640


def test_receipt_for_people_tells_the_way_back(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    child = tmp_path / "child.vhdx"
    text = run(*SET, str(image), *WORDS, "--child", str(child)).text
    assert f"Delete {child}" in text
    for reader in ("pyvhdi", "dissect.ntfs", "python-registry"):
        assert reader in text
    plan = run(*SET, str(image), *WORDS).text
    assert "Nothing was written" in plan
    assert "manual (trigger) -> disabled (trigger)" in plan
