"""Bring what a journal holds into its image: the second half of a commit, and of recovering from a crash in it."""

from __future__ import annotations

from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.journal import Journal
from vhdtool.progress import Progress


def apply_journal(journal: Journal, image: CountedFile, store: HostStore, progress: Progress) -> None:
    """Apply a journal and remove it; both are on stable storage then.

    May be done again from the start after any interruption. Raises :class:`vhdtool.errors.OutputError`
    ``cannot-write``.
    """
    footer = journal.image.footer
    if footer:  # from here on other readers refuse the file
        image.write_at(journal.footer_offset, journal.mark)
        image.flush()
    progress.start("apply the journal", sum(journal.records.lengths))
    try:
        for offset, data in journal.pieces():
            image.write_at(offset, data)
            progress.advance(len(data))
    finally:
        progress.finish()
    image.flush()
    if footer:
        image.write_at(journal.footer_offset, footer)
        image.flush()
    journal.file.close()
    store.remove(journal.file.path)
    store.flush_folder(journal.file.path)
