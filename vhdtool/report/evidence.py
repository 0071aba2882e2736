"""``inspect --evidence-dir``: the files that the facts were read from, with their hashes and places in the image."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import vhdtool
from vhdtool.errors import OutputError, RefusedError, UsageError, VhdtoolError
from vhdtool.fs.base import FileStat, GuestFile
from vhdtool.guest.source import LOG_SUFFIXES
from vhdtool.image import Image, OpenedFile
from vhdtool.report.document import ErrorFact, EvidenceDocument, EvidenceFile, FileExtent, ImageFact, SavedFile
from vhdtool.report.encode import error_fact, to_json
from vhdtool.report.host_files import host_name, make_directory, output_error, save_file
from vhdtool.volume.partitions import Volume

MANIFEST = "manifest.json"
LARGEST_SAVED = 512 << 20
"""Facts are read from hives and programs, far smaller; and from the first bytes of a hibernation file, far larger."""


def prepare_directory(directory: Path) -> None:
    """Make the evidence directory, before any work is done.

    Raises :class:`UsageError` ``evidence-dir``: it must be new or empty, so that nothing of another run is mixed in.
    """
    make_directory(directory)
    try:
        used = any(directory.iterdir())
    except OSError as error:
        raise output_error(error, directory) from error
    if used:
        raise UsageError(
            "evidence-dir",
            "the evidence directory is not empty",
            path=os.fspath(directory),
            hint="Name a new one: files of two runs must not mix.",
        )


def save_evidence(image: Image, fact: ImageFact, directory: Path, *, now: datetime | None = None) -> EvidenceDocument:
    """Save every guest file that was opened so far, and the logs beside each hive, into ``directory``.

    The guest's tree is kept below ``volume-N``. ``manifest.json`` says for each file where it lies in the image.
    Raises :class:`vhdtool.errors.OutputError`; a file that can't be read is named with its error instead.
    """
    files = [_save(image, opened, directory) for opened in _with_logs(image)]
    document = EvidenceDocument(
        "vhdtool.evidence/1",
        f"vhdtool {vhdtool.__version__}",
        (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        fact,
        tuple(files),
    )
    try:
        with (directory / MANIFEST).open("xb") as out:
            out.write(to_json(document, pretty=True))
    except OSError as error:
        raise output_error(error, directory / MANIFEST) from error
    return document


def _with_logs(image: Image) -> list[OpenedFile]:
    wanted: dict[OpenedFile, None] = {}
    for opened in image.opened_files:
        wanted[opened] = None
        filesystem = image.filesystem(opened.volume)
        for suffix in LOG_SUFFIXES:
            if filesystem.stat(opened.path + suffix) is not None:
                wanted[OpenedFile(opened.volume, opened.path + suffix)] = None
    unique = {(opened.volume, opened.path.lower()): opened for opened in reversed(wanted)}
    return list(reversed(unique.values()))


def _save(image: Image, opened: OpenedFile, directory: Path) -> EvidenceFile:
    volume = image.volume(opened.volume)
    filesystem = image.filesystem(opened.volume)
    relative = Path(f"volume-{volume.index}", *(host_name(part) for part in opened.path.split("/") if part))
    stat: FileStat | None = None
    saved: SavedFile | None = None
    extents: tuple[FileExtent, ...] = ()
    failed: ErrorFact | None = None
    try:
        stat = filesystem.stat(opened.path)
        file = filesystem.open(opened.path)
        extents = _extents(file, volume)
        if file.size > LARGEST_SAVED:
            raise RefusedError(
                "too-large",
                f"only the file's place is told: it is larger than {LARGEST_SAVED} bytes",
                found=file.size,
                hint=f"Copy it with: vhdtool extract IMAGE {opened.path} DIR",
            )
        make_directory((directory / relative).parent)
        saved = save_file(file, directory / relative)
    except OutputError:
        raise
    except VhdtoolError as error:
        failed = error_fact(error)
    return EvidenceFile(
        path=opened.path,
        volume=volume.index,
        volume_offset=volume.offset,
        size=saved.size if saved else stat.size if stat else 0,
        modified=stat.modified.isoformat() if stat and stat.modified else None,
        record=stat.record if stat else None,
        storage=stat.storage if stat else None,
        saved_as=relative.as_posix() if saved else None,
        sha256=saved.sha256 if saved else None,
        extents=extents,
        error=failed,
    )


def _extents(file: GuestFile, volume: Volume) -> tuple[FileExtent, ...]:
    linear = volume.scheme != "lvm"
    return tuple(
        FileExtent(
            extent.file_offset,
            extent.volume_offset,
            volume.offset + extent.volume_offset if linear else None,
            extent.length,
        )
        for extent in file.extents()
    )
