"""A changed disk read by foreign readers, before it is final and again afterwards.

Every changed byte must be confirmed by a reader that is not known to be wrong there: pyvhdi is asked first,
dissect.hypervisor for what pyvhdi can't be asked for. What nobody can confirm stops the commit, unless the user is
content with our own reading; what somebody contradicts stops it always. A sample of the unchanged bytes is asked for
in the same way; of it, what nobody can confirm is only counted, because nothing was written there on purpose (in a
chain of differencing VHDs, both readers have faults at ordinary places).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from vhdtool.bytesource import ByteSource
from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate
from vhdtool.disk.expected_disk import ExpectedDisk, Sample
from vhdtool.disk.foreign_reader import DISSECT, PYVHDI
from vhdtool.disk.open_layer import OpenedLayer, open_layer
from vhdtool.disk.reader_faults import misread
from vhdtool.disk.source_file import SourceFile
from vhdtool.disk.witness import Difference, Expected, OpinionReport, Range, Tally, Witness
from vhdtool.errors import InputError, OpinionError
from vhdtool.progress import SILENT, Progress

WINDOW = 256 << 10  # larger ones cost more: the allocator gives what big buffers took back to the system each time
UNCONFIRMED_KEPT = 16
OURS = "vhdtool"
PLAIN_FILE = "plain file"
_READERS = (PYVHDI, DISSECT)
_HINT = "Nothing was written. Please report this, with the history of the image."


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A range of the disk that no foreign reader can be asked for; ``why`` has a fault for each reader."""

    offset: int
    length: int
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerVerdict:
    """Who confirmed the container of a changed disk. Counts are in bytes of the virtual disk.

    ``confirmed_bytes``: of the changed and the sampled ones, by a foreign reader. ``unconfirmed``: the first changed
    ranges that only this program read; ``unconfirmed_bytes`` counts them all, ``unconfirmed_sampled_bytes`` those of
    the sample. ``unreadable_samples``: places of the sample that the disk was damaged at before. ``container``: false
    for a raw image, which has none to be read in two ways.
    """

    readers: tuple[OpinionReport, ...]
    changed_bytes: int
    sampled_bytes: int
    confirmed_bytes: int
    unconfirmed_bytes: int = 0
    unconfirmed_sampled_bytes: int = 0
    unconfirmed: tuple[Unconfirmed, ...] = ()
    unreadable_samples: int = 0
    container: bool = True


def confirm_container(
    candidate: Candidate,
    changes: Changes | ExpectedDisk,
    *,
    single_opinion: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ContainerVerdict:
    """Have the files of a changed disk read by foreign readers, and compare with what they should hold.

    After an in-place commit the disk below ``changes`` is the changed one: give the :class:`ExpectedDisk` that was
    made of them before the commit. ``seed`` chooses the sample, where ``changes`` is not that already.

    Raises:
        OpinionError: ``second-opinion-container`` where a reader reads something else or refuses the files without a
            known fault (with ``single_opinion`` such a refusal is only reported), or where this program itself can't
            read them; ``unconfirmed`` where a change lies where no reader can be asked, unless ``single_opinion``.
        MissingSupportError: ``pyvhdi-missing``, ``dissect-hypervisor-missing``.
    """
    expected = changes if isinstance(changes, ExpectedDisk) else ExpectedDisk(changes, seed)
    if candidate.format == "raw":
        return _confirm_raw(candidate.files[0][0], candidate.files[0][1], expected)
    path = candidate.files[0][0]
    try:
        disk = _open(candidate, expected)
        inquiry = _Inquiry(disk, expected, single=single_opinion)
        try:
            return inquiry.run(progress)
        finally:
            inquiry.close()
    except InputError as error:
        raise _contradicted(path, OURS, f"it can't be read: {error}") from error


def _confirm_raw(path: str, file: ByteSource, expected: ExpectedDisk) -> ContainerVerdict:
    tally = Tally()
    sector = expected.logical_sector_size
    for group in expected.changed(WINDOW):
        for start, stop in group:
            tally.compare(start, expected.read_changed(start, stop - start), file.read_at(start, stop - start), sector)
    for sample in expected.samples:
        tally.compare(sample.offset, sample.data, file.read_at(sample.offset, len(sample.data)), sector)
    if file.size < expected.size:
        tally.note(file.size, expected.size - file.size, "the file ends here")
    if tally.differences:
        raise _contradicted(path, PLAIN_FILE, _text(tally.differences[0]))
    report = OpinionReport(PLAIN_FILE, "", opened=True, bytes_compared=tally.compared, bytes_equal=tally.equal)
    return ContainerVerdict(
        readers=(report,),
        changed_bytes=expected.changed_bytes,
        sampled_bytes=expected.sampled_bytes,
        confirmed_bytes=tally.equal,
        unreadable_samples=expected.unreadable,
        container=False,
    )


def _open(candidate: Candidate, expected: ExpectedDisk) -> VirtualDisk:
    """Open the files with our own layers, which tell where the known faults of others lie."""
    path = candidate.files[0][0]
    opened: list[OpenedLayer] = [open_layer(SourceFile(source, name)) for name, source in candidate.files]
    disk = VirtualDisk(opened)
    infos = [layer.info for layer in disk.layers]
    found = [problem for problem in infos[0].problems if problem.code not in expected.problem_codes]
    if found:
        raise _contradicted(path, OURS, f"{found[0].message} [{found[0].code}]")
    for child, parent in pairwise(infos):
        if parent.identity not in child.linkage:
            raise _contradicted(path, OURS, f"it is no child of {parent.path}: its linkage names another image")
    if infos[-1].type == "differencing" or any(info.type != "differencing" for info in infos[:-1]):
        raise _contradicted(path, OURS, "its files are no whole chain")
    if (disk.info.format, disk.size) != (candidate.format, expected.size):
        raise _contradicted(path, OURS, f"it is a {disk.info.format} disk of {disk.size} bytes")
    return disk


class _Inquiry:
    """Readers asked in their order, each for what those before it can't be asked for."""

    def __init__(self, disk: VirtualDisk, expected: ExpectedDisk, *, single: bool) -> None:
        self._disk = disk
        self._expected = expected
        self._single = single
        self._witnesses: list[Witness] = []
        self._ours = Tally()
        self._unconfirmed_bytes = 0
        self._unconfirmed: list[Unconfirmed] = []

    def close(self) -> None:
        for witness in self._witnesses:
            witness.close()

    def run(self, progress: Progress) -> ContainerVerdict:
        expected = self._expected
        total = expected.changed_bytes + expected.sampled_bytes
        progress.start("confirm", total)
        try:
            for group in expected.changed(WINDOW):
                for start, stop in self._ask(group, expected.read_changed):
                    self._note_unconfirmed(start, stop)
                progress.advance(sum(stop - start for start, stop in group))
            for sample in expected.samples:
                self._ask([(sample.offset, sample.offset + len(sample.data))], _reading_of(sample))
                progress.advance(len(sample.data))
        finally:
            progress.finish()
        if self._unconfirmed_bytes and not self._single:
            raise self._nobody_confirms()
        return ContainerVerdict(
            readers=tuple(witness.report() for witness in self._witnesses),
            changed_bytes=expected.changed_bytes,
            sampled_bytes=expected.sampled_bytes,
            confirmed_bytes=total - self._ours.compared,
            unconfirmed_bytes=self._unconfirmed_bytes,
            unconfirmed_sampled_bytes=self._ours.compared - self._unconfirmed_bytes,
            unconfirmed=tuple(self._unconfirmed),
            unreadable_samples=expected.unreadable,
        )

    def _ask(self, ranges: list[Range], expected: Expected) -> list[Range]:
        """Ask one reader after another; return what none of them can be asked for, which we read ourselves."""
        left = ranges
        for number, name in enumerate(_READERS):
            if not left:
                break
            if number == len(self._witnesses):
                self._add(name)
            witness = self._witnesses[number]
            left = witness.ask(left, expected)
            if (difference := witness.first_difference) is not None:
                raise _contradicted(self._path, witness.name, _text(difference))
        for start, stop in left:
            theirs = self._disk.read_at(start, stop - start)
            self._ours.compare(start, expected(start, stop - start), theirs, self._disk.logical_sector_size)
            if self._ours.differences:
                raise _contradicted(self._path, OURS, _text(self._ours.differences[0]))
        return left

    def _add(self, name: str) -> None:
        witness = Witness(name, self._disk)
        self._witnesses.append(witness)
        report = witness.report()
        if not report.opened and report.known_fault is None and not self._single:
            raise _contradicted(self._path, name, f"it does not open the files: {report.reason}")

    def _note_unconfirmed(self, start: int, stop: int) -> None:
        self._unconfirmed_bytes += stop - start
        why = tuple(self._reasons(start, stop))
        last = self._unconfirmed[-1] if self._unconfirmed else None
        if last is not None and (last.offset + last.length, last.why) == (start, why):
            self._unconfirmed[-1] = Unconfirmed(last.offset, last.length + stop - start, why)
        elif len(self._unconfirmed) < UNCONFIRMED_KEPT:
            self._unconfirmed.append(Unconfirmed(start, stop - start, why))

    def _reasons(self, start: int, stop: int) -> Iterator[str]:
        for witness in self._witnesses:
            report = witness.report()
            if not report.opened:
                yield f"{witness.name}: not opened, {report.known_fault or report.reason}"
                continue
            faults = sorted({fault.name for _, _, fault in misread(witness.name, self._disk, start, stop - start)})
            yield f"{witness.name}: {', '.join(faults)}"

    @property
    def _path(self) -> str:
        return self._disk.info.path

    def _nobody_confirms(self) -> OpinionError:
        first = self._unconfirmed[0]
        return OpinionError(
            "unconfirmed",
            f"no foreign reader can confirm {self._unconfirmed_bytes} changed bytes of the disk, the first at "
            f"{first.offset:#x} of the disk ({'; '.join(first.why)})",
            path=self._path,
            hint="Nothing was written. With --single-opinion this program's own reading is enough where no other "
            "reader can be asked.",
        )


def _reading_of(sample: Sample) -> Expected:
    def read(offset: int, length: int) -> bytes:
        return sample.data[offset - sample.offset : offset - sample.offset + length]

    return read


def _text(difference: Difference) -> str:
    what = difference.reason or "it reads other bytes than were written"
    return f"{what}, {difference.length} bytes at {difference.offset:#x} of the disk"


def _contradicted(path: str, reader: str, what: str) -> OpinionError:
    return OpinionError(
        "second-opinion-container", f"the changed image is not confirmed by {reader}: {what}", path=path, hint=_HINT
    )
