"""The result document of ``vhdtool cab find``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.report.document import ImageName, SkippedFile


@dataclass(frozen=True, slots=True)
class DriverDifference:
    """A driver as the guest has it and as the package brings it: versions, None where there is none or none known."""

    inf: str
    installed: str | None
    brought: str | None


@dataclass(frozen=True, slots=True)
class ServiceDifference:
    """A service's start as the guest has it and as the package brings it."""

    name: str
    installed: str | None
    brought: str | None


@dataclass(frozen=True, slots=True)
class FoundPackageFact:
    """A package, and how it fits the guest. ``path``: the cabinet's, of one inside an .msu with ``!`` and its name.

    ``fits``: it applies, and the guest has not got it, nor newer. ``applies`` by ``rule``, read from ``key``;
    ``current``: whether the guest has it or newer, None where nothing tells. ``drivers`` and ``services`` are those
    that differ.
    """

    path: str
    name: str
    kb: str | None
    version: str
    architecture: str
    integration_version: str | None
    fits: bool
    applies: Literal["yes", "no", "unknown"]
    rule: str
    message: str
    key: str | None
    current: bool | None
    current_message: str
    current_key: str | None
    drivers: tuple[DriverDifference, ...]
    services: tuple[ServiceDifference, ...]


@dataclass(frozen=True, slots=True)
class CabFindDocument:
    """``vhdtool cab find``: the packages that were found, those that fit first. ``skipped``: files that are none."""

    schema: Literal["vhdtool.cab-find/1"]
    image: ImageName
    volume: int
    root: str
    searched: tuple[str, ...]
    packages: tuple[FoundPackageFact, ...]
    skipped: tuple[SkippedFile, ...]
