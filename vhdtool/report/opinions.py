"""Who confirmed a change, for the receipt: one row for each foreign reader and what it read."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.disk.container_opinion import ContainerVerdict
from vhdtool.report.document_change import ReaderFact
from vhdtool.transaction.verify import GuestVerdict


def reader_facts(container: ContainerVerdict, guest: GuestVerdict | None = None) -> Iterator[ReaderFact]:
    """Tell of the container first, then files, then hives. A reader that confirmed nothing is told too."""
    for reader in container.readers:
        reasons = [fault.summary for fault in reader.left_out]
        if not reader.opened:
            reasons.append(reader.known_fault or reader.reason or "not opened")
        yield ReaderFact("container", reader.reader, reader.version, reader.bytes_equal, tuple(reasons))
    if guest is None:
        return
    for files in guest.files:
        yield ReaderFact("files", files.reader, files.version, files.confirmed, ())
    for hive in guest.hives:
        for one in hive.readers:
            faults = tuple(fault.summary for fault in one.left_out)
            yield ReaderFact(hive.path, one.reader, one.version, one.confirmed, faults)
