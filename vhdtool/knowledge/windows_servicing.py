"""The marks by which an installation of Windows tells its state, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class PendingMark:
    """A registry key or value that is there while work waits for the next start.

    ``hive`` SYSTEM: ``key`` is below the current control set. ``presence``: key, children or value.
    """

    hive: str
    key: str
    value: str | None
    presence: str
    text: str
    source: str


@cache
def image_states() -> dict[str, str]:
    """The install state by the value of ``ImageState``."""
    return {row["name"]: row["state"] for row in _document()["image_state"]}


@cache
def installed_states() -> dict[int, str]:
    """The values of a package's ``CurrentState`` that mean it is in use, with their names."""
    return {row["value"]: row["name"] for row in _document()["installed_state"]}


@cache
def pending_marks() -> tuple[PendingMark, ...]:
    """The marks of pending work in the registry."""
    return tuple(
        PendingMark(row["hive"], row["key"], row.get("value"), row["presence"], row["text"], row["source"])
        for row in _document()["pending"]
    )


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("windows_servicing.toml").read_text(encoding="utf-8"))
