"""Carry out a plan on an overlay: files by the NTFS writer, then hives in place.

The order is that of docs/design.md section 5. Hives are edited in memory first, because one that grows needs room
made by the writer, and the writer ends before anything else is opened over the overlay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vhdtool.disk.device import WritableSlice
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import RefusedError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.guest.source import WindowsInstallation
from vhdtool.image import Image, RecordedFilesystem
from vhdtool.progress import SILENT, Progress
from vhdtool.registry.edit import EditedHive, HiveEditor
from vhdtool.registry.operation import RegistryOperation
from vhdtool.transaction.plan import FileChange, Plan, RegistryChange
from vhdtool.volume.partitions import Volume

if TYPE_CHECKING:
    from vhdtool.fs.writer import FileWriter

GROWTH_MARGIN = 64 << 10
ENTRY_MARGIN = 8 << 10
"""Room, beyond what the files need, that must be free on a volume: once, and for each file its MFT record, its place
in a directory, and the rest of its last cluster."""


@dataclass(frozen=True, slots=True)
class EditedFile:
    """A hive that was edited: where it lies, what was done, and the file's new size in bytes.

    ``record``: the MFT segment of a file that was overwritten in place, ``None`` of one that the writer replaced.
    """

    volume: int
    path: str
    size: int
    operations: tuple[RegistryOperation, ...]
    record: int | None


@dataclass(slots=True)
class Applied:
    """What was done on the overlay. ``writers`` tells of each volume that the NTFS writer worked on."""

    hives: list[EditedFile] = field(default_factory=list)
    files: list[FileChange] = field(default_factory=list)
    writers: dict[int, str] = field(default_factory=dict)

    @property
    def volumes(self) -> tuple[int, ...]:
        """The volumes that were touched."""
        return tuple(sorted({change.volume for change in self.files} | {hive.volume for hive in self.hives}))


def overlay_volume(overlay: Overlay, volume: Volume) -> WritableSlice:
    """Return a partition of the overlay for writing. Raises :class:`RefusedError` ``not-writable-volume``."""
    if volume.scheme == "lvm":
        raise RefusedError(
            "not-writable-volume",
            f"volume {volume.index} is a logical volume of LVM, and these are only read",
            path=overlay.path,
            hint="Make the change in the running guest.",
        )
    return WritableSlice(overlay, volume.offset, volume.size)


def bare(filesystem: GuestFilesystem) -> GuestFilesystem:
    """Return a file system without the recorder that an image puts around it."""
    return filesystem.inner if isinstance(filesystem, RecordedFilesystem) else filesystem


def apply_plan(image: Image, plan: Plan, overlay: Overlay, progress: Progress = SILENT) -> Applied:
    """Carry out what a plan changes. Nothing but the overlay is written.

    Raises :class:`RefusedError` for a volume, path or hive that must not be written, and what the parts raise.
    """
    applied = Applied()
    for index in plan.volumes:
        _apply_to_volume(image, plan, overlay, applied, index=index, progress=progress)
    return applied


def _apply_to_volume(
    image: Image, plan: Plan, overlay: Overlay, applied: Applied, *, index: int, progress: Progress
) -> None:
    from vhdtool.fs.fitness import (  # noqa: PLC0415  # only for writing
        refuse_unfit_hive,
        refuse_unfit_path,
        refuse_unfit_volume,
    )

    volume = image.volume(index)
    device = overlay_volume(overlay, volume)
    filesystem = bare(image.filesystem(index))
    files = [change for change in plan.files if change.volume == index and change.changes]
    edited = list(_edited_hives(image, plan, index))
    room = sum(change.size or 0 for change in files)
    room += sum(hive.size - hive.grew_from for _, _, hive in edited if hive.grew_from is not None)
    if files or room:
        room += GROWTH_MARGIN + ENTRY_MARGIN * len(files)
    refuse_unfit_volume(device, volume, filesystem, room=room)
    if not isinstance(filesystem, NtfsFilesystem):  # said by the line above; the type checker can't know
        return
    for change in files:
        refuse_unfit_path(filesystem, change.path, structural=True)
    for path, _, hive in edited:
        refuse_unfit_hive(filesystem, path, structural=hive.grew_from is not None)
    growing = [(path, hive.size) for path, _, hive in edited if hive.grew_from is not None]
    if files or growing:
        applied.writers[index] = _write_files(device, files, growing, progress)
        applied.files += files
        filesystem = NtfsFilesystem(device)
    replaced = []
    for path, operations, hive in edited:
        record = _overwritten(device, filesystem, path, hive)
        if record is None:
            refuse_unfit_path(filesystem, path, structural=True)
            replaced.append(FileChange(index, "put", path, changes=True, size=hive.size, content=hive.image))
        applied.hives.append(EditedFile(index, path, hive.size, operations, record))
    if replaced:
        applied.writers[index] = _write_files(device, replaced, (), progress)


def _overwritten(device: WritableSlice, filesystem: NtfsFilesystem, path: str, hive: EditedHive) -> int | None:
    """Write a hive over its file where it lies; ``None``, and nothing is written, where only the writer can."""
    from vhdtool.fs.in_place import NEEDS_WRITER, overwrite  # noqa: PLC0415  # only for writing

    try:
        overwrite(device, filesystem, path, hive.pieces())
    except RefusedError as error:
        if error.code in NEEDS_WRITER:
            return None
        raise
    stat = filesystem.stat(path)
    return None if stat is None else stat.record


def _edited_hives(
    image: Image, plan: Plan, volume: int
) -> Iterator[tuple[str, tuple[RegistryOperation, ...], EditedHive]]:
    """Each hive of a volume that changes: its path, the operations, and the hive after them."""
    wanted: dict[tuple[str, str], list[RegistryChange]] = {}
    for change in plan.registry:
        if change.volume == volume:
            wanted.setdefault((change.root, change.hive), []).append(change)
    for (root, name), changes in wanted.items():
        if not any(change.changes for change in changes):
            continue
        hive = installation_at(image, volume, root).hive(name)
        editor = HiveEditor(hive)
        for change in changes:
            editor.apply(change.operation)
        yield hive.path, tuple(change.operation for change in changes), editor.finish()


def installation_at(image: Image, volume: int, root: str) -> WindowsInstallation:
    """Return the Windows that a plan was made for. Raises :class:`RefusedError` ``plan-mismatch``."""
    for installation in image.installations:
        if installation.volume_index == volume and installation.root == root:
            return installation
    raise RefusedError(
        "plan-mismatch", f"the image has no Windows at {root} on volume {volume}: the plan was made for another image",
        path=image.path,
    )  # fmt: skip


def _write_files(
    device: WritableSlice, files: Sequence[FileChange], growing: Sequence[tuple[str, int]], progress: Progress
) -> str:
    """Make, replace and remove files and make hives longer; return what did it."""
    from vhdtool.fs.writer import open_writer  # noqa: PLC0415  # starts a process

    writer = open_writer(device, progress=progress)
    try:
        for change in files:
            _write_file(writer, change)
        for path, size in growing:
            writer.resize(path, size)
        report = writer.finish()
    except BaseException:
        writer.abort()
        raise
    return report.library


def _write_file(writer: FileWriter, change: FileChange) -> None:
    if change.action == "remove":
        writer.remove(change.path)
    elif change.action == "make-directory":
        writer.make_directory(change.path, security=change.security)
    elif change.content is not None:
        writer.put(change.path, change.content, security=change.security)
