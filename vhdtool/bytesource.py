"""Bytes that can be read at any place: what every parser above the file system asks for, and no more."""

from __future__ import annotations

import hashlib
from typing import Protocol

from vhdtool.errors import DamagedError

_PIECE = 1 << 20


class ByteSource(Protocol):
    """A run of bytes with random access, read lazily from wherever it lives."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the source ends."""


class BytesSource:
    """A :class:`ByteSource` over bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the source ends."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        return bytes(self._data[offset : offset + length])


def read_exactly(source: ByteSource, offset: int, length: int, *, path: str | None = None, what: str = "data") -> bytes:
    """Read ``length`` bytes or raise :class:`DamagedError` ``truncated``."""
    data = source.read_at(offset, length)
    if len(data) != length:
        raise DamagedError(
            "truncated",
            f"{what} is cut off",
            path=path,
            offset=offset,
            expected=f"{length} bytes",
            found=f"{len(data)} bytes",
            hint="The file is shorter than its own structures say: copy it again from where it came from.",
        )
    return data


def sha256_of(source: ByteSource, offset: int = 0, length: int | None = None) -> str:
    """Return the SHA-256 of ``length`` bytes from ``offset``, all by default, in hexadecimal; read piece by piece."""
    digest = hashlib.sha256()
    left = source.size - offset if length is None else length
    while left > 0:
        piece = source.read_at(offset, min(_PIECE, left))
        if not piece:
            break
        digest.update(piece)
        offset, left = offset + len(piece), left - len(piece)
    return digest.hexdigest()
