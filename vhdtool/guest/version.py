"""A version of the integration services as one source states it, and when two of them contradict each other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vhdtool.guest.model import VersionEvidence

VersionNumbers = tuple[int, int, int, int]

_VERSION = re.compile(r"\s*(\d{1,5})\.(\d{1,5})(?:\.(\d{1,5}))?(?:\.(\d{1,5}))?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class StatedVersion:
    """What one source says.

    ``precision``: how many parts of the version are a statement about the integration services. A file of Windows 10
    or a built-in package carries a revision of its own, so only its first three parts are.
    """

    source: str
    numbers: VersionNumbers
    location: str
    note: str | None = None
    precision: int = 4

    @property
    def evidence(self) -> VersionEvidence:
        """As it stands in the result document."""
        return VersionEvidence(self.source, version_text(self.numbers), self.location, self.note)

    def contradicts(self, other: StatedVersion) -> bool:
        """Whether both can't be true: they differ in a part that both state."""
        shared = min(self.precision, other.precision)
        return self.numbers[:shared] != other.numbers[:shared]


def version_numbers(text: str | None) -> VersionNumbers | None:
    """Read ``6.3.9600.18692``; parts left out are 0. ``None`` for what is no version."""
    match = _VERSION.fullmatch(text or "")
    if match is None:
        return None
    major, minor, build, revision = (int(part or 0) for part in match.groups())
    return major, minor, build, revision


def version_text(numbers: VersionNumbers) -> str:
    """Write a version with its four parts."""
    return ".".join(map(str, numbers))
