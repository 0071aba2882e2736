"""The record that stays in the guest beside what was staged (``stage.json``): what was put where, and what was there.

It is what ``unstage`` goes by, and what ``outcome`` compares with. Reading treats it as anything else from a guest:
bounded, and wrong in any way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from vhdtool.errors import DamagedError, NotFoundError, VhdtoolError
from vhdtool.guest.source import WindowsInstallation

FOLDER = "Setup/vhdtool"
"""Below the Windows directory: one directory for each stage, by its id."""
RECORD = "stage.json"
MAX_RECORD = 1 << 20
MAX_STAGES = 64
ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_SAFE_PATH = re.compile(r"(?:[A-Za-z0-9 ._()-]+/)*[A-Za-z0-9 ._()-]+")


@dataclass(frozen=True, slots=True)
class RecordedPackage:
    """A cabinet that was staged. ``file`` is its name in the stage's directory, ``source`` that on the host."""

    file: str
    sha256: str
    size: int
    name: str
    kb: str | None
    version: str
    architecture: str
    integration_version: str | None
    source: str


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file that was put. ``path`` is below the Windows directory."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class RecordedValue:
    """A registry value that was set: data in hexadecimal, ``before`` None where there was none."""

    hive: str
    key: str
    name: str
    type: int
    data: str
    before_type: int | None
    before_data: str | None


@dataclass(frozen=True, slots=True)
class RecordedScript:
    """SetupComplete.cmd as it was before: None for both where there was none."""

    path: str
    before_sha256: str | None
    before_size: int | None


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What was staged. ``created`` in UTC, ISO 8601. ``disk``: the identity of the disk it was staged into.

    ``directories`` that were made, outermost first; ``service_key`` from the root of the SYSTEM hive.
    """

    schema: Literal["vhdtool.staged/1"]
    tool: str
    id: str
    created: str
    disk: str | None
    windows: str | None
    architecture: str | None
    ways: tuple[str, ...]
    reboot: str
    service: str
    service_key: str
    command: str
    packages: tuple[RecordedPackage, ...]
    files: tuple[RecordedFile, ...]
    directories: tuple[str, ...]
    registry: tuple[RecordedValue, ...]
    setup_complete: RecordedScript | None
    integration_version: str | None


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's directory in a guest. ``folder`` is below the Windows directory; ``record`` None with ``error``."""

    id: str
    folder: str
    record: StageRecord | None
    error: VhdtoolError | None


def record_bytes(record: StageRecord) -> bytes:
    """Encode a record, in lines for people to read."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def parse_record(data: bytes, path: str) -> StageRecord:
    """Read a record. Raises :class:`DamagedError` ``stage-record-damaged``."""
    try:
        record = msgspec.json.decode(data, type=StageRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    places = [one.path for one in record.files] + list(record.directories)
    places += [one.file for one in record.packages]
    if record.setup_complete is not None:
        places.append(record.setup_complete.path)
    for place in places:
        if not _SAFE_PATH.fullmatch(place) or any(part in {".", ".."} for part in place.split("/")):
            raise _damaged(path, f"the path {place!r}")
    if not ID.fullmatch(record.id):
        raise _damaged(path, f"the id {record.id!r}")
    return record


def read_stages(installation: WindowsInstallation) -> tuple[Stage, ...]:
    """List what is staged in a guest, by id; a record that can't be read is told with its stage."""
    return tuple(sorted(_stages(installation), key=lambda stage: stage.id))


def read_stage_file(installation: WindowsInstallation, path: str, limit: int) -> bytes | None:
    """Read a small file below the Windows directory; None where it is not there.

    Raises :class:`DamagedError` ``stage-file-too-long``.
    """
    try:
        file = installation.filesystem.open(installation.path(path))
    except NotFoundError:
        return None
    if file.size > limit:
        raise DamagedError(
            "stage-file-too-long",
            "the file is longer than anything that staging leaves there",
            path=installation.path(path),
            expected=f"at most {limit} bytes",
            found=f"{file.size} bytes",
            hint="Somebody else wrote it: look at it with vhdtool cat, and remove the stage with vhdtool unstage.",
        )
    return file.read_at(0, file.size)


def _stages(installation: WindowsInstallation) -> Iterator[Stage]:
    place = installation.path(FOLDER)
    there = installation.filesystem.stat(place)
    if there is None or there.kind != "directory":
        return
    found = 0
    for entry in installation.filesystem.list(place):
        if entry.kind != "directory" or not ID.fullmatch(entry.name.lower()):
            continue
        found += 1
        if found > MAX_STAGES:
            return
        yield _stage(installation, entry.name)


def _stage(installation: WindowsInstallation, name: str) -> Stage:
    folder = f"{FOLDER}/{name}"
    path = f"{folder}/{RECORD}"
    try:
        data = read_stage_file(installation, path, MAX_RECORD)
        if data is None:
            raise _damaged(installation.path(path), "no such file")
        record = parse_record(data, installation.path(path))
        if record.id != name.lower():
            raise _damaged(installation.path(path), f"the id {record.id}")
    except VhdtoolError as error:
        return Stage(name.lower(), folder, None, error)
    return Stage(record.id, folder, record, None)


def _damaged(path: str, found: str) -> DamagedError:
    return DamagedError(
        "stage-record-damaged",
        "the record of what was staged can't be used",
        path=path,
        found=found,
        hint="Take the stage out with vhdtool unstage, which then goes by what is there.",
    )
