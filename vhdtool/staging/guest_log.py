"""The last words of the logs that a stage leaves in the guest: the runner's own, and the errors of DISM's."""

from __future__ import annotations

import re

from vhdtool.errors import NotFoundError
from vhdtool.guest.source import WindowsInstallation

MAX_TAIL = 256 << 10
"""Bytes that are read from the end of a log."""
RUNNER_LINES = 20
ERROR_LINES = 5
MAX_LINE = 300
_ERROR = re.compile(r"^[0-9: ,-]{10,30}, Error\b")
"""A line of DISM's log of that level: ``2026-11-23 03:19:02, Error   DISM   API: ...``."""
_CONTROLS = re.compile(r"[^\t -~\u00a0-\ud7ff\ue000-\ufffd]")


def last_lines(installation: WindowsInstallation, path: str) -> tuple[str, ...]:
    """The last lines of the runner's log; none where there is no log."""
    return tuple(_tail(installation, path)[-RUNNER_LINES:])


def error_lines(installation: WindowsInstallation, path: str) -> tuple[str, ...]:
    """The last errors that DISM's log tells; none where there is no log."""
    return tuple([line for line in _tail(installation, path) if _ERROR.match(line)][-ERROR_LINES:])


def _tail(installation: WindowsInstallation, path: str) -> list[str]:
    """The lines at the end of a file, for people: without control characters, cut at a length."""
    try:
        file = installation.filesystem.open(installation.path(path))
    except NotFoundError:
        return []
    start = max(file.size - MAX_TAIL, 0)
    data = file.read_at(start, file.size - start)
    lines = data.decode("utf-8-sig" if start == 0 else "utf-8", errors="replace").splitlines()
    if start and lines:
        lines = lines[1:]  # cut off at its start
    return [_CONTROLS.sub("\ufffd", line.strip())[:MAX_LINE] for line in lines if line.strip()]
