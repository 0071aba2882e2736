"""One state of an NTFS volume as the checks see it: raw records, whole files with their extension records, bitmaps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import Problem
from vhdtool.fs.ntfs_check_record import CheckedAttribute, CheckedRecord, Units, check_record, segment_of
from vhdtool.fs.ntfs_index import UpCase
from vhdtool.fs.ntfs_layout import BOOT_SECTOR, LIST_ENTRY, code_units, utf16
from vhdtool.fs.ntfs_records import (
    ATTRIBUTE_LIST,
    BITMAP,
    BITMAP_RECORD,
    DATA,
    MAX_ATTRIBUTE_LIST,
    MFT_RECORD,
    UPCASE_RECORD,
)
from vhdtool.fs.ntfs_stream import ResidentStream
from vhdtool.fs.runs import Run, RunStream, damaged
from vhdtool.layout import packed

MAX_BITMAP = 64 << 20  # bytes of $MFT's own bitmap: 2**29 records
CACHED_RECORDS = 4096
_LIST_ENTRY = packed(LIST_ENTRY)
_INDEX_NAME = code_units("$I30".encode("utf-16-le"))

Interval = tuple[int, int]  # first cluster, and the one past the last
Stream = RunStream | ResidentStream


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A base record with all pieces of its attributes, in the order of their clusters, and what is wrong with it."""

    base: CheckedRecord
    segments: tuple[int, ...]
    attributes: Mapping[tuple[int, bytes], tuple[CheckedAttribute, ...]]
    problems: tuple[Problem, ...]

    @property
    def segment(self) -> int:
        """Of the base record."""
        return self.base.segment

    def pieces(self, type_: int, name: str = "") -> tuple[CheckedAttribute, ...]:
        """The pieces of one attribute; none where it is absent. A type that may come several times gives them all."""
        return self.attributes.get((type_, name.encode("utf-16-le")), ())

    def intervals(self) -> Iterator[Interval]:
        """The clusters of all its attributes."""
        for pieces in self.attributes.values():
            for piece in pieces:
                for first, count in piece.runs:
                    if first is not None:
                        yield first, first + count


@dataclass(slots=True)
class Bits:
    """A bitmap of the volume, read where it is asked for."""

    stream: Stream
    count: int

    def all_set(self, first: int, last: int) -> bool:
        """Whether all bits from ``first`` to before ``last`` are set."""
        return self.read(first, last) == (1 << (last - first)) - 1

    def any_set(self, first: int, last: int) -> bool:
        """Whether any bit from ``first`` to before ``last`` is set."""
        return self.read(first, last) != 0

    def read(self, first: int, last: int) -> int:
        """The bits from ``first`` to before ``last``; the first is the lowest."""
        data = self.stream.read_at(first // 8, (last + 7) // 8 - first // 8)
        return int.from_bytes(data, "little") >> (first % 8) & ((1 << (last - first)) - 1)


class CheckedVolume:
    """The volume on ``device``. Raises :class:`DamagedError` where not even $MFT can be found."""

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        boot = BOOT_SECTOR.parse(device.read_at(0, BOOT_SECTOR.sizeof()).ljust(BOOT_SECTOR.sizeof(), b"\0"))
        per_cluster = boot.sectors_per_cluster
        unit = per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster)
        self.cluster_size: int = boot.bytes_per_sector * unit
        size = boot.record_size
        self.record_size: int = 1 << -size if size < 0 else size * self.cluster_size
        self.size: int = boot.sectors * boot.bytes_per_sector
        index_size = boot.index_size
        self.index_size: int = 1 << -index_size if index_size < 0 else index_size * self.cluster_size
        if (
            boot.oem != b"NTFS    "
            or self.cluster_size not in [1 << shift for shift in range(8, 22)]
            or self.record_size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
            or not 0 < self.size <= 1 << 62
        ):
            raise damaged("the boot sector says impossible sizes", "$Boot")
        self.clusters: int = self.size // self.cluster_size
        self.mirror_cluster: int = boot.mirror_cluster
        self._records: OrderedDict[int, CheckedRecord] = OrderedDict()
        self._files: OrderedDict[int, CheckedFile | None] = OrderedDict()
        self._upcase: UpCase | None = None
        self._table: RunStream
        self._table_runs: tuple[Run, ...] = ()
        self._open_table(boot.mft_cluster)

    @property
    def records(self) -> int:
        """How many records $MFT has room for."""
        return self._table.size // self.record_size

    def fold(self, units: Units) -> Units:
        """Upper-case a name by the volume's $UpCase. Raises :class:`DamagedError` where there is none."""
        if self._upcase is None:
            if units == _INDEX_NAME or not units:  # nearly all that a small change asks for
                return units
            data = self.record_bytes(UPCASE_RECORD)
            record = check_record(data, UPCASE_RECORD, self.clusters, self.cluster_size, tuple) if data else None
            pieces = [one for one in record.attributes if one.type == DATA and not one.name] if record else []
            if not pieces:
                raise damaged("the upper-case table is missing", "$UpCase")
            self._upcase = UpCase(self.stream(pieces, "$UpCase"))
        return self._upcase.fold(units)

    def record_bytes(self, segment: int) -> bytes:
        """A record as stored; nothing beyond the end of $MFT."""
        if (segment + 1) * self.record_size > self._table.size:
            return b""
        return self._table.read_at(segment * self.record_size, self.record_size)

    def record(self, segment: int) -> CheckedRecord | None:
        """One record, checked; ``None`` beyond the end of $MFT."""
        known = self._records.get(segment)
        if known is None:
            data = self.record_bytes(segment)
            if not data:
                return None
            known = self._records[segment] = check_record(data, segment, self.clusters, self.cluster_size, self.fold)
            if len(self._records) > CACHED_RECORDS:
                self._records.popitem(last=False)
        return known

    def file(self, segment: int) -> CheckedFile | None:
        """The file of a base record; ``None`` for what is not in use or the extension of another."""
        if segment not in self._files:
            self._files[segment] = self._assembled(segment)
            if len(self._files) > CACHED_RECORDS:
                self._files.popitem(last=False)
        return self._files[segment]

    def stream(self, pieces: Sequence[CheckedAttribute], what: str) -> Stream:
        """The bytes of an attribute. Raises :class:`DamagedError` where its runs end before its data."""
        first = pieces[0]
        if first.value is not None:
            return ResidentStream(first.value)
        runs = [run for piece in pieces for run in piece.runs]
        return RunStream(
            self.device, runs, self.cluster_size, size=first.size, initialized=first.initialized, what=what
        )

    def places(self, runs: Sequence[Run], length: int) -> Iterator[tuple[int, int, int]]:
        """Where ``length`` bytes of an attribute lie: (offset in it, place on the volume, bytes)."""
        offset = 0
        for first, count in runs:
            size = min(count * self.cluster_size, length - offset)
            if size <= 0:
                return
            if first is not None:
                yield offset, first * self.cluster_size, size
            offset += size

    def table_places(self) -> Iterator[tuple[int, int, int]]:
        """Where $MFT lies, as :meth:`places`."""
        return self.places(self._table_runs, self._table.size)

    def bitmap(self) -> Bits:
        """$Bitmap: a bit for each cluster. Raises :class:`DamagedError` where there is none."""
        return Bits(self._own_stream(BITMAP_RECORD, DATA, "$Bitmap"), self.clusters)

    def table_bitmap(self) -> int:
        """The bits of the records that are in use. Raises :class:`DamagedError` where there are none."""
        stream = self._own_stream(MFT_RECORD, BITMAP, "$MFT")
        if stream.size > MAX_BITMAP:
            raise damaged("the bitmap of $MFT is too long", "$MFT", found=stream.size)
        return int.from_bytes(stream.read_at(0, stream.size), "little")

    def _own_stream(self, segment: int, type_: int, name: str) -> Stream:
        file = self.file(segment)
        pieces = file.pieces(type_) if file is not None else ()
        if not pieces:
            raise damaged(f"{name} lacks its bitmap", name)
        return self.stream(pieces, name)

    def _open_table(self, cluster: int) -> None:
        data = self.device.read_at(cluster * self.cluster_size, self.record_size)
        record = check_record(data, MFT_RECORD, self.clusters, self.cluster_size, self.fold)
        pieces = [one for one in record.attributes if one.type == DATA and not one.name]
        if not pieces or pieces[0].value is not None:
            raise damaged("record 0 has no data", "$MFT")
        self._use_table(pieces)
        lists = [one for one in record.attributes if one.type == ATTRIBUTE_LIST]
        # What follows may lie in records that only what was found so far leads to: so one piece after the other.
        for entry in self._listed(lists, MFT_RECORD) if lists else ():
            if entry.type == DATA and not entry.name and segment_of(entry.reference) != MFT_RECORD:
                other = self.record(segment_of(entry.reference))
                more = [one for one in other.attributes if one.type == DATA and not one.name] if other else []
                pieces += [one for one in more if one not in pieces]
                self._use_table(pieces)

    def _use_table(self, pieces: Sequence[CheckedAttribute]) -> None:
        self._table_runs = tuple(run for piece in pieces for run in piece.runs)
        covered = sum(count for _, count in self._table_runs) * self.cluster_size
        size = min(pieces[0].initialized, covered)
        self._table = RunStream(
            self.device, self._table_runs, self.cluster_size, size=size, initialized=size, what="$MFT"
        )

    def _assembled(self, segment: int) -> CheckedFile | None:
        base = self.record(segment)
        if base is None or not base.in_use or base.base:
            return None
        problems = list(base.problems)
        found: dict[tuple[int, bytes], list[CheckedAttribute]] = {}
        for one in base.attributes:
            found.setdefault((one.type, one.name), []).append(one)
        segments = [segment]
        lists = found.get((ATTRIBUTE_LIST, b""))
        if lists:
            try:
                listed = list(self._listed(lists, segment))
            except ValueError as error:
                problems.append(Problem("ntfs-attribute-list", f"the attribute list of record {segment}: {error}"))
                listed = []
            for other in self._extensions(base, listed, problems):
                segments.append(other.segment)
                for one in other.attributes:
                    found.setdefault((one.type, one.name), []).append(one)
        for (type_, _), pieces in found.items():
            pieces.sort(key=lambda one: one.lowest)
            if pieces[0].value is None or len(pieces) > 1:
                problems += self._joined(segment, type_, pieces)
        return CheckedFile(base, tuple(segments), {key: tuple(value) for key, value in found.items()}, tuple(problems))

    def _joined(self, segment: int, type_: int, pieces: Sequence[CheckedAttribute]) -> Iterator[Problem]:
        if all(one.value is not None and one.indexed for one in pieces):
            return  # names
        expected = 0
        for one in pieces:
            if one.value is not None or one.lowest != expected:
                text = f"the pieces of {one.label} of MFT record {segment} don't join at cluster {expected}"
                yield Problem("ntfs-run-list", text)
                return
            expected = one.highest + 1
        first = pieces[0]
        if first.allocated != expected * self.cluster_size:
            text = f"{first.label} of MFT record {segment} says {first.allocated} bytes, it has {expected} clusters"
            yield Problem("ntfs-run-list", text)
        if first.stored is not None:
            held = sum(count for one in pieces for place, count in one.runs if place is not None) * self.cluster_size
            if held != first.stored:
                text = f"{first.label} of MFT record {segment} says that {first.stored} bytes are stored, it has {held}"
                yield Problem("ntfs-run-list", text)

    def _listed(self, lists: Sequence[CheckedAttribute], segment: int) -> Iterator[ListEntry]:
        stream = self.stream(sorted(lists, key=lambda one: one.lowest), f"attribute list of MFT record {segment}")
        if stream.size > MAX_ATTRIBUTE_LIST:
            raise ValueError(f"it has {stream.size} bytes")
        data = stream.read_at(0, stream.size)
        at = 0
        while at < len(data):
            if at + _LIST_ENTRY.size > len(data):
                raise ValueError("it is cut off")
            type_, length, name_length, name_at, lowest, reference, id_ = _LIST_ENTRY.unpack_from(data, at)
            if length < _LIST_ENTRY.size or length % 8 or at + length > len(data):
                raise ValueError(f"its entry at byte {at} has an impossible length of {length}")
            if name_length and (name_at < _LIST_ENTRY.size or name_at + 2 * name_length > length):
                raise ValueError(f"the name of its entry at byte {at} leaves it")
            name = data[at + name_at : at + name_at + 2 * name_length] if name_length else b""
            yield ListEntry(type_, name, lowest, reference, id_)
            at += length

    def _extensions(
        self, base: CheckedRecord, listed: Sequence[ListEntry], problems: list[Problem]
    ) -> Iterator[CheckedRecord]:
        """Hold an attribute list against the records that it names, and give those that are not the base."""
        what = f"the attribute list of MFT record {base.segment}"
        keys = [(one.type, self.fold(code_units(one.name)), one.lowest) for one in listed]
        if any(left > right for left, right in pairwise(keys)):
            problems.append(Problem("ntfs-attribute-list", f"{what} is out of order"))
        wanted = {(one.reference, one.type, one.name, one.lowest, one.id) for one in listed}
        if len(wanted) != len(listed):
            problems.append(Problem("ntfs-attribute-list", f"{what} names an attribute twice"))
        held: set[tuple[int, int, bytes, int, int]] = set()
        for reference in dict.fromkeys([base.reference, *(one.reference for one in listed)]):
            record = base if reference == base.reference else self.record(segment_of(reference))
            sound = record is not None and record.in_use and record.reference == reference
            if not sound or record is None or (record is not base and record.base != base.reference):
                text = f"{what} leads to record {segment_of(reference)}, which is no extension of it"
                problems.append(Problem("ntfs-attribute-list", text))
                continue
            held |= {(reference, one.type, one.name, one.lowest, one.id) for one in record.attributes}
            if record is not base:
                problems += record.problems
                yield record
        held -= {one for one in held if one[1] == ATTRIBUTE_LIST}
        for _, type_, name, lowest, _ in sorted(held ^ wanted):
            text = f"{what} and the records disagree about attribute {type_:#x} '{utf16(name)}' from cluster {lowest}"
            problems.append(Problem("ntfs-attribute-list", text))


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One entry of an $ATTRIBUTE_LIST; ``name`` is UTF-16."""

    type: int
    name: bytes
    lowest: int
    reference: int
    id: int
