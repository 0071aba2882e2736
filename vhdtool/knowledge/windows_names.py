"""The names of operating systems, hosts and guests: as people write them, and as an image tells, as data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from vhdtool.knowledge.integration import WindowsVersion, parse_version
from vhdtool.knowledge.linux_daemons import daemon_package

LINUX = "linux"
_NOTHING_SAID = re.compile(r"\(r\)|\(tm\)|[^a-z0-9.]+")
_AFTER = re.compile(
    # editions, architectures, service packs, releases of a year: they change no answer; what is taken is not given
    # back, so that no name takes long
    r"(?:edition|standard|std|datacenter|dc|essentials|enterprise|ent|business|foundation|web|core|evaluation|eval|"
    r"professional|pro|home|basic|premium|starter|ultimate|education|workstations|iot|ltsc|ltsb|workgroup|with|for|n|"
    r"x?64(?:bit)?|x?86|x?32(?:bit)?|amd64|arm64|(?:sp|servicepack)[1-3]|rtm|"
    r"(?:version|v)?(?:\d\dh[12]|1[5-9](?:03|07|09|11)|2004))*+"
)


@dataclass(frozen=True, slots=True)
class KnownSystem:
    """An operating system. ``kind``: client, server, azure or linux.

    ``ranges``: the versions of Windows that are it, each from and below. ``product``: what ``ProductName`` must have
    besides. ``service_packs``: the version from which on each is installed.
    """

    id: str
    name: str
    kind: str
    aliases: tuple[str, ...]
    ranges: tuple[tuple[WindowsVersion, WindowsVersion], ...]
    product: str | None
    architectures: tuple[str, ...]
    service_packs: Mapping[str, WindowsVersion]
    source: str

    def has(self, windows: WindowsVersion) -> bool:
        """Whether a version is one of this system."""
        return any(since <= windows < below for since, below in self.ranges)


@cache
def known_systems() -> tuple[KnownSystem, ...]:
    """Every system; those that share a version with another and are told by their product's name come first."""
    return tuple(
        KnownSystem(
            id=row["id"],
            name=row["name"],
            kind=row["kind"],
            aliases=tuple(row["aliases"]),
            ranges=tuple((parse_version(since), parse_version(below)) for since, below in row["windows"]),
            product=row.get("product"),
            architectures=tuple(row["architectures"]),
            service_packs={name: parse_version(text) for name, text in row.get("service_packs", {}).items()},
            source=row["source"],
        )
        for row in _document()["system"]
    )


def known_system(identifier: str) -> KnownSystem:
    """The system with an id of the tables. Raises :class:`KeyError`."""
    for system in known_systems():
        if system.id == identifier:
            return system
    raise KeyError(identifier)


def named_system(text: str, among: Iterable[KnownSystem] | None = None) -> KnownSystem | None:
    """Find a system by a name as people write it: ``2016``, ``ws2016``, ``win10``, ``Windows Server 2012 R2 Standard``.

    A name of a Linux distribution is Linux. ``None`` for a name that stands for none of the systems ``among``, or for
    none at all.
    """
    written = _NOTHING_SAID.sub("", text.casefold())
    systems = known_systems() if among is None else tuple(among)
    for system in systems:
        if any(_means(written, start, alias) for start in _before(system.kind) for alias in system.aliases):
            return system
    first = re.match(r"[a-z]+", text.strip().casefold())
    if first is not None and daemon_package([first[0]]) is not None:
        return next((system for system in systems if system.kind == LINUX), None)
    return None


def installed_system(windows: WindowsVersion | None, product: str | None, edition: str | None) -> KnownSystem | None:
    """Tell which Windows an installation is, by its version and what it calls itself; ``None`` where nothing fits."""
    if windows is None:
        return None
    said = product or ""
    kind = "server" if "server" in said.casefold() or (edition or "").casefold().startswith("server") else "client"
    for system in known_systems():
        if not system.has(windows):
            continue
        if system.product is not None:
            if system.product.casefold() in said.casefold():
                return system
        elif system.kind == kind:
            return system
    return None


def _means(written: str, start: str, alias: str) -> bool:
    if not written.startswith(start + alias):
        return False
    return _AFTER.fullmatch(written, len(start) + len(alias)) is not None


def _before(kind: str) -> tuple[str, ...]:
    row = next(row for row in _document()["words"] if row["kind"] == kind)
    return ("", *row["before"])


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("windows_names.toml").read_text(encoding="utf-8"))
