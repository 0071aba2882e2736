"""The files of a package as its verification needs them: read once, the payload kept as digests only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from vhdtool.bytesource import read_exactly
from vhdtool.errors import DamagedError, Problem
from vhdtool.package.cabinet import MAX_NOTED, Cabinet, CabinetMember
from vhdtool.package.der import MAX_SIZE
from vhdtool.package.msu import is_patch
from vhdtool.package.package_limits import DescriptionLimits

CATALOG, MANIFEST, PACKAGE_MANIFEST = ".cat", ".manifest", ".mum"
KINDS = {CATALOG, MANIFEST, PACKAGE_MANIFEST}
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file. ``digests`` by algorithm (sha1, sha256); ``content`` only of the catalogs and manifests at the top.

    ``is_patch``: it holds differences to another file.
    """

    name: str
    size: int
    digests: Mapping[str, bytes] = field(repr=False)
    content: bytes | None = field(repr=False)
    is_patch: bool = False


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """The files of a package by their names' keys, those that can't be read, and why they can't."""

    files: Mapping[str, PackageFile]
    unread: frozenset[str]
    problems: tuple[Problem, ...]

    def of_kind(self, *suffixes: str) -> tuple[PackageFile, ...]:
        """Return the files at the top of the package with one of these suffixes."""
        return tuple(one for one in self.files.values() if one.content is not None and _kind(one.name) in suffixes)

    def unread_of_kind(self, *suffixes: str) -> tuple[str, ...]:
        """Return the keys of the files at the top with one of these suffixes that can't be read."""
        return tuple(sorted(one for one in self.unread if _is_top(one) and _kind(one) in suffixes))


def read_package_files(cabinet: Cabinet) -> PackageFiles:
    """Read every file of a cabinet. What is damaged is left out, and told; the rest is read all the same.

    Raises:
        RefusedError: ``cabinet-too-large``, ``package-too-large``. UnsupportedError: ``cabinet-compression-unknown``.
        MissingSupportError: ``libmspack-missing``. OutputError: ``cannot-unpack``.
    """
    DescriptionLimits(cabinet.path).take_sizes(one.size for one in cabinet.members if _is_kept(one))
    files: dict[str, PackageFile] = {}
    unsafe = [one.name for one in cabinet.members if not one.is_safe]
    problems = [Problem("cabinet-unsafe-name", "the name leads out of the folder", name) for name in unsafe[:MAX_NOTED]]
    unread: set[str] = set()
    for member in _in_order(cabinet):
        if member.key in files or member.key in unread:
            problems.append(Problem("name-twice", "the cabinet holds two files of this name", member.name))
            continue
        try:
            files[member.key] = _read(cabinet, member)
        except DamagedError as error:
            unread.add(member.key)
            problems.append(Problem("file-unreadable", error.message, member.name, error.offset))
    return PackageFiles(files, frozenset(unread), tuple(problems))


def _in_order(cabinet: Cabinet) -> Iterator[CabinetMember]:
    """The files in the order they lie in the folders, each folder decoded to its end before its first is read."""
    folders: dict[int, list[CabinetMember]] = {}
    for member in cabinet.members:
        folders.setdefault(member.folder, []).append(member)
    for _, inside in sorted(folders.items()):
        inside.sort(key=lambda one: one.offset + one.size)
        with suppress(DamagedError):  # told for the first file that it concerns
            cabinet.open_member(inside[-1])
        yield from inside


def _read(cabinet: Cabinet, member: CabinetMember) -> PackageFile:
    keep = _is_kept(member)
    content = cabinet.open_member(member)
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("sha1", "sha256")}
    kept = []
    patch = False
    for offset in range(0, member.size, _READ):
        data = read_exactly(content, offset, min(_READ, member.size - offset), path=cabinet.path, what=member.name)
        for one in hashes.values():
            one.update(data)
        patch = patch or (offset == 0 and is_patch(data))
        if keep:
            kept.append(data)
    digests = {name: one.digest() for name, one in hashes.items()}
    return PackageFile(member.name, member.size, digests, b"".join(kept) if keep else None, patch)


def _is_kept(member: CabinetMember) -> bool:
    return _is_top(member.key) and member.size <= MAX_SIZE and _kind(member.key) in KINDS


def _is_top(key: str) -> bool:
    return "\\" not in key


def _kind(name: str) -> str:
    stem, dot, suffix = name.lower().rpartition(".")
    return dot + suffix if stem else ""
