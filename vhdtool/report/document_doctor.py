"""The result document of ``vhdtool doctor``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SupportFact:
    """One thing of the host that vhdtool uses. ``needed_for`` says what can't be done without it.

    ``state``: ``ok``; ``missing``, and ``hint`` says how to get it; ``limited``, and ``hint`` says what that means.
    """

    name: str
    state: Literal["ok", "missing", "limited"]
    version: str | None
    needed_for: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class DoctorDocument:
    """``vhdtool doctor``: what of the host works. ``complete`` is false where something is missing (exit 6)."""

    schema: Literal["vhdtool.doctor/1"]
    version: str
    python: str
    platform: str
    complete: bool
    support: tuple[SupportFact, ...]
