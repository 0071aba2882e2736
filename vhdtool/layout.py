"""Binary layouts: one ``construct`` declaration, two ways to use it.

``construct`` is readable and slow. A hot path that unpacks by itself asks here for the ``struct`` format of the same
declaration, so that no offset stands in the code twice.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

import construct

_ENDIAN = {"<": "<", ">": ">", "=": "="}


def packed(layout: construct.Struct) -> struct.Struct:
    """Return the ``struct.Struct`` of a declaration made of integers, ``Bytes``, ``Padding`` and ``Const`` fields.

    Fields come out in the declared order, padding left out. Raises :class:`ValueError` for a declaration that has
    no fixed format, or mixes byte orders.
    """
    order: set[str] = set()
    formats = [_format_of(field, order) for field in layout.subcons]
    if len(order) > 1:
        raise ValueError("a packed layout has one byte order")
    made = struct.Struct((order.pop() if order else "<") + "".join(formats))
    if made.size != layout.sizeof():
        raise ValueError("the derived format has another size than the declaration")
    return made


def field_names(layout: construct.Struct) -> tuple[str, ...]:
    """Return the names of the fields that :func:`packed` unpacks, in order."""
    return tuple(field.name for field in layout.subcons if not _is_padding(field))


@functools.cache
def offset_of(layout: construct.Struct, name: str) -> int:
    """Return the byte offset of a field from the start of its declaration."""
    offset = 0
    for field in layout.subcons:
        if field.name == name:
            return offset
        offset += int(field.sizeof())
    raise KeyError(name)


def _bare(field: Any) -> Any:
    while isinstance(field, construct.Renamed | construct.Const):
        field = field.subcon
    return field


def _is_padding(field: Any) -> bool:
    return isinstance(field, construct.Padded) or (
        isinstance(field, construct.Renamed) and isinstance(field.subcon, construct.Padded)
    )


def _format_of(field: Any, order: set[str]) -> str:
    if _is_padding(field):
        return f"{field.sizeof()}x"
    bare = _bare(field)
    if isinstance(bare, construct.FormatField):
        sign, letter = bare.fmtstr[0], bare.fmtstr[1]
        if bare.sizeof() > 1:
            order.add(_ENDIAN[sign])
        return str(letter)
    if isinstance(bare, construct.Bytes):
        return f"{bare.sizeof()}s"
    raise ValueError(f"field {field.name!r} has no fixed format")
