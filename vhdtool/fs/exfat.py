"""exFAT, by own code after Microsoft's "exFAT file system specification" (sections 3, 4, 6, 7).

dissect.fat reads the whole tree when a volume is opened, follows circular chains for ever, and fails on directories
that are stored without a chain; so it is not used here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import construct as c

from vhdtool.disk.device import BlockDevice, Slice
from vhdtool.fs.base import FileStat
from vhdtool.fs.dissect_fs import Node
from vhdtool.fs.runs import Run, RunStream, damaged, runs_overlap
from vhdtool.layout import packed

BOOT_SECTOR = c.Struct(
    c.Padding(80),
    "fat_offset" / c.Int32ul,
    "fat_length" / c.Int32ul,
    "heap_offset" / c.Int32ul,
    "cluster_count" / c.Int32ul,
    "root_cluster" / c.Int32ul,
    c.Padding(8),
    "sector_shift" / c.Int8ul,
    "cluster_shift" / c.Int8ul,
)
LABEL_ENTRY = c.Struct("type" / c.Int8ul, "length" / c.Int8ul, "label" / c.Bytes(22), c.Padding(8))
FILE_ENTRY = c.Struct(
    "type" / c.Int8ul,
    "secondary_count" / c.Int8ul,
    c.Padding(2),
    "attributes" / c.Int16ul,
    c.Padding(6),
    "modified" / c.Int32ul,
    c.Padding(5),
    "modified_10ms" / c.Int8ul,
    c.Padding(1),
    "modified_zone" / c.Int8ul,
    c.Padding(8),
)
STREAM_ENTRY = c.Struct(
    "type" / c.Int8ul,
    "flags" / c.Int8ul,
    c.Padding(1),
    "name_length" / c.Int8ul,
    c.Padding(4),
    "valid_length" / c.Int64ul,
    c.Padding(4),
    "first_cluster" / c.Int32ul,
    "length" / c.Int64ul,
)
NAME_ENTRY = c.Struct("type" / c.Int8ul, c.Padding(1), "name" / c.Bytes(30))
FAT_CELL = c.Struct("next" / c.Int32ul)
_CELL = packed(FAT_CELL)

LABEL, FILE, STREAM, NAME = 0x83, 0x85, 0xC0, 0xC1
ENTRY_SIZE = 32
NO_FAT_CHAIN = 2  # stream flag: the clusters follow each other, the FAT says nothing
ATTRIBUTE_DIRECTORY = 0x10
MAX_DIRECTORY = 256 * 1024 * 1024  # bytes, by the specification
END_OF_CHAIN = 0xFFFFFFFF
FAT_PAGE = 4096  # bytes of the FAT read at once


@dataclass(frozen=True, slots=True)
class _Entry:
    directory: bool
    first_cluster: int
    length: int
    valid_length: int
    contiguous: bool
    modified: datetime | None


class ExfatDriver:
    """One exFAT volume."""

    kind = "exfat"
    ignores_case = True
    backslash = True

    def __init__(self, device: BlockDevice) -> None:
        boot = BOOT_SECTOR.parse(device.read_at(0, 512))
        if not (9 <= boot.sector_shift <= 12 and boot.cluster_shift <= 25 - boot.sector_shift):
            raise damaged("impossible sector or cluster size", "exFAT boot sector")
        self._cluster_size = 1 << (boot.sector_shift + boot.cluster_shift)
        heap = boot.heap_offset << boot.sector_shift
        self._heap = Slice(device, heap, boot.cluster_count * self._cluster_size)
        self._fat = Slice(device, boot.fat_offset << boot.sector_shift, boot.fat_length << boot.sector_shift)
        self._clusters = boot.cluster_count
        self._root = _Entry(True, boot.root_cluster, 0, 0, False, None)
        self._page: tuple[int, bytes] = (-1, b"")

    def label(self) -> str | None:
        """The label that the root directory holds."""
        data = self._directory(self._root)
        for offset in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
            if data[offset] == LABEL:
                entry = LABEL_ENTRY.parse(data[offset:])
                return entry.label[: 2 * min(entry.length, 11)].decode("utf-16-le", "replace") or None
        return None

    def root(self) -> Node:
        """The root directory."""
        return Node("", self._root)

    def children(self, node: Node) -> Iterator[Node]:
        """The entries of a directory."""
        data = self._directory(node.handle)
        offset = 0
        while offset + ENTRY_SIZE <= len(data) and data[offset] != 0:
            if data[offset] != FILE:
                offset += ENTRY_SIZE
                continue
            entry = FILE_ENTRY.parse(data[offset:])
            end = offset + ENTRY_SIZE * (1 + entry.secondary_count)
            yield self._entry(entry, data[offset + ENTRY_SIZE : end])
            offset = end

    def facts(self, node: Node) -> FileStat:
        """Facts of one entry."""
        entry: _Entry = node.handle
        return FileStat(
            name=node.name,
            kind="directory" if entry.directory else "file",
            size=0 if entry.directory else entry.length,
            record=entry.first_cluster or None,
            modified=entry.modified,
        )

    def stream(self, node: Node, path: str) -> RunStream:
        """The bytes of a file; zeros beyond its valid length."""
        entry: _Entry = node.handle
        return self._stream(entry, entry.length, path)

    def _entry(self, entry: c.Container, secondary: bytes) -> Node:
        if len(secondary) < 2 * ENTRY_SIZE or secondary[0] != STREAM:
            raise damaged("a directory entry is incomplete", "exFAT directory")
        stream = STREAM_ENTRY.parse(secondary)
        name = b"".join(
            NAME_ENTRY.parse(secondary[offset:]).name
            for offset in range(ENTRY_SIZE, len(secondary) - ENTRY_SIZE + 1, ENTRY_SIZE)
            if secondary[offset] == NAME
        )
        text = name[: 2 * stream.name_length].decode("utf-16-le", "replace")
        return Node(
            text,
            _Entry(
                bool(entry.attributes & ATTRIBUTE_DIRECTORY),
                stream.first_cluster,
                stream.length,
                min(stream.valid_length, stream.length),
                bool(stream.flags & NO_FAT_CHAIN),
                _time(entry.modified, entry.modified_10ms, entry.modified_zone),
            ),
        )

    def _directory(self, entry: _Entry) -> bytes:
        size = None if entry is self._root else entry.length
        if size is not None and size > MAX_DIRECTORY:
            raise damaged("a directory is too large", "exFAT directory", found=size)
        stream = self._stream(entry, size, "exFAT directory")
        return stream.read_at(0, stream.size)

    def _stream(self, entry: _Entry, size: int | None, what: str) -> RunStream:
        limit = min(self._clusters, MAX_DIRECTORY // self._cluster_size)
        if size is not None:
            limit = -(-size // self._cluster_size)
        if limit > self._clusters or (size is None and entry.contiguous):
            raise damaged("a file is larger than the volume", what, found=size)
        if entry.contiguous:
            first = entry.first_cluster - 2
            if limit and not 0 <= first <= self._clusters - limit:
                raise damaged("a file lies outside of the volume", what, found=entry.first_cluster)
            runs: list[Run] = [(first, limit)] if limit else []
        else:
            runs = self._chain(entry.first_cluster, limit, what, whole=size is None)
        length = sum(count for _, count in runs) * self._cluster_size if size is None else size
        valid = length if entry.directory else entry.valid_length
        return RunStream(self._heap, runs, self._cluster_size, size=length, initialized=valid, what=what)

    def _chain(self, cluster: int, limit: int, what: str, *, whole: bool) -> list[Run]:
        """Follow the FAT for ``limit`` clusters, or (``whole``) to its end mark."""
        runs: list[Run] = []
        taken = 0
        while taken < limit and cluster != END_OF_CHAIN:
            if not 2 <= cluster < self._clusters + 2:
                raise damaged("a chain of clusters leaves the volume", what, found=f"{cluster:#x}")
            number = cluster - 2
            if runs and runs[-1][0] is not None and runs[-1][0] + runs[-1][1] == number:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((number, 1))
            taken += 1
            cluster = self._next(cluster)
        if runs_overlap(runs) or (whole and cluster != END_OF_CHAIN):
            raise damaged("a chain of clusters leads in a circle", what)
        return runs

    def _next(self, cluster: int) -> int:
        page, inside = divmod(cluster * _CELL.size, FAT_PAGE)
        if self._page[0] != page:
            self._page = (page, self._fat.read_at(page * FAT_PAGE, FAT_PAGE))
        try:
            return int(_CELL.unpack_from(self._page[1], inside)[0])
        except struct.error:
            raise damaged("the FAT is cut off", "exFAT") from None


def _time(stamp: int, hundredths: int, zone: int) -> datetime | None:
    """Section 7.4.8: date and time with two-second steps, hundredths beside it, quarter hours from UTC."""
    offset = (zone & 0x7F) - (0x80 if zone & 0x40 else 0)
    try:
        return datetime(
            1980 + (stamp >> 25),
            stamp >> 21 & 15,
            stamp >> 16 & 31,
            stamp >> 11 & 31,
            stamp >> 5 & 63,
            (stamp & 31) * 2,
            tzinfo=timezone(timedelta(minutes=15 * offset)) if zone & 0x80 else UTC,
        ).astimezone(UTC) + timedelta(milliseconds=10 * min(hundredths, 199))
    except (ValueError, OverflowError):
        return None
