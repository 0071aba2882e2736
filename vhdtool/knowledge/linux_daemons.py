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
    """A daemon: the Windows service that does the same, and the names of its unit in all distributions.

    ``programs`` are the names of its file; it works with the kernels from ``since`` to below ``below``.
    """

    name: str
    service: str
    units: tuple[str, ...]
    programs: tuple[str, ...]
    since: tuple[int, ...]
    below: tuple[int, ...] | None
    source: str

    def serves(self, kernel: tuple[int, ...] | None) -> bool:
        """Tell whether it works with a kernel; one whose version is not known is taken for any."""
        return kernel is None or (kernel >= self.since and (self.below is None or kernel < self.below))


@cache
def linux_daemons() -> tuple[LinuxDaemon, ...]:
    """The daemons, the one that is asked for most first."""
    return tuple(
        LinuxDaemon(
            name=row["name"],
            service=row["service"],
            units=tuple(row["units"]),
            programs=tuple(row["programs"]),
            since=_numbers(row["since"]),
            below=_numbers(row["below"]) if "below" in row else None,
            source=row["source"],
        )
        for row in _document()["daemon"]
    )


@cache
def linux_helpers() -> tuple[str, ...]:
    """The names of the scripts that the key-value daemon calls."""
    return tuple(row["name"] for row in _document()["helper"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


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
