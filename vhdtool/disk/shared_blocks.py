"""What two disks have in common because both read it from one place of one file: a child and its parent, two children.

Nothing is read for it but the allocation tables, so it tells at once what can't differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from vhdtool.disk.chain import ChainExtent, VirtualDisk


class SharedBlocks:
    """Two opened disks, held against each other by where their bytes come from."""

    def __init__(self, one: VirtualDisk, other: VirtualDisk) -> None:
        self._one = one
        self._other = other
        self._same = {
            (first, second)
            for first, file in enumerate(one.files)
            for second, counterpart in enumerate(other.files)
            if _is_same(file.path, counterpart.path)
        }

    @property
    def related(self) -> bool:
        """Whether the disks share any file; where not, everything may differ."""
        return bool(self._same)

    def may_differ(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges ``(offset, length)`` that are not known to be the same, in order. Bytes of the disk.

        Raises :class:`vhdtool.errors.DamagedError` where a structure that says where the bytes are is damaged.
        """
        start = offset
        end = offset + length
        kept: tuple[int, int] | None = None
        for place, size, shared in self._pieces(start, end):
            if shared:
                continue
            if kept is not None and kept[0] + kept[1] == place:
                kept = kept[0], kept[1] + size
                continue
            if kept is not None:
                yield kept
            kept = place, size
        if kept is not None:
            yield kept

    def is_shared(self, offset: int, length: int) -> bool:
        """Tell whether a range is known to be the same on both."""
        return next(self.may_differ(offset, length), None) is None

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        common = min(end, self._one.size, self._other.size)
        if start < common and self._same:
            ours, theirs = self._one.extents(start, common - start), self._other.extents(start, common - start)
            one, other = next(ours), next(theirs)
            place = start
            while place < common:
                stop = min(one.offset + one.length, other.offset + other.length)
                yield place, stop - place, self._is_shared(one, other, place)
                place = stop
                if place < common and one.offset + one.length <= place:
                    one = next(ours)
                if place < common and other.offset + other.length <= place:
                    other = next(theirs)
        elif start < common:
            yield start, common - start, False
        if max(start, common) < end:
            yield max(start, common), end - max(start, common), False

    def _is_shared(self, one: ChainExtent, other: ChainExtent, place: int) -> bool:
        if one.kind != "data" or other.kind != "data":
            return one.kind != "data" and other.kind != "data"  # both are zeros
        if one.file_offset is None or other.file_offset is None:
            return False
        same_place = one.file_offset + place - one.offset == other.file_offset + place - other.offset
        return same_place and (one.layer, other.layer) in self._same


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False
