"""The boundary to the DER parser: what it raises on damaged bytes becomes one error of this package.

asn1crypto parses lazily, so that a fault deep inside shows when a field is asked for. Everything that touches its
objects runs inside :func:`reading`, and what leaves there is plain data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vhdtool.errors import DamagedError

CODE = "der-damaged"
MAX_SIZE = 64 << 20
"""Longest signature or catalog that is parsed, in bytes; the catalogs of the largest updates stay below 16 MiB."""


@contextmanager
def reading(what: str, path: str | None = None) -> Iterator[None]:
    """Guard calls into asn1crypto: :class:`DamagedError` ``der-damaged`` for whatever it raises on damaged bytes."""
    try:
        yield
    except (
        ValueError,  # a tag or a length that does not fit; a date that is none; text that can't be decoded
        TypeError,  # a value where another kind was declared
        KeyError,  # a choice or an enumeration without that number
        IndexError,
        AttributeError,  # a field whose parsed form is of another class
        OverflowError,
        RecursionError,  # lengths left open, nested without end
        NotImplementedError,
    ) as error:
        raise DamagedError(
            CODE,
            f"{what} can't be read: {_first_line(error)}",
            path=path,
            hint="The file is damaged: copy it again from where it came from.",
        ) from error


def element_size(data: bytes, what: str, path: str | None = None) -> int:
    """Return the length of the DER element that ``data`` begins with, in bytes, its header included.

    Raises:
        DamagedError: ``der-damaged``, also where the element is longer than ``data`` or than :data:`MAX_SIZE`.
    """
    from asn1crypto import parser  # noqa: PLC0415  # slow to import

    if len(data) > MAX_SIZE:
        raise DamagedError(
            CODE,
            f"{what} is too long",
            path=path,
            expected=f"at most {MAX_SIZE} bytes",
            found=len(data),
            hint="No genuine package has one of this size.",
        )
    with reading(what, path):
        return int(parser.peek(data))


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
