r"""Registry values as REG.EXE spells them: ``/t REG_MULTI_SZ /d one\0two``.

Source: Microsoft, "reg add"; for what that leaves open, Wine's ``programs/reg/add.c``, whose tests were made on
Windows: a REG_NONE is stored as a string, an empty REG_DWORD is 0, an empty string inside a list is an error. Otherwise
than there a REG_DWORD_BIG_ENDIAN is stored with its first byte first, so that it reads as the number that was given.
"""

from __future__ import annotations

import re

from vhdtool.errors import UsageError
from vhdtool.registry.value_data import (
    REG_BINARY,
    REG_DWORD,
    REG_DWORD_BIG_ENDIAN,
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    REG_NONE,
    REG_QWORD,
    REG_SZ,
    type_name,
    typed_data,
)

TYPES = {
    "REG_SZ": REG_SZ,
    "REG_EXPAND_SZ": REG_EXPAND_SZ,
    "REG_MULTI_SZ": REG_MULTI_SZ,
    "REG_DWORD": REG_DWORD,
    "REG_DWORD_LITTLE_ENDIAN": REG_DWORD,
    "REG_DWORD_BIG_ENDIAN": REG_DWORD_BIG_ENDIAN,
    "REG_QWORD": REG_QWORD,
    "REG_BINARY": REG_BINARY,
    "REG_NONE": REG_NONE,
}
"""What ``/t`` takes, and the number that is stored."""

SEPARATOR = r"\0"
"""What stands between the strings of a list where ``/s`` says nothing else: a backslash and a zero, as typed."""

_NUMBER_SIZES = {REG_DWORD: 4, REG_DWORD_BIG_ENDIAN: 4, REG_QWORD: 8}
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,40}|[0-9]{1,40}", re.ASCII)


def value_type(kind: str | None) -> int:
    """Return the number of a type, in any case; REG_SZ for ``None``. Raises :class:`UsageError` ``reg-type``."""
    found = REG_SZ if kind is None else TYPES.get(kind.strip().upper())
    if found is None:
        raise UsageError(
            "reg-type", "this is no type of a registry value", found=repr(kind), hint=f"One of: {', '.join(TYPES)}."
        )
    return found


def value_data(kind: int, data: str | None, *, separator: str | None = None) -> bytes:
    """Return the bytes to store for what ``/d`` says; ``separator`` is ``/s``.

    Raises :class:`UsageError` ``reg-data`` for data that the type can't hold.
    """
    written = data or ""
    if "\0" in written:
        raise UsageError("reg-data", "the data holds a NUL character", found=repr(written))
    if kind in _NUMBER_SIZES:
        return _number(kind, written)
    if kind == REG_BINARY:
        return _binary(written)
    if kind == REG_MULTI_SZ:
        return _strings(written, SEPARATOR if separator is None else separator)
    return _text(written + "\0")


def shown_data(kind: int, raw: bytes) -> int | str | tuple[str, ...]:
    """Return stored bytes as result documents have them: bytes in hexadecimal, all else as it is."""
    data = typed_data(kind, raw)
    return data.hex().upper() if isinstance(data, bytes) else data


def _number(kind: int, written: str) -> bytes:
    size = _NUMBER_SIZES[kind]
    text = written.strip() or "0"
    number = int(text, 16 if text[:2].lower() == "0x" else 10) if _NUMBER.fullmatch(text) else None
    if number is None or number >= 1 << (8 * size):
        raise UsageError(
            "reg-data",
            f"this is no number that a {type_name(kind)} can hold",
            expected=f"0 to {(1 << (8 * size)) - 1}, decimal or with 0x before it",
            found=repr(written),
        )
    return number.to_bytes(size, "big" if kind == REG_DWORD_BIG_ENDIAN else "little")


def _binary(written: str) -> bytes:
    whole = written.rjust(len(written) + len(written) % 2, "0")  # of an odd number the first stands alone
    if not re.fullmatch(r"[0-9a-fA-F]*", written, re.ASCII):
        raise UsageError("reg-data", "this is no REG_BINARY", expected="hexadecimal digits", found=repr(written))
    return bytes.fromhex(whole)


def _strings(written: str, separator: str) -> bytes:
    if len(separator) == 0 or (len(separator) != 1 and separator != SEPARATOR):
        raise UsageError("reg-data", "the separator is one character", found=repr(separator))
    parts = written.split(separator)
    if not parts[-1]:
        parts.pop()  # a separator at the end, or no string at all
    if not all(parts):
        raise UsageError(
            "reg-data",
            "a list can't hold an empty string: the list would end there",
            found=repr(written),
            hint="Leave the doubled separator out.",
        )
    return _text("".join(f"{part}\0" for part in parts) + "\0")


def _text(text: str) -> bytes:
    # surrogateescape is what the command line makes of bytes that are no UTF-8: they are no text that Windows knows
    try:
        return text.encode("utf-16-le")
    except UnicodeEncodeError as error:
        raise UsageError("reg-data", "the data is no text", found=ascii(text.rstrip("\0"))) from error
