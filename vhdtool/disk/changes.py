"""What a commit is given: a disk as it shall be, and where that differs from the disk as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from vhdtool.disk.chain import VirtualDisk


class Changes(Protocol):
    """A disk as it shall be (a :class:`vhdtool.disk.device.BlockDevice`) over the one that is there."""

    @property
    def base(self) -> VirtualDisk:
        """The disk as it is, with its whole chain."""

    @property
    def size(self) -> int:
        """Length in bytes: that of ``base``."""

    @property
    def logical_sector_size(self) -> int:
        """That of ``base``."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the disk as it shall be; fewer only where it ends."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset`` with the disk as it shall be; fewer bytes only at its end."""

    def changed(self) -> Iterator[tuple[int, int]]:
        """Ranges ``(offset, length)`` outside which nothing differs from ``base``.

        In order, apart, whole logical sectors. Inside them every sector differs.
        """
