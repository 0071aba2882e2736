"""Waivers: a failure that is accepted for a time, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from vhdtool.checks.model import Verdict


@dataclass(frozen=True, slots=True)
class Waiver:
    """Accepts the failures of one check until the end of ``expires`` (UTC).

    ``images``: patterns as of a shell for the path of the image or its last part; empty: every image. ``subject``:
    the part that is accepted, or its place in the document; ``None``: every part.
    """

    code: str
    reason: str
    expires: date
    images: tuple[str, ...] = ()
    subject: str | None = None

    def has_expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.expires

    def covers(self, code: str, verdict: Verdict, image: str) -> bool:
        """Whether it is about this failure."""
        return (
            code == self.code
            and (self.subject is None or self.subject in {verdict.subject, verdict.place})
            and (not self.images or any(_names(pattern, image) for pattern in self.images))
        )


def _names(pattern: str, image: str) -> bool:
    name = image.replace("\\", "/")
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[2], pattern)
