"""Overwriting the bytes of a file where they lie: the file keeps its size, and no structure of the volume changes.

Needs no library. The file's times and the change journal stay as they are, as they do when Windows writes to a hive.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from vhdtool.disk.device import WritableDevice
from vhdtool.errors import NotFoundError, RefusedError
from vhdtool.fs.base import Extent
from vhdtool.fs.fitness import refuse_unfit_path
from vhdtool.fs.ntfs import NtfsFilesystem, Place
from vhdtool.fs.ntfs_index import DOS_NAMESPACE, FILE_NAME_KEY
from vhdtool.fs.ntfs_records import (
    BITMAP_RECORD,
    DATA,
    FILE_NAME,
    LOGFILE_RECORD,
    MFT_RECORD,
    MIRROR_RECORD,
    UPCASE_RECORD,
    Record,
)
from vhdtool.fs.paths import split_path
from vhdtool.fs.runs import damaged, runs_overlap
from vhdtool.layout import offset_of

NEEDS_WRITER: Final = frozenset({"file-hard-linked", "file-resident", "file-beyond-initialized", "file-beyond-end"})
"""Codes with which :func:`overwrite` refuses what a :class:`vhdtool.fs.writer.FileWriter` can do instead."""

_NAMESPACE = offset_of(FILE_NAME_KEY, "namespace")
_OWN_FILES = (MFT_RECORD, MIRROR_RECORD, LOGFILE_RECORD, BITMAP_RECORD, UPCASE_RECORD)


def overwrite(device: WritableDevice, fs: NtfsFilesystem, path: str, pieces: Iterable[tuple[int, bytes]]) -> int:
    """Write ``pieces`` (offset in the file, bytes) over the file's own bytes, in their order; return how many.

    ``device`` holds the volume's bytes that ``fs`` was opened on. Everything is checked before the first byte is
    written.

    Raises:
        RefusedError: as :func:`vhdtool.fs.fitness.refuse_unfit_path`; ``file-hard-linked``, ``file-resident``,
            ``file-beyond-initialized``, ``file-beyond-end`` (see :data:`NEEDS_WRITER`).
        NotFoundError: ``no-such-file``, ``is-a-directory``, ``not-a-directory``.
        DamagedError: ``filesystem-damaged``, where the file's clusters can't be its own.

    """
    refuse_unfit_path(fs, path)
    place = _place(fs, path)
    _refuse_links(place)
    wanted = [(offset, memoryview(data).cast("B")) for offset, data in pieces if data]
    _refuse_ranges(place, [(offset, len(data)) for offset, data in wanted])
    stored = place.record.find(DATA)
    if runs_overlap([run for piece in stored for run in piece.runs]):
        raise damaged("the file claims a cluster twice", place.path)
    extents = fs.mft.open(stored, place.path).extents() if wanted else ()
    writes = [
        (target, data[start : start + length])
        for offset, data in wanted
        for target, start, length in _mapped(extents, offset, len(data), place)
    ]
    _check_clusters(fs, place, [(target, len(data)) for target, data in writes])
    for target, data in writes:
        device.write_at(target, data)
    return sum(len(data) for _, data in writes)


def _place(fs: NtfsFilesystem, path: str) -> Place:
    place = fs.root
    for part in split_path(path):
        found = fs.candidates(place, part)
        if not found:
            raise NotFoundError("no-such-file", "no such file", path=path)
        place = found[0]
    if place.record.is_directory:
        raise NotFoundError("is-a-directory", "this is a directory", path=place.path)
    return place


def _refuse_links(place: Place) -> None:
    names = _count_names(place.record)
    if names > 1:
        raise RefusedError(
            "file-hard-linked",
            "the file has further names (hard links), and each of them would change with it",
            path=place.path,
            found=f"{names} names",
            hint="Replace the file under this name; the others then keep the old one.",
        )


def _count_names(record: Record) -> int:
    """Count the names of a file that are not short names beside long ones; the record's own count, if it is higher."""
    names = [piece.value for piece in record.find(FILE_NAME) if piece.value is not None]
    short = sum(len(value) > _NAMESPACE and value[_NAMESPACE] == DOS_NAMESPACE for value in names)
    return max(len(names), record.links) - short


def _refuse_ranges(place: Place, ranges: Sequence[tuple[int, int]]) -> None:
    pieces = place.record.find(DATA)
    size = pieces[0].size if pieces else 0
    for offset, length in ranges:
        if offset < 0 or offset + length > size:
            raise RefusedError(
                "file-beyond-end",
                "the bytes don't fit into the file as it is",
                path=place.path,
                offset=offset,
                expected=f"at most {size} bytes",
                found=f"{offset + length} bytes",
                hint="The file has to be given its new size first.",
            )
    if not ranges:
        return
    if pieces[0].value is not None:
        raise RefusedError(
            "file-resident",
            "the file is so small that its bytes lie in its MFT record",
            path=place.path,
            hint="It has to be replaced as a whole.",
        )
    end, initialized = max(offset + length for offset, length in ranges), pieces[0].initialized
    if end > initialized:
        raise RefusedError(
            "file-beyond-initialized",
            "a part of the file was never written: it reads as zeros, whatever lies there",
            path=place.path,
            offset=end,
            expected=f"at most {initialized} bytes",
            hint="It has to be replaced as a whole.",
        )


def _mapped(extents: Sequence[Extent], offset: int, length: int, place: Place) -> Iterator[tuple[int, int, int]]:
    """Cut a range of the file into (place on the volume, offset in the range, length)."""
    starts = [extent.file_offset for extent in extents]
    done = 0
    while done < length:
        at = bisect_right(starts, offset + done) - 1
        inside = offset + done - starts[at] if at >= 0 else 0
        if at < 0 or inside >= extents[at].length:
            raise RefusedError(
                "file-sparse",
                "a part of the file has no place on the volume",
                path=place.path,
                offset=offset + done,
                hint="Copy the file over itself in the guest.",
            )
        piece = min(length - done, extents[at].length - inside)
        yield extents[at].volume_offset + inside, done, piece
        done += piece


def _check_clusters(fs: NtfsFilesystem, place: Place, ranges: Sequence[tuple[int, int]]) -> None:
    """Hold what will be written against $Bitmap and the file system's own files: a damaged run list stops here."""
    size = fs.mft.geometry.cluster_size
    bitmap = fs.mft.record(BITMAP_RECORD).stream()
    own = [(0, 1)]  # the boot sector's cluster
    for segment in _OWN_FILES:
        for piece in fs.mft.record(segment).find(DATA):
            own += [(first, first + count) for first, count in piece.runs if first is not None]
    for offset, length in ranges:
        first, last = offset // size, (offset + length - 1) // size
        data = b"" if bitmap is None else bitmap.read_at(first // 8, last // 8 - first // 8 + 1)
        bits = int.from_bytes(data, "little") >> (first % 8)
        mask = (1 << (last - first + 1)) - 1
        if bits & mask != mask:
            raise damaged("the file's clusters are not marked as used", place.path, found=f"clusters {first} to {last}")
        if any(first < end and start <= last for start, end in own):
            raise damaged(
                "the file claims clusters of the file system", place.path, found=f"clusters {first} to {last}"
            )
