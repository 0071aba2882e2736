r"""A result document as JSON.

Names in an image need not be text: NTFS and the registry allow half a surrogate pair, Linux any bytes. JSON must be
UTF-8 (RFC 8259, 8.1), so each such half is written as its escape, six characters (``\udc80``), in the string, and an
image whose own name had to be escaped gets ``path_b64``, the bytes of the name.
"""

from __future__ import annotations

import base64
import os
from typing import Any, TypeVar, cast

import msgspec

from vhdtool.errors import VhdtoolError
from vhdtool.report.document import ErrorDocument, ErrorFact, ImageName

Part = TypeVar("Part")


def to_json(document: object, *, pretty: bool = False) -> bytes:
    """Encode a document: one line ending in a line feed, or indented when ``pretty``."""
    text = _encode(document)
    if pretty:
        text = msgspec.json.format(text, indent=2)
    return text + b"\n"


def encoded(part: Part) -> Part:
    """Encode a part of a document ahead of the rest: it takes the part's place, and far less memory."""
    return cast(Part, msgspec.Raw(_encode(part)))


def _encode(document: object) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return msgspec.json.encode(_escaped(msgspec.to_builtins(document, builtin_types=(msgspec.Raw,))))


def escaped(text: str) -> str:
    """Replace each lone surrogate by its escape, so that the text is valid in any UTF encoding."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {escaped(key): _escaped(item) for key, item in value.items()}
    return value


def name_bytes(path: str) -> str | msgspec.UnsetType:
    """Return the bytes of a host file's name in base64, where they are not UTF-8; else ``UNSET``."""
    if escaped(path) == path:
        return msgspec.UNSET
    return base64.b64encode(os.fsencode(path)).decode("ascii")


def image_name(path: str) -> ImageName:
    """Name an image in a document."""
    return ImageName(path, name_bytes(path))


def error_fact(error: VhdtoolError) -> ErrorFact:
    """Put an error into a document; the message tells also what was expected and what was found."""
    parts = [error.message]
    if error.expected is not None:
        parts.append(f"expected {error.expected}")
    if error.found is not None:
        parts.append(f"found {error.found}")
    return ErrorFact(error.code, ", ".join(parts), error.hint, error.offset)


def error_document(schema: str, path: str, error: VhdtoolError) -> ErrorDocument:
    """Build the document that stands in for one of ``schema`` when its image failed."""
    return ErrorDocument(schema, image_name(path), error_fact(error))
