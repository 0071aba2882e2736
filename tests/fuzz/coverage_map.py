"""Which bytes of an input the clean run read: the map that mutations are aimed with.

Reads are noted where they leave the program, in :class:`vhdtool.disk.device.FileDevice`. Those made on behalf of a
disk's payload (``Layer.read_stored``) count only for targets that parse the payload too: for a container alone they
are bulk, not structure.
"""

from __future__ import annotations

import bisect
import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from vhdtool.disk import raw, vhd, vhdx
from vhdtool.disk.device import FileDevice


@dataclass(frozen=True)
class Ranges:
    """Sorted, merged byte ranges of one file."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, pieces: Iterable[tuple[int, int]], size: int) -> Ranges:
        starts: list[int] = []
        ends: list[int] = []
        for offset, length in sorted(pieces):
            end = min(offset + length, size)
            if offset >= end:
                continue
            if ends and offset <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                starts.append(offset)
                ends.append(end)
        return cls(tuple(starts), tuple(ends))

    @property
    def total(self) -> int:
        return sum(self.ends) - sum(self.starts)

    @property
    def last(self) -> int:
        """The end of the highest range."""
        return self.ends[-1] if self.ends else 0

    def __contains__(self, offset: int) -> bool:
        at = bisect.bisect_right(self.starts, offset) - 1
        return at >= 0 and offset < self.ends[at]

    def pick(self, random: Random) -> int:
        """An offset inside the ranges; every range as likely as its length, but small ranges are not drowned."""
        if random.random() < 0.5:
            at = random.randrange(len(self.starts))
            return random.randrange(self.starts[at], self.ends[at])
        left = random.randrange(self.total)
        for start, end in zip(self.starts, self.ends, strict=True):
            if left < end - start:
                return start + left
            left -= end - start
        raise AssertionError("unreachable")


@dataclass
class Recorder:
    """The reads of one run, by file name."""

    reads: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    paused: int = 0

    def note(self, name: str, offset: int, length: int) -> None:
        if not self.paused and length > 0:
            self.reads.setdefault(name, []).append((offset, length))

    def ranges(self, name: str, size: int) -> Ranges:
        return Ranges.of(self.reads.get(name, ()), size)


@contextmanager
def recording_files(recorder: Recorder, *, payload: bool) -> Iterator[None]:
    """Note every read of every :class:`FileDevice`, named by the file's base name.

    With ``payload`` false the reads inside a layer's ``read_stored`` are left out.
    """
    read_into = FileDevice.read_into

    def noting(self: FileDevice, offset: int, buffer: memoryview) -> int:
        recorder.note(Path(self.path).name, offset, len(buffer))
        return read_into(self, offset, buffer)

    undo: list[tuple[type, Any]] = []
    FileDevice.read_into = noting  # type: ignore[method-assign]
    try:
        if not payload:
            for layer in _layer_classes():
                stored = layer.read_stored
                undo.append((layer, stored))
                layer.read_stored = _pausing(stored, recorder)
        yield
    finally:
        FileDevice.read_into = read_into  # type: ignore[method-assign]
        for layer, stored in undo:
            layer.read_stored = stored  # type: ignore[attr-defined]


def _pausing(stored: Any, recorder: Recorder) -> Any:
    def quiet(self: Any, file_offset: int, buffer: memoryview) -> None:
        recorder.paused += 1
        try:
            stored(self, file_offset, buffer)
        finally:
            recorder.paused -= 1

    return quiet


def _layer_classes() -> list[Any]:
    found = []
    for module in (vhdx, vhd, raw):
        for _, item in inspect.getmembers(module, inspect.isclass):
            if item.__module__ == module.__name__ and hasattr(item, "read_stored"):
                found.append(item)
    return found
