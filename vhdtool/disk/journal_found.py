"""A journal beside an image that is opened: the image reads as it will be once the journal is applied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vhdtool.disk.device import FileDevice
from vhdtool.disk.journal import Journal, is_marked, journal_name, read_journal
from vhdtool.disk.source_file import SourceFile
from vhdtool.errors import DamagedError, InputError, Problem

JOURNAL_PENDING = "journal-pending"


@dataclass(frozen=True, slots=True)
class FoundJournal:
    """What lies where an image's journal would. ``journal`` is set where it is whole and the image's own."""

    journal: Journal | None
    problem: Problem


class JournaledFile(SourceFile):
    """An image file with its journal laid over it. Closing it closes both."""

    def __init__(self, file: FileDevice, journal: Journal) -> None:
        super().__init__(journal.over(file), file.path)
        self._files = (file, journal.file)

    def close(self) -> None:
        """Close image and journal; a second call does nothing."""
        for file in self._files:
            file.close()


def with_journal(file: FileDevice) -> tuple[FileDevice, Problem | None]:
    """Return ``file`` as its journal, where it has one, leaves it, and what is to be told of that.

    What is no file of the host, or a file without a journal, is returned as it is. Nothing is written.

    Raises:
        DamagedError: ``journal-missing`` for a fixed VHD that says that it is being changed and has no journal.
    """
    if type(file) is not FileDevice:
        return file, None
    found = find_journal(file)
    if found is not None and found.journal is not None:
        return JournaledFile(file, found.journal), found.problem
    if is_marked(file):
        raise journal_missing(file)
    return file, None if found is None else found.problem


def journal_missing(file: FileDevice) -> DamagedError:
    """Make the error for an image that waits for a journal that can't be used."""
    return DamagedError(
        "journal-missing",
        "a change to the image was interrupted, and its journal is not beside it or is of no use",
        path=file.path,
        offset=file.size - 512,
        expected=journal_name(file.path),
        hint="Bring the journal back to its place, then: vhdtool recover IMAGE; or restore the image from a copy.",
    )


def find_journal(file: FileDevice) -> FoundJournal | None:
    """Look for the journal of an image; ``None`` where there is no such file."""
    name = journal_name(file.path)
    if not Path(name).is_file():
        return None
    opened = FileDevice(name)
    journal = None
    try:
        problem, journal = _judge(opened, file)
    finally:
        if journal is None:
            opened.close()
    return FoundJournal(journal, problem)


def _judge(opened: FileDevice, file: FileDevice) -> tuple[Problem, Journal | None]:
    try:
        journal = read_journal(opened)
    except InputError as error:
        return Problem(error.code, f"{error.message}; it is ignored", opened.path), None
    if journal is None:
        message = "the journal of an interrupted change is not complete; it is ignored, the disk is the old one"
        return Problem("journal-incomplete", message, opened.path), None
    if not journal.belongs_to(file):
        message = "the journal beside the image is of another image, or the image was changed since; it is ignored"
        return Problem("journal-foreign", message, opened.path), None
    message = "a change to the image was interrupted; the disk is read as its journal leaves it"
    return Problem(JOURNAL_PENDING, message, opened.path), journal
