"""The bytes of NTFS attributes beside plain runs: resident ones, and LZNT1-compressed ones.

dissect's compressed stream builds a table of a length that the data says, so it is not used; its LZNT1 decoder is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from vhdtool.bytesource import BytesSource
from vhdtool.disk.device import BlockDevice
from vhdtool.fs.base import Extent
from vhdtool.fs.boundary import reading
from vhdtool.fs.runs import Run, RunStream, damaged

MAX_UNIT = 1024 * 1024  # bytes of a compression unit: 16 clusters of at most 4 KiB on Windows
CACHED_UNITS = 8


class ResidentStream(BytesSource):
    """An attribute that lies in its MFT record."""

    def extents(self) -> Sequence[Extent]:
        """None: the bytes lie inside of a protected record."""
        return ()


class CompressedStream(RunStream):
    """An LZNT1-compressed attribute: units of ``unit_clusters`` clusters, each compressed for itself.

    A unit whose clusters are all there is stored plainly; one without clusters is zeros; else it is compressed.
    """

    def __init__(
        self,
        device: BlockDevice,
        runs: Sequence[Run],
        cluster_size: int,
        *,
        unit_clusters: int,
        size: int,
        initialized: int,
        what: str,
    ) -> None:
        super().__init__(device, runs, cluster_size, size=size, initialized=initialized, what=what)
        self._unit = unit_clusters * cluster_size
        if self._unit > MAX_UNIT:
            raise damaged("the compression unit is too large", what, expected=f"at most {MAX_UNIT}", found=self._unit)
        self._units: OrderedDict[int, bytes] = OrderedDict()

    def extents(self) -> Sequence[Extent]:
        """None: the stored bytes are not the file's."""
        return ()

    def _stored(self, offset: int, length: int) -> bytes:
        found = []
        while length > 0:
            number, inside = divmod(offset, self._unit)
            piece = self._read_unit(number)[inside : inside + length]
            found.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(found)

    def _read_unit(self, number: int) -> bytes:
        known = self._units.get(number)
        if known is not None:
            self._units.move_to_end(number)
            return known
        start = number * self._unit
        pieces = list(self._pieces(start, min(self._unit, self._covered - start)))
        stored = b"".join(self._read_device(place, length) for _, place, length in pieces if place is not None)
        if not stored:
            data = bytes(self._unit)
        elif len(stored) == sum(length for _, _, length in pieces):
            data = stored.ljust(self._unit, b"\0")
        else:
            data = self._decompress(stored)
        self._units[number] = data
        if len(self._units) > CACHED_UNITS:
            self._units.popitem(last=False)
        return data

    def _decompress(self, stored: bytes) -> bytes:
        from dissect.util.compression import lznt1  # noqa: PLC0415  # only for compressed files

        with reading("LZNT1-compressed data", self._what):
            data: bytes = lznt1.decompress(stored + bytes(2))  # the zeros end it where the data fills its clusters
        if len(data) > self._unit:
            raise damaged("a compression unit holds too much", self._what, expected=self._unit, found=len(data))
        return data.ljust(self._unit, b"\0")
