"""Names of keys and values: how they are stored, compared and hashed.

A name is stored as UTF-16, or as one byte a character where no character is above U+00FF (Latin-1, not a code page).
Here it is a ``str``, with lone surrogates where the hive has them. Windows compares names code unit by code unit,
upper-cased through the table of :mod:`upcase_table`: ``str.upper`` makes SS of ß and orders by characters.
"""

from __future__ import annotations

import struct
from functools import cache

from vhdtool.registry.upcase_table import UPCASE_RUNS


@cache
def upcase_table() -> dict[int, int]:
    """Return the code units that have an upper case, with it."""
    return {unit: unit + shift for first, last, step, shift in UPCASE_RUNS for unit in range(first, last + 1, step)}


def fold(name: str) -> str:
    """Return the upper-cased UTF-16 code units of a name, one character each.

    Equal for names that Windows holds equal, and ordered as it orders them.
    """
    if name.isascii():
        return name.upper()
    if max(name) > "\uffff":
        name = "".join(map(chr, code_units(name)))
    return name.translate(upcase_table())


def code_units(name: str) -> tuple[int, ...]:
    """Return the UTF-16 code units of a name."""
    encoded = name.encode("utf-16-le", "surrogatepass")
    return struct.unpack(f"<{len(encoded) // 2}H", encoded)


def folded_hash(folded: str) -> int:
    """Return the 32-bit hash that a hash leaf keeps of a name that :func:`fold` gave ("Hash leaf", note)."""
    value = 0
    for unit in map(ord, folded):
        value = value * 37 + unit
        if value > 0xFFFFFFFF_FFFFFFFF:
            value &= 0xFFFFFFFF
    return value & 0xFFFFFFFF


def name_hash(name: str) -> int:
    """Return the 32-bit hash that a hash leaf keeps of a name."""
    return folded_hash(fold(name))


def hint_may_name(hint: bytes, folded: str) -> bool:
    """Tell whether a fast leaf's hint fits a name that :func:`fold` gave.

    The hint holds the first four characters; what is above U+00FF has no byte of its own there, and 0 stands for it
    or, in the first place, makes the whole hint void ("Fast leaf").
    """
    if not hint[0]:
        return True
    units = _folded_bytes()
    for place, byte in enumerate(hint):
        unit = folded[place] if place < len(folded) else "\0"
        if unit != units[byte] and (byte or unit <= "\x7f"):
            return False
    return True


@cache
def _folded_bytes() -> tuple[str, ...]:
    return tuple(map(fold, map(chr, range(256))))


def decode_name(raw: bytes, *, compressed: bool) -> str:
    """Decode a stored name; an odd last byte of UTF-16 is left out."""
    return raw.decode("latin-1") if compressed else decode_text(raw)


def is_latin(name: str) -> bool:
    """Tell whether a name is stored as one byte a character: no code unit is above U+00FF."""
    return name.isascii() or max(name) <= "\xff"


def encode_name(name: str) -> tuple[bytes, bool]:
    """Return the bytes that a name is stored as, and whether that is one byte a character."""
    if is_latin(name):
        return name.encode("latin-1"), True
    return name.encode("utf-16-le", "surrogatepass"), False


def decode_text(raw: bytes) -> str:
    """Decode UTF-16, keeping lone surrogates and leaving out an odd last byte."""
    return raw[: len(raw) & ~1].decode("utf-16-le", "surrogatepass")
