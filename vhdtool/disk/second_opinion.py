"""The same disk read by a parser that is not ours, byte against byte.

pyvhdi (libvhdi) reads the same files. What the files hold is compared in full. Where they hold nothing (holes and
zero blocks) both ends of each extent are compared: there is no data to tell apart, and a disk may have terabytes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

from vhdtool.disk.chain import ChainExtent, VirtualDisk
from vhdtool.disk.reader_faults import MISREADINGS, REFUSALS, Misreading
from vhdtool.errors import MissingSupportError
from vhdtool.progress import SILENT, Progress

PIECE_SIZE = 1 << 20
SAMPLE_SIZE = 64 << 10  # compared at each end of a hole or of a zero extent
DIFFERENCES_KEPT = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """A range that the other reader reads differently, or not at all; ``reason`` is what it says then."""

    offset: int
    length: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Bytes that were not compared because a known fault of the reader touches them."""

    fault: str
    summary: str
    bytes: int


@dataclass(frozen=True, slots=True)
class OpinionReport:
    """What a second reader says of a disk. A reader that refuses to open does not agree: see ``opened``.

    Counts are in bytes of the virtual disk. ``differences`` are the first few; ``bytes_different`` counts them all.
    ``known_fault`` names the fault that explains the refusal, where one does.
    """

    reader: str
    version: str
    opened: bool
    reason: str | None = None
    known_fault: str | None = None
    bytes_compared: int = 0
    bytes_equal: int = 0
    bytes_different: int = 0
    left_out: tuple[LeftOut, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def agrees(self) -> bool:
        """It opened the disk, and all that was compared is equal."""
        return self.opened and self.bytes_different == 0 and not self.differences


class _Reader(Protocol):
    def get_media_size(self) -> int: ...

    def read_buffer_at_offset(self, size: int, offset: int) -> bytes: ...


@dataclass(slots=True)
class _Tally:
    compared: int = 0
    equal: int = 0
    different: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def note(self, offset: int, length: int, reason: str | None = None) -> None:
        self.different += length
        last = self.differences[-1] if self.differences else None
        if last is not None and last.offset + last.length == offset and last.reason == reason:
            self.differences[-1] = replace(last, length=last.length + length)
        elif len(self.differences) < DIFFERENCES_KEPT:
            self.differences.append(Difference(offset, length, reason))


def compare_with_pyvhdi(disk: VirtualDisk, progress: Progress = SILENT) -> OpinionReport:
    """Read all that the chain of ``disk`` holds with pyvhdi as well, and tell where it differs.

    Raises:
        MissingSupportError: ``pyvhdi-missing``.
        DamagedError: where the disk can't be read by this program.
    """
    try:
        import pyvhdi  # noqa: PLC0415  # a compiled module that only a comparison needs
    except ImportError as error:
        raise MissingSupportError(
            "pyvhdi-missing", "pyvhdi can't be loaded", hint="Install it: pip install libvhdi-python"
        ) from error
    report = OpinionReport("pyvhdi", pyvhdi.get_version(), opened=False)
    if disk.info.format == "raw":
        return replace(report, reason="a raw image has no container that could be read in two ways")
    opened: list[Any] = []
    try:
        try:
            for file in disk.files:
                reader = pyvhdi.file()
                reader.open(file.path)
                opened.append(reader)
            for child, parent in pairwise(opened):
                child.set_parent(parent)
        except (OSError, ValueError, MemoryError, RuntimeError) as error:  # what pyvhdi raises, whatever the cause
            known = next((refusal for refusal in REFUSALS if refusal.applies(disk)), None)
            return replace(report, reason=_first_sentence(error), known_fault=known.name if known else None)
        return _compare(disk, opened[0], replace(report, opened=True), progress)
    finally:
        for reader in opened:
            reader.close()


def _compare(disk: VirtualDisk, reader: _Reader, report: OpinionReport, progress: Progress) -> OpinionReport:
    tally = _Tally()
    size = reader.get_media_size()
    if size != disk.size:
        start, end = sorted((size, disk.size))
        tally.note(start, end - start, f"the other reader says that the disk has {size} bytes")
    progress.start("compare", disk.size)
    try:
        for extent in disk.extents():
            for piece in _pieces(extent):
                _compare_piece(disk, reader, piece, tally)
                progress.advance(piece.length if extent.kind == "data" else 0)
            progress.advance(0 if extent.kind == "data" else extent.length)
    finally:
        progress.finish()
    summaries = {fault.name: fault.summary for fault in MISREADINGS}
    return replace(
        report,
        bytes_compared=tally.compared,
        bytes_equal=tally.equal,
        bytes_different=tally.different,
        left_out=tuple(LeftOut(name, summaries[name], count) for name, count in sorted(tally.left_out.items())),
        differences=tuple(tally.differences),
    )


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


def _compare_piece(disk: VirtualDisk, reader: _Reader, piece: ChainExtent, tally: _Tally) -> None:
    position, end = piece.offset, piece.offset + piece.length
    for start, stop, fault in sorted(_faulty(disk, piece), key=lambda found: found[:2]):
        if start > position:
            _compare_range(disk, reader, position, start - position, tally)
        if stop > position:
            left = stop - max(start, position)
            tally.left_out[fault.name] = tally.left_out.get(fault.name, 0) + left
            position = stop
    if position < end:
        _compare_range(disk, reader, position, end - position, tally)


def _faulty(disk: VirtualDisk, piece: ChainExtent) -> Iterator[tuple[int, int, Misreading]]:
    for fault in MISREADINGS:
        for start, stop in fault.ranges(disk, piece):
            yield start, stop, fault


def _compare_range(disk: VirtualDisk, reader: _Reader, offset: int, length: int, tally: _Tally) -> None:
    ours = disk.read_at(offset, length)
    tally.compared += length
    try:
        theirs = reader.read_buffer_at_offset(length, offset)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:  # what pyvhdi raises, whatever the cause
        tally.note(offset, length, _first_sentence(error))
        return
    if ours == theirs:
        tally.equal += length
        return
    sector = disk.logical_sector_size
    for start in range(0, length, sector):
        stop = min(start + sector, length)
        if ours[start:stop] == theirs[start:stop]:
            tally.equal += stop - start
        else:
            tally.note(offset + start, stop - start)


def _first_sentence(error: Exception) -> str:
    """The cause, which libvhdi tells first, then its whole call stack."""
    return str(error).strip().partition("\n")[0][:500]
