from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.guest.fake_filesystem import FakeFile, FakeFilesystem
from vhdtool.errors import DamagedError, VhdtoolError
from vhdtool.fs.base import Extent, FileStat
from vhdtool.guest import file_difference
from vhdtool.guest.difference import FactDifference
from vhdtool.guest.file_difference import FileDifference, compare_files
from vhdtool.guest.source import Troubles

THEN, NOW = datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)


class Tree(FakeFilesystem):
    """A file system in memory with times, links and places on the volume."""

    def __init__(
        self,
        files: Mapping[str, bytes | VhdtoolError],
        directories: Sequence[str] = (),
        *,
        times: Mapping[str, datetime] | None = None,
        links: Mapping[str, str] | None = None,
        records: Mapping[str, int] | None = None,
        kind: str = "ntfs",
    ) -> None:
        super().__init__(files, directories)
        self.kind = kind
        self.times = times or {}
        self.links = links or {}
        self.records = records or {}

    def list(self, path: str) -> list[FileStat]:
        return [self._more(path, stat) for stat in super().list(path)]

    def _more(self, path: str, stat: FileStat) -> FileStat:
        place = f"{path.rstrip('/')}/{stat.name}"
        link = self.links.get(place)
        return replace(
            stat,
            kind="symlink" if link else stat.kind,
            modified=self.times.get(place, THEN),
            link_target=link,
            record=self.records.get(place),
        )


def compare(before: Tree, after: Tree, **options: bool) -> list[FileDifference]:
    return list(compare_files(before, after, **options))


def test_trees_that_are_alike() -> None:
    files = {"Windows/a": b"1", "Windows/b/c": b"2"}
    assert compare(Tree(files), Tree(files)) == []


def test_what_is_added_removed_and_changed() -> None:
    before = Tree({"a/old/1": b"", "a/old/2/3": b"", "a/size": b"1", "a/time": b"1", "kind": b"1", "link": b""},
                  links={"/link": "there"})  # fmt: skip
    after = Tree({"a/SIZE": b"12", "a/time": b"1", "kind/x": b"1", "link": b"", "new": b"123"},
                 times={"/a/time": NOW}, links={"/link": "elsewhere"})  # fmt: skip
    assert compare(before, after) == [
        FileDifference("/a/old", "removed", (FactDifference("kind", "directory", None),), 3),
        FileDifference("/a/SIZE", "changed", (FactDifference("size", 1, 2),)),
        FileDifference("/a/time", "changed", (FactDifference("modified", THEN.isoformat(), NOW.isoformat()),)),
        FileDifference(
            "/kind",
            "changed",
            (
                FactDifference("kind", "file", "directory"),
                FactDifference("size", 1, None),
                FactDifference("modified", THEN.isoformat(), None),
            ),
        ),
        FileDifference("/link", "changed", (FactDifference("link", "there", "elsewhere"),)),
        FileDifference(
            "/new",
            "added",
            (
                FactDifference("kind", None, "file"),
                FactDifference("size", None, 3),
                FactDifference("modified", None, THEN.isoformat()),
            ),
        ),
    ]


def test_a_part_of_the_tree() -> None:
    before, after = Tree({"a/x": b"1", "b/x": b"1"}), Tree({"a/x": b"12", "b/x": b"12"})
    assert [one.path for one in compare_files(before, after, below="/b/")] == ["/b/x"]


def test_case_counts_where_the_file_system_says_so() -> None:
    before, after = Tree({"A": b"1"}, kind="ext"), Tree({"a": b"1"}, kind="ext")
    assert [(one.path, one.action) for one in compare(before, after)] == [("/A", "removed"), ("/a", "added")]
    assert compare(Tree({"A": b"1"}), Tree({"a": b"1"})) == []


def test_content_is_read_only_where_it_is_asked_for() -> None:
    before, after = Tree({"a": b"1" * 3_000_000, "b": b"1"}), Tree({"a": b"1" * 2_999_999 + b"2", "b": b"1"})
    assert compare(before, after) == []
    assert before.bytes_read == {}
    assert compare(before, after, content=True) == [
        FileDifference("/a", "changed", (FactDifference("content", None, after=True),))
    ]


class PlacedFile(FakeFile):
    def extents(self) -> Sequence[Extent]:
        return [Extent(0, 1000, 100), Extent(100, 5000, 100)]


class PlacedTree(Tree):
    def open(self, path: str) -> FakeFile:
        file = super().open(path)
        return PlacedFile(file.path, file.read_at(0, file.size), self)


def test_of_related_disks_only_what_may_differ_is_read() -> None:
    before, after = PlacedTree({"a": b"1" * 200}), PlacedTree({"a": b"1" * 150 + b"2" * 50})
    asked: list[tuple[int, int]] = []

    def nothing(offset: int, length: int) -> Iterator[tuple[int, int]]:
        asked.append((offset, length))
        return iter(())

    assert list(compare_files(before, after, content=True, may_differ=nothing)) == []
    assert asked == [(1000, 100), (5000, 100)]

    def a_part(offset: int, length: int) -> Iterator[tuple[int, int]]:
        if offset == 5000:
            yield 5060, 10

    assert len(list(compare_files(before, after, content=True, may_differ=a_part))) == 1


def test_the_file_systems_own_files_are_left_out() -> None:
    before = Tree({"$MFT": b"1", "$Extend/x": b"1"}, records={"/$MFT": 0, "/$Extend": 11})
    after = Tree({"$MFT": b"12", "$Extend/y": b"1"}, records={"/$MFT": 0, "/$Extend": 11})
    assert compare(before, after) == []


def test_what_can_not_be_read_is_told_and_passed_over() -> None:
    class Broken(Tree):
        def list(self, path: str) -> list[FileStat]:
            if path == "/bad":
                raise DamagedError("ntfs-damaged", "bad")
            return super().list(path)

    troubles = Troubles()
    before = Tree({"bad/x": b"", "file": b"1", "z": b"1"})
    after = Broken({"bad/x": b"", "file": DamagedError("unreadable", "bad"), "z": b"12"})
    after._entries["FILE"] = ("file", b"2")
    found = list(compare_files(before, after, content=True, troubles=troubles))
    assert [one.path for one in found] == ["/bad/x", "/file", "/z"]
    assert [trouble.error.code for trouble in troubles.found] == ["ntfs-damaged"]


def test_a_directory_that_leads_to_itself_is_entered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Tree):
        def list(self, path: str) -> list[FileStat]:
            return [FileStat(name, "directory", 0, record=100 + number) for number, name in enumerate("abc")]

    assert compare(Endless({}), Endless({})) == []
    (found, *_) = compare(Endless({}), Tree({}))
    assert found.below == 9  # each of the three was looked into once
    monkeypatch.setattr(file_difference, "DEEPEST", 4)

    class Bottomless(Tree):
        def list(self, path: str) -> list[FileStat]:
            return [FileStat("a", "directory", 0)]

    assert compare(Bottomless({}), Bottomless({})) == []
