"""What the data of a value means: types, and bytes as Python values.

Source: regf specification, "Data types"; winnt.h.
"""

from __future__ import annotations

from vhdtool.registry.names import decode_text

REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_DWORD_BIG_ENDIAN, REG_LINK, REG_MULTI_SZ = range(8)
REG_RESOURCE_LIST, REG_FULL_RESOURCE_DESCRIPTOR, REG_RESOURCE_REQUIREMENTS_LIST, REG_QWORD = range(8, 12)

TYPE_NAMES = (
    "REG_NONE",
    "REG_SZ",
    "REG_EXPAND_SZ",
    "REG_BINARY",
    "REG_DWORD",
    "REG_DWORD_BIG_ENDIAN",
    "REG_LINK",
    "REG_MULTI_SZ",
    "REG_RESOURCE_LIST",
    "REG_FULL_RESOURCE_DESCRIPTOR",
    "REG_RESOURCE_REQUIREMENTS_LIST",
    "REG_QWORD",
)

_NUMBER_SIZES = {REG_DWORD: 4, REG_DWORD_BIG_ENDIAN: 4, REG_QWORD: 8}

ValueData = int | str | tuple[str, ...] | bytes


def type_name(number: int) -> str:
    """Return the name of a type; ``REG_UNKNOWN_0x…`` for one that has none (device properties: 0xffff0000 and up)."""
    return TYPE_NAMES[number] if number < len(TYPE_NAMES) else f"REG_UNKNOWN_{number:#x}"


def typed_data(number: int, raw: bytes) -> ValueData:
    """Return the data of a value of type ``number`` as a Python value.

    Numbers are ``int`` where they have their type's size. A string ends at its first NUL. A list of strings keeps
    empty strings inside it (``PendingFileRenameOperations`` needs them), those at its end are its terminator or
    filling. An odd last byte of a string is left out. All else, numbers of another size too, is ``bytes``.
    """
    if len(raw) == _NUMBER_SIZES.get(number):
        return int.from_bytes(raw, "big" if number == REG_DWORD_BIG_ENDIAN else "little")
    if number in (REG_SZ, REG_EXPAND_SZ, REG_LINK):
        return decode_text(raw).partition("\0")[0]
    if number == REG_MULTI_SZ:
        text = decode_text(raw).rstrip("\0")
        return tuple(text.split("\0")) if text else ()
    return raw
