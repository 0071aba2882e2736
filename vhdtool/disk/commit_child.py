"""Changes as a new differencing image: the parent is not touched, and deleting the child undoes them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from vhdtool.bytesource import ByteSource
from vhdtool.disk.changes import Changes
from vhdtool.disk.child_image import best_block_size, child_writer, refuse_unfit_parent
from vhdtool.disk.commit import Candidate, Target, Written
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.image_writer import fill
from vhdtool.disk.new_file import NewFile, refuse_existing
from vhdtool.errors import RefusedError
from vhdtool.progress import Progress

MIB: Final = 1 << 20


class ChildCommit:
    """A :class:`vhdtool.disk.commit.Commit` to a new child of the disk that is there.

    VHDX has VHDX children, VHD has VHD children of the same virtual size, raw has none.
    """

    def __init__(self, changes: Changes, target: Target, store: HostStore = OS_STORE) -> None:
        if target.path is None:
            raise ValueError("a child has a path")
        self._changes = changes
        self._target = target
        self._path = target.path
        self._store = store
        self._new: NewFile | None = None
        self._written: Written | None = None

    def prepare(self, progress: Progress) -> Candidate:
        """As :meth:`Commit.prepare`: write the whole child under another name.

        Raises :class:`UsageError` ``raw-has-no-children``, ``output-format``, ``not-a-windows-path``,
        ``vhd-create-invalid``; :class:`RefusedError` ``log-pending``, ``no-changes``, ``output-exists``,
        ``output-is-input``, ``parent-without-identity``, ``parent-not-nameable``, ``chain-too-deep``;
        :class:`OutputError` ``cannot-write``; what reading the disk raises.
        """
        base = self._changes.base
        refuse_unfit_parent(base, self._path)
        refuse_existing(self._path, [file.path for file in base.files])
        touched = array("Q", _touched(self._changes))
        if not touched:
            raise no_changes(base.info.path)
        self._new = NewFile(self._path, "child", self._store)
        try:
            self._write(self._new, touched, progress)
        except BaseException:
            self.abandon()
            raise
        files: list[tuple[str, ByteSource]] = [(self._path, self._new.file)]
        return Candidate(base.info.format, [*files, *((file.path, file) for file in base.files)])

    def finish(self, progress: Progress) -> Written:  # a step of every commit
        """As :meth:`Commit.finish`: give the child its name. Raises :class:`RefusedError` ``output-exists``."""
        if self._new is None or self._written is None:
            raise ValueError("prepare comes first")
        self._new.publish()
        return self._written

    def abandon(self) -> None:
        """As :meth:`Commit.abandon`."""
        if self._new is not None:
            self._new.abandon()

    def _write(self, new: NewFile, touched: array[int], progress: Progress) -> None:
        base = self._changes.base
        writer = child_writer(
            new.file,
            base,
            self._path,
            windows_path=self._target.parent_windows_path,
            block_size=best_block_size(base, touched),
        )
        block_size = writer.block_size
        progress.start("write child", len(touched) * MIB)
        try:
            done = 0
            previous = -1
            for number, mib in enumerate(touched, 1):
                block = mib * MIB // block_size
                if block == previous:
                    continue
                previous = block
                writer.allocate(block)
                fill(writer, self._changes, [(block * block_size, block_size)])
                progress.advance(number * MIB - done)
                done = number * MIB
            progress.advance(len(touched) * MIB - done)
            size = writer.finish()
        finally:
            progress.finish()
        parent = base.info.path
        notes = (keep_time_note(parent),) if base.info.format == "vhd" else ()
        self._written = Written(
            path=self._path,
            blocks=writer.blocks,
            bytes_written=writer.bytes_written,
            file_size_before=None,
            file_size=size,
            undo=f"Delete {self._path}: {parent} was not changed.",
            notes=notes,
        )


def keep_time_note(parent: str) -> str:
    """What the user of a VHD child must know of its parent."""
    return (
        f"The child states when {parent} was last changed, and Hyper-V compares: a copy of the parent must keep its "
        "time (cp -p, robocopy /COPY:DAT)."
    )


def no_changes(path: str) -> RefusedError:
    """Make the error for a commit that has nothing to do: its caller should not have begun it."""
    return RefusedError(
        "no-changes",
        "nothing differs from the disk that is there, so there is nothing to write",
        path=path,
        hint="Leave it: the image is as it shall be.",
    )


def _touched(changes: Changes) -> Iterator[int]:
    """The numbers of the MiB of the disk in which something changes, in order, each once."""
    last = -1
    for offset, length in changes.changed():
        for mib in range(max(last + 1, offset // MIB), (offset + length - 1) // MIB + 1):
            yield mib
            last = mib
