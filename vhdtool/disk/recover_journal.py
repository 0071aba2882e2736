"""Finish a change in place whose journal lies beside the image, or remove a journal that never came to count."""

from __future__ import annotations

import os
from contextlib import closing

from vhdtool.disk.apply_journal import apply_journal
from vhdtool.disk.commit import Recovered
from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.device import FileDevice
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.journal import is_marked, journal_name
from vhdtool.disk.journal_found import FoundJournal, find_journal, journal_missing
from vhdtool.errors import RefusedError
from vhdtool.progress import SILENT, Progress


def recover_journal(path: str, store: HostStore = OS_STORE, progress: Progress = SILENT) -> Recovered | None:
    """Apply the journal of an image; ``None``, and nothing written, where there is none. The caller holds the lock.

    Raises :class:`RefusedError` ``journal-useless`` for a journal that is damaged or of another image, which nobody
    but the user can judge; :class:`vhdtool.errors.DamagedError` ``journal-missing`` for an image that waits for one;
    :class:`vhdtool.errors.OutputError` ``cannot-write``: doing it again goes on.
    """
    with closing(FileDevice(path)) as image:
        found = find_journal(image)
        if found is None:
            if is_marked(image):
                raise journal_missing(image)
            return None
        if found.journal is None:
            return _drop(path, image, found, store)
        with closing(found.journal.file):
            file = CountedFile(store.open(os.path.realpath(path)))
            with closing(file):
                apply_journal(found.journal, file, store, progress)
    return Recovered(path, "finished", file.written, ("The change was in the journal, and is in the image now.",))


def _drop(path: str, image: FileDevice, found: FoundJournal, store: HostStore) -> Recovered:
    """Remove a journal that never came to count; refuse any other that is of no use."""
    if is_marked(image):
        raise journal_missing(image)
    name = journal_name(path)
    if found.problem.code != "journal-incomplete":
        raise RefusedError(
            "journal-useless",
            found.problem.message,
            path=name,
            hint="Look where the image and the journal come from. Without the journal the image is read as it is: "
            "move the journal away if that is right, else restore the image from a copy.",
        )
    store.remove(name)
    store.flush_folder(name)
    return Recovered(path, "rolled-back", 0, ("The change was not in force yet, and its journal is removed.",))
