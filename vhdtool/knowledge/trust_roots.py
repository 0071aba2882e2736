"""Whom a package's signature may go back to, and how long SHA-1 counts, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class PinnedRoot:
    """A root by the SHA-256 of its certificate. ``usages``: code-signing, time-stamping."""

    name: str
    sha256: bytes
    usages: frozenset[str]
    source: str


@cache
def pinned_roots() -> tuple[PinnedRoot, ...]:
    """The roots that Microsoft signs Windows and its updates under."""
    return tuple(
        PinnedRoot(row["name"], bytes.fromhex(row["sha256"]), frozenset(row["usages"]), row["source"])
        for row in _document()["root"]
    )


@cache
def sha1_accepted_before() -> datetime:
    """The moment a signature made with SHA-1 must have been countersigned before."""
    return datetime.combine(_document()["rules"]["sha1_accepted_before"], time(), UTC)


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("trust_roots.toml").read_text(encoding="utf-8"))
