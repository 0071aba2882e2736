"""Versions as they are compared: number by number, of Windows and of Linux kernels alike."""

from __future__ import annotations

import re
from itertools import zip_longest

LONGEST_VERSION = 200
_VERSION = re.compile(r"[vV]?(\d{1,9}(?:[.\-_+~:]\d{1,9})*)", re.ASCII)


def version_order(text: str) -> tuple[int, ...] | None:
    """Return the numbers that a version begins with: ``6.1.0-25-amd64`` gives 6, 1, 0, 25. ``None``: no version."""
    match = _VERSION.match(text.strip()[:LONGEST_VERSION])
    if match is None:
        return None
    return tuple(int(number) for number in re.split(r"\D", match[1]))


def compare_versions(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Compare two: below 0, 0 or above 0. Numbers left out count as 0."""
    for one, other in zip_longest(left, right, fillvalue=0):
        if one != other:
            return -1 if one < other else 1
    return 0
