r"""Guest paths: ``/`` or ``\`` between the names, always from the root of the volume."""

from __future__ import annotations

from collections.abc import Iterable

MAX_LINKS = 63  # as many reparse points as Windows follows in one path (MAXIMUM_REPARSE_DATA traversals)
MAX_PARTS = 4096


def split_path(path: str, *, backslash: bool = True) -> list[str]:
    r"""Return the names of ``path``; empty ones and ``.`` are dropped, ``..`` is kept.

    ``backslash`` tells whether ``\`` separates names (Windows file systems) or is a character of a name.
    """
    if backslash:
        path = path.replace("\\", "/")
    return [part for part in path.split("/")[:MAX_PARTS] if part not in ("", ".")]


def join_path(parts: Iterable[str]) -> str:
    """Return the absolute path of ``parts``, with ``/``."""
    return "/" + "/".join(parts)
