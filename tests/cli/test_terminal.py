from __future__ import annotations

import io

import pytest

from vhdtool.cli.terminal import look_at


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "environment", "screen", "color", "interactive"),
    [
        ("auto", {}, True, True, True),
        ("auto", {}, False, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False, True),
        ("auto", {"NO_COLOR": ""}, True, True, True),  # https://no-color.org: counts when not empty
        ("auto", {"FORCE_COLOR": "1"}, False, True, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False, False),
        ("auto", {"TERM": "dumb"}, True, False, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True, False),
        ("never", {"FORCE_COLOR": "1"}, True, False, True),
    ],
)
def test_decision(choice, environment, screen, color, interactive):
    terminal = look_at(Screen() if screen else io.StringIO(), choice, environment)
    assert (terminal.color, terminal.interactive) == (color, interactive)
    assert terminal.drawn == (color or interactive)


def test_no_stream_is_no_terminal():
    assert not look_at(None, "auto", {}).interactive
