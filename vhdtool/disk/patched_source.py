"""A file as it would be: the bytes of one source with others laid over parts of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from vhdtool.bytesource import ByteSource


@dataclass(frozen=True, slots=True)
class Patch:
    """All bytes of ``source``, from ``offset`` of the file on."""

    offset: int
    source: ByteSource


class PatchedSource:
    """A :class:`vhdtool.bytesource.ByteSource` of ``size`` bytes over ``base``; zeros where ``base`` has ended.

    Raises :class:`ValueError` for patches that lie over each other.
    """

    def __init__(self, base: ByteSource, size: int, patches: Iterable[Patch]) -> None:
        self._base = base
        self._size = size
        self._patches = sorted(patches, key=lambda patch: patch.offset)
        self._starts = [patch.offset for patch in self._patches]
        end = 0
        for patch in self._patches:
            if patch.offset < end:
                raise ValueError("patches lie over each other")
            end = patch.offset + patch.source.size

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only at the end. Raises what the sources raise."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        end = min(offset + length, self._size)
        pieces = []
        index = bisect_right(self._starts, offset) - 1
        while offset < end:
            patch = self._patches[index] if index >= 0 else None
            if patch is not None and offset < patch.offset + patch.source.size:
                stop = min(end, patch.offset + patch.source.size)
                pieces.append(patch.source.read_at(offset - patch.offset, stop - offset))
            else:
                stop = min(end, self._starts[index + 1]) if index + 1 < len(self._starts) else end
                pieces.append(self._base.read_at(offset, stop - offset).ljust(stop - offset, b"\0"))
            offset = stop
            if index + 1 < len(self._starts) and self._starts[index + 1] <= offset:
                index += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
