"""Parts of a VHDX as they are or shall be: what an in-place commit writes, and what foreign readers see before it."""

from __future__ import annotations

from vhdtool.disk.changes import Changes
from vhdtool.disk.vhdx import VhdxLayer


class StoredSource:
    """The bytes of a VHDX file with its pending log, where there is one, laid over them."""

    def __init__(self, layer: VhdxLayer) -> None:
        self._layer = layer

    @property
    def size(self) -> int:
        """Length in bytes once the log is replayed."""
        return self._layer.stored_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        data = bytearray(max(0, min(length, self.size - offset)))
        self._layer.read_stored(offset, memoryview(data))
        return bytes(data)


class BlockSource:
    """The bytes of a payload block as the disk shall have them; the last block ends with the disk."""

    def __init__(self, changes: Changes, block: int, block_size: int) -> None:
        self._changes = changes
        self._start = block * block_size
        self._size = min(block_size, changes.size - self._start)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only at the end."""
        return self._changes.read_at(self._start + offset, max(0, min(length, self._size - offset)))
