"""The same disk read by parsers that are not ours, byte against byte.

What the files hold is compared in full. Where they hold nothing (holes and zero blocks) both ends of each extent are
compared: there is no data to tell apart, and a disk may have terabytes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vhdtool.disk.chain import ChainExtent, VirtualDisk
from vhdtool.disk.foreign_reader import DISSECT, PYVHDI, reader_version
from vhdtool.disk.witness import DIFFERENCES_KEPT, Difference, LeftOut, OpinionReport, Range, Witness
from vhdtool.progress import SILENT, Progress

__all__ = [
    "DIFFERENCES_KEPT",
    "Difference",
    "LeftOut",
    "OpinionReport",
    "compare_with_pyvhdi",
    "compare_with_readers",
]

PIECE_SIZE = 1 << 20
SAMPLE_SIZE = 64 << 10  # compared at each end of a hole or of a zero extent


def compare_with_pyvhdi(disk: VirtualDisk, progress: Progress = SILENT) -> OpinionReport:
    """Read all that the chain of ``disk`` holds with pyvhdi as well, and tell where it differs.

    Raises:
        MissingSupportError: ``pyvhdi-missing``.
        DamagedError: where the disk can't be read by this program.
    """
    return _compare(disk, (PYVHDI,), progress)[0]


def compare_with_readers(disk: VirtualDisk, progress: Progress = SILENT) -> tuple[OpinionReport, ...]:
    """Read all that the chain of ``disk`` holds with pyvhdi, and what it can't be asked for with dissect.hypervisor.

    The second reader has a report only where it was asked. Raises as :func:`compare_with_pyvhdi`, and
    :class:`MissingSupportError` ``dissect-hypervisor-missing``.
    """
    return _compare(disk, (PYVHDI, DISSECT), progress)


def _compare(disk: VirtualDisk, readers: Sequence[str], progress: Progress) -> tuple[OpinionReport, ...]:
    if disk.info.format == "raw":
        reason = "a raw image has no container that could be read in two ways"
        return (OpinionReport(readers[0], reader_version(readers[0]), opened=False, reason=reason),)
    witnesses = [Witness(readers[0], disk)]
    try:
        if len(readers) == 1 and not witnesses[0].report().opened:
            return (witnesses[0].report(),)
        progress.start("compare", disk.size)
        try:
            for extent in disk.extents():
                for piece in _pieces(extent):
                    _ask(disk, witnesses, readers, (piece.offset, piece.offset + piece.length))
                    progress.advance(piece.length if extent.kind == "data" else 0)
                progress.advance(0 if extent.kind == "data" else extent.length)
        finally:
            progress.finish()
        return tuple(witness.report() for witness in witnesses)
    finally:
        for witness in witnesses:
            witness.close()


def _ask(disk: VirtualDisk, witnesses: list[Witness], readers: Sequence[str], piece: Range) -> None:
    """Ask one reader after another, each for what those before it can't be asked for."""
    left = [piece]
    for number, reader in enumerate(readers):
        if left and number == len(witnesses):
            witnesses.append(Witness(reader, disk))
        if left:
            left = witnesses[number].ask(left, disk.read_at)


def _pieces(extent: ChainExtent) -> Iterator[ChainExtent]:
    """An extent of data cut into pieces; of another, both ends."""
    if extent.kind != "data" and extent.length > 2 * SAMPLE_SIZE:
        yield replace(extent, length=SAMPLE_SIZE)
        yield replace(extent, offset=extent.offset + extent.length - SAMPLE_SIZE, length=SAMPLE_SIZE)
        return
    for start in range(0, extent.length, PIECE_SIZE):
        place = None if extent.file_offset is None else extent.file_offset + start
        length = min(PIECE_SIZE, extent.length - start)
        yield replace(extent, offset=extent.offset + start, length=length, file_offset=place)
