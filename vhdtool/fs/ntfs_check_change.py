"""Two states of an NTFS volume, and what is wrong with the step between them.

What differs is found by itself: MFT records byte by byte, $MFT's own bitmap bit by bit, $Bitmap and index blocks where
something was written. What is wrong after and was not wrong in the same way before is a problem of the step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from vhdtool.errors import Problem
from vhdtool.fs.fitness import MIRRORED
from vhdtool.fs.ntfs import VOLUME_FACTS
from vhdtool.fs.ntfs_check_clusters import (
    bit_runs,
    claims_of,
    flipped,
    joined,
    kept,
    meeting,
    shared,
    taken,
    unallocated,
    without,
)
from vhdtool.fs.ntfs_check_file import EXTEND_RECORD, SECURE_RECORD, parents_of
from vhdtool.fs.ntfs_check_index import first_key
from vhdtool.fs.ntfs_check_names import Names, added, removed
from vhdtool.fs.ntfs_check_record import CheckedAttribute, segment_of
from vhdtool.fs.ntfs_check_volume import CheckedFile, CheckedVolume, Interval
from vhdtool.fs.ntfs_index import FILE_NAME_KEY
from vhdtool.fs.ntfs_layout import FIXUP_HEADER, STRIDE, same_record
from vhdtool.fs.ntfs_records import (
    BITMAP_RECORD,
    DATA,
    INDEX_ALLOCATION,
    INDEX_ROOT,
    MFT_RECORD,
    MIRROR_RECORD,
    ROOT_RECORD,
    VOLUME_INFORMATION,
    VOLUME_RECORD,
)
from vhdtool.fs.state import VOLUME_IS_DIRTY
from vhdtool.layout import field_names, packed

BOOT_SIZE = 8192  # bytes of $Boot
OWN_FILES = range(12)  # $MFT to $Extend
WRITTEN_FILES = (MFT_RECORD, MIRROR_RECORD, ROOT_RECORD, BITMAP_RECORD, SECURE_RECORD, EXTEND_RECORD)
"""Of the file system's own files those that files coming and going change; not $LogFile, $AttrDef, $UpCase."""
MAX_BLOCK = 65536  # bytes of an index block
_CHUNK = 1 << 20
_FIXUPS, _KEY = packed(FIXUP_HEADER), packed(FILE_NAME_KEY)
_COUNT, _PARENT = field_names(FIXUP_HEADER).index("count"), field_names(FILE_NAME_KEY).index("parent")


class Change:
    """Two states of a volume; ``ranges`` are the bytes outside which they are the same."""

    def __init__(self, old: Names, new: Names, ranges: Sequence[Interval]) -> None:
        self._old, self._new, self._ranges = old, new, ranges
        self._segments = self._touched()
        self._old_files = self._files(old.volume)
        self._new_files = self._files(new.volume)
        self._directories = self._touched_directories()

    def own_structures(self) -> Iterator[Problem]:
        """Boot sector and its copy, $MFTMirr, the volume's flags."""
        old, new = self._old.volume, self._new.volume
        for place, length, name in ((0, BOOT_SIZE, "the boot sector"), (old.size, STRIDE, "the boot sector's copy")):
            if old.device.read_at(place, length) != new.device.read_at(place, length):
                yield Problem("ntfs-boot-changed", f"{name} was changed")
        yield from mirror_problems(new)
        flags = [_flags(volume) for volume in (old, new)]
        if flags[0] != flags[1]:
            text = f"the volume's flags were changed from {flags[0]} to {flags[1]}"
            yield Problem("ntfs-volume-flags", text)

    def records(self) -> Iterator[Problem]:
        """The records that differ, and $MFT's own bitmap."""
        known = set(self._record_problems(self._old))
        yield from (one for one in self._record_problems(self._new) if one not in known)
        bitmap = self._new.volume.table_bitmap()
        for segment in sorted(self._segments):
            record = self._new.volume.record(segment)
            used = record is not None and record.in_use
            if used != bool(bitmap >> segment & 1):
                text = f"MFT record {segment} is {'in' if used else 'not in'} use, and the bitmap of $MFT denies it"
                yield Problem("ntfs-mft-bitmap", text)
            was = self._old.volume.record(segment)
            if was is not None and was.in_use and record is not None and not used and record.sequence == was.sequence:
                text = f"MFT record {segment} was freed, and its sequence number {was.sequence} stayed"
                yield Problem("ntfs-sequence", text)

    def clusters(self) -> Iterator[Problem]:
        """Clusters of the touched files, and the bits of $Bitmap that differ."""
        new = self._new.volume
        own = {segment: new.file(segment) for segment in OWN_FILES}
        everything = {**{key: file for key, file in own.items() if file is not None}, **self._new_files}
        doubly = list(shared(claims_of(everything.values())))
        yield from doubly
        if doubly:
            return  # what follows would count them again, and without a bound
        was = joined(one for file in self._old_files.values() for one in file.intervals())
        now = joined(one for file in self._new_files.values() for one in file.intervals())
        fresh, released = without(now, was), without(was, now)
        bitmap = new.bitmap()
        yield from taken(fresh, self._old.volume.bitmap())
        yield from unallocated(claims_of(self._new_files.values()), bitmap)
        yield from kept(released, bitmap)
        for got, lost in self._flipped_bits():
            for first, last in without(got, fresh):
                text = f"clusters {first} to {last - 1} were marked as used, and no touched file got them"
                yield Problem("ntfs-clusters-leaked", text)
            for first, last in without(lost, released):
                text = f"clusters {first} to {last - 1} were marked as free, and no touched file gave them back"
                yield Problem("ntfs-clusters-unallocated", text)

    def names(self) -> Iterator[Problem]:
        """The directories of everything that was touched, from end to end, and what they lead to."""
        known = set(self._directory_problems(self._old))
        yield from (one for one in self._directory_problems(self._new) if one not in known)
        for directory in sorted(self._directories):
            was, now = self._old.directory(directory), self._new.directory(directory)
            for entry in added(was, now):
                yield from self._new.problems_of_entry(directory, entry)
            for entry in removed(was, now):
                file = self._new.volume.file(segment_of(entry.reference))
                if file is not None and file.segment not in self._new_files:
                    yield from self._new.problems_of_file(file)

    def stray(self, overwritten: Collection[int]) -> Iterator[Problem]:
        """Bytes that differ and belong to nothing that may have been written."""
        places = [place for names in (self._old, self._new) for place in self._accounted(names.volume, overwritten)]
        size = self._new.volume.cluster_size
        old, new = self._old.volume, self._new.volume
        bitmaps = old.bitmap(), new.bitmap()
        for first, last in without(self._ranges, joined(places)):
            for start in range(first, last, _CHUNK):
                stop = min(start + _CHUNK, last)
                clusters = start // size, min((stop - 1) // size + 1, new.clusters)
                free = clusters[0] < clusters[1] and not any(bits.any_set(*clusters) for bits in bitmaps)
                if not free and old.device.read_at(start, stop - start) != new.device.read_at(start, stop - start):
                    text = f"bytes {start} to {stop - 1} of the volume were changed, and belong to no changed file"
                    yield Problem("ntfs-stray-write", text)

    def _touched(self) -> set[int]:
        """The segments whose records differ, or whose bits in $MFT's bitmap do."""
        old, new = self._old.volume, self._new.volume
        size = new.record_size
        candidates = {
            segment
            for volume in (old, new)
            for offset, place, length in volume.table_places()
            for first, last in meeting(self._ranges, place, place + length)
            for segment in range((offset + first - place) // size, (offset + last - place - 1) // size + 1)
        }
        found = {one for one in candidates if old.record_bytes(one) != new.record_bytes(one)}
        limit = max(old.records, new.records)
        flips = bit_runs(old.table_bitmap() ^ new.table_bitmap())
        return found | {one for first, last in flips for one in range(first, min(last, limit))}

    def _files(self, volume: CheckedVolume) -> dict[int, CheckedFile]:
        """The files that the touched records belong to."""
        found: dict[int, CheckedFile] = {}
        for segment in self._segments:
            record = volume.record(segment)
            if record is not None and record.in_use:
                file = volume.file(segment_of(record.base) if record.base else segment)
                if file is not None:
                    found[file.segment] = file
        return found

    def _record_problems(self, names: Names) -> Iterator[Problem]:
        for segment in self._segments:
            yield from record_problems(names.volume, segment)
        for file in self._files(names.volume).values():
            yield from file.problems
            yield from names.problems_of_file(file)

    def _directory_problems(self, names: Names) -> Iterator[Problem]:
        for segment in sorted(self._directories):
            yield from names.problems_of_indexes(segment)
            index = names.directory(segment)
            for entry in index.entries if index is not None else ():
                if segment_of(entry.reference) in self._new_files or segment_of(entry.reference) in self._old_files:
                    yield from names.problems_of_entry(segment, entry)

    def _touched_directories(self) -> set[int]:
        """Directories that changed, those of all touched files, and the owners of all index blocks written to."""
        found: set[int] = set()
        for files in (self._old_files, self._new_files):
            for file in files.values():
                found |= parents_of(file)
                if any(type_ == INDEX_ROOT for type_, _ in file.attributes):
                    found.add(file.segment)
        return found | set(self._block_owners())

    def _block_owners(self) -> Iterator[int]:
        """What was written and is no file's data, before or after, may be index blocks."""
        size = self._new.volume.cluster_size
        data = joined(
            (first * size, last * size)
            for names, files in ((self._old, self._old_files), (self._new, self._new_files))
            for file in (*filter(None, map(names.volume.file, OWN_FILES)), *files.values())
            for (type_, _), pieces in file.attributes.items()
            if type_ == DATA
            for first, last in _intervals(pieces)
        )
        for first, last in without(self._ranges, data):
            for names in (self._old, self._new):
                yield from _owners(names, first, last)

    def _flipped_bits(self) -> Iterator[tuple[list[Interval], list[Interval]]]:
        """What the written pieces of $Bitmap got and lost."""
        old, new = self._old.volume, self._new.volume
        file = new.file(BITMAP_RECORD)
        pieces = file.pieces(DATA) if file is not None else ()
        runs = [run for piece in pieces for run in piece.runs]
        for offset, place, length in new.places(runs, -(-new.clusters // 8)):
            for first, last in meeting(self._ranges, place, place + length):
                states = [volume.device.read_at(first, last - first) for volume in (old, new)]
                yield flipped(states[0], states[1], (offset + first - place) * 8)

    def _accounted(self, volume: CheckedVolume, overwritten: Collection[int]) -> Iterator[Interval]:
        """The bytes of the volume that a sound change may alter."""
        yield volume.size, volume.size + STRIDE  # looked at with the boot sector
        segments = {*WRITTEN_FILES, *self._directories, *overwritten, *self._old_files, *self._new_files}
        for segment in segments:
            file = volume.file(segment)
            for first, last in file.intervals() if file is not None else ():
                yield first * volume.cluster_size, last * volume.cluster_size


def _owners(names: Names, first: int, last: int) -> Iterator[int]:
    """The files to whose indexes the blocks between two places of the volume belong."""
    volume = names.volume
    cluster = volume.cluster_size
    start = first // cluster * cluster
    if cluster < volume.index_size:
        start = max(0, start - volume.index_size + cluster)  # a block may begin in the clusters before
    for chunk in range(start, last, _CHUNK):
        data = volume.device.read_at(chunk, min(_CHUNK, last - chunk))
        at = data.find(b"INDX")
        while at >= 0:
            if at % STRIDE == 0:
                yield from _owner(names, volume.device.read_at(chunk + at, MAX_BLOCK), (chunk + at) // cluster)
            at = data.find(b"INDX", at + 4)


def _owner(names: Names, data: bytes, cluster: int) -> Iterator[int]:
    """The file that an index block belongs to, where it is one of an index and not a trace in some file's data."""
    volume = names.volume
    size = (_FIXUPS.unpack_from(data)[_COUNT] - 1) * STRIDE if len(data) >= STRIDE else 0
    key = first_key(data[:size]) if 0 < size <= len(data) else None
    told = [segment_of(_KEY.unpack_from(key)[_PARENT])] if key is not None and len(key) >= _KEY.size else []
    extend = names.directory(EXTEND_RECORD)
    views = [segment_of(entry.reference) for entry in extend.entries] if extend is not None else []
    for segment in (*told, ROOT_RECORD, SECURE_RECORD, *views):
        file = volume.file(segment)
        for (type_, _), pieces in file.attributes.items() if file is not None else ():
            if type_ == INDEX_ALLOCATION and any(start <= cluster < end for start, end in _intervals(pieces)):
                yield segment
                return


def _intervals(pieces: Iterable[CheckedAttribute]) -> Iterator[Interval]:
    for piece in pieces:
        for first, count in piece.runs:
            if first is not None:
                yield first, first + count


def record_problems(volume: CheckedVolume, segment: int) -> Iterator[Problem]:
    """What is wrong with one record; an extension belongs to a base that knows it."""
    record = volume.record(segment)
    if record is None:
        return
    yield from record.problems
    if record.in_use and record.base:
        base = volume.file(segment_of(record.base))
        if base is None or segment not in base.segments or base.base.reference != record.base:
            text = f"MFT record {segment} is the extension of {segment_of(record.base)}, which does not know it"
            yield Problem("ntfs-record-orphan", text)


def mirror_problems(volume: CheckedVolume) -> Iterator[Problem]:
    """What differs between the first records and their copies."""
    file = volume.file(MIRROR_RECORD)
    pieces = file.pieces(DATA) if file is not None else ()
    if not pieces:
        yield Problem("ntfs-mirror-differs", "there is no $MFTMirr")
        return
    stream = volume.stream(pieces, "$MFTMirr")
    size = volume.record_size
    for number in range(min(max(MIRRORED, volume.cluster_size // size), stream.size // size)):
        if not same_record(volume.record_bytes(number), stream.read_at(number * size, size)):
            yield Problem("ntfs-mirror-differs", f"record {number} differs between $MFT and $MFTMirr")


def _flags(volume: CheckedVolume) -> int | None:
    file = volume.file(VOLUME_RECORD)
    values = [piece.value for piece in file.pieces(VOLUME_INFORMATION)] if file is not None else []
    if not values or values[0] is None or len(values[0]) < VOLUME_FACTS.sizeof():
        return None
    return int(VOLUME_FACTS.parse(values[0]).flags) & ~VOLUME_IS_DIRTY
