from __future__ import annotations

import os

import pytest

from vhdtool.disk.child_locators import WaysToParent, ways_to_parent
from vhdtool.errors import UsageError

posix = pytest.mark.skipif(os.name != "posix", reason="on Windows there is always an absolute path")


@pytest.mark.parametrize(
    ("absolute", "expected"),
    [
        (None, None),
        ("D:\\vm\\a.vhdx", "\\\\?\\D:\\vm\\a.vhdx"),
        ("\\\\host\\share\\a.vhdx", "\\\\?\\UNC\\host\\share\\a.vhdx"),
        ("\\\\?\\D:\\vm\\a.vhdx", "\\\\?\\D:\\vm\\a.vhdx"),
    ],
)
def test_absolute_paths_as_ms_vhdx_has_them(absolute, expected):
    assert WaysToParent(".\\a.vhdx", absolute).namespace_path == expected


@posix
@pytest.mark.parametrize(
    ("child", "parent", "relative"),
    [
        ("c.vhdx", "p.vhdx", ".\\p.vhdx"),
        ("a/c.vhdx", "p.vhdx", "..\\p.vhdx"),
        ("c.vhdx", "a/b/p.vhdx", ".\\a\\b\\p.vhdx"),
        ("a/b/c.vhdx", "d/p q.vhdx", "..\\..\\d\\p q.vhdx"),
        ("c.vhdx", "..p.vhdx", ".\\..p.vhdx"),
        ("a/c.vhdx", "a/Größe ß 中.vhdx", ".\\Größe ß 中.vhdx"),
    ],
)
def test_relative_paths(tmp_path, child, parent, relative):
    for name in (child, parent):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / parent).write_bytes(b"")
    ways = ways_to_parent(str(tmp_path / child), str(tmp_path / parent))
    assert (ways.relative, ways.absolute) == (relative, None)


@posix
def test_slashes_of_a_windows_path_are_turned(tmp_path):
    (tmp_path / "p.vhdx").write_bytes(b"")
    ways = ways_to_parent(str(tmp_path / "c.vhdx"), str(tmp_path / "p.vhdx"), "d:/vm/p.vhdx")
    assert ways.absolute == "d:\\vm\\p.vhdx"
    for wrong in ("//", "\\\\host\\share\\", "vm\\p.vhdx", "d:p", "d:\\" + "a" * 33_000):
        with pytest.raises(UsageError):
            ways_to_parent(str(tmp_path / "c.vhdx"), str(tmp_path / "p.vhdx"), wrong)
