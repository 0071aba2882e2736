"""Documents of inspect that were saved: one after the other in a file, each on a line or indented."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from vhdtool.errors import InputError

MAX_SAVED = 256 << 20
"""Most bytes that are read of one file."""
_SPACE = " \t\r\n"


def saved_documents(data: bytes, path: str) -> Iterator[Mapping[str, Any]]:
    """Read the documents of a file, in their order.

    Raises :class:`InputError` ``saved-too-large``, ``not-json``, ``not-an-inspect-document``; what stands before is
    given first.
    """
    if len(data) > MAX_SAVED:
        raise InputError("saved-too-large", "the file is too large", path=path, expected=f"at most {MAX_SAVED} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("not-json", "the file is not UTF-8", path=path, offset=error.start) from error
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = _after_space(text, 0)
    if at == len(text):
        raise InputError(
            "not-json", "the file is empty", path=path, hint="Save one: vhdtool inspect IMAGE --json > FILE"
        )
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise InputError(
                "not-json", f"the file is no JSON: {str(error)[:200] or 'it is nested too deep'}", path=path,
                hint="Save one: vhdtool inspect IMAGE --json > FILE",
            ) from error  # fmt: skip
        if not isinstance(document, dict):
            raise InputError("not-an-inspect-document", "the file is not what inspect writes", path=path)
        yield document
        at = _after_space(text, at)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
