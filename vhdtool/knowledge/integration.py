"""The integration services, their drivers and devices, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

WindowsVersion = tuple[int, ...]
"""major, minor, build; shorter where the rest says nothing."""

_EARLIEST: WindowsVersion = (0,)
_LATEST: WindowsVersion = (1 << 16,)


@dataclass(frozen=True, slots=True)
class ExpectedStart:
    """The start type of a healthy guest, for Windows from ``since`` to below ``below``.

    ``with_package``: only with (or only without) the integration services of a newer Windows; ``None``: either way.
    """

    since: WindowsVersion
    below: WindowsVersion
    start: str
    trigger: bool
    with_package: bool | None

    def holds(self, windows: WindowsVersion, *, with_package: bool) -> bool:
        """Tell whether the row is for this guest."""
        return self.since <= windows < self.below and self.with_package in {None, with_package}


@dataclass(frozen=True, slots=True)
class IntegrationComponent:
    """An integration service or driver. GUIDs are in lower case, without braces.

    ``offered_from``: first Windows that has it; ``optional``: comes with its device only; ``boots``: a disk behind it
    is not found at boot without it. ``host_id`` and ``host_name``: what the host calls it (Get-VMIntegrationService).
    """

    name: str
    display_name: str | None
    offered_from: WindowsVersion
    optional: bool
    boots: bool
    starts: tuple[ExpectedStart, ...]
    device: str | None
    trigger: str | None
    host_id: str | None
    host_name: str | None
    source: str

    def expected(self, windows: WindowsVersion | None, *, with_package: bool) -> ExpectedStart | None:
        """What a healthy guest of this Windows has; ``None`` where the tables say nothing."""
        if windows is None:
            return None
        return next((row for row in self.starts if row.holds(windows, with_package=with_package)), None)


@dataclass(frozen=True, slots=True)
class IntegrationDevice:
    """A device of a machine on Hyper-V: hardware id, and the driver packages that bind to it.

    ``counts``: every machine has it, so its driver's version is one of those whose lowest is the version of the
    integration services. ``excluded``: never counted, even where it is present.
    """

    hardware_id: str
    name: str
    packages: tuple[str, ...]
    counts: bool
    excluded: bool
    source: str


@dataclass(frozen=True, slots=True)
class VersionFile:
    """A file below the Windows directory whose version tells; only where ``instead_of`` is absent."""

    path: str
    instead_of: str | None
    source: str


@dataclass(frozen=True, slots=True)
class VersionPackage:
    """A servicing package whose version tells: how its name starts, and how many parts of the version count."""

    name: str
    precision: int
    source: str


@cache
def integration_services() -> tuple[IntegrationComponent, ...]:
    """The integration services, in the order they are shown."""
    document = _load("integration_services.toml")
    starts = tuple(_expected(row) for row in document["expected"])
    return tuple(_component(row, starts) for row in document["service"])


@cache
def integration_drivers() -> tuple[IntegrationComponent, ...]:
    """The integration drivers, in the order they are shown."""
    return tuple(
        _component(row, tuple(_expected(start) for start in row.get("starts", (row,))))
        for row in _drivers()["driver"]
    )  # fmt: skip


@cache
def integration_devices() -> tuple[IntegrationDevice, ...]:
    """The devices of a machine on Hyper-V."""
    return tuple(
        IntegrationDevice(
            row["id"], row["name"], tuple(row["inf"]), row["counts"], row.get("excluded", False), row["source"]
        )
        for row in _drivers()["device"]
    )


@cache
def version_files() -> tuple[VersionFile, ...]:
    """The files whose version tells that of the integration services."""
    return tuple(VersionFile(row["path"], row.get("instead_of"), row["source"]) for row in _drivers()["file"])


@cache
def version_packages() -> tuple[VersionPackage, ...]:
    """The servicing packages whose version tells that of the integration services."""
    return tuple(VersionPackage(row["name"], row["precision"], row["source"]) for row in _drivers()["package"])


def _component(row: Mapping[str, Any], starts: Sequence[ExpectedStart]) -> IntegrationComponent:
    return IntegrationComponent(
        name=row["name"],
        display_name=row.get("display_name"),
        offered_from=parse_version(row["offered_from"]),
        optional=row.get("optional", False),
        boots=row.get("boots", False),
        starts=tuple(starts),
        device=row.get("device"),
        trigger=row.get("trigger"),
        host_id=row.get("host_id"),
        host_name=row.get("host_name"),
        source=row["source"],
    )


def _expected(row: Mapping[str, Any]) -> ExpectedStart:
    return ExpectedStart(
        since=parse_version(row["windows_from"]) if "windows_from" in row else _EARLIEST,
        below=parse_version(row["windows_below"]) if "windows_below" in row else _LATEST,
        start=row["start"],
        trigger=row.get("trigger", False) is True,
        with_package=row.get("with_package"),
    )


def parse_version(text: str) -> WindowsVersion:
    """Read ``6.3.9600`` into numbers. Raises :class:`ValueError` for anything else than numbers and dots."""
    return tuple(int(part) for part in text.split("."))


@cache
def _drivers() -> dict[str, Any]:
    return _load("integration_drivers.toml")


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))
