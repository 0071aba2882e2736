"""In place, a fixed VHD or a raw image, where there is no room for a copy: by a redo journal beside it.

The order; each line is on stable storage before the next begins.

1. the journal's body, and its name in the folder;
2. the journal's first sector: **the commit**. From now on every opening by this program reads the new disk;
3. in a fixed VHD, a mark in the place of the footer: other readers refuse the file now;
4. the changed sectors;
5. the footer again;
6. the journal is removed.

A raw image has nothing that could be marked, so between 2 and 5 other programs may see a part of the change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk.apply_journal import apply_journal
from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate, Target, Written
from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.device import FileDevice, Slice
from vhdtool.disk.flat_image import changed_pieces, changed_size, joined, refuse_unfit_file
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.in_place_errors import UNDO
from vhdtool.disk.journal import ImageFacts, Journal, journal_name, read_journal, write_journal
from vhdtool.disk.patched_source import Patch, PatchedSource
from vhdtool.disk.room import refuse_no_room
from vhdtool.disk.vhd import VhdLayer
from vhdtool.errors import ChangedError, OutputError, RefusedError, VhdtoolError
from vhdtool.progress import Progress

GAP = 16 << 10  # bytes between changed ranges that are not worth a record of their own
SPARE_ROOM = 1 << 20
RAW_NOTE = (
    "While the change was written, programs other than vhdtool could have seen a part of it: "
    "a raw image can't say that it is being changed."
)


class JournalCommit:
    """A :class:`vhdtool.disk.commit.Commit` in place for a fixed VHD or a raw image, by a journal."""

    def __init__(self, changes: Changes, target: Target, store: HostStore = OS_STORE) -> None:
        del target
        self._changes = changes
        self._store = store
        self._layer = changes.base.layers[0]
        self._image: CountedFile | None = None
        self._name = ""

    def prepare(self, progress: Progress) -> Candidate:
        """As :meth:`Commit.prepare`: nothing is written.

        Raises :class:`RefusedError` ``image-needs-recovery``, ``image-damaged``, ``vhd-saved-state``,
        ``not-a-regular-file``, ``image-hard-linked``; :class:`OutputError` ``no-room``.
        """
        del progress
        info = self._layer.info
        real = refuse_unfit_file(self._changes)
        self._name = journal_name(real)
        if os.path.lexists(self._name):
            raise RefusedError(
                "image-needs-recovery",
                "a journal lies beside the image already",
                path=self._name,
                hint=f"Bring the image to rest first: vhdtool recover {info.path}",
            )
        refuse_no_room(self._store, self._name, changed_size(self._changes, GAP) * 65 // 64 + SPARE_ROOM)
        self._image = CountedFile(self._store.open(real))
        base = self._changes.base.files[0]
        patches = (Patch(start, Slice(self._changes, start, end - start)) for start, end in joined(self._changes, GAP))
        files: list[tuple[str, ByteSource]] = [(info.path, PatchedSource(base, base.size, patches))]
        return Candidate(info.format, files)

    def finish(self, progress: Progress) -> Written:
        """As :meth:`Commit.finish`. Raises :class:`OutputError` ``cannot-write``, :class:`ChangedError`."""
        image = self._image
        if image is None:
            raise ValueError("a commit is prepared before it is finished")
        info = self._layer.info
        written = self._write_journal(image, progress)
        with closing(FileDevice(self._name)) as file:
            journal = self._read_back(file)
            try:
                apply_journal(journal, image, self._store, progress)
            except VhdtoolError as error:
                raise self._unfinished(error) from error
        self.abandon()
        notes = (RAW_NOTE,) if info.format == "raw" else ()
        return Written(info.path, 0, written + image.written, info.file_size, info.file_size, UNDO, notes)

    def abandon(self) -> None:
        """As :meth:`Commit.abandon`."""
        if self._image is not None:
            self._image.close()

    def _write_journal(self, image: CountedFile, progress: Progress) -> int:
        """Steps 1 and 2; return the bytes written. Undone where they fail."""
        file = CountedFile(self._store.create(self._name))
        counts = False
        try:
            with closing(file):
                self._store.copy_facts(image.path, self._name)
                head = write_journal(file, os.urandom(16), self._facts(image), self._pieces(image, progress))
                file.flush()
                self._store.flush_folder(self._name)
                counts = True
                file.write_at(0, head)
                file.flush()
        except BaseException as error:
            self._drop_journal(error, counts=counts)
            raise
        return file.written

    def _read_back(self, file: FileDevice) -> Journal:
        """The journal as it lies there; it must be whole before it is relied upon."""
        error: VhdtoolError | None = None
        journal = None
        try:
            journal = read_journal(file)
        except VhdtoolError as caught:
            error = caught
        if journal is None:
            unread = OutputError("cannot-write", "the journal is not read as it was written", path=file.path)
            self._drop_journal(unread, counts=True)
            raise unread from error
        return journal

    def _drop_journal(self, cause: BaseException, *, counts: bool) -> None:
        """Remove the journal. Raises :class:`ChangedError` where that fails and the journal ``counts`` already."""
        try:
            self._store.remove(self._name)
            self._store.flush_folder(self._name)
        except OutputError as error:
            if counts:
                raise self._unfinished(error) from cause

    def _unfinished(self, error: VhdtoolError) -> ChangedError:
        path = self._layer.info.path
        return ChangedError(
            "commit-unfinished",
            f"the change may be in force, by the journal beside the image, and could not be finished: {error.message}",
            path=path,
            offset=error.offset,
            hint=f"Finish it: vhdtool recover {path}",
        )

    def _facts(self, image: CountedFile) -> ImageFacts:
        layer = self._layer
        if not isinstance(layer, VhdLayer):
            return ImageFacts(image.size)
        tail = layer.footers.tail
        footer = read_exactly(image, tail.offset, tail.size, path=image.path, what="the footer")
        return ImageFacts(image.size, layer.footers.footer.unique_id, footer)

    def _pieces(self, image: CountedFile, progress: Progress) -> Iterator[tuple[int, bytes, bytes]]:
        progress.start("write the journal", changed_size(self._changes, GAP))
        try:
            for offset, data in changed_pieces(self._changes, GAP):
                yield offset, data, read_exactly(image, offset, len(data), path=image.path)
                progress.advance(len(data))
        finally:
            progress.finish()
