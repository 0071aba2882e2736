"""Colours and layout, decided in one place (https://no-color.org, https://force-color.org, TERM=dumb, --color)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TextIO

ColorChoice = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a stream can show. ``color``: escape sequences are wanted; ``interactive``: a person watches it."""

    color: bool
    interactive: bool

    @property
    def drawn(self) -> bool:
        """Whether tables are drawn for the eye; else they are plain text, full width, the same in every pipe."""
        return self.interactive or self.color


def look_at(stream: TextIO | None, choice: ColorChoice, environment: Mapping[str, str] = os.environ) -> Terminal:
    """Decide how a stream is written to.

    ``--color`` beats the environment; there NO_COLOR beats FORCE_COLOR, and both count when set to anything but
    nothing. A dumb terminal gets plain text.
    """
    is_terminal = stream is not None and stream.isatty()
    dumb = environment.get("TERM", "") == "dumb"
    if choice != "auto":
        color = choice == "always"
    elif environment.get("NO_COLOR"):
        color = False
    elif environment.get("FORCE_COLOR"):
        color = True
    else:
        color = is_terminal and not dumb
    return Terminal(color, is_terminal and not dumb)
