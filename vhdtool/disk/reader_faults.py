"""Known faults of foreign readers, each a predicate: which reader, on which structure, over which bytes.

A second opinion is worth what the second reader is worth. Where a fault of it is known, exactly the bytes that the
fault can touch are left out of the comparison, and counted under the fault's name; a test reproduces each in the
installed reader, so a fault that its authors repair is noticed and goes from this list.
"""

from __future__ import annotations

from vhdtool.disk import reader_faults_dissect, reader_faults_pyvhdi
from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.fault_places import Avoided, Misreading, Refusal

MISREADINGS: tuple[Misreading, ...] = (*reader_faults_pyvhdi.MISREADINGS, *reader_faults_dissect.MISREADINGS)
REFUSALS: tuple[Refusal, ...] = (*reader_faults_pyvhdi.REFUSALS, *reader_faults_dissect.REFUSALS)
AVOIDED: tuple[Avoided, ...] = (*reader_faults_pyvhdi.AVOIDED, *reader_faults_dissect.AVOIDED)
SUMMARIES = {fault.name: fault.summary for fault in MISREADINGS}

Misread = tuple[int, int, Misreading]  # virtual start and end, in bytes


def misread(reader: str, disk: VirtualDisk, offset: int, length: int) -> list[Misread]:
    """Return the parts of a range that ``reader`` is known to be wrong in: in order, apart, inside the range.

    Raises :class:`vhdtool.errors.DamagedError` where the disk can't be read by this program.
    """
    found: list[Misread] = []
    for extent in disk.extents(offset, length):
        for fault in MISREADINGS:
            if fault.reader == reader:
                found += [(start, stop, fault) for start, stop in fault.ranges(disk, extent)]
    apart: list[Misread] = []
    position = offset
    for start, stop, fault in sorted(found, key=lambda place: place[:2]):
        if stop > position and start < offset + length:
            apart.append((max(start, position), min(stop, offset + length), fault))
            position = stop
    return apart


def refusal_of(reader: str, disk: VirtualDisk) -> Refusal | None:
    """Return the fault that explains why ``reader`` does not open the files of a disk, where one does."""
    return next((fault for fault in REFUSALS if fault.reader == reader and fault.applies(disk)), None)
