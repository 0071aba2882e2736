from __future__ import annotations

from vhdtool.fs.paths import MAX_PARTS, join_path, split_path


def test_both_separators_and_empty_names() -> None:
    assert split_path("\\Windows/System32\\\\config/./SYSTEM") == ["Windows", "System32", "config", "SYSTEM"]
    assert split_path("/") == split_path("") == []
    assert split_path("a/../b") == ["a", "..", "b"]


def test_a_backslash_may_be_a_character() -> None:
    assert split_path("/dev/a\\x2db", backslash=False) == ["dev", "a\\x2db"]


def test_length_is_bounded_and_paths_join() -> None:
    assert len(split_path("a/" * 100_000)) <= MAX_PARTS
    assert join_path([]) == "/"
    assert join_path(["a", "b"]) == "/a/b"
