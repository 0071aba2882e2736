"""Marvin32, the keyed hash that guards the entries of new-style logs (regf specification, "Log entries")."""

from __future__ import annotations

import struct

SEED = 0x82EF4D887A4E55C5
"""As a 64-bit integer: the low word is 0x7A4E55C5. The specification prints these digits as if they were bytes."""

_MASK = 0xFFFFFFFF
_DOUBLE = 0x1_0000_0001  # a word times this is the word twice, one behind the other: a shift of it is a rotation


def marvin32(data: bytes) -> int:
    """Return the 64-bit hash of ``data`` with the seed that Windows uses for hive logs."""
    low, high = SEED & _MASK, SEED >> 32
    whole = len(data) & ~3
    words = struct.unpack(f"<{whole // 4}I", data[:whole])
    tail = int.from_bytes(data[whole:] + b"\x80", "little")
    mask, double = _MASK, _DOUBLE  # local names: this loop runs a quarter of a million times for a MiB
    for word in (*words, tail, 0):
        low = low + word & mask
        high ^= low
        low = (low * double >> 12) + high & mask  # rotated left by 20
        high = high * double >> 23 & mask ^ low  # by 9
        low = (low * double >> 5) + high & mask  # by 27
        high = high * double >> 13 & mask  # by 19
    return high << 32 | low
