"""A pending log of a VHDX, replayed into the file (MS-VHDX 2.3.3)."""

from __future__ import annotations

from dataclasses import replace

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.vhdx_header_slots import HeaderSlots
from vhdtool.disk.vhdx_log import Replay
from vhdtool.disk.vhdx_log_entry import DataWrite, LogWrite, ZeroWrite
from vhdtool.progress import Progress

_PIECE = 1 << 20


def replay_pending(file: CountedFile, slots: HeaderSlots, replay: Replay, progress: Progress) -> str:
    """Do what the log says, flush, and let both headers say that there is none; return a sentence for the receipt.

    The headers have their new FileWriteGuid already. Interrupted anywhere, it can be done again: the log stays in
    force until all of it is on stable storage.
    """
    size = replay.stored.size
    if file.size < size:
        file.truncate(size)
    writes = list(replay.stored.writes())
    progress.start("replay the log", sum(_length(write, size) for write in writes))
    try:
        for write in writes:
            if isinstance(write, DataWrite):
                file.write_at(write.file_offset, write.data)
            else:
                _clear(file, write, size)
            progress.advance(_length(write, size))
    finally:
        progress.finish()
    file.flush()
    slots.write(replace(slots.header, log_guid=fmt.NO_GUID))
    return f"a pending log was replayed into the file, entries: {len(replay.entries)}"


def _length(write: LogWrite, size: int) -> int:
    if isinstance(write, DataWrite):
        return len(write.data)
    return max(0, min(write.length, size - write.file_offset))


def _clear(file: CountedFile, write: ZeroWrite, size: int) -> None:
    """Make a range zeros; holes of the file stay holes."""
    end = write.file_offset + _length(write, size)
    for start in range(write.file_offset, end, _PIECE):
        file.write_differing(start, bytes(min(_PIECE, end - start)))
