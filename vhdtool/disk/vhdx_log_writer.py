"""Changes to metadata of a VHDX that happen as a whole or not at all, through its log (MS-VHDX 2.3).

Entries are written into a log that is empty; a header that names them is the moment of change; then what they say is
done, and a header says that the log is empty again. Three rules are stricter than the specification, for readers that
are: an entry has at most 126 descriptors, because QEMU 7.2 fails at more; one sector of the log stays free, because
QEMU replays a full log in part and reports success; all entries have the tail 0 and follow each other from there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.host_store import HostFile, HostStore
from vhdtool.disk.in_place_errors import needs_recovery
from vhdtool.disk.vhdx_header_slots import HeaderSlots
from vhdtool.disk.vhdx_log import log_location_fault
from vhdtool.disk.vhdx_log_entry import DataWrite, encode_entry
from vhdtool.disk.vhdx_space import whole_mib
from vhdtool.errors import RefusedError

ENTRY_WRITES: Final = 126
SECTOR_LIMIT: Final = 15_000
"""Most sectors that one sequence may change: what an open of ours verifies is limited (``LOG_WORK_LIMIT``)."""


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a log lies in the file, in bytes."""

    offset: int
    length: int

    @property
    def room(self) -> int:
        """Sectors that one sequence of entries in it can change."""
        free = self.length // fmt.LOG_SECTOR_SIZE - 1
        whole, rest = divmod(free, ENTRY_WRITES + 1)
        return whole * ENTRY_WRITES + max(0, rest - 1)


def log_length_for(sectors: int) -> int:
    """The least length of a log, in bytes, in which so many sectors can be changed at once."""
    length = fmt.MIB
    while LogPlace(0, length).room < sectors:
        length += fmt.MIB
    return length


def write_entries(file: HostFile, place: LogPlace, writes: Iterable[DataWrite]) -> UUID:
    """Write ``writes`` into the empty log at ``place`` and flush; return the GUID that makes them count.

    Whatever else was written before is flushed with them. The file's length is a multiple of 1 MiB.
    """
    guid = uuid.uuid4()
    source = iter(writes)
    position = place.offset
    sequence = 1
    while batch := list(islice(source, ENTRY_WRITES)):
        entry = encode_entry(
            batch,
            log_guid=guid,
            sequence_number=sequence,
            tail=0,
            flushed_file_offset=file.size,
            last_file_offset=file.size,
        )
        file.write_at(position, entry)
        position += len(entry)
        sequence += 1
    file.flush()
    return guid


def carry_out(
    file: HostFile,
    slots: HeaderSlots,
    place: LogPlace,
    guid: UUID,
    writes: Callable[[], Iterable[DataWrite]],
    *,
    rest: LogPlace | None = None,
    data_write_guid: UUID | None = None,
) -> None:
    """Make the entries of :func:`write_entries` count, do what they say, and empty the log.

    ``data_write_guid`` comes into effect at the same moment. ``rest`` is the place that the headers name for the log
    afterwards. On return all is on stable storage.
    """
    header = slots.header
    slots.write(
        replace(
            header,
            log_guid=guid,
            log_offset=place.offset,
            log_length=place.length,
            data_write_guid=data_write_guid or header.data_write_guid,
        )
    )
    for write in writes():
        file.write_at(write.file_offset, write.data)
    file.flush()
    end = rest or place
    slots.write(replace(slots.header, log_guid=fmt.NO_GUID, log_offset=end.offset, log_length=end.length))


def write_logged(path: str, writes: Sequence[DataWrite], store: HostStore) -> int:
    """Change a few sectors of a VHDX's metadata at once; return the bytes written to the host.

    The disk and its DataWriteGuid stay the same; FileWriteGuid is a new one. Raises :class:`RefusedError`
    ``image-needs-recovery`` where the log is not empty or lies nowhere, ``change-too-wide`` where it has not the room;
    what :func:`vhdtool.disk.vhdx_header.read_headers` and the store raise.
    """
    file = CountedFile(store.open(path))
    try:
        slots = HeaderSlots(file)
        header = slots.header
        if header.log_guid != fmt.NO_GUID or log_location_fault(header, file.size) is not None:
            raise needs_recovery("the log of the image is not empty", path, header.log_offset)
        place = LogPlace(header.log_offset, header.log_length)
        if len(writes) > place.room:
            raise too_wide(path, place.room, len(writes))
        slots.write(replace(header, file_write_guid=uuid.uuid4()))
        if file.size % fmt.MIB:
            file.truncate(whole_mib(file.size))
        guid = write_entries(file, place, writes)
        carry_out(file, slots, place, guid, lambda: writes)
    finally:
        file.close()
    return file.written


def too_wide(path: str, limit: int, found: int) -> RefusedError:
    """Make the error for a change of more metadata than one log holds."""
    return RefusedError(
        "change-too-wide",
        "the change reaches too much of the block allocation table to be made in one step",
        path=path,
        expected=f"at most {limit} sectors of 4 KiB",
        found=found,
        hint="Write a new image instead: --child or --output.",
    )
