"""The files of a package as its verification needs them: read once, the payload kept as digests only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vhdtool.errors import DamagedError, Problem

if TYPE_CHECKING:
    from vhdtool.package.cabinet import Cabinet

CATALOG, MANIFEST, PACKAGE_MANIFEST = ".cat", ".manifest", ".mum"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file. ``digests`` by algorithm (sha1, sha256); ``content`` only of the catalogs and manifests at the top."""

    name: str
    size: int
    digests: Mapping[str, bytes] = field(repr=False)
    content: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """The files of a package by :func:`key` of their names, those that can't be read, and why they can't."""

    files: Mapping[str, PackageFile]
    unread: tuple[str, ...]
    problems: tuple[Problem, ...]

    def of_kind(self, *suffixes: str) -> tuple[PackageFile, ...]:
        """Return the files at the top of the package with one of these suffixes."""
        return tuple(one for one in self.files.values() if one.content is not None and _kind(one.name) in suffixes)


def key(name: str) -> str:
    """Return what two spellings of a file's name have in common: Windows minds neither case nor the kind of slash."""
    return name.replace("/", "\\").lower()


def read_package_files(cabinet: Cabinet) -> PackageFiles:
    """Read every file of a cabinet, each folder once.

    Raises:
        RefusedError: the contents are beyond the limits of extraction.
    """
    files: dict[str, PackageFile] = {}
    problems: list[Problem] = []
    try:
        for member, data in cabinet.read_all():
            if key(member.name) in files:
                problems.append(Problem("name-twice", "the cabinet holds two files of this name", member.name))
            top = _is_top(member.name)
            files[key(member.name)] = PackageFile(
                name=member.name,
                size=len(data),
                digests={
                    "sha1": hashlib.sha1(data, usedforsecurity=False).digest(),
                    "sha256": hashlib.sha256(data).digest(),
                },
                content=data if top and _kind(member.name) in {CATALOG, MANIFEST, PACKAGE_MANIFEST} else None,
            )
    except DamagedError as error:
        problems.append(Problem(error.code, error.message, error.path, error.offset))
    unread = tuple(member.name for member in cabinet.members if key(member.name) not in files)
    return PackageFiles(files, unread, tuple(problems))


def _is_top(name: str) -> bool:
    return "\\" not in key(name)


def _kind(name: str) -> str:
    stem, dot, suffix = name.lower().rpartition(".")
    return dot + suffix if stem else ""
