"""One foreign reader, asked range after range, and what it has said so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.foreign_reader import ForeignReader, ReaderError, open_reader, reader_version
from vhdtool.disk.reader_faults import SUMMARIES, misread, refusal_of

DIFFERENCES_KEPT = 16

Range = tuple[int, int]  # virtual start and end, in bytes
Expected = Callable[[int, int], bytes]  # offset and length to what should be there


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


@dataclass(slots=True)
class Tally:
    """Counts of a comparison, in bytes of the virtual disk."""

    compared: int = 0
    equal: int = 0
    different: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def note(self, offset: int, length: int, reason: str | None = None) -> None:
        """Count a range that differs."""
        self.different += length
        last = self.differences[-1] if self.differences else None
        if last is not None and last.offset + last.length == offset and last.reason == reason:
            self.differences[-1] = replace(last, length=last.length + length)
        elif len(self.differences) < DIFFERENCES_KEPT:
            self.differences.append(Difference(offset, length, reason))

    def compare(self, offset: int, ours: bytes, theirs: bytes, sector: int) -> None:
        """Count two readings of a range, sector by sector where they differ."""
        self.compared += len(ours)
        if ours == theirs:
            self.equal += len(ours)
            return
        for start in range(0, len(ours), sector):
            stop = min(start + sector, len(ours))
            if ours[start:stop] == theirs[start:stop]:
                self.equal += stop - start
            else:
                self.note(offset + start, stop - start)


class Witness:
    """A foreign reader of the files of ``disk``. A reader that refuses them is a witness too: it says so.

    Raises :class:`vhdtool.errors.MissingSupportError` where the reader is not installed.
    """

    def __init__(self, reader: str, disk: VirtualDisk) -> None:
        self.name = reader
        self._disk = disk
        self._reader: ForeignReader | None = None
        self._tally = Tally()
        self._report = OpinionReport(reader, reader_version(reader), opened=True)
        known = refusal_of(reader, disk)
        fault = known.name if known is not None else None
        if known is not None and not known.asked:
            self._report = replace(self._report, opened=False, reason=known.summary, known_fault=fault)
            return
        try:
            self._reader = open_reader(reader, disk)
            self._compare_size(self._reader.size)
        except ReaderError as error:
            self.close()
            self._report = replace(self._report, opened=False, reason=str(error), known_fault=fault)

    def _compare_size(self, theirs: int) -> None:
        if theirs != self._disk.size:
            start, end = sorted((theirs, self._disk.size))
            self._tally.note(start, end - start, f"the other reader says that the disk has {theirs} bytes")

    def close(self) -> None:
        """Close the reader; what it has said stays."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def first_difference(self) -> Difference | None:
        """The first thing that it read differently."""
        return self._tally.differences[0] if self._tally.differences else None

    def report(self) -> OpinionReport:
        """Return what it has said."""
        tally = self._tally
        return replace(
            self._report,
            bytes_compared=tally.compared,
            bytes_equal=tally.equal,
            bytes_different=tally.different,
            left_out=tuple(LeftOut(name, SUMMARIES[name], count) for name, count in sorted(tally.left_out.items())),
            differences=tuple(tally.differences),
        )

    def ask(self, ranges: Sequence[Range], expected: Expected) -> list[Range]:
        """Compare ranges with what is expected there; return those that it can't be asked for.

        ``ranges`` are in order and apart, and near enough to each other to be read at once. Raises what reading the
        disk and ``expected`` raise.
        """
        if self._reader is None or not ranges:
            return list(ranges)
        first, last = ranges[0][0], ranges[-1][1]
        faults = misread(self.name, self._disk, first, last - first)
        asked: list[Range] = []
        unsaid: list[Range] = []
        for start, stop in ranges:
            position = start
            for begin, end, fault in faults:
                if end <= position or begin >= stop:
                    continue
                if begin > position:
                    asked.append((position, begin))
                wrong = max(begin, position), min(end, stop)
                unsaid.append(wrong)
                self._tally.left_out[fault.name] = self._tally.left_out.get(fault.name, 0) + wrong[1] - wrong[0]
                position = wrong[1]
            if position < stop:
                asked.append((position, stop))
        self._compare(asked, expected, self._reader)
        return unsaid

    def _compare(self, asked: Sequence[Range], expected: Expected, reader: ForeignReader) -> None:
        """Read all ranges at once where that goes, each by itself where it does not."""
        whole: bytes | None = None
        first = asked[0][0] if asked else 0
        if len(asked) > 1:
            with suppress(ReaderError):
                whole = reader.read(first, asked[-1][1] - first)
        for start, stop in asked:
            ours = expected(start, stop - start)
            try:
                theirs = reader.read(start, stop - start) if whole is None else whole[start - first : stop - first]
            except ReaderError as error:
                self._tally.compared += stop - start
                self._tally.note(start, stop - start, str(error))
                continue
            self._tally.compare(start, ours, theirs, self._disk.logical_sector_size)
