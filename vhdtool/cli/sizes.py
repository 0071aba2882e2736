"""Sizes as people write them: ``40G``, ``512MiB``, ``1048576``."""

from __future__ import annotations

import re

import click

_SIZE = re.compile(r"^\s*(\d{1,20})\s*([KMGT]?)(?:i?B)?\s*$", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def read_size(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Read an option's text as a number of bytes; K, M, G and T count in powers of 1024."""
    if value is None:
        return None
    match = _SIZE.match(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size: as in 40G, 512M or 1048576.")
    return int(match[1]) << _UNITS[match[2].upper()]
