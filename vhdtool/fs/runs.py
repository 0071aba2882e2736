"""The bytes of a file that lies in runs of clusters or blocks: sparse runs, an initialized size, a volume that ends.

Every file system's adapter reads its files through this: dissect's own streams give stale disk bytes beyond the
initialized size, and fewer bytes without a word where the volume is cut off.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.base import Extent
from vhdtool.fs.boundary import CODE, HINT

Run = tuple[int | None, int]  # first cluster (None: sparse), count of clusters


class RunStream:
    """A file or attribute stored in runs. All sizes in bytes; ``what`` names it in errors ("/Windows/notepad.exe")."""

    def __init__(
        self, device: BlockDevice, runs: Sequence[Run], cluster_size: int, *, size: int, initialized: int, what: str
    ) -> None:
        self._device = device
        self._cluster_size = cluster_size
        self._size = size
        self._initialized = min(initialized, size)
        self._what = what
        self._runs = tuple(runs)
        self._starts: list[int] = []
        covered = 0
        for _, count in runs:
            self._starts.append(covered)
            covered += count * cluster_size
        self._covered = covered
        if covered < self._initialized:
            raise damaged("the run list ends before the data", what, expected=self._initialized, found=covered)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the attribute ends."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        length = min(length, self._size - offset)
        if length <= 0:
            return b""
        stored = max(0, min(length, self._initialized - offset))
        return self._stored(offset, stored) + bytes(length - stored)

    def extents(self) -> Sequence[Extent]:
        """Where the initialized bytes lie; sparse parts are left out."""
        return tuple(
            Extent(offset, place, length)
            for offset, place, length in self._pieces(0, self._initialized)
            if place is not None
        )

    def _stored(self, offset: int, length: int) -> bytes:
        found = []
        for _, place, piece in self._pieces(offset, length):
            found.append(bytes(piece) if place is None else self._read_device(place, piece))
        return found[0] if len(found) == 1 else b"".join(found)

    def _read_device(self, place: int, length: int) -> bytes:
        data = self._device.read_at(place, length)
        if len(data) != length:
            raise DamagedError(
                "truncated",
                "the data lies beyond the end of the volume",
                path=self._what,
                offset=place,
                expected=f"{length} bytes",
                found=f"{len(data)} bytes",
                hint="The image or the partition is cut off: copy it again from where it came from.",
            )
        return data

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int | None, int]]:
        """Cut a range into (offset in the attribute, place on the volume or None, length)."""
        index = bisect_right(self._starts, offset) - 1
        while length > 0:
            cluster, count = self._runs[index]
            inside = offset - self._starts[index]
            piece = min(length, count * self._cluster_size - inside)
            yield offset, None if cluster is None else cluster * self._cluster_size + inside, piece
            offset += piece
            length -= piece
            index += 1


def runs_overlap(runs: Sequence[Run]) -> bool:
    """Whether a cluster is used twice: a chain that leads in a circle does so."""
    stored = sorted((first, count) for first, count in runs if first is not None)
    return any(left[0] + left[1] > right[0] for left, right in pairwise(stored))


def damaged(text: str, what: str, *, expected: object = None, found: object = None) -> DamagedError:
    """Return the error for a structure of a file system that contradicts itself."""
    return DamagedError(
        CODE, f"the file system is damaged: {text}", path=what, expected=expected, found=found, hint=HINT
    )
