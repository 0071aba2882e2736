"""Which updates an old Windows needs to accept packages that are signed with SHA-256 alone, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Sha2Update:
    """An update. ``windows``: major and minor of each Windows that it is for."""

    kb: str
    windows: frozenset[tuple[int, int]]
    source: str


@cache
def sha2_updates() -> tuple[Sha2Update, ...]:
    """The updates that bring SHA-2; a Windows that none is for has it from the start."""
    document = tomllib.loads(files(__package__).joinpath("sha2_support.toml").read_text(encoding="utf-8"))
    return tuple(
        Sha2Update(row["kb"], frozenset((major, minor) for major, minor in row["windows"]), row["source"])
        for row in document["update"]
    )
