"""In place, a fixed VHD or a raw image: a changed copy beside it takes its name.

Neither format has anything that could point to changed bytes elsewhere. So the file is cloned where its file system
can share extents, else copied with its holes left out; the copy is changed and flushed, and then renamed over the
image. The name leads to the old file or to the new one at every moment. A symbolic link to the image stays a link.
"""

from __future__ import annotations

import os
from contextlib import suppress

from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate, Target, Written
from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.flat_image import changed_pieces, changed_size, refuse_unfit_file
from vhdtool.disk.host_ranges import host_ranges
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.image_writer import RawWriter, fill
from vhdtool.disk.in_place_errors import UNDO
from vhdtool.disk.recover_copy import copy_name, remove_left_over
from vhdtool.disk.room import refuse_no_room
from vhdtool.errors import ChangedError, OutputError
from vhdtool.progress import Progress

SPARE_ROOM = 8 << 20  # for what the host's file system needs itself
_JOURNAL_HINT = "Make room there, or use --journal, which needs room for the change alone; or --output elsewhere."


class CopyInPlaceCommit:
    """A :class:`vhdtool.disk.commit.Commit` in place for a fixed VHD or a raw image."""

    def __init__(self, changes: Changes, target: Target, store: HostStore = OS_STORE) -> None:
        del target
        self._changes = changes
        self._store = store
        self._real = ""
        self._copy: CountedFile | None = None
        self._temporary: str | None = None
        self._size_before = changes.base.layers[0].info.file_size

    def prepare(self, progress: Progress) -> Candidate:
        """As :meth:`Commit.prepare`: make the changed copy, under another name.

        Raises :class:`RefusedError` ``image-needs-recovery``, ``image-damaged``, ``vhd-saved-state``,
        ``not-a-regular-file``, ``image-hard-linked``; :class:`OutputError` ``no-room``, ``cannot-write``.
        """
        info = self._changes.base.layers[0].info
        self._real = refuse_unfit_file(self._changes)
        remove_left_over(self._real, self._store)
        temporary = copy_name(self._real)
        file = self._store.create(temporary)
        self._copy = CountedFile(file)
        self._temporary = temporary
        try:
            self._store.copy_facts(self._real, temporary)  # before there is anything to read in it
            self._write(self._copy, progress)
        except BaseException:
            self.abandon()
            raise
        return Candidate(info.format, [(info.path, file)])

    def finish(self, progress: Progress) -> Written:
        """As :meth:`Commit.finish`: the copy takes the image's name.

        Raises :class:`OutputError` ``cannot-write``; :class:`ChangedError` ``commit-unfinished`` where the host can't
        say that the new name is on stable storage.
        """
        del progress
        copy, temporary = self._copy, self._temporary
        if copy is None or temporary is None:
            raise ValueError("a commit is prepared before it is finished")
        path, size = self._changes.base.layers[0].info.path, copy.size
        copy.close()
        if os.name == "nt":  # where a file that is open can't be replaced; all that is still to be read was kept
            self._changes.base.close()
        self._store.rename(temporary, self._real)
        self._temporary = None
        try:
            self._store.flush_folder(self._real)
        except OutputError as error:
            raise ChangedError(
                "commit-unfinished",
                f"the image is changed; after a power cut it may be the old one again: {error.message}",
                path=path,
                hint="The disk in it is whole, the old or the new one. Look at it before you change it again.",
            ) from error
        return Written(path, 0, copy.written, self._size_before, size, UNDO)

    def abandon(self) -> None:
        """As :meth:`Commit.abandon`."""
        if self._copy is not None:
            self._copy.close()
        if self._temporary is not None:
            temporary, self._temporary = self._temporary, None
            with suppress(OutputError):  # what led here is the error to tell
                self._store.remove(temporary)

    def _write(self, copy: CountedFile, progress: Progress) -> None:
        source = self._changes.base.files[0]
        needed = changed_size(self._changes) + SPARE_ROOM
        progress.start("copy the image", source.size)
        try:
            if copy.clone_from(self._real):
                refuse_no_room(self._store, self._real, needed)
            else:
                stored = sum(length for _, length in host_ranges(self._real))
                refuse_no_room(self._store, self._real, stored + needed, hint=_JOURNAL_HINT)
                writer = RawWriter(copy, source.size)
                fill(writer, source, host_ranges(self._real), progress)
                writer.finish()
            for offset, data in changed_pieces(self._changes):
                copy.write_at(offset, data)
            copy.flush()
        finally:
            progress.finish()
