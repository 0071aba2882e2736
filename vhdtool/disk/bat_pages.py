"""Pages of a block allocation table, read when they are asked for: a BAT may have 512 MiB, and few are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod

PAGE_SIZE = 4096


class BatPages(ABC):
    """Keeps at most ``limit`` pages. A page without allocated blocks is kept as the one object ``empty``.

    That object tells callers by identity that there is nothing in a page, whatever its place.
    """

    def __init__(self, empty: bytes, limit: int) -> None:
        self._pages: dict[int, bytes] = {}
        self._empty = empty
        self._limit = limit

    def _load(self, page: int) -> bytes:
        if len(self._pages) >= self._limit:  # the oldest half goes: one pass over the disk never needs it again
            for old in list(self._pages)[: self._limit // 2]:
                del self._pages[old]
        data = self._read(page)
        self._pages[page] = data = self._empty if data == self._empty else data
        return data

    @abstractmethod
    def _read(self, page: int) -> bytes:
        """Return a page as stored, :data:`PAGE_SIZE` bytes, filled up with what an empty page holds."""
