"""Bring a VHDX to rest: a pending log, ours or foreign, an in-place commit that was interrupted, a damaged copy.

What is done, each step flushed before the next, so that it can be interrupted anywhere and done again:

1. headers: a new FileWriteGuid, in both slots, which also makes a damaged one whole;
2. a pending log is replayed into the file, and both headers say that there is none (MS-VHDX 2.3.3);
3. a region table that is damaged is written anew from the other one, through the log;
4. where the file ends with the record of an interrupted commit (:mod:`vhdtool.disk.vhdx_move`): its blocks go back to
   where they were, if the commit had come to count, the log as well, and the space behind all that is in use is
   given back, but nothing that the file had before.

The record is believed only so far as the BAT agrees: blocks move only where all of them are at the record's places
and nobody uses their old ones. Space at the end of a file that nothing uses and no record claims stays: somebody
may have put it there on purpose. A power cut between the file's growth and its record leaves such space as well.
What the disk holds is the same before and after, and so DataWriteGuid stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

from vhdtool.bytesource import read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.commit import Recovered, RecoveryAction
from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.device import FileDevice, Origin
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.vhdx import VhdxLayer, open_vhdx
from vhdtool.disk.vhdx_fold import bring_home, copy_differing, end_file
from vhdtool.disk.vhdx_header_slots import HeaderSlots
from vhdtool.disk.vhdx_log import log_location_fault
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.disk.vhdx_log_writer import LogPlace, carry_out, write_entries
from vhdtool.disk.vhdx_move import MoveRecord, find_record
from vhdtool.disk.vhdx_moved_bat import MovedBat
from vhdtool.disk.vhdx_pending import replay_pending
from vhdtool.disk.vhdx_sources import StoredSource
from vhdtool.disk.vhdx_space import whole_mib
from vhdtool.disk.vhdx_survey import Survey
from vhdtool.progress import Progress


def recover_vhdx(path: str, store: HostStore, progress: Progress) -> Recovered | None:
    """Bring the file to rest; ``None`` where there is nothing to do, and then nothing is written.

    The caller holds the lock of the file. Raises what opening a VHDX raises, :class:`InputError`
    ``cannot-open-for-writing``, :class:`OutputError` ``cannot-write``; after any of them it can be tried again.
    """
    with _opened(path) as layer:
        record = _believed_record(layer)
        tables = _region_table_writes(layer)
        if layer.replay is None and record is None and not tables and _headers_at_rest(layer):
            return None
        file = CountedFile(store.open(path))
        try:
            slots = HeaderSlots(file)
            notes = _bring_to_rest(file, slots, layer, tables, progress)
            action: RecoveryAction = "replayed"
            if layer.replay is None:
                action = "repaired" if tables or not all(header.valid for header in layer.headers) else "cleared"
            if record is not None:
                action = _end_commit(file, slots, record, progress)
                notes.append(f"bytes that were lent for a change and are given back: {layer.stored_size - file.size}")
        finally:
            file.close()
    return Recovered(path, action, file.written, tuple(notes))


@contextmanager
def _opened(path: str) -> Iterator[VhdxLayer]:
    device = FileDevice(path)
    try:
        yield open_vhdx(device)
    finally:
        device.close()


def _bring_to_rest(
    file: CountedFile, slots: HeaderSlots, layer: VhdxLayer, tables: list[DataWrite], progress: Progress
) -> list[str]:
    """Steps 1 to 3; return what was done."""
    notes = [
        f"header {number} was damaged ({copy.fault}) and is whole again"
        for number, copy in enumerate(layer.headers, 1)
        if not copy.valid
    ]
    slots.write(replace(slots.header, file_write_guid=uuid.uuid4()))
    if layer.replay is not None:
        notes.append(replay_pending(file, slots, layer.replay, progress))
    if tables:
        _write_tables(file, slots, tables)
        notes.append("a region table was damaged and is whole again")
    return notes


def _headers_at_rest(layer: VhdxLayer) -> bool:
    """Both are whole and agree on the log; after a power cut the older one may still name a log that is done."""
    first, second = layer.headers
    one, other = first.header, second.header
    place = (one.log_offset, one.log_length) == (other.log_offset, other.log_length)
    return first.valid and second.valid and one.log_guid == other.log_guid and place


def _region_table_writes(layer: VhdxLayer) -> list[DataWrite]:
    """What makes a damaged region table equal to the whole one; nothing where both are whole."""
    source = StoredSource(layer)
    writes = []
    for table, other in zip(layer.region_tables, reversed(layer.region_tables), strict=True):
        if table.valid:
            continue
        data = read_exactly(source, other.offset, fmt.REGION_TABLE_SIZE, path=layer.info.path, what="a region table")
        writes += [
            DataWrite(table.offset + start, data[start : start + fmt.LOG_SECTOR_SIZE])
            for start in range(0, len(data), fmt.LOG_SECTOR_SIZE)
        ]
    return writes


def _write_tables(file: CountedFile, slots: HeaderSlots, writes: list[DataWrite]) -> None:
    """Write them through the log, as metadata shall be; where there is no log, over what is damaged anyway."""
    if log_location_fault(slots.header, file.size) is not None:
        for write in writes:
            file.write_at(write.file_offset, write.data)
        file.flush()
        return
    if file.size % fmt.MIB:
        file.truncate(whole_mib(file.size))
    place = LogPlace(slots.header.log_offset, slots.header.log_length)
    guid = write_entries(file, place, writes)
    carry_out(file, slots, place, guid, lambda: writes)


def _believed_record(layer: VhdxLayer) -> MoveRecord | None:
    """The record at the end of the file, where nothing in use reaches into it."""
    record = find_record(StoredSource(layer), layer.virtual_disk_id)
    return record if record is not None and Survey(layer).end <= record.offset else None


def _end_commit(file: CountedFile, slots: HeaderSlots, record: MoveRecord, progress: Progress) -> RecoveryAction:
    """Step 4; the log is empty by now."""
    with _opened(file.path) as layer:
        committed = slots.header.data_write_guid == record.data_write_guid or any(
            _place_of(layer, number) == place for number, _, place in record.blocks
        )
        log, rest = LogPlace(slots.header.log_offset, slots.header.log_length), _resting_place(layer, record)
        moved = [(number, home, place) for number, home, place in record.blocks if home != place]
        if _can_move(layer, moved):
            _fill_homes(file, layer, moved, progress)
            bring_home(file, slots, MovedBat(layer.bat_range[0], layer.chunk_ratio, record.blocks), log, rest)
        elif rest != log:
            slots.write(replace(slots.header, log_offset=rest.offset, log_length=rest.length))
    with _opened(file.path) as layer:
        end = Survey(layer).end
    size = max(record.old_size if not committed else whole_mib(record.old_size), end)
    if size < file.size:
        end_file(file, size)
    return "finished" if committed else "rolled-back"


def _resting_place(layer: VhdxLayer, record: MoveRecord) -> LogPlace:
    """Where the log was before the commit, if that place is free."""
    place = record.log
    taken = Survey(layer, [(place.offset, place.offset + place.length)], log=False).in_the_way
    if not taken:
        return place
    header = next(copy.header for copy in layer.headers if copy.current)
    return LogPlace(header.log_offset, header.log_length)


def _can_move(layer: VhdxLayer, moved: Sequence[tuple[int, int, int]]) -> bool:
    """All of the blocks are at their places, and nobody is at their homes."""
    block_size = layer.info.block_size or 0
    if not moved or any(_place_of(layer, number) != place for number, _, place in moved):
        return False
    homes = sorted((home, home + block_size) for _, home, _ in moved)
    apart = all(before[1] <= after[0] for before, after in pairwise(homes))
    return apart and not Survey(layer, homes).in_the_way


def _place_of(layer: VhdxLayer, number: int) -> int:
    """Where the contents of a block are in the file; 0 where they are not in it, or the disk has no such block."""
    block_size = layer.info.block_size or 0
    if number * block_size >= layer.info.virtual_size:
        return 0
    run = next(iter(layer.resolve(number * block_size, 1)))
    return run.file_offset if run.origin is Origin.DATA else 0


def _fill_homes(file: CountedFile, layer: VhdxLayer, moved: Sequence[tuple[int, int, int]], progress: Progress) -> None:
    block_size = layer.info.block_size or 0
    progress.start("fold back", len(moved) * block_size)
    try:
        for number, home, place in moved:
            used = min(block_size, layer.info.virtual_size - number * block_size)
            copy_differing(file, place, home, used, progress)
    finally:
        progress.finish()
