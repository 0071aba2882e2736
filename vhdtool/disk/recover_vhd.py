"""Clear up what an interrupted change in place left in a VHD, and repair a footer from its copy.

A commit's record (:mod:`vhdtool.disk.vhd_move`) lies before the last footer. Which table the header names says how
far the commit had come: the moved one, and the new disk is in force, so it is finished; the old one before the commit
or after it, and what lies behind the last block in use is cut off.
"""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.commit import Recovered, RecoveryAction
from vhdtool.disk.counted_file import PIECE, CountedFile
from vhdtool.disk.device import FileDevice
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.left_over_footer import left_over_footer
from vhdtool.disk.vhd import VhdLayer, looks_like_vhd, open_vhd
from vhdtool.disk.vhd_fitness import refuse_overlap
from vhdtool.disk.vhd_flip import BlockShape, end_file, fold_back
from vhdtool.disk.vhd_move import MoveRecord, record_length, sectors
from vhdtool.errors import DamagedError
from vhdtool.progress import SILENT, Progress

SEARCH_LIMIT = 8 << 20
"""How far behind the last block an old footer is looked for: other programs may leave unused room there."""

_ZEROS = bytes(PIECE)


def recover_vhd(path: str, store: HostStore = OS_STORE, progress: Progress = SILENT) -> Recovered | None:
    """Bring a VHD to rest; ``None``, and nothing written, where it is at rest.

    Raises what opening a VHD raises; :class:`vhdtool.errors.DamagedError` ``vhd-block-overlap`` for a record that
    contradicts the image; :class:`vhdtool.errors.OutputError` ``cannot-write``: what was done until then leaves the
    disk whole, and doing it again goes on.
    """
    notes: list[str] = []
    written = 0
    action: RecoveryAction | None = None
    for step in (_repair_footers, _clear_up):
        with closing(FileDevice(path)) as source:
            if not looks_like_vhd(source) or left_over_footer(source) is not None:
                return None
            layer = open_vhd(source)
            with closing(_LateFile(path, store)) as late:
                done = step(layer, source, late, progress)
                written += late.written
        if done is not None:
            action = done[0]
            notes.append(done[1])
    return action and Recovered(path, action, written, tuple(notes))


class _LateFile:
    """A file that is opened for writing when there is something to write."""

    def __init__(self, path: str, store: HostStore) -> None:
        self._path = path
        self._store = store
        self._file: CountedFile | None = None

    @property
    def written(self) -> int:
        return self._file.written if self._file is not None else 0

    def open(self) -> CountedFile:
        if self._file is None:
            self._file = CountedFile(self._store.open(self._path))
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _footer(layer: VhdLayer, source: ByteSource) -> bytes:
    """A whole footer from the copy that is believed."""
    footers = layer.footers
    copy = footers.tail if footers.tail.valid or footers.head is None else footers.head
    data = read_exactly(source, copy.offset, copy.size, path=layer.info.path, what="the footer")
    return data.ljust(fmt.FOOTER_SIZE, b"\0")


def _repair_footers(
    layer: VhdLayer, source: FileDevice, late: _LateFile, progress: Progress
) -> tuple[RecoveryAction, str] | None:
    del progress
    footers = layer.footers
    if not footers.trusted or layer.header is None:
        return None
    if footers.head is not None and not footers.head.valid:
        place, note = 0, "The copy of the footer at the start of the file is restored from the footer."
    elif not footers.tail.valid:
        place = sectors(footers.data_end)
        note = "The footer at the end of the file is restored from its copy at the start."
    else:
        return None
    late.open().write_at(place, _footer(layer, source))
    late.open().flush()
    return "repaired", note


def _clear_up(
    layer: VhdLayer, source: FileDevice, late: _LateFile, progress: Progress
) -> tuple[RecoveryAction, str] | None:
    record = layer.unfinished
    if record is None:
        end = _first_end(layer, source)
        if end is None:
            return None
        end_file(late.open(), _footer(layer, source), end)
        return "rolled-back", "The change was not in force yet, and is undone."
    shape = _shape(layer)
    if layer.bat is not None and layer.bat.offset == record.moved_table:
        _hold_homes_free(layer, record, shape)
        fold_back(late.open(), record, shape, progress)
        end_file(late.open(), _footer(layer, source), record.new_end)
        return "finished", "The change was in force, and is finished."
    if _is_new(layer, source, record, shape):
        end_file(late.open(), _footer(layer, source), max(record.new_end, _used_end(layer)))
        return "finished", "The change was in force; the room that it no longer needs is given back."
    end_file(late.open(), _footer(layer, source), max(record.old_end, _used_end(layer)))
    return "rolled-back", "The change was not in force yet, and is undone."


def _shape(layer: VhdLayer) -> BlockShape:
    return BlockShape(layer.info.virtual_size, layer.info.block_size or 0)


def _hold_homes_free(layer: VhdLayer, record: MoveRecord, shape: BlockShape) -> None:
    """Nothing that is in use lies where blocks and table shall return to, and nothing is cut off, whatever it says."""
    homes = [(home, home + shape.used_size(number)) for number, home, place in record.blocks if home != place]
    homes.append((record.home_table, record.home_table + record.table_size))
    homes.sort()
    ends = [place + shape.used_size(number) for number, home, place in record.blocks if home == place]
    apart = all(before[1] <= after[0] for before, after in pairwise(homes))
    if not apart or homes[-1][1] > record.old_end or max(ends, default=0) > record.new_end:
        raise DamagedError(
            "vhd-block-overlap",
            "the record of an interrupted change contradicts itself",
            path=layer.info.path,
            offset=record.offset,
            hint=fmt.RESTORE_HINT,
        )
    refuse_overlap(layer, [(start, end, None) for start, end in homes], shape)


def _is_new(layer: VhdLayer, source: ByteSource, record: MoveRecord, shape: BlockShape) -> bool:
    """Tell whether the table at home is that of the new disk already, and the blocks are.

    The last footer may lie over the first sector of the first copy by then, which is its bitmap's.
    """
    bat = layer.bat
    if bat is None or any(bat.place(number) != home for number, home, _ in record.blocks):
        return False
    for number, home, place in record.blocks:
        used = shape.used_size(number) if home != place else 0
        for start in range(fmt.SECTOR_SIZE if place == record.new_end else 0, used, PIECE):
            length = min(PIECE, used - start)
            if source.read_at(home + start, length) != source.read_at(place + start, length):
                return False
    return True


def _used_end(layer: VhdLayer) -> int:
    """The end of all that is in use before the footer, in whole sectors."""
    if layer.bat is None or layer.header is None:
        return 0
    shape = _shape(layer)
    ends = [end for _, end in layer.reserved_ranges]
    ends += [each.data_offset + each.data_length for each in layer.header.locators]
    blocks = (place + shape.used_size(number) for number, place in layer.bat.entries())
    return sectors(max(*ends, max(blocks, default=0)))


def _first_end(layer: VhdLayer, source: FileDevice) -> int | None:
    """Where the file ended before a commit that only came to its first two steps; ``None`` where there was none.

    The old footer is still there, behind the last block; from there to the end is the room of a whole number of
    blocks, a table and a record, and nothing is written in it but, perhaps, a part of the record.
    """
    footers = layer.footers
    if layer.bat is None or layer.header is None or not footers.tail.valid or footers.tail.size != fmt.FOOTER_SIZE:
        return None
    used, last = _used_end(layer), footers.tail.offset
    footer = source.read_at(last, fmt.FOOTER_SIZE)
    room = source.read_at(used, max(0, min(SEARCH_LIMIT, last - used)))
    for at in range(0, len(room), fmt.SECTOR_SIZE):
        if room.startswith(footer, at):
            end = used + at
            record = _asked_for(last - end, layer)
            return end if record is not None and _is_clear(source, end + fmt.FOOTER_SIZE, last - record) else None
    return None


def _asked_for(room: int, layer: VhdLayer) -> int | None:
    """The length of the record, where ``room`` is what a commit of any number of blocks asks for."""
    if layer.header is None:
        return None
    table = sectors(layer.header.table_entries * fmt.BAT_ENTRY.sizeof())
    stored = _shape(layer).stored_size
    count = max(1, (room - table - record_length(0)) // (stored + 24))
    for blocks in (count, count + 1):
        if blocks * stored + table + record_length(blocks) == room:
            return record_length(blocks)
    return None


def _is_clear(source: ByteSource, start: int, end: int) -> bool:
    """Nothing but zeros."""
    for offset in range(start, end, PIECE):
        length = min(PIECE, end - offset)
        if source.read_at(offset, length) != _ZEROS[:length]:
            return False
    return True
