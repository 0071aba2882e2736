"""What an audit finds, and what it counts on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One departure from the format, or something worth knowing (``info``). ``offset`` in bytes of the file."""

    code: str
    severity: Severity
    message: str
    path: str
    offset: int | None = None


@dataclass(slots=True)
class Measure:
    """Blocks that are stored in the files, and bytes after the last thing that each file uses."""

    blocks: int = 0
    tail_waste: int = 0
