"""The progress bar of long work: on a terminal's stderr; in a pipe nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vhdtool.cli.failures import COLOR_KEY
from vhdtool.cli.terminal import look_at
from vhdtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def progress_bar() -> Progress:
    """Return the listener that fits stderr."""
    choice = click.get_current_context().meta.get(COLOR_KEY, "auto")
    terminal = look_at(sys.stderr, choice)
    return Bar(color=terminal.color) if terminal.interactive else SILENT


class Bar:
    """Draws one bar for each piece of work."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._drawing: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, what: str, total: int) -> None:
        """Begin a bar of ``total`` bytes."""
        from rich.console import Console  # noqa: PLC0415  # slow, only for terminals
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        self._drawing = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr, force_terminal=True, no_color=not self._color),
            transient=True,
        )
        self._drawing.start()
        self._task = self._drawing.add_task(what, total=total)

    def advance(self, done: int) -> None:
        """Move the bar by ``done`` bytes."""
        if self._drawing is not None and self._task is not None:
            self._drawing.advance(self._task, done)

    def finish(self) -> None:
        """Take the bar away."""
        if self._drawing is not None:
            self._drawing.stop()
        self._drawing = self._task = None
