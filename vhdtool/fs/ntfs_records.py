"""MFT records and their attributes, through dissect.ntfs, each held against the volume before it is used.

dissect decodes headers, run lists and attribute lists. It is not asked for more: its own record reads every
attribute's data at once and follows attribute lists into each other without an end.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vhdtool.disk.device import BlockDevice, DeviceStream
from vhdtool.errors import DamagedError
from vhdtool.fs.boundary import reading
from vhdtool.fs.ntfs_stream import CompressedStream, ResidentStream
from vhdtool.fs.runs import Run, RunStream, damaged

STANDARD_INFORMATION = 0x10
ATTRIBUTE_LIST = 0x20
FILE_NAME = 0x30
VOLUME_NAME = 0x60
VOLUME_INFORMATION = 0x70
DATA = 0x80
INDEX_ROOT = 0x90
INDEX_ALLOCATION = 0xA0
BITMAP = 0xB0
REPARSE_POINT = 0xC0

MFT_RECORD, MIRROR_RECORD, LOGFILE_RECORD, VOLUME_RECORD, ROOT_RECORD, BITMAP_RECORD = 0, 1, 2, 3, 5, 6
UPCASE_RECORD = 10
FIRST_USER_RECORD = 24  # those before are the file system's own files

COMPRESSED, ENCRYPTED, SPARSE = 0x00FF, 0x4000, 0x8000  # attribute flags

WHAT = "the NTFS file system"
MAX_ATTRIBUTE_LIST = 256 * 1024  # bytes; NTFS allows no larger one
CACHED_RECORDS = 512
_END = b"\xff\xff\xff\xff"
_MIN_ATTRIBUTE = 24  # bytes of a resident header
_MIN_LIST_ENTRY, _MAX_LIST_ENTRY = 26, 26 + 2 * 255  # bytes, without a name and with the longest

Stream = ResidentStream | RunStream


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute header, checked. ``value`` is set for resident ones; sizes in bytes."""

    type: int
    name: str
    flags: int
    value: bytes | None
    size: int
    initialized: int = 0
    lowest_vcn: int = 0
    unit_clusters: int = 0
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the boot sector says. Sizes in bytes; ``size`` is that of all sectors, without the boot sector's copy."""

    cluster_size: int
    record_size: int
    clusters: int
    mft_cluster: int
    mirror_cluster: int
    size: int


class Record:
    """One base MFT record in use. Attributes in extension records are found through :meth:`find`."""

    def __init__(self, mft: Mft, segment: int, header: Any, attributes: Sequence[Attribute]) -> None:
        self._mft = mft
        self.segment = segment
        self.sequence = int(header.SequenceNumber)
        self.links = int(header.ReferenceCount)  # as the record counts its names, those of the DOS namespace too
        self.is_directory = bool(header.Flags & 2)
        self.attributes = tuple(attributes)
        self._found: dict[tuple[int, str], tuple[Attribute, ...]] = {}

    def find(self, type_: int, name: str = "") -> tuple[Attribute, ...]:
        """Return the pieces of an attribute, in the order of their clusters; none where it is absent."""
        key = (type_, name)
        if key not in self._found:
            pieces = [found for found in self.attributes if found.type == type_ and found.name == name]
            lists = [found for found in self.attributes if found.type == ATTRIBUTE_LIST]
            if lists and type_ != ATTRIBUTE_LIST:
                pieces += self._mft.extension_attributes(self, self.stream_of(lists), type_, name)
            self._found[key] = tuple(sorted(pieces, key=lambda piece: piece.lowest_vcn))
        return self._found[key]

    def stream(self, type_: int = DATA, name: str = "") -> Stream | None:
        """Open an attribute's bytes; ``None`` where it is absent."""
        pieces = self.find(type_, name)
        return self.stream_of(pieces) if pieces else None

    def stream_of(self, pieces: Sequence[Attribute]) -> Stream:
        """Open the bytes of an attribute made of ``pieces``."""
        return self._mft.open(pieces, f"MFT record {self.segment}")

    def value(self, type_: int, name: str = "", *, limit: int = 64 * 1024) -> bytes | None:
        """Return a small attribute's bytes, resident or not; ``None`` where it is absent.

        Raises :class:`DamagedError` where it is longer than ``limit``.
        """
        stream = self.stream(type_, name)
        if stream is None:
            return None
        if stream.size > limit:
            raise damaged(
                f"attribute {type_:#x} of MFT record {self.segment} is too long",
                "$MFT",
                expected=f"at most {limit}",
                found=stream.size,
            )
        return stream.read_at(0, stream.size)


class Mft:
    """The master file table of a volume."""

    def __init__(self, device: BlockDevice) -> None:
        with reading(WHAT):
            # 65 ms to import: paid by those who read NTFS.
            from dissect.ntfs import attr, c_ntfs, mft, ntfs, util  # noqa: PLC0415

            self._attr, self._c, self._mft, self._util = attr, c_ntfs.c_ntfs, mft, util
            # boot= and not fh=: with fh= the constructor looks up $Secure and $UsnJrnl by path.
            self._boot = ntfs.NTFS(boot=DeviceStream(device))
            self.geometry = _geometry(self._boot)
        self.device = device
        self._records: OrderedDict[int, Record] = OrderedDict()
        self._stream: RunStream | None = None
        self._stream = self._open_self()

    @property
    def size(self) -> int:
        """Length of $MFT in bytes."""
        return self._stream.size if self._stream is not None else 0

    def record(self, segment: int, sequence: int | None = None) -> Record:
        """Return a base record in use; ``sequence`` is what the reference that led here says.

        Raises :class:`DamagedError` ``filesystem-damaged``.
        """
        known = self._records.get(segment)
        if known is None:
            header, attributes = self._parse(segment, self._read(segment))
            if self._util.segment_reference(header.BaseFileRecordSegment) != 0:
                raise damaged(f"MFT record {segment} is the extension of another", "$MFT")
            known = self._records[segment] = Record(self, segment, header, attributes)
            if len(self._records) > CACHED_RECORDS:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(segment)
        if sequence is not None and known.sequence != sequence:
            raise damaged(
                f"a reference to MFT record {segment} is stale", "$MFT", expected=sequence, found=known.sequence
            )
        return known

    def open(self, pieces: Sequence[Attribute], what: str) -> Stream:
        """Open the bytes of an attribute from its pieces, sorted by cluster; ``what`` names it in errors."""
        first = pieces[0]
        if first.value is not None:
            if len(pieces) > 1:
                raise damaged("a resident attribute comes in pieces", what)
            return ResidentStream(first.value)
        runs: list[Run] = []
        expected = 0
        for piece in pieces:
            if piece.value is not None or piece.lowest_vcn != expected:
                raise damaged("the pieces of a run list don't join", what, expected=expected, found=piece.lowest_vcn)
            runs.extend(piece.runs)
            expected += sum(count for _, count in piece.runs)
        if first.flags & COMPRESSED and first.unit_clusters:
            return CompressedStream(
                self.device,
                runs,
                self.geometry.cluster_size,
                unit_clusters=first.unit_clusters,
                size=first.size,
                initialized=first.initialized,
                what=what,
            )
        return RunStream(
            self.device,
            runs,
            self.geometry.cluster_size,
            size=first.size,
            initialized=first.initialized,
            what=what,
        )

    def extension_attributes(self, base: Record, listing: Stream, type_: int, name: str) -> list[Attribute]:
        """Return the pieces of an attribute that an $ATTRIBUTE_LIST places in other records."""
        found: list[Attribute] = []
        for segment, sequence in self._listed_segments(listing, base.segment, type_, name):
            found += self._extension(base.segment, segment, sequence, type_, name)
        return found

    def _extension(self, base: int, segment: int, sequence: int, type_: int, name: str) -> list[Attribute]:
        header, attributes = self._parse(segment, self._read(segment))
        if self._util.segment_reference(header.BaseFileRecordSegment) != base or header.SequenceNumber != sequence:
            raise damaged(f"MFT record {segment} is no extension of record {base}", "$MFT")
        return [piece for piece in attributes if piece.type == type_ and piece.name == name]

    def _listed_segments(self, listing: Stream, base: int, type_: int, name: str) -> Iterable[tuple[int, int]]:
        """The other records that hold pieces of the attribute, each once, in the list's order."""
        if listing.size > MAX_ATTRIBUTE_LIST:
            raise damaged(f"the attribute list of MFT record {base} is too long", "$MFT", found=listing.size)
        data = listing.read_at(0, listing.size)
        segments: dict[int, int] = {}
        offset = 0
        with reading(WHAT):
            while offset + _MIN_LIST_ENTRY <= len(data):
                entry = self._c._ATTRIBUTE_LIST_ENTRY(data[offset : offset + _MAX_LIST_ENTRY])
                if entry.RecordLength < _MIN_LIST_ENTRY:
                    break
                segment = self._util.segment_reference(entry.SegmentReference)
                if entry.AttributeTypeCode.value == type_ and entry.AttributeName == name and segment != base:
                    segments.setdefault(segment, entry.SegmentReference.SequenceNumber)
                offset += entry.RecordLength
        return segments.items()

    def _open_self(self) -> RunStream:
        """Find $MFT in its own record 0, or in the mirror's copy of it."""
        geometry = self.geometry
        place = geometry.mft_cluster * geometry.cluster_size
        try:
            header, attributes = self._parse(MFT_RECORD, self.device.read_at(place, geometry.record_size))
        except DamagedError:
            place = geometry.mirror_cluster * geometry.cluster_size
            header, attributes = self._parse(MFT_RECORD, self.device.read_at(place, geometry.record_size))
        record = Record(self, MFT_RECORD, header, attributes)
        pieces = [piece for piece in attributes if piece.type == DATA and not piece.name]
        if not pieces:
            raise damaged("record 0 has no data", "$MFT")
        stream = self._self_stream(pieces)
        # What follows may lie in records that only what was found so far leads to: so one piece after the other.
        lists = [piece for piece in attributes if piece.type == ATTRIBUTE_LIST]
        if lists:
            for segment, sequence in self._listed_segments(record.stream_of(lists), MFT_RECORD, DATA, ""):
                self._stream = stream
                pieces += self._extension(MFT_RECORD, segment, sequence, DATA, "")
                stream = self._self_stream(pieces)
        return stream

    def _self_stream(self, pieces: Sequence[Attribute]) -> RunStream:
        covered = sum(count for piece in pieces for _, count in piece.runs) * self.geometry.cluster_size
        first = pieces[0]
        runs = [run for piece in pieces for run in piece.runs]
        size = min(first.size, first.initialized, covered)
        if first.value is not None or first.flags & (COMPRESSED | ENCRYPTED):
            raise damaged("$MFT is stored in an impossible way", "$MFT")
        return RunStream(self.device, runs, self.geometry.cluster_size, size=size, initialized=size, what="$MFT")

    def _read(self, segment: int) -> bytes:
        size = self.geometry.record_size
        if self._stream is None or (segment + 1) * size > self._stream.size:
            raise damaged(f"MFT record {segment} is beyond the end of the table", "$MFT")
        return self._stream.read_at(segment * size, size)

    def _parse(self, segment: int, data: bytes) -> tuple[Any, list[Attribute]]:
        """Undo the fixups and decode header and attribute headers."""
        with reading(f"MFT record {segment}", "$MFT"):
            record = self._mft.MftRecord.from_bytes(data, self._boot)
            header = record.header
            if not header.Flags & 1:
                raise damaged(f"MFT record {segment} is not in use", "$MFT")
            attributes = []
            # The padding: dissect reads the long form of a header also where a short one is the record's last.
            stream = io.BytesIO(record.data + bytes(64))
            offset = int(header.FirstAttributeOffset)
            end = min(int(header.BytesInUse), len(record.data))
            while offset + 8 <= end and record.data[offset : offset + 4] != _END:
                found = self._attr.AttributeHeader(stream, offset, record)
                length = int(found.record_length)
                if length < _MIN_ATTRIBUTE or offset + length > end:
                    raise damaged(f"an attribute of MFT record {segment} leaves the record", "$MFT")
                attributes.append(self._attribute(found, record.data[offset : offset + length], segment))
                offset += length
        return header, attributes

    def _attribute(self, found: Any, data: bytes, segment: int) -> Attribute:
        type_, name, flags = int(found.type.value), str(found.name), int(found.flags)
        if found.resident:
            start, size = int(found.header.Form.Resident.ValueOffset), int(found.size)
            if start + size > len(data):
                raise damaged(f"a value of MFT record {segment} leaves its attribute", "$MFT")
            return Attribute(type_, name, flags, data[start : start + size], size)
        form = found.header.Form.Nonresident
        lowest, highest = int(form.LowestVcn), int(form.HighestVcn)
        runs = tuple((first, count) for first, count in found.dataruns())
        self._check_runs(runs, segment)
        # HighestVcn of an attribute without clusters is -1, which reads as 2**64 - 1.
        clusters = (highest + 1 - lowest) & 0xFFFFFFFFFFFFFFFF
        if sum(count for _, count in runs) != clusters:
            raise damaged(f"a run list of MFT record {segment} has another length than it should", "$MFT")
        size, initialized = int(form.FileSize), int(form.ValidDataLength)
        if lowest == 0 and (size < 0 or initialized < 0):
            raise damaged(f"the sizes of an attribute of MFT record {segment} are impossible", "$MFT")
        unit = 1 << min(int(form.CompressionUnit), 30) if form.CompressionUnit else 0
        return Attribute(type_, name, flags, None, size, initialized, lowest, unit, runs)

    def _check_runs(self, runs: Sequence[Run], segment: int) -> None:
        for first, count in runs:
            if count <= 0 or (first is not None and not 0 <= first <= self.geometry.clusters - count):
                raise damaged(
                    f"a run list of MFT record {segment} leaves the volume",
                    "$MFT",
                    expected=f"clusters 0 to {self.geometry.clusters}",
                    found=f"{count} clusters from {first}",
                )


def _geometry(boot: Any) -> Geometry:
    sector_size, cluster_size, record_size = boot.sector_size, boot.cluster_size, boot._record_size
    sector = boot.boot_sector
    sound = (
        sector_size in (256, 512, 1024, 2048, 4096)
        and cluster_size in [1 << shift for shift in range(8, 22)]
        and record_size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    )
    size = int(sector.NumberSectors) * sector_size
    clusters = size // cluster_size if sound else 0
    if not sound or clusters <= 0 or sector.MftStartLcn >= clusters:
        raise damaged(
            "the boot sector says impossible sizes",
            "$Boot",
            found=f"sectors of {sector_size}, clusters of {cluster_size}, MFT records of {record_size} bytes",
        )
    return Geometry(cluster_size, record_size, clusters, int(sector.MftStartLcn), int(sector.Mft2StartLcn), size)
