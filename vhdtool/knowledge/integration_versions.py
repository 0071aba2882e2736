"""Which host or update brought a version of the integration services, and the newest for a guest, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from vhdtool.knowledge.integration import WindowsVersion, parse_version

SERIES_PARTS = 2


@dataclass(frozen=True, slots=True)
class ShippedVersion:
    """Where a version came from: ``hosts`` (ids of :mod:`vhdtool.knowledge.windows_names`) and the update.

    ``version`` has three parts where the fourth counts by itself. ``exact``: this very version is listed; otherwise
    only whose series it belongs to is known.
    """

    version: WindowsVersion
    hosts: tuple[str, ...]
    kb: str | None
    note: str | None
    source: str
    exact: bool = True


@dataclass(frozen=True, slots=True)
class NewestVersion:
    """The newest integration services for guests from ``since`` to below ``below``.

    ``version``: ``None`` where each Windows has its own; ``by``: how it gets into a guest; ``package``: how the
    cabinet's file name begins.
    """

    since: WindowsVersion
    below: WindowsVersion
    version: WindowsVersion | None
    by: Literal["cab", "setup", "windows-update"]
    kb: str | None
    package: str | None
    note: str
    source: str


@dataclass(frozen=True, slots=True)
class KnownCabinet:
    """A standalone package by its hash. ``signed``: the digests of its signatures; ``where`` it can be had."""

    file: str
    architecture: str
    version: WindowsVersion
    kb: str
    sha256: str
    signed: frozenset[str]
    where: str
    source: str

    @property
    def package(self) -> str:
        """The file's name without the architecture."""
        return self.file.rpartition("-")[0]


def shipped_versions(version: WindowsVersion) -> tuple[ShippedVersion, ...]:
    """Tell where a version came from; for one that is not listed, to whose series it belongs. Empty where unknown."""
    listed = tuple(row for row in _shipped() if version[: len(row.version)] == row.version)
    if listed:
        return listed
    return tuple(
        ShippedVersion(version, tuple(row["hosts"]), None, None, row["source"], exact=False)
        for row in _document()["series"]
        if parse_version(row["windows"]) == version[:SERIES_PARTS]
    )


def newest_version(windows: WindowsVersion | None) -> NewestVersion | None:
    """Tell the newest integration services for a guest by its version of Windows; ``None`` where that is not known."""
    if windows is None:
        return None
    return next((row for row in _newest() if row.since <= windows < row.below), None)


@cache
def known_cabinets() -> tuple[KnownCabinet, ...]:
    """The standalone packages that are known by their hash, the newest first."""
    return tuple(
        KnownCabinet(
            file=row["file"],
            architecture=row["architecture"],
            version=parse_version(row["version"]),
            kb=row["kb"],
            sha256=row["sha256"],
            signed=frozenset(row["signed"]),
            where=row["where"],
            source=row["source"],
        )
        for row in _document()["cab"]
    )


@cache
def _shipped() -> tuple[ShippedVersion, ...]:
    return tuple(
        ShippedVersion(
            parse_version(row["version"]), tuple(row["hosts"]), row.get("kb"), row.get("note"), row["source"]
        )
        for row in _document()["shipped"]
    )


@cache
def _newest() -> tuple[NewestVersion, ...]:
    return tuple(
        NewestVersion(
            since=parse_version(row["windows_from"]),
            below=parse_version(row["windows_below"]),
            version=parse_version(row["version"]) if "version" in row else None,
            by=row["by"],
            kb=row.get("kb"),
            package=row.get("package"),
            note=row["note"],
            source=row["source"],
        )
        for row in _document()["newest"]
    )


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("integration_versions.toml").read_text(encoding="utf-8"))
