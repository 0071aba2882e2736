"""The result documents: what every ``--json`` prints, one frozen dataclass each (docs/design.md section 7).

The names are the interface. A field may be added to a version of a document; none is renamed, removed or given
another meaning without a new version. Sizes and offsets are in bytes. Unknown is ``None``; a field that was not asked
for (``sha256`` without ``--hash``) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, UnsetType

from vhdtool.errors import Problem
from vhdtool.guest.model import Finding, Guest, HiveFact, IntegrationServices, Service

ImageFormat = Literal["vhdx", "vhd", "raw"]
ImageType = Literal["fixed", "dynamic", "differencing"]
LogState = Literal["clean", "replayed"]


@dataclass(frozen=True, slots=True)
class ImageName:
    """The image a document is about, as it was named.

    ``path_b64`` holds the bytes of the name in base64, where they are not UTF-8 and ``path`` had to be escaped.
    """

    path: str
    path_b64: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class ErrorFact:
    """Why there is no result: code, message, the way out, and the byte offset of what was wrong."""

    code: str
    message: str
    hint: str | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """In place of any other document, when its image failed. ``schema`` is that of the document that was asked for."""

    schema: str
    image: ImageName
    error: ErrorFact


@dataclass(frozen=True, slots=True)
class ImageFact:
    """The image file and its chain. ``parents`` is in order, the nearest first; so is ``parents_sha256``."""

    path: str
    format: ImageFormat
    type: ImageType
    virtual_size: int
    logical_sector_size: int
    block_size: int | None
    log: LogState | None
    parents: tuple[str, ...]
    problems: tuple[Problem, ...]
    path_b64: str | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    parents_sha256: tuple[str, ...] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class VolumeStateFact:
    """Whether the volume was left in a state that forbids writing. ``None``: does not apply, or can't be told.

    ``log`` is that of NTFS: empty, clean, unclean, 2.0 (Windows 8 or later had it mounted), damaged.
    """

    dirty: bool | None
    hibernated: bool | None
    encrypted: bool
    log: str | None


@dataclass(frozen=True, slots=True)
class VolumeFact:
    """A partition, a logical volume, or the whole disk where it has no table. ``offset`` is on the virtual disk."""

    index: int
    offset: int
    size: int
    role: str
    filesystem: str | None
    label: str | None
    state: VolumeStateFact
    scheme: str
    type_id: str
    name: str | None
    encryption: str | None
    container: str | None


@dataclass(frozen=True, slots=True)
class InspectDocument:
    """``vhdtool inspect``: everything that is known of one image."""

    schema: Literal["vhdtool.inspect/1"]
    image: ImageFact
    volumes: tuple[VolumeFact, ...]
    guests: tuple[Guest, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ShippedVersionFact:
    """Where a version of the integration services came from: the hosts, and the update (``kb``; none for a release).

    ``exact``: this very version is in the catalogue; else only whose series it belongs to is known.
    """

    version: str
    hosts: tuple[str, ...]
    kb: str | None
    note: str | None
    exact: bool
    source: str


@dataclass(frozen=True, slots=True)
class NewestVersionFact:
    """The newest integration services for a guest; ``version`` is ``None`` where each Windows has its own.

    ``newer``: whether they are newer than those of the guest, ``None`` where that is not known. ``by``: how they get
    into it: a package, setup in the running guest, or Windows Update alone.
    """

    version: str | None
    newer: bool | None
    by: Literal["cab", "setup", "windows-update"]
    kb: str | None
    note: str
    source: str


@dataclass(frozen=True, slots=True)
class VersionDocument:
    """``vhdtool version``. ``volume`` is the index of the guest's volume, ``root`` its Windows directory.

    Of a Linux ``root`` is the directory of the volume that is its root, ``/`` or a subvolume.
    ``problems``: what was wrong and survived, in the containers and where a source could not be read.
    ``shipped_by``: which host or update brought this version; ``newest``: the newest there is for this guest, ``None``
    where its Windows is not known.
    """

    schema: Literal["vhdtool.version/1"]
    image: ImageName
    volume: int
    root: str
    integration_services: IntegrationServices
    hives: tuple[HiveFact, ...]
    problems: tuple[Problem, ...]
    shipped_by: tuple[ShippedVersionFact, ...]
    newest: NewestVersionFact | None


@dataclass(frozen=True, slots=True)
class ServicesDocument:
    """``vhdtool services list``; ``all_services`` is ``None`` without ``--all-services``."""

    schema: Literal["vhdtool.services/1"]
    image: ImageName
    volume: int
    root: str
    services: tuple[Service, ...]
    drivers: tuple[Service, ...]
    all_services: tuple[Service, ...] | None
    hives: tuple[HiveFact, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RegistryHive:
    """The hive that answered: its path in the guest (or of the host, for a hive file), and what recovery it took."""

    path: str
    state: Literal["clean", "recovered", "dirty"]
    logs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegistryValue:
    """A value. ``name`` is empty for the default value.

    ``data`` is a number for REG_DWORD and REG_QWORD, text for REG_SZ and REG_EXPAND_SZ, a list of texts for
    REG_MULTI_SZ, and hexadecimal digits for every other type and for data that does not fit its type.
    ``offset`` is that of the value's cell in the hive file.
    """

    name: str
    type: str
    data: int | str | tuple[str, ...]
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class RegistryKey:
    """A key with its values, and the names of its subkeys. ``hive_path`` is the path from the hive's root."""

    path: str
    hive_path: str
    last_written: str | None
    class_name: str | None
    values: tuple[RegistryValue, ...]
    subkeys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegQueryDocument:
    """``vhdtool reg query``: the key (and those below it with ``--recursive``), in the hive's order.

    ``problems``: what is damaged in the hive; damaged keys and values are left out.
    """

    schema: Literal["vhdtool.reg-query/1"]
    image: ImageName
    hive: RegistryHive
    keys: tuple[RegistryKey, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file or directory of the guest."""

    name: str
    kind: str
    size: int
    modified: str | None
    record: int | None
    storage: str | None
    link_target: str | None


@dataclass(frozen=True, slots=True)
class LsDocument:
    """``vhdtool ls``: the directory ``path`` of volume ``volume``, or the one file that ``path`` names."""

    schema: Literal["vhdtool.ls/1"]
    image: ImageName
    volume: int
    path: str
    entries: tuple[FileFact, ...]


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file of the guest that was saved on the host. ``sha256`` is that of the bytes saved."""

    path: str
    saved_as: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not saved, and why."""

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ExtractDocument:
    """``vhdtool extract``."""

    schema: Literal["vhdtool.extract/1"]
    image: ImageName
    volume: int
    files: tuple[SavedFile, ...]
    skipped: tuple[SkippedFile, ...]


@dataclass(frozen=True, slots=True)
class FileExtent:
    """A piece of a file: ``disk_offset`` counts on the virtual disk, ``None`` where the volume is not one run of it."""

    file_offset: int
    volume_offset: int
    disk_offset: int | None
    length: int


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """A file that facts were read from. ``error`` in place of ``saved_as`` and ``sha256`` where it can't be read.

    ``extents`` is empty for files that the file system keeps inside its own records or compressed.
    """

    path: str
    volume: int
    volume_offset: int
    size: int
    modified: str | None
    record: int | None
    storage: str | None
    saved_as: str | None
    sha256: str | None
    extents: tuple[FileExtent, ...]
    error: ErrorFact | None


@dataclass(frozen=True, slots=True)
class EvidenceDocument:
    """``manifest.json`` of ``vhdtool inspect --evidence-dir``. ``created`` is in UTC."""

    schema: Literal["vhdtool.evidence/1"]
    tool: str
    created: str
    image: ImageFact
    files: tuple[EvidenceFile, ...]
