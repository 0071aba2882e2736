"""The last part of an in-place commit of a VHDX: blocks go back to where they were, and the lent space is given back.

An undisturbed commit and ``recover`` after a crash both end here, and any of it may be done again. What is written to
a block's home first is in nobody's use: the BAT names the block's other place. Then one sequence through the log
brings all blocks home at once. None of this changes what the disk holds, so DataWriteGuid stays (MS-VHDX 2.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from vhdtool.bytesource import read_exactly
from vhdtool.disk.counted_file import PIECE, CountedFile
from vhdtool.disk.vhdx_header_slots import HeaderSlots
from vhdtool.disk.vhdx_log_writer import LogPlace, carry_out, write_entries
from vhdtool.disk.vhdx_moved_bat import MovedBat
from vhdtool.progress import Progress


def copy_ranges(file: CountedFile, source: int, target: int, ranges: Iterable[tuple[int, int]]) -> None:
    """Copy ranges ``(offset, length)`` of a block from one place of the file to another."""
    for offset, length in ranges:
        for start in range(offset, offset + length, PIECE):
            size = min(PIECE, offset + length - start)
            file.write_at(target + start, read_exactly(file, source + start, size, path=file.path))


def copy_differing(file: CountedFile, source: int, target: int, length: int, progress: Progress) -> None:
    """Make a block's home equal to its other place; only pages that differ are written."""
    for start in range(0, length, PIECE):
        size = min(PIECE, length - start)
        file.write_differing(target + start, read_exactly(file, source + start, size, path=file.path))
        progress.advance(size)


def bring_home(file: CountedFile, slots: HeaderSlots, bat: MovedBat, log: LogPlace, rest: LogPlace) -> None:
    """Make the BAT name the homes, through the empty log at ``log``; the headers then name ``rest`` as its place."""
    guid = write_entries(file, log, bat.writes(file, home=True))
    carry_out(file, slots, log, guid, lambda: bat.writes(file, home=True), rest=rest)


def end_file(file: CountedFile, size: int) -> None:
    """Give back what lies behind ``size``."""
    file.truncate(size)
    file.flush()
