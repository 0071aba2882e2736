r"""Paths of a Windows host, followed on this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vhdtool.disk.device import ParentKind, ParentLocator
from vhdtool.disk.parent_search import ParentSearch

RELATIVE, VOLUME, ABSOLUTE, NAME = ParentKind.RELATIVE, ParentKind.VOLUME, ParentKind.ABSOLUTE, ParentKind.NAME


def place(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def found(child: Path, *locators: tuple[ParentKind, str], windows: bool = False) -> list[str]:
    search = ParentSearch(str(child), windows=windows)
    return list(search.candidates([ParentLocator(kind, path) for kind, path in locators]))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".\\base.vhdx", "vms/child/base.vhdx"),
        ("base.vhdx", "vms/child/base.vhdx"),
        ("..\\base.vhdx", "vms/base.vhdx"),
        (".\\..\\.\\gold\\base.vhdx", "vms/gold/base.vhdx"),
        ("../gold/base.vhdx", "vms/gold/base.vhdx"),
        ("..\\..\\base.vhdx", "base.vhdx"),
    ],
)
def test_relative_paths(tmp_path, path, expected):
    names = ["vms/child/base.vhdx", "vms/base.vhdx", "vms/gold/base.vhdx", "base.vhdx"]
    place(tmp_path, *names)
    assert found(tmp_path / "vms/child/c.avhdx", (RELATIVE, path))[0] == str(tmp_path / expected)


def test_relative_to_the_child_not_to_the_working_folder(tmp_path, monkeypatch):
    place(tmp_path, "here/base.vhdx", "there/base.vhdx")
    monkeypatch.chdir(tmp_path / "here")
    assert found(tmp_path / "there/c.vhdx", (RELATIVE, "base.vhdx")) == [str(tmp_path / "there/base.vhdx")]
    assert found(Path("c.vhdx"), (RELATIVE, ".\\base.vhdx")) == [str(tmp_path / "here/base.vhdx")]


def test_the_folder_of_a_linked_child(tmp_path):
    place(tmp_path, "real/c.vhdx", "real/base.vhdx", "linked/other")
    link = tmp_path / "linked/c.vhdx"
    link.symlink_to(tmp_path / "real/c.vhdx")
    assert found(link, (RELATIVE, "base.vhdx")) == [str(tmp_path / "real/base.vhdx")]


def test_case_does_not_matter_but_exact_names_come_first(tmp_path):
    place(tmp_path, "VMs/Gold/BASE.vhdx", "VMs/Gold/Base.VHDX", "VMs/child/x")
    child = tmp_path / "VMs/child/c.vhdx"
    assert found(child, (RELATIVE, "..\\gold\\Base.VHDX")) == [
        str(tmp_path / "VMs/Gold/Base.VHDX"),
        str(tmp_path / "VMs/Gold/BASE.vhdx"),
    ]
    assert len(found(child, (RELATIVE, "..\\GOLD\\base.vhdx"))) == 2


@pytest.mark.parametrize(
    "path",
    ["C:\\vms\\gold\\base.vhdx", "\\\\?\\C:\\vms\\gold\\base.vhdx", "\\\\server\\share\\vms\\gold\\base.vhdx"],
)
def test_absolute_paths_are_found_in_a_copied_tree(tmp_path, path):
    place(tmp_path, "copy/vms/gold/base.vhdx")
    assert found(tmp_path / "copy/vms/child/c.vhdx", (ABSOLUTE, path)) == [str(tmp_path / "copy/vms/gold/base.vhdx")]


def test_absolute_paths_are_found_beside_the_child(tmp_path):
    place(tmp_path, "base.vhdx")
    volume = "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\deep\\base.vhdx"
    assert found(tmp_path / "c.vhdx", (VOLUME, volume)) == [str(tmp_path / "base.vhdx")]
    assert found(tmp_path / "c.vhdx", (NAME, "D:\\base.vhdx")) == [str(tmp_path / "base.vhdx")]


def test_the_order_of_the_specification(tmp_path):
    place(tmp_path, "relative.vhdx", "volume.vhdx", "absolute.vhdx", "name.vhdx")
    locators = [
        (NAME, "name.vhdx"),
        (ABSOLUTE, "C:\\absolute.vhdx"),
        (VOLUME, "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\volume.vhdx"),
        (RELATIVE, "relative.vhdx"),
    ]
    names = [Path(path).stem for path in found(tmp_path / "c.vhdx", *locators)]
    assert names == ["relative", "volume", "absolute", "name"]


def test_a_file_is_named_once(tmp_path):
    place(tmp_path, "base.vhdx")
    os.link(tmp_path / "base.vhdx", tmp_path / "BASE.VHDX")
    locators = [(RELATIVE, ".\\base.vhdx"), (ABSOLUTE, "C:\\x\\base.vhdx"), (NAME, "base.vhdx")]
    assert found(tmp_path / "c.vhdx", *locators) == [str(tmp_path / "base.vhdx")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_only_files_are_candidates(tmp_path):
    os.mkfifo(tmp_path / "pipe.vhdx")
    (tmp_path / "folder.vhdx").mkdir()
    (tmp_path / "null.vhdx").symlink_to(os.devnull)
    (tmp_path / "dangling.vhdx").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.vhdx").symlink_to(tmp_path / "loop.vhdx")
    for name in ("pipe", "folder", "null", "dangling", "loop"):
        assert found(tmp_path / "c.vhdx", (RELATIVE, f"{name}.vhdx")) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "\\",
        "\\\\",
        "..",
        ".",
        "..\\..",
        "C:",
        "C:\\",
        "nul",
        "CON.vhdx",
        "COM1",
        "base.vhdx:stream",
        "a\0b",
        "\ud800",
    ],
)
def test_paths_that_lead_nowhere(tmp_path, path):
    place(tmp_path, "base.vhdx", "a")
    for kind in ParentKind:
        for windows in (False, True):
            assert found(tmp_path / "c.vhdx", (kind, path), windows=windows) == []


def test_network_and_device_paths_are_never_followed_as_they_are(tmp_path):
    paths = ["\\\\server\\share\\base.vhdx", "\\\\?\\UNC\\server\\share\\base.vhdx", "\\\\.\\PhysicalDrive0"]
    for path in paths:
        search = ParentSearch(str(tmp_path / "c.vhdx"), windows=True)
        assert list(search.candidates([ParentLocator(ABSOLUTE, path)])) == []
        assert not any(tried.startswith(("\\\\", "//")) for tried in search.tried)


def test_drives_are_followed_on_windows_only(tmp_path):
    for windows in (False, True):
        search = ParentSearch(str(tmp_path / "c.vhdx"), windows=windows)
        list(search.candidates([ParentLocator(ABSOLUTE, "C:\\vms\\base.vhdx")]))
        assert any(tried.startswith("C:") for tried in search.tried) is windows


def test_what_was_tried_is_told(tmp_path):
    search = ParentSearch(str(tmp_path / "c.vhdx"), windows=False)
    assert list(search.candidates([ParentLocator(RELATIVE, ".\\gold\\base.vhdx")])) == []
    assert search.tried == (str(tmp_path / "gold/base.vhdx"), str(tmp_path / "base.vhdx"))


def test_a_long_path_costs_little(tmp_path):
    began = time.monotonic()
    path = "C:\\" + "\\".join(["folder"] * 60) + "\\" + "x" * 10_000
    assert found(tmp_path / "c.vhdx", (ABSOLUTE, path), (RELATIVE, "a\\" * 10_000 + "b")) == []
    assert time.monotonic() - began < 2
