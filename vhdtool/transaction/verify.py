"""Read what a plan changed again, by readers that are not ours: files by dissect, registry values by python-registry.

The same questions are asked of the overlay before a commit and of the real file after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vhdtool.disk.device import BlockDevice
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import OutputError
from vhdtool.fs.read import open_filesystem
from vhdtool.image import Image
from vhdtool.transaction.apply import Applied
from vhdtool.transaction.plan import FileAction
from vhdtool.volume.partitions import volume_device

if TYPE_CHECKING:
    from vhdtool.fs.directory_opinion import FileExpectation, FilesVerdict
    from vhdtool.registry.opinion import HiveVerdict


@dataclass(frozen=True, slots=True)
class GuestVerdict:
    """Who confirmed the files and hives: one verdict for each volume and each hive that was touched."""

    files: tuple[FilesVerdict, ...]
    hives: tuple[HiveVerdict, ...]


def confirm_guest(image: Image, disk: BlockDevice, applied: Applied, *, single_opinion: bool) -> GuestVerdict:
    """Ask foreign readers whether ``disk`` holds what was applied; ``image`` tells where its volumes lie.

    Raises :class:`vhdtool.errors.OpinionError` where they differ, and what reading the volumes raises.
    """
    from vhdtool.fs.directory_opinion import confirm_files  # noqa: PLC0415  # slow readers
    from vhdtool.registry.opinion import confirm_hive  # noqa: PLC0415

    files = []
    hives = []
    for index in applied.volumes:
        volume = image.volume(index)
        device = volume_device(disk, volume)
        files.append(confirm_files(device, volume, _expected(applied, index)))
        filesystem = open_filesystem(device, volume)
        for hive in applied.hives:
            if hive.volume == index:
                source = filesystem.open(hive.path)
                verdict = confirm_hive(source, hive.operations, path=hive.path, single_opinion=single_opinion)
                hives.append(verdict)
    return GuestVerdict(tuple(files), tuple(hives))


def check_volumes(image: Image, overlay: Overlay, applied: Applied) -> None:
    """Hold every touched directory and record to the rules of NTFS, by our own checker.

    Raises :class:`OutputError` ``ntfs-check-failed``.
    """
    from vhdtool.fs.ntfs_check import check_touched  # noqa: PLC0415  # only for writing

    for index in applied.volumes:
        volume = image.volume(index)
        before, after = volume_device(image.disk, volume), volume_device(overlay, volume)
        written = _within(overlay.changed(), volume.offset, volume.offset + volume.size)
        overwritten = {hive.record for hive in applied.hives if hive.volume == index and hive.record is not None}
        problems = check_touched(before, after, written, path=overlay.path, overwritten=overwritten)
        if problems:
            first = problems[0]
            raise OutputError(
                "ntfs-check-failed",
                f"the changed file system breaks a rule of NTFS: {first.message} [{first.code}]",
                path=overlay.path,
                offset=None if first.offset is None else volume.offset + first.offset,
                hint="Nothing was written to the image. Please report this with the image's history.",
            )


def _within(ranges: Iterator[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of ranges that lie between two places, counted from the first."""
    for offset, length in ranges:
        first, last = max(offset, start), min(offset + length, end)
        if first < last:
            yield first - start, last - first


_KINDS: dict[FileAction, Literal["file", "directory", "absent"]] = {
    "put": "file",
    "make-directory": "directory",
    "remove": "absent",
}


def _expected(applied: Applied, volume: int) -> list[FileExpectation]:
    """What a reader must find: the last word on each path counts."""
    from vhdtool.fs.directory_opinion import FileExpectation  # noqa: PLC0415

    wanted: dict[str, FileExpectation] = {}
    for change in applied.files:
        if change.volume == volume:
            wanted[change.path] = FileExpectation(change.path, _KINDS[change.action], change.size, change.sha256)
    for hive in applied.hives:
        if hive.volume == volume:  # what is in it is the registry reader's question
            wanted[hive.path] = FileExpectation(hive.path, "file", hive.size, None)
    return list(wanted.values())
