"""Work that waits for the next start: what must be finished before the image is changed or deployed."""

from __future__ import annotations

from dataclasses import dataclass

from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import number, texts
from vhdtool.knowledge.windows_servicing import PendingMark, pending_marks
from vhdtool.registry.hive import Hive, Key

PENDING_FILE = "WinSxS/pending.xml"


@dataclass(frozen=True, slots=True)
class PendingWork:
    """One piece of work, and where it is noted."""

    text: str
    location: str

    def __str__(self) -> str:
        return f"{self.text}: {self.location}"


def read_pending(
    installation: WindowsInstallation, software: Hive | None, control_set: ControlSet | None
) -> tuple[PendingWork, ...]:
    """Find the pending work that the hives and the component store note."""
    found = []
    for mark in pending_marks():
        if mark.hive == "SYSTEM":
            key = None if control_set is None else control_set.key(mark.key)
            place = "" if control_set is None else control_set.location
        else:
            key = None if software is None else software.key(mark.key)
            place = mark.hive
        text = None if key is None else _waiting(mark, key)
        if text:
            location = "\\".join(filter(None, (place, mark.key, mark.value)))
            found.append(PendingWork(text, location))
    path = installation.path(PENDING_FILE)
    if installation.filesystem.stat(path) is not None:
        found.append(PendingWork("the component store has operations to finish", path))
    return tuple(found)


def _waiting(mark: PendingMark, key: Key) -> str | None:
    if mark.presence == "key":
        return mark.text
    if mark.presence == "children":
        return mark.text if number(key, "Exclusive") or next(iter(key.subkeys()), None) is not None else None
    count = len(texts(key, mark.value or ""))
    return f"{mark.text} ({count} names)" if count else None
