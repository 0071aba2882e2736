"""Our own judge of a change to an NTFS volume, for what foreign checkers miss (and most of what they see).

A change is judged by what it touched: each MFT record, each directory, each bitmap that differs is read before and
after (:mod:`vhdtool.fs.ntfs_check_change`), under the rules of :mod:`vhdtool.fs.ntfs_check_record`, ``_file``,
``_index``, ``_names`` and ``_clusters``. Nothing that Windows itself leaves on a whole volume is a problem:
:func:`check_volume` finds nothing on volumes that Windows, mkntfs and libntfs-3g made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import Problem, VhdtoolError
from vhdtool.fs.ntfs_check_change import Change, mirror_problems, record_problems
from vhdtool.fs.ntfs_check_clusters import claims_of, disagreement, joined, shared, unallocated
from vhdtool.fs.ntfs_check_index import BlockCache
from vhdtool.fs.ntfs_check_names import Names
from vhdtool.fs.ntfs_check_volume import CheckedVolume, Interval
from vhdtool.fs.ntfs_layout import STRIDE
from vhdtool.fs.ntfs_records import FIRST_USER_RECORD

MAX_PROBLEMS = 200
_UNREADABLE = "the volume can't be checked: "


def check_touched(
    before: BlockDevice,
    after: BlockDevice,
    written: Iterable[tuple[int, int]],
    *,
    path: str | None,
    overwritten: Collection[int] | None = None,
) -> tuple[Problem, ...]:
    """Judge a change to a volume; what it touched is read, and the directories of it, and nothing else.

    Args:
        before: the volume's bytes as they were, a volume that passed :mod:`vhdtool.fs.fitness`.
        after: its bytes as they shall be.
        written: ranges (offset, length) in bytes of the volume outside which nothing differs.
        path: the image, for the problems.
        overwritten: MFT segments of the files whose data was overwritten in place. Given, each differing byte must
            belong to one of them, to a file whose record changed, to a directory or to the file system's own files.

    Returns:
        At most 200 problems, none where the change is sound.

    """
    ranges = joined((offset, offset + length) for offset, length in written)
    return _told(_change_problems(before, after, ranges, overwritten), path)


def check_volume(device: BlockDevice, *, path: str | None = None) -> tuple[Problem, ...]:
    """Judge a whole volume, every record and every directory of it. Reads all of $MFT: for tests and small volumes."""
    return _told(_volume_problems(device), path)


def _told(problems: Iterator[Problem], path: str | None) -> tuple[Problem, ...]:
    found: dict[tuple[str, str], Problem] = {}
    for problem in _guarded(problems):
        found.setdefault((problem.code, problem.message), dataclasses.replace(problem, path=path))
        if len(found) >= MAX_PROBLEMS:
            break
    return tuple(found.values())


def _guarded(problems: Iterator[Problem]) -> Iterator[Problem]:
    """What a check can't get past is itself a problem."""
    try:
        yield from problems
    except VhdtoolError as error:
        yield Problem("ntfs-unreadable", _UNREADABLE + str(error))


def _change_problems(
    before: BlockDevice, after: BlockDevice, ranges: Sequence[Interval], overwritten: Collection[int] | None
) -> Iterator[Problem]:
    cache = BlockCache()
    change = Change(Names(CheckedVolume(before), cache), Names(CheckedVolume(after), cache), ranges)
    yield from change.own_structures()
    yield from change.records()
    yield from change.clusters()
    yield from change.names()
    if overwritten is not None:
        yield from change.stray(overwritten)


def _volume_problems(device: BlockDevice) -> Iterator[Problem]:
    volume = CheckedVolume(device)
    names = Names(volume, BlockCache(), lagging=True)
    copy = device.read_at(volume.size, STRIDE)
    if copy and copy != device.read_at(0, STRIDE):  # a copy of the volume without its last sector is usual
        yield Problem("ntfs-boot-changed", "the boot sector and its copy differ")
    yield from mirror_problems(volume)
    bitmap = volume.table_bitmap()
    files = []
    for segment in range(volume.records):
        record = volume.record(segment)
        used = record is not None and record.in_use
        # Windows marks the records before the first of the user as used, those that it never formed too.
        if used != bool(bitmap >> segment & 1) and (used or segment >= FIRST_USER_RECORD):
            text = f"MFT record {segment} is {'in' if used else 'not in'} use, and the bitmap of $MFT denies it"
            yield Problem("ntfs-mft-bitmap", text)
        yield from record_problems(volume, segment)
        file = volume.file(segment)
        if file is not None:
            files.append(file)
            yield from file.problems
            yield from names.problems_of_file(file)
            yield from names.problems_of_indexes(segment)
            index = names.directory(segment)
            for entry in index.entries if index is not None else ():
                yield from names.problems_of_entry(segment, entry)
    claims = claims_of(files)
    doubly = list(islice(shared(claims), MAX_PROBLEMS))
    yield from doubly
    if not doubly:
        yield from unallocated(claims, volume.bitmap())
        yield from disagreement(claims, volume.bitmap())
