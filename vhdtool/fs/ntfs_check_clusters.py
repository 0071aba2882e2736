"""Clusters under our own rules: what files say they have against $Bitmap, and that no two have the same."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from vhdtool.errors import Problem
from vhdtool.fs.ntfs_check_volume import Bits, CheckedFile, Interval

Claims = list[tuple[int, int, int]]
"""Runs of clusters in their order on the volume: first, past the last, and the MFT segment that claims them."""

_PIECE = 1 << 20  # clusters looked at together
_TEXT = 1 << 16  # bytes of a bitmap that are spelled out together
_ONES = re.compile("1+")


def claims_of(files: Iterable[CheckedFile]) -> Claims:
    """The clusters that files claim."""
    return sorted((first, last, file.segment) for file in files for first, last in file.intervals())


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """The same numbers in order, without overlaps and gaps of nothing."""
    found: list[Interval] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], last)
        elif first < last:
            found.append((first, last))
    return found


def without(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """What ``left`` has and ``right`` has not; both as :func:`joined` gives them."""
    found: list[Interval] = []
    at = 0
    for begin, last in left:
        first = begin
        while at < len(right) and right[at][1] <= first:
            at += 1
        look = at
        while look < len(right) and right[look][0] < last:
            if right[look][0] > first:
                found.append((first, right[look][0]))
            first = max(first, right[look][1])
            look += 1
        if first < last:
            found.append((first, last))
    return found


def meeting(left: Sequence[Interval], first: int, last: int) -> Iterator[Interval]:
    """What ``left``, as :func:`joined` gives it, has between two numbers."""
    at = max(0, bisect_right(left, (first, first)) - 1)
    while at < len(left) and left[at][0] < last:
        start, stop = max(left[at][0], first), min(left[at][1], last)
        if start < stop:
            yield start, stop
        at += 1


def shared(claims: Claims) -> Iterator[Problem]:
    """A cluster that two runs claim."""
    end, owner = 0, -1
    for first, last, segment in claims:
        if first < end:
            text = f"MFT records {owner} and {segment} both claim cluster {first}"
            yield Problem("ntfs-clusters-shared", text)
        if last > end:
            end, owner = last, segment


def unallocated(claims: Claims, bitmap: Bits) -> Iterator[Problem]:
    """A claimed cluster that $Bitmap says is free."""
    for first, last, segment in claims:
        if not all(bitmap.all_set(start, stop) for start, stop in _cut([(first, last)])):
            text = f"clusters {first} to {last - 1} of MFT record {segment} are not all marked as used"
            yield Problem("ntfs-clusters-unallocated", text)


def taken(new: Sequence[Interval], before: Bits) -> Iterator[Problem]:
    """Clusters that are newly claimed, and that the bitmap ``before`` says were in use."""
    for first, last in _cut(new):
        if before.any_set(first, last):
            text = f"of clusters {first} to {last - 1}, newly claimed, some belonged to another file already"
            yield Problem("ntfs-clusters-shared", text)


def kept(released: Sequence[Interval], after: Bits) -> Iterator[Problem]:
    """Clusters that nobody claims any more, and that the bitmap ``after`` still says are in use."""
    for first, last in _cut(released):
        if after.any_set(first, last):
            text = f"of clusters {first} to {last - 1}, given back, some are still marked as used"
            yield Problem("ntfs-clusters-leaked", text)


def flipped(before: bytes, after: bytes, first: int) -> tuple[list[Interval], list[Interval]]:
    """The bits that a piece of a bitmap got and lost; ``first`` is what its first bit stands for."""
    old, new = int.from_bytes(before, "little"), int.from_bytes(after, "little")
    return bit_runs(new & ~old, first), bit_runs(old & ~new, first)


def bit_runs(mask: int, first: int = 0) -> list[Interval]:
    """The runs of set bits, counted from ``first``."""
    data = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    found: list[Interval] = []
    for at in range(0, len(data), _TEXT):
        piece = int.from_bytes(data[at : at + _TEXT], "little")
        start = first + at * 8
        found += [(start + run.start(), start + run.end()) for run in _ONES.finditer(f"{piece:b}"[::-1])]
    return joined(found)


def disagreement(claims: Claims, bitmap: Bits) -> Iterator[Problem]:
    """Every cluster of the volume: one that is marked as used has an owner."""
    everything = joined((first, last) for first, last, _ in claims)
    for first, last in _cut([(0, bitmap.count)]):
        marked = bit_runs(bitmap.read(first, last), first)
        for start, stop in without(marked, everything):
            text = f"clusters {start} to {stop - 1} are marked as used, and no file claims them"
            yield Problem("ntfs-clusters-leaked", text)


def _cut(intervals: Iterable[Interval]) -> Iterator[Interval]:
    """Cut long runs, so that no more than 128 KiB of a bitmap are looked at together."""
    for first, last in intervals:
        for start in range(first, last, _PIECE):
            yield start, min(start + _PIECE, last)
