"""What differs between the files of two guests: two trees walked side by side, never following links.

By name, kind, size and time of the last change as directories keep them, which is what ``ls`` and ``dir`` would show;
by content where that is asked for. Of two images that stand on the same files, content is read only where the disks
may differ at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from vhdtool.fs.base import Extent, FileStat, GuestFile, GuestFilesystem
from vhdtool.fs.ntfs_records import FIRST_USER_RECORD
from vhdtool.guest.difference import Action, Fact, FactDifference, differing
from vhdtool.guest.source import Troubles

DEEPEST = 256
PIECE = 1 << 20
COUNTED = 1_000_000
"""Files below a directory that only one of the two has are counted up to here."""

CASE_DOES_NOT_MATTER = frozenset({"ntfs", "fat", "exfat", "refs"})

MayDiffer = Callable[[int, int], Iterator[tuple[int, int]]]
"""Given a range of the volume, the parts of it that are not known to be the same on both."""


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A file or directory. ``facts``: kind, size, modified (ISO 8601, UTC), link, content (``True``: it differs).

    ``below`` counts the files of a directory that only one of the two has.
    """

    path: str
    action: Action
    facts: tuple[FactDifference, ...]
    below: int = 0


def compare_files(
    one: GuestFilesystem,
    other: GuestFilesystem,
    *,
    below: str = "/",
    content: bool = False,
    may_differ: MayDiffer | None = None,
    troubles: Troubles | None = None,
) -> Iterator[FileDifference]:
    """Compare two trees from ``below`` on, in the order of their paths.

    ``content``: compare the bytes of files of one size too. ``may_differ`` is for volumes at one place of two related
    disks (:meth:`vhdtool.disk.shared_blocks.SharedBlocks.may_differ`, from the volume's start). The file system's own
    files are left out. What can't be read goes to ``troubles``.
    """
    comparison = _Comparison(one, other, Troubles() if troubles is None else troubles, may_differ, content=content)
    yield from comparison.trees(below.rstrip("/"))


class _Comparison:
    def __init__(
        self,
        one: GuestFilesystem,
        other: GuestFilesystem,
        troubles: Troubles,
        may_differ: MayDiffer | None,
        *,
        content: bool,
    ) -> None:
        self._one = one
        self._other = other
        self._troubles = troubles
        self._may_differ = may_differ
        self._content = content
        self._entered: set[tuple[int, int]] = set()

    def trees(self, start: str) -> Iterator[FileDifference]:
        waiting: list[tuple[str, FileStat | None, FileStat | None]] = []
        self._push(waiting, start)
        while waiting:
            path, before, after = waiting.pop()
            facts = tuple(differing(_facts(before), _facts(after)))
            if before is None or after is None:
                action: Action = "added" if before is None else "removed"
                filesystem, stat = (self._other, after) if before is None else (self._one, before)
                yield FileDifference(path, action, facts, self._count(filesystem, path, stat))
                continue
            if before.kind == "file" == after.kind and before.size == after.size and self._content:
                facts += tuple(self._contents(path))
            if facts:
                yield FileDifference(path, "changed", facts)
            if before.kind == "directory" == after.kind and self._is_new(before, after):
                self._push(waiting, path)

    def _is_new(self, before: FileStat, after: FileStat) -> bool:
        """Tell whether a pair of directories was not entered yet: in a damaged volume they may lead in circles."""
        if before.record is None or after.record is None:
            return True
        pair = before.record, after.record
        if pair in self._entered:
            return False
        self._entered.add(pair)
        return True

    def _push(self, waiting: list[tuple[str, FileStat | None, FileStat | None]], path: str) -> None:
        if path.count("/") >= DEEPEST:
            return
        before, after = self._list(self._one, path), self._list(self._other, path)
        folded = {self._one.kind, self._other.kind} <= CASE_DOES_NOT_MATTER
        ours, theirs = _by_name(before, folded=folded), _by_name(after, folded=folded)
        if len(ours) < len(before) or len(theirs) < len(after):  # a directory where case does matter
            ours, theirs = _by_name(before, folded=False), _by_name(after, folded=False)
        for name in sorted(ours.keys() | theirs.keys(), reverse=True):
            one, other = ours.get(name), theirs.get(name)
            shown = other or one
            if shown is not None:
                waiting.append((f"{path}/{shown.name}", one, other))

    def _list(self, filesystem: GuestFilesystem, path: str) -> list[FileStat]:
        with self._troubles.guard(f"the directory {path or '/'}"):
            return [stat for stat in filesystem.list(path or "/") if not _is_own(filesystem, stat)]
        return []

    def _count(self, filesystem: GuestFilesystem, path: str, stat: FileStat | None) -> int:
        if stat is None or stat.kind != "directory":
            return 0
        return sum(1 for _ in islice(self._below(filesystem, path, stat), COUNTED))

    def _below(self, filesystem: GuestFilesystem, path: str, top: FileStat) -> Iterator[str]:
        waiting = [path]
        seen = {top.record}
        while waiting:
            place = waiting.pop()
            for stat in self._list(filesystem, place) if place.count("/") < DEEPEST else ():
                yield stat.name
                if stat.kind == "directory" and (stat.record is None or stat.record not in seen):
                    seen.add(stat.record)
                    waiting.append(f"{place}/{stat.name}")

    def _contents(self, path: str) -> Iterator[FactDifference]:
        with self._troubles.guard(f"the file {path}"):
            before, after = self._one.open(path), self._other.open(path)
            if any(_differs(before, after, *place) for place in self._ranges(before, after)):
                yield FactDifference("content", None, after=True)

    def _ranges(self, before: GuestFile, after: GuestFile) -> Iterator[tuple[int, int]]:
        """The parts of two files of one size that may differ."""
        extents = before.extents()
        if self._may_differ is None or not extents or extents != after.extents():
            yield 0, before.size
            return
        for extent in extents:
            for offset, length in self._may_differ(extent.volume_offset, extent.length):
                yield _in_file(extent, offset), length


def _in_file(extent: Extent, volume_offset: int) -> int:
    return extent.file_offset + volume_offset - extent.volume_offset


def _differs(before: GuestFile, after: GuestFile, start: int, length: int) -> bool:
    return any(
        before.read_at(offset, size) != after.read_at(offset, size)
        for offset in range(start, start + length, PIECE)
        for size in (min(PIECE, start + length - offset),)
    )


def _facts(stat: FileStat | None) -> dict[str, Fact]:
    if stat is None:
        return {}
    facts: dict[str, Fact] = {"kind": stat.kind, "link": stat.link_target}
    if stat.kind != "directory":  # a directory changes with every file in it
        facts["size"] = stat.size
        facts["modified"] = None if stat.modified is None else stat.modified.isoformat()
    return facts


def _by_name(entries: list[FileStat], *, folded: bool) -> dict[str, FileStat]:
    return {entry.name.upper() if folded else entry.name: entry for entry in entries}


def _is_own(filesystem: GuestFilesystem, stat: FileStat) -> bool:
    return filesystem.kind == "ntfs" and stat.record is not None and stat.record < FIRST_USER_RECORD
