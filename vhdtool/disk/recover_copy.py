"""The copy of an image that an interrupted change in place has left beside it.

It has a name that only :class:`vhdtool.disk.commit_copy.CopyInPlaceCommit` gives, and whoever makes one holds the
lock of the image: who holds it now knows that nobody works on the copy any more.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vhdtool.disk.commit import Recovered, temporary_name
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.errors import RefusedError
from vhdtool.progress import SILENT, Progress


def copy_name(path: str) -> str:
    """The name of the copy of an image while it is made. ``path`` is that of the file itself, not of a link to it."""
    return temporary_name(path, "copy")


def recover_copy(path: str, store: HostStore = OS_STORE, progress: Progress = SILENT) -> Recovered | None:
    """Remove the copy that an interrupted change left; ``None`` where there is none. The caller holds the lock.

    Raises :class:`RefusedError` ``not-a-regular-file`` for something else with that name.
    """
    del progress
    if not remove_left_over(os.path.realpath(path), store):
        return None
    return Recovered(path, "cleared", 0, ("The copy that an interrupted change had begun is removed.",))


def remove_left_over(path: str, store: HostStore) -> bool:
    """Remove the copy beside the file ``path``; tell whether there was one. Raises as :func:`recover_copy`."""
    name = copy_name(path)
    try:
        facts = Path(name).lstat()
    except OSError:
        return False
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        raise RefusedError(
            "not-a-regular-file",
            "something that is no copy of the image has the name that such a copy is given",
            path=name,
            hint="Look at it, and give it another name or remove it.",
        )
    store.remove(name)
    store.flush_folder(name)
    return True
