"""The changed disk as a new standalone image: same format, kind and blocks as the one that it comes from.

A chain becomes one dynamic image. The new file is another file, so it gets its own DataWriteGuid (VHDX) or unique id
(VHD): no child of the source takes it for its parent. It holds the same disk, so the identity that the guest sees
(SCSI page 83, in VHDX only) stays, as in a copy of the file: the guest finds its disk again, and the two copies should
not be attached to one machine at once. Metadata items and regions of a VHDX that MS-VHDX does not know are not copied.
"""

from __future__ import annotations

from typing import Literal

from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate, Target, Written
from vhdtool.disk.flat_image import changed_pieces
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.image_shape import Format, ImageShape, refuse_other_name, shape_like, standalone_writer
from vhdtool.disk.image_writer import ImageWriter, data_ranges_of_changes, fill, is_flat
from vhdtool.disk.new_file import NewFile, refuse_existing
from vhdtool.progress import Progress

_FORMATS: dict[str, Format] = {"vhdx": "vhdx", "vhd": "vhd", "raw": "raw"}


class OutputCommit:
    """A :class:`vhdtool.disk.commit.Commit` to a new standalone image. A pending log goes into it as replayed."""

    def __init__(self, changes: Changes, target: Target, store: HostStore = OS_STORE) -> None:
        if target.path is None:
            raise ValueError("an output has a path")
        self._changes = changes
        self._path = target.path
        self._store = store
        self._new: NewFile | None = None
        self._written: Written | None = None

    def prepare(self, progress: Progress) -> Candidate:
        """As :meth:`Commit.prepare`: write the whole image under another name.

        Raises :class:`UsageError` ``output-format``; :class:`RefusedError` ``output-exists``, ``output-is-input``;
        :class:`OutputError` ``cannot-write``; what reading the disk raises.
        """
        base = self._changes.base
        form = _FORMATS[base.info.format]
        refuse_other_name(self._path, form, hint="For another format: vhdtool disk convert, before or after.")
        refuse_existing(self._path, [file.path for file in base.files])
        kind: Literal["fixed", "dynamic"] = "fixed" if base.info.type == "fixed" else "dynamic"
        self._new = NewFile(self._path, "output", self._store)
        try:
            self._write(self._new, shape_like(base, form, kind), progress)
        except BaseException:
            self.abandon()
            raise
        return Candidate(form, [(self._path, self._new.file)])

    def finish(self, progress: Progress) -> Written:  # a step of every commit
        """As :meth:`Commit.finish`: give the image its name. Raises :class:`RefusedError` ``output-exists``."""
        if self._new is None or self._written is None:
            raise ValueError("prepare comes first")
        self._new.publish()
        return self._written

    def abandon(self) -> None:
        """As :meth:`Commit.abandon`."""
        if self._new is not None:
            self._new.abandon()

    def _write(self, new: NewFile, shape: ImageShape, progress: Progress) -> None:
        changes = self._changes
        writer = standalone_writer(new.file, shape)
        progress.start("write output", changes.size)
        try:
            whole = is_flat(changes.base) and not changes.base.info.problems
            if whole and new.file.clone_from(changes.base.info.path):
                _write_changed(writer, changes)
            else:
                end = fill(writer, changes, data_ranges_of_changes(changes), progress)
                progress.advance(changes.size - end)
            size = writer.finish()
        finally:
            progress.finish()
        self._written = Written(
            path=self._path,
            blocks=writer.blocks,
            bytes_written=writer.bytes_written,
            file_size_before=None,
            file_size=size,
            undo=f"Delete {self._path}: {changes.base.info.path} was not changed.",
        )


def _write_changed(writer: ImageWriter, changes: Changes) -> None:
    """Write what changes over a clone; zeros as well, because the clone may hold other bytes there."""
    for offset, data in changed_pieces(changes):
        writer.put(offset, data)
