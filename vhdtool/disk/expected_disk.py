"""What a changed disk must read as, fixed before anything is final: its changes, and a sample of what did not change.

It is fixed before the commit because afterwards the disk below the changes may be the changed one: then nothing would
differ any more, and nothing be looked at.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from vhdtool.disk.changes import Changes
from vhdtool.disk.witness import Range
from vhdtool.errors import InputError

SAMPLE_SIZE = 16 << 10
NEAR_SAMPLES = 16  # in blocks that the change touches: what a commit copies
STORED_SAMPLES = 24  # anywhere in what the chain stores
ANY_SAMPLES = 4  # anywhere at all, and both ends of the disk
TRIES = 2  # for each sample of what is stored: much of a disk may be holes
EXTENTS_LOOKED_AT = 32
WINDOW_BLOCKS = 64
FREE_BLOCK_SIZE = 1 << 20  # stands for the block of a format that has none


@dataclass(frozen=True, slots=True)
class Sample:
    """Unchanged bytes of the disk."""

    offset: int
    data: bytes


class ExpectedDisk:
    """A disk as it shall be. ``seed`` chooses the sample, which has at most 750 KB.

    ``unreadable`` counts samples that this program could not read in the disk as it is (a damaged place that the
    change does not touch). Raises what reading the changes raises.
    """

    def __init__(self, changes: Changes, seed: int) -> None:
        self.size = changes.size
        self.logical_sector_size = changes.logical_sector_size
        self.problem_codes = frozenset(p.code for layer in changes.base.layers for p in layer.info.problems)
        self.unreadable = 0
        self._changes = changes
        self._starts = array("Q")
        self._stops = array("Q")
        for offset, length in changes.changed():
            self._starts.append(offset)
            self._stops.append(offset + length)
        self.samples = tuple(self._read_samples(seed))

    @property
    def changed_bytes(self) -> int:
        """How much of the disk changes."""
        return sum(self._stops) - sum(self._starts)

    @property
    def sampled_bytes(self) -> int:
        """How much of what does not change is looked at."""
        return sum(len(sample.data) for sample in self.samples)

    def changed(self, window: int) -> Iterator[list[Range]]:
        """Give the changed ranges, start and end, in lists: each list lies in one ``window`` of the disk."""
        group: list[Range] = []
        limit = 0
        for start, stop in zip(self._starts, self._stops, strict=True):
            position = start
            while position < stop:
                if group and position >= limit:
                    yield group
                    group = []
                limit = (position // window + 1) * window
                end = min(stop, limit)
                group.append((position, end))
                position = end
        if group:
            yield group

    def read_changed(self, offset: int, length: int) -> bytes:
        """Return bytes of the changed disk, inside one changed range."""
        return self._changes.read_at(offset, length)

    def _read_samples(self, seed: int) -> Iterator[Sample]:
        taken: list[Range] = []
        for wanted in self._places(random.Random(seed)):  # noqa: S311  # a sample, no secret
            for start, stop in self._unchanged(*wanted):
                if any(start < end and begin < stop for begin, end in taken):
                    continue
                try:
                    data = self._changes.read_at(start, stop - start)
                except InputError:
                    self.unreadable += 1
                    continue
                taken.append((start, stop))
                yield Sample(start, data)

    def _unchanged(self, start: int, stop: int) -> Iterator[Range]:
        """The parts of a range that do not change."""
        for index in range(bisect_right(self._stops, start), bisect_left(self._starts, stop)):
            if self._starts[index] > start:
                yield start, self._starts[index]
            start = max(start, self._stops[index])
        if start < stop:
            yield start, stop

    def _places(self, choice: random.Random) -> Iterator[Range]:
        if not self.size:
            return
        base = self._changes.base
        block = base.info.block_size or FREE_BLOCK_SIZE
        yield from (self._piece(0), self._piece(self.size - 1))
        for _ in range(NEAR_SAMPLES if self._starts else 0):
            changed = self._starts[choice.randrange(len(self._starts))]
            yield self._piece(changed // block * block + choice.randrange(block))
        found = 0
        for _ in range(STORED_SAMPLES * TRIES):
            if found == STORED_SAMPLES:
                break
            start = choice.randrange(self.size) // block * block
            window = islice(base.extents(start, WINDOW_BLOCKS * block), EXTENTS_LOOKED_AT)
            try:
                stored = [extent for extent in window if extent.kind == "data"]
            except InputError:
                self.unreadable += 1
                continue
            if stored:
                extent = choice.choice(stored)
                found += 1
                yield self._piece(extent.offset + choice.randrange(extent.length))
        for _ in range(ANY_SAMPLES):
            yield self._piece(choice.randrange(self.size))

    def _piece(self, offset: int) -> Range:
        """The aligned piece of the disk that a byte lies in."""
        start = min(offset, self.size - 1) // SAMPLE_SIZE * SAMPLE_SIZE
        return start, min(start + SAMPLE_SIZE, self.size)
