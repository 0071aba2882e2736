"""In place, a VHDX: at every moment the file holds the old disk or the new one (MS-VHDX 2.2.2, 2.3, 2.5.1.1).

The log of the format is for metadata only. So touched blocks are copied, whole, to space that nothing uses, changed
there, and a sequence of log entries that changes nothing but the BAT makes them count. The order; each line ends with
a flush, the headers' lines with one for each of the two slots:

1. headers: a new FileWriteGuid, before anything else is written; then, where a log is pending, it is replayed into
   the file, and headers: no log;
2. the record at the coming end of the file (:mod:`vhdtool.disk.vhdx_move`), by which ``recover`` knows what to do;
3. behind all that is in use: blocks that the file had not, copies of those that it had; the log entries, in the
   file's own log where they fit;
4. headers: LogGuid and a new DataWriteGuid: **the commit**, when the first slot is on stable storage;
5. the BAT, as the log says;
6. headers: no log;
7. what is changed in the copied blocks, into their old places, which nothing uses now; log entries that bring the BAT
   back to them;
8. as 4 to 6, with the DataWriteGuid left as it is, and the log where it was at first;
9. the file is cut off behind the last block in use.

So a file grows by new blocks and nothing else, and in between by the touched blocks and at most 8 MiB (more only where
thousands of sectors of the BAT change). Before 4 a failure is undone. Steps 7 and 8 are left out where no block
moves. A touched block ends up FULLY_PRESENT; no sector bitmap is written. Blocks without contents that keep a place in
the file get their contents there. Nothing is written to the file's first 64 KiB.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from uuid import UUID

from vhdtool.bytesource import ByteSource, BytesSource
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.changed_ranges import ChangedRanges
from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate, Target, Written
from vhdtool.disk.counted_file import PIECE, CountedFile
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.in_place_errors import UNDO, room_stays, unfinished
from vhdtool.disk.patched_source import Patch, PatchedSource
from vhdtool.disk.room import refuse_no_room
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_copy_plan import FROM_CHAIN, FROM_FILE, CopyPlan, plan_copies
from vhdtool.disk.vhdx_fitness import refuse_unfit_vhdx
from vhdtool.disk.vhdx_fold import bring_home, copy_differing, copy_ranges, end_file
from vhdtool.disk.vhdx_header import encode_header
from vhdtool.disk.vhdx_header_slots import HeaderSlots
from vhdtool.disk.vhdx_log_writer import carry_out, write_entries
from vhdtool.disk.vhdx_move import encode_record
from vhdtool.disk.vhdx_pending import replay_pending
from vhdtool.disk.vhdx_sources import BlockSource, StoredSource
from vhdtool.errors import VhdtoolError
from vhdtool.progress import Progress

CHILDREN_LEFT: Final = "Children of the image no longer fit it."


class VhdxInPlaceCommit:
    """A :class:`vhdtool.disk.commit.Commit` in place for a VHDX of any kind.

    ``data_write_guid`` is the identity that the changed disk gets; by default a fresh one.
    """

    def __init__(
        self, changes: Changes, target: Target, store: HostStore = OS_STORE, *, data_write_guid: UUID | None = None
    ) -> None:
        layer = changes.base.layers[0]
        if not isinstance(layer, VhdxLayer):
            raise ValueError("the image is no VHDX")
        self._changes = changes
        self._fold = target.fold
        self._store = store
        self._layer = layer
        self._data_write_guid = data_write_guid or uuid.uuid4()
        self._file_write_guid = uuid.uuid4()
        self._file: CountedFile | None = None
        self._plan: CopyPlan | None = None

    @property
    def path(self) -> str:
        """The image."""
        return self._layer.info.path

    def prepare(self, progress: Progress) -> Candidate:
        """As :meth:`Commit.prepare`: nothing is written.

        Raises :class:`RefusedError` ``image-needs-recovery``, ``image-damaged``, ``change-too-wide``;
        :class:`DamagedError` as reading the touched blocks does; :class:`OutputError` ``no-room``;
        :class:`InputError` ``cannot-open-for-writing``.
        """
        del progress
        layer = self._layer
        refuse_unfit_vhdx(layer)
        ranges = ChangedRanges(self._changes, layer.info.block_size or 0)
        self._plan = plan = plan_copies(layer, ranges, self._data_write_guid, fold=self._fold)
        if len(plan.record.blocks):
            refuse_no_room(self._store, self.path, plan.record.file_size - layer.info.file_size)
        self._file = CountedFile(self._store.open(self.path))
        files: list[tuple[str, ByteSource]] = [(self.path, self._would_be(plan))]
        base = self._changes.base
        files += [
            (file.path, StoredSource(below) if isinstance(below, VhdxLayer) else file)
            for below, file in zip(base.layers[1:], base.files[1:], strict=True)
        ]
        return Candidate("vhdx", files)

    def finish(self, progress: Progress) -> Written:
        """As :meth:`Commit.finish`. Raises :class:`OutputError` ``cannot-write``, :class:`ChangedError`."""
        file, plan = self._file, self._plan
        if file is None or plan is None:
            raise ValueError("a commit is prepared before it is finished")
        before, size = self._layer.info.file_size, self._layer.info.file_size
        notes: tuple[str, ...] = ()
        if len(plan.record.blocks):
            slots = HeaderSlots(file)
            slots.write(replace(slots.header, file_write_guid=self._file_write_guid))
            if self._layer.replay is not None:
                notes = (replay_pending(file, slots, self._layer.replay, progress),)
            guid = self._write_aside(file, plan, progress)
            try:
                self._make_it_count(file, slots, plan, guid, progress)
            except VhdtoolError as error:
                raise unfinished(error, self.path) from error
            size = plan.new_size
        self.abandon()
        return Written(self.path, len(plan.record.blocks), file.written, before, size, f"{UNDO} {CHILDREN_LEFT}", notes)

    def abandon(self) -> None:
        """As :meth:`Commit.abandon`."""
        if self._file is not None:
            self._file.close()

    def _write_aside(self, file: CountedFile, plan: CopyPlan, progress: Progress) -> UUID:
        """Steps 2 and 3, undone where they fail; return the GUID of the log entries."""
        progress.start("write blocks", len(plan.record.blocks) * plan.block_size)
        try:
            file.write_at(plan.record.offset, encode_record(plan.record))
            file.flush()
            for index in range(len(plan.record.blocks)):
                self._write_block(file, plan, index)
                progress.advance(plan.block_size)
            return write_entries(file, plan.log, plan.bat.writes(file, home=False))
        except BaseException as error:
            try:
                end_file(file, plan.record.old_size)
            except VhdtoolError as second:
                raise room_stays(error, second, self.path) from error
            raise
        finally:
            progress.finish()

    def _write_block(self, file: CountedFile, plan: CopyPlan, index: int) -> None:
        """Write a block at its place, where the file has zeros."""
        number, place = plan.record.blocks.numbers[index], plan.record.blocks.places[index]
        start, size = number * plan.block_size, plan.used_size(number)
        if plan.sources[index] == FROM_CHAIN:
            self._write_changed(file, place - start, [(start, size)])
            return
        if plan.sources[index] == FROM_FILE and plan.ranges.changed_bytes(number) < size:
            file.copy_within(plan.origins[index], place, size)
        self._write_changed(file, place - start, plan.ranges.within(number))

    def _write_changed(self, file: CountedFile, shift: int, ranges: Iterable[tuple[int, int]]) -> None:
        """Write ranges of the disk as it shall be, ``shift`` bytes further in the file."""
        for offset, length in ranges:
            for start in range(offset, offset + length, PIECE):
                file.write_at(start + shift, self._changes.read_at(start, min(PIECE, offset + length - start)))

    def _make_it_count(
        self, file: CountedFile, slots: HeaderSlots, plan: CopyPlan, guid: UUID, progress: Progress
    ) -> None:
        """Steps 4 to 9."""
        record, bat = plan.record, plan.bat
        carry_out(
            file,
            slots,
            plan.log,
            guid,
            lambda: bat.writes(file, home=False),
            rest=plan.log if record.folds else record.log,
            data_write_guid=record.data_write_guid,
        )
        if record.folds:
            self._fill_homes(file, plan, progress)
            bring_home(file, slots, bat, plan.log, record.log)
        end_file(file, plan.new_size)

    def _fill_homes(self, file: CountedFile, plan: CopyPlan, progress: Progress) -> None:
        """Step 7."""
        blocks = plan.record.blocks
        progress.start("fold back", len(blocks) * plan.block_size)
        try:
            for index, (number, home, place) in enumerate(blocks):
                if home == place:
                    continue
                start = number * plan.block_size
                if plan.sources[index] == FROM_FILE:
                    changed = ((offset - start, length) for offset, length in plan.ranges.within(number))
                    copy_ranges(file, place, home, changed)
                    progress.advance(plan.block_size)
                else:
                    copy_differing(file, place, home, plan.used_size(number), progress)
        finally:
            progress.finish()

    def _would_be(self, plan: CopyPlan) -> PatchedSource:
        """The file as the last step leaves it."""
        base = StoredSource(self._layer)
        if not len(plan.record.blocks):
            return PatchedSource(base, base.size, ())
        header = replace(
            next(copy.header for copy in self._layer.headers if copy.current),
            file_write_guid=self._file_write_guid,
            data_write_guid=plan.record.data_write_guid,
            log_guid=fmt.NO_GUID,
        )
        patches = [
            Patch(offset, BytesSource(encode_header(replace(header, sequence_number=header.sequence_number + number))))
            for number, offset in enumerate(fmt.HEADER_OFFSETS, 1)
        ]
        patches += [Patch(each.file_offset, BytesSource(each.data)) for each in plan.bat.writes(base, home=True)]
        patches += [
            Patch(home, BlockSource(self._changes, number, plan.block_size)) for number, home, _ in plan.record.blocks
        ]
        return PatchedSource(base, plan.new_size, patches)
