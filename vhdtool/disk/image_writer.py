"""Fill a new image with the bytes of a disk: what every format's writer offers, and what zeros cost.

Zeros are not stored: a block that would hold only zeros gets no place, and runs of zeros inside a block are left as
holes of the host's file where its file system has such.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.changes import Changes
from vhdtool.disk.device import BlockDevice
from vhdtool.disk.host_ranges import host_ranges
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.overlay import merged
from vhdtool.progress import SILENT, Progress

PIECE: Final = 1 << 20
HOLE: Final = 64 << 10
"""Runs of zeros of this size, aligned to it, are not written."""
_ZEROS: Final = bytes(HOLE)

Ranges = Iterable[tuple[int, int]]
"""``(offset, length)`` in bytes of the disk."""


class ImageWriter(Protocol):
    """A new image that is being written. Offsets are those of the disk that it will hold."""

    @property
    def bytes_written(self) -> int:
        """Bytes given to the host so far."""

    @property
    def blocks(self) -> int:
        """Payload blocks that have got a place; 0 where the format has none."""

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Store bytes of the disk; blocks get their place when first something is put into them."""

    def finish(self) -> int:
        """Write what describes the blocks; return the file's size. The file is not flushed."""


def fill(writer: ImageWriter, source: BlockDevice, ranges: Ranges, progress: Progress = SILENT) -> int:
    """Copy ranges of ``source``, in order, to the image; zeros are passed over. Return where the last range ended.

    ``progress`` is told of the bytes of the disk up to there. Raises what the two of them raise.
    """
    view = memoryview(bytearray(PIECE))
    told = 0
    for start, length in ranges:
        offset, end = start, start + length
        while offset < end:
            got = source.read_into(offset, view[: min(PIECE - offset % PIECE, end - offset)])
            if not got:
                break  # the range goes on past the end of the disk
            for first, last in stored_parts(view[:got], offset % HOLE):
                writer.put(offset + first, view[first:last])
            offset += got
            progress.advance(offset - told)
            told = offset
    return told


def stored_parts(data: memoryview, skew: int = 0) -> Iterator[tuple[int, int]]:
    """The parts ``(start, stop)`` of ``data`` that are not runs of zeros; ``skew`` bytes lie before it in its run."""
    kept: tuple[int, int] | None = None
    start = 0
    while start < len(data):
        stop = min(start - (start + skew) % HOLE + HOLE, len(data))
        if data[start:stop] != _ZEROS[: stop - start]:
            if kept is not None and kept[1] == start:
                kept = kept[0], stop
            else:
                if kept is not None:
                    yield kept
                kept = start, stop
        start = stop
    if kept is not None:
        yield kept


def is_flat(disk: VirtualDisk) -> bool:
    """Byte n of the disk is byte n of one file, and no journal waits to be laid over it."""
    info = disk.info
    return info.type == "fixed" and info.format in {"raw", "vhd"} and info.log is None


def data_ranges(disk: VirtualDisk) -> Iterator[tuple[int, int]]:
    """The ranges of a disk that its files say they hold, in order and apart; the rest reads as zeros."""
    if is_flat(disk):
        for offset, length in host_ranges(disk.info.path):
            if offset < disk.size:
                yield offset, min(length, disk.size - offset)
        return
    yield from merged((extent.offset, extent.length) for extent in disk.extents() if extent.kind == "data")


def data_ranges_of_changes(changes: Changes) -> Iterator[tuple[int, int]]:
    """The ranges that the disk as it is holds and those that will change, in order, apart."""
    return merged(heapq.merge(data_ranges(changes.base), changes.changed()))


class RawWriter:
    """A raw image: an :class:`ImageWriter`."""

    blocks = 0

    def __init__(self, file: HostFile, virtual_size: int) -> None:
        self._file = file
        self._size = virtual_size
        self.bytes_written = 0

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """As :meth:`ImageWriter.put`."""
        self._file.write_at(offset, data)
        self.bytes_written += len(data)

    def finish(self) -> int:
        """As :meth:`ImageWriter.finish`."""
        self._file.truncate(self._size)
        return self._size
