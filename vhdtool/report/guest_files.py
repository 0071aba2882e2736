"""``ls``, ``cat`` and ``extract``: files of a guest, and the copying of them to the host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vhdtool.errors import InputError, NotFoundError, UsageError, VhdtoolError
from vhdtool.fs.base import FileStat, GuestFilesystem
from vhdtool.image import Image
from vhdtool.report.document import ExtractDocument, FileFact, LsDocument, SavedFile, SkippedFile
from vhdtool.report.encode import image_name
from vhdtool.report.host_files import exists, host_name, make_directory, save_file

DEEPEST = 256
"""Directories deeper than this are not followed: a damaged file system can hold a directory inside itself."""

_DRIVE = re.compile(r"^([A-Za-z]):(?=[\\/]|$)")


@dataclass(frozen=True, slots=True)
class GuestPlace:
    """A path on one volume of the image; the path is absolute, with ``/``."""

    volume: int
    filesystem: GuestFilesystem
    path: str

    def stat(self) -> FileStat:
        """Return the facts of what is there; raises :class:`NotFoundError` ``no-such-file``."""
        entry = self.filesystem.stat(self.path)
        if entry is None:
            raise NotFoundError(
                "no-such-file",
                f"volume {self.volume} has no such file or directory",
                path=self.path,
                hint="See what is there with: vhdtool ls IMAGE PATH",
            )
        return entry


def find_place(image: Image, path: str, *, volume: int | None = None, guest: int | None = None) -> GuestPlace:
    r"""Find the volume that a path means.

    ``volume`` names it; else it is the guest's; else, on an image without a guest, the only volume that can be read.
    A path may begin with ``C:``, which stands for the guest's volume. Raises :class:`UsageError`
    ``ambiguous-volume``, ``ambiguous-guest``, ``drive-letter``, and what :meth:`Image.installation` raises.
    """
    drive = _DRIVE.match(path)
    if drive is not None and (volume is not None or drive[1].upper() != "C"):
        raise UsageError(
            "drive-letter",
            f"a stopped image has no drive {drive[0].upper()}",
            hint="C: stands for the guest's own volume; name any other by its number: --volume N.",
        )
    inner = path[drive.end() :] if drive is not None else path
    index = volume if volume is not None else _guest_volume(image, guest)
    parts = [part for part in re.split(r"[\\/]+", inner) if part]
    return GuestPlace(index, image.filesystem(index), "/" + "/".join(parts))


def _guest_volume(image: Image, guest: int | None) -> int:
    if image.systems or guest is not None:
        return image.system(guest).volume_index
    readable = []
    for volume in image.volume_table.volumes:
        if volume.filesystem is None:
            continue
        try:
            image.filesystem(volume.index)
        except VhdtoolError:
            continue
        readable.append(volume)
    if len(readable) > 1:
        raise UsageError(
            "ambiguous-volume",
            f"the image has no Windows and {len(readable)} volumes with a file system",
            path=image.path,
            hint="Say which: " + "; ".join(f"--volume {one.index}: {one.filesystem}" for one in readable) + ".",
        )
    return readable[0].index if readable else image.installation().volume_index


def ls_document(image: Image, place: GuestPlace) -> LsDocument:
    """List a directory, or tell the facts of one file. Raises :class:`NotFoundError` ``no-such-file``."""
    entry = place.stat()
    entries = place.filesystem.list(place.path) if entry.kind == "directory" else [entry]
    return LsDocument(
        "vhdtool.ls/1", image_name(image.path), place.volume, place.path, tuple(_file_fact(one) for one in entries)
    )


def _file_fact(entry: FileStat) -> FileFact:
    return FileFact(
        name=entry.name,
        kind=entry.kind,
        size=entry.size,
        modified=entry.modified.isoformat() if entry.modified else None,
        record=entry.record,
        storage=entry.storage,
        link_target=entry.link_target,
    )


def extract_document(image: Image, place: GuestPlace, target: Path) -> ExtractDocument:
    """Copy a file, or a directory with all below it, into the directory ``target``, which is made where needed.

    Links inside a directory are not followed and not made. Nothing that exists is overwritten. Files of a directory
    that can't be read truly are listed under ``skipped``. Raises :class:`NotFoundError` ``no-such-file``,
    :class:`vhdtool.errors.RefusedError` ``exists``, :class:`vhdtool.errors.OutputError`.
    """
    entry = place.stat()
    name = place.path.rpartition("/")[2] or f"volume-{place.volume}"
    top = target / host_name(entry.name if entry.name.lower() == name.lower() else name)
    if top.is_symlink() or top.exists():
        raise exists(top)
    make_directory(target)
    if entry.kind == "directory":
        copy = _DirectoryCopy(place.filesystem)
        copy.copy(place.path, top)
        saved, skipped = copy.saved, copy.skipped
    else:
        saved, skipped = [save_file(place.filesystem.open(place.path), top)], []
    return ExtractDocument(
        "vhdtool.extract/1", image_name(image.path), place.volume, tuple(saved), tuple(skipped)
    )  # fmt: skip


class _DirectoryCopy:
    """One run of copying a directory: what was saved, and what was not."""

    def __init__(self, filesystem: GuestFilesystem) -> None:
        self._filesystem = filesystem
        self.saved: list[SavedFile] = []
        self.skipped: list[SkippedFile] = []

    def copy(self, path: str, top: Path) -> None:
        waiting = [(path, top, 0)]
        while waiting:
            path, saved_as, depth = waiting.pop()
            make_directory(saved_as, new=True)
            if depth == DEEPEST:
                self.skipped.append(SkippedFile(path, "too-deep", f"{DEEPEST} directories deep: a loop, or nearly"))
                continue
            for child, child_path, child_name in self._children(path):
                if child.kind == "directory":
                    waiting.append((child_path, saved_as / child_name, depth + 1))
                else:
                    self._file(child, child_path, saved_as / child_name)

    def _children(self, path: str) -> Iterator[tuple[FileStat, str, str]]:
        taken: set[str] = set()
        try:
            children = self._filesystem.list(path)
        except (InputError, NotFoundError) as error:
            self.skipped.append(SkippedFile(path, error.code, error.message))
            return
        for child in children:
            name = host_name(child.name)
            while name.lower() in taken:  # names that differ in case only
                name += "~"
            taken.add(name.lower())
            yield child, f"{path.rstrip('/')}/{child.name}", name

    def _file(self, entry: FileStat, path: str, saved_as: Path) -> None:
        if entry.kind != "file":
            self.skipped.append(SkippedFile(path, "not-a-file", f"{entry.kind}: not copied"))
            return
        try:
            self.saved.append(save_file(self._filesystem.open(path), saved_as))
        except (InputError, NotFoundError) as error:
            self.skipped.append(SkippedFile(path, error.code, error.message))
