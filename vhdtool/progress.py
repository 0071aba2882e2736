"""What long work tells a listener. The library never prints: the command line draws, a pipe stays quiet."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far a piece of work has come. ``total`` and ``done`` are in bytes."""

    def start(self, what: str, total: int) -> None:
        """A piece of work begins."""

    def advance(self, done: int) -> None:
        """``done`` more bytes are finished."""

    def finish(self) -> None:
        """The piece of work has ended, well or not."""


class Silent:
    """The listener that does nothing."""

    def start(self, what: str, total: int) -> None:
        """Do nothing."""

    def advance(self, done: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


SILENT: Progress = Silent()
