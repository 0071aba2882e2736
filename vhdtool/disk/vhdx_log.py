"""The VHDX log: find its active sequence and replay it in memory (MS-VHDX 2.3.2, 2.3.3).

The log is a ring of 4 KiB sectors that stale and torn entries fill as well as live ones. One pass reads the first
bytes of every sector; what has the shape of an entry then shares no sector with another (an entry's first sector
starts with ``loge``, its others never do), so checksums are taken over each byte once at most, and only for entries
that may matter: from the highest sequence number down, until one sequence is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from vhdtool.bytesource import read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.device import FileDevice
from vhdtool.disk.vhdx_header import Header
from vhdtool.disk.vhdx_log_entry import (
    ENTRY_HEADER,
    DataWrite,
    EntryHeader,
    LogWrite,
    descriptor_sectors,
    parse_entry_header,
    writes_of,
)
from vhdtool.disk.vhdx_replay import Overlay, ReplayedFile
from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.layout import packed

_SECTOR = fmt.LOG_SECTOR_SIZE
_SECTOR_START = packed(fmt.LOG_SECTOR_START)
_SCAN_SIZE = fmt.MIB
_OTHER, _ENTRY, _DESCRIPTORS, _DATA = 0, 1, 2, 3
_KINDS = {
    fmt.LOG_ENTRY_SIGNATURE: _ENTRY,
    fmt.LOG_DATA_DESCRIPTOR_SIGNATURE: _DESCRIPTORS,
    fmt.LOG_ZERO_DESCRIPTOR_SIGNATURE: _DESCRIPTORS,
    fmt.LOG_DATA_SECTOR_SIGNATURE: _DATA,
}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Something with the shape of an entry: its first sector and length in sectors, counted in the log's ring."""

    sector: int
    sectors: int
    header: EntryHeader


@dataclass(frozen=True, slots=True)
class Replay:
    """A pending log and the file as it will be once the log is in it."""

    stored: ReplayedFile
    entries: tuple[LogEntry, ...]  # from tail to head
    data_sectors: int
    zero_ranges: int
    torn_entry: int | None  # where in the file an entry was begun that would follow the head


def replay_log(file: FileDevice, header: Header) -> Replay | None:
    """Replay the log that ``header`` names over ``file`` in memory; ``None`` where there is nothing to replay.

    Raises :class:`DamagedError` ``vhdx-log-location``, ``vhdx-log-no-valid-sequence``, ``vhdx-log-file-truncated``,
    ``vhdx-log-write-invalid``; :class:`UnsupportedError` ``vhdx-log-version-unsupported``, ``vhdx-log-too-large``.
    """
    if header.log_guid == fmt.NO_GUID:
        return None
    if header.log_version != fmt.LOG_VERSION:
        raise UnsupportedError(
            "vhdx-log-version-unsupported",
            "the log is of another version of its format",
            path=file.path,
            expected=fmt.LOG_VERSION,
            found=header.log_version,
        )
    fault = log_location_fault(header, file.size)
    if fault is not None:
        raise DamagedError(
            "vhdx-log-location",
            f"a log has to be replayed and {fault}",
            path=file.path,
            offset=header.log_offset,
            hint=fmt.RESTORE_HINT,
        )
    if header.log_length > fmt.LOG_LENGTH_LIMIT:
        raise _too_large(file.path, header.log_offset)
    log = Log(file, header.log_offset, header.log_length, header.log_guid)
    sequence = log.active_sequence()
    if not sequence:
        raise DamagedError(
            "vhdx-log-no-valid-sequence",
            "a log has to be replayed, and no whole sequence of entries is in it",
            path=file.path,
            offset=header.log_offset,
            hint=fmt.RESTORE_HINT,
        )
    head = sequence[-1].header
    if head.flushed_file_offset > file.size:
        raise DamagedError(
            "vhdx-log-file-truncated",
            "the file is shorter than it was when its log was written",
            path=file.path,
            offset=file.size,
            expected=f"at least {head.flushed_file_offset} bytes",
            found=f"{file.size} bytes",
            hint=fmt.RESTORE_HINT,
        )
    overlay = Overlay()
    data_sectors = zero_ranges = 0
    for entry in sequence:
        for write in log.writes(entry):
            log.check(write)
            if isinstance(write, DataWrite):
                overlay.write(write.file_offset, write.data)
                data_sectors += 1
            else:
                overlay.zero(write.file_offset, write.length)
                zero_ranges += 1
    size = max(file.size, head.last_file_offset, overlay.data_end)
    torn = log.torn_entry(sequence[-1])
    return Replay(overlay.over(file, size), tuple(sequence), data_sectors, zero_ranges, torn)


def log_location_fault(header: Header, file_size: int) -> str | None:
    """Say what is wrong with the place of the log (2.2.2: after the header section, whole MiB, inside the file)."""
    if header.log_length == 0 or header.log_length % fmt.MIB:
        return f"its length of {header.log_length} bytes is no multiple of 1 MiB"
    if header.log_offset < fmt.HEADER_SECTION_SIZE or header.log_offset % fmt.MIB:
        return f"its offset {header.log_offset:#x} is none that a log may have"
    if header.log_offset + header.log_length > file_size:
        return "it lies past the end of the file"
    return None


class Log:
    """The log region of a file. Lengths and offsets in bytes; ``guid`` is what live entries carry."""

    def __init__(self, file: FileDevice, offset: int, length: int, guid: UUID) -> None:
        self._file = file
        self._offset = offset
        self._length = length
        self._guid = guid
        self._work_left = fmt.LOG_WORK_LIMIT
        self._descriptors_left = fmt.LOG_DESCRIPTOR_LIMIT
        self._verdicts: dict[int, bool] = {}

    def active_sequence(self) -> list[LogEntry]:
        """Return the entries of the active sequence from tail to head; nothing where no sequence is whole.

        Raises :class:`UnsupportedError` ``vhdx-log-too-large`` where finding out takes more than the limits.
        """
        entries = self.entries()
        starting = {entry.sector: entry for entry in entries}
        ring = self._length // _SECTOR
        ending = {(entry.sector + entry.sectors) % ring: entry for entry in entries}
        for head in sorted(entries, key=lambda entry: (-entry.header.sequence_number, entry.sector)):
            if not self.is_valid(head):
                continue
            following = starting.get((head.sector + head.sectors) % ring)
            if following is not None and _follows(following, head) and self.is_valid(following):
                continue  # its run was judged by its last entry already
            sequence = [head]
            while sequence[-1].sector * _SECTOR != head.header.tail:
                before = ending.get(sequence[-1].sector)
                if before is None or not _follows(sequence[-1], before) or not self.is_valid(before):
                    break
                sequence.append(before)
            else:
                return sequence[::-1]
        return []

    def torn_entry(self, head: LogEntry) -> int | None:
        """Where in the file the entry after ``head`` was begun and not finished; ``None`` where none was.

        2.3.3 drops such an entry. It is worth telling, because what it changed is lost.
        """
        place = (head.sector + head.sectors) * _SECTOR % self._length
        data = self._read(place, ENTRY_HEADER.size)
        header = parse_entry_header(data)
        begun = data.startswith(fmt.LOG_ENTRY_SIGNATURE) and header.log_guid == self._guid
        follows = header.sequence_number == head.header.sequence_number + 1
        return self._offset + place if begun and follows else None

    def entries(self) -> list[LogEntry]:
        """Return everything that has the shape of an entry of this log; checksums are not looked at."""
        kinds = bytearray()
        found: list[tuple[int, EntryHeader]] = []
        starts: list[int] = []
        for position in range(0, self._length, _SCAN_SIZE):
            piece = self._read(position, min(_SCAN_SIZE, self._length - position))
            first = position // _SECTOR
            here = [_KINDS.get(signature, _OTHER) for (signature,) in _SECTOR_START.iter_unpack(piece)]
            kinds += bytes(here)
            if _ENTRY not in here:
                continue
            for index, kind in enumerate(here):
                if kind != _ENTRY:
                    continue
                starts.append(first + index)
                header = parse_entry_header(piece[index * _SECTOR : index * _SECTOR + ENTRY_HEADER.size])
                if self._plausible(header):
                    found.append((first + index, header))
        return list(self._shaped(found, starts, kinds))

    def is_valid(self, entry: LogEntry) -> bool:
        """Tell whether checksum, descriptors and data sectors of an entry are right (2.3.1)."""
        verdict = self._verdicts.get(entry.sector)
        if verdict is None:
            self._work_left -= entry.header.entry_length
            self._descriptors_left -= entry.header.descriptor_count
            if self._work_left < 0 or self._descriptors_left < 0:
                raise _too_large(self._file.path, self._offset + entry.sector * _SECTOR)
            data = self._read_ring(entry)
            verdict = fmt.checksum_is_right(data) and _is_consistent(data, entry.header)
            self._verdicts[entry.sector] = verdict
        return verdict

    def writes(self, entry: LogEntry) -> Iterator[LogWrite]:
        """Return the writes of a valid entry in their order."""
        return writes_of(self._read_ring(entry), entry.header)

    def check(self, write: LogWrite) -> None:
        """Raise :class:`DamagedError` for a write that no log may hold: unaligned, to the headers, to the log."""
        length = _SECTOR if isinstance(write, DataWrite) else write.length
        end = write.file_offset + length
        if (
            write.file_offset % _SECTOR
            or length % _SECTOR
            or write.file_offset < fmt.REGION_TABLE_OFFSETS[0]
            or (write.file_offset < self._offset + self._length and end > self._offset)
        ):
            raise DamagedError(
                "vhdx-log-write-invalid",
                f"the log writes {length} bytes to a place that it must not touch",
                path=self._file.path,
                offset=write.file_offset,
                hint=fmt.RESTORE_HINT,
            )

    def _plausible(self, header: EntryHeader) -> bool:
        return (
            header.log_guid == self._guid
            and header.sequence_number > 0
            and 0 < header.entry_length <= self._length
            and header.entry_length % _SECTOR == 0
            and header.tail < self._length
            and header.tail % _SECTOR == 0
            and descriptor_sectors(header.descriptor_count) * _SECTOR <= header.entry_length
        )

    def _shaped(self, found: list[tuple[int, EntryHeader]], starts: list[int], kinds: bytearray) -> Iterator[LogEntry]:
        ring = len(kinds)
        next_start = {
            start: starts[(place + 1) % len(starts)] + (ring if place + 1 == len(starts) else 0)
            for place, start in enumerate(starts)
        }
        for sector, header in found:
            end = sector + header.entry_length // _SECTOR
            if end > next_start[sector]:
                continue
            front = sector + descriptor_sectors(header.descriptor_count)
            around = kinds[sector + 1 : end] + kinds[: max(0, end - ring)]
            descriptors, data = around[: front - sector - 1], around[front - sector - 1 :]
            if descriptors.count(_DESCRIPTORS) == len(descriptors) and data.count(_DATA) == len(data):
                yield LogEntry(sector, end - sector, header)

    def _read_ring(self, entry: LogEntry) -> bytes:
        start = entry.sector * _SECTOR
        length = entry.header.entry_length
        until_end = min(length, self._length - start)
        data = self._read(start, until_end)
        return data + self._read(0, length - until_end) if until_end < length else data

    def _read(self, position: int, length: int) -> bytes:
        return read_exactly(self._file, self._offset + position, length, path=self._file.path, what="the log")


def _follows(entry: LogEntry, before: LogEntry) -> bool:
    return entry.header.sequence_number == before.header.sequence_number + 1


def _is_consistent(data: bytes, header: EntryHeader) -> bool:
    try:
        for _ in writes_of(data, header):
            pass
    except ValueError:
        return False
    return True


def _too_large(path: str, offset: int) -> UnsupportedError:
    return UnsupportedError(
        "vhdx-log-too-large",
        f"replaying the log needs more than {fmt.LOG_WORK_LIMIT // fmt.MIB} MiB of it",
        path=path,
        offset=offset,
        hint="Let the program that wrote the image open it once, so that it empties the log, then try again.",
    )
