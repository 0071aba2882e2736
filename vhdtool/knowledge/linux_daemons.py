"""The daemons that do in Linux guests what integration services do in Windows, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class LinuxDaemon:
    """A daemon: the Windows service that does the same, and the names of its unit in all distributions."""

    service: str
    units: tuple[str, ...]
    source: str


@cache
def linux_daemons() -> tuple[LinuxDaemon, ...]:
    """The daemons, the one that is asked for most first."""
    return tuple(LinuxDaemon(row["service"], tuple(row["units"]), row["source"]) for row in _document()["daemon"])


def daemon_package(ids: Iterable[str]) -> str | None:
    """Return the package that brings the daemons; ``ids`` from os-release, the distribution's own first."""
    for one in ids:
        for row in _document()["distribution"]:
            if one.lower() in row["ids"]:
                return str(row["package"])
    return None


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("linux_daemons.toml").read_text(encoding="utf-8"))
