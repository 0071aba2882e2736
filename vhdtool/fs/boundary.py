"""The boundary to the file system libraries: one code, one wording (see :mod:`vhdtool.volume.boundary`)."""

from __future__ import annotations

from contextlib import AbstractContextManager

from vhdtool.volume.boundary import HINT, MeteredStream, foreign_parser

__all__ = ["CODE", "HINT", "MeteredStream", "reading"]

CODE = "filesystem-damaged"


def reading(what: str, path: str | None = None) -> AbstractContextManager[None]:
    """Guard calls into a file system library: what it raises becomes :class:`DamagedError` ``filesystem-damaged``.

    ``what`` names the file system, ``path`` the guest path being read.
    """
    return foreign_parser(CODE, what, path)
