"""What a file system of a guest offers us, whichever library reads it. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileStat:
    """Facts of one file or directory. ``size`` in bytes; times in UTC, ``None`` where the file system has none.

    ``kind``: file, directory, symlink (also junctions and other name-surrogate reparse points), other.
    ``record``: NTFS MFT segment number or inode number. ``storage`` says how the bytes are stored when that is not
    plainly: compressed, sparse, encrypted, wof-xpress4k, wof-xpress8k, wof-xpress16k, wof-lzx, reparse-0x........
    """

    name: str
    kind: str
    size: int
    record: int | None = None
    modified: datetime | None = None
    storage: str | None = None
    link_target: str | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes of a file from ``file_offset``, stored at ``volume_offset`` (bytes from the volume's start)."""

    file_offset: int
    volume_offset: int
    length: int


class GuestFile(Protocol):
    """An opened file of the guest; also a :class:`vhdtool.bytesource.ByteSource`."""

    @property
    def path(self) -> str:
        """As the guest spells it."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends.

        Raises :class:`vhdtool.errors.UnsupportedError` when the bytes can't be given truly (a WOF compression that
        is not known, EFS): never zeros in their place.
        """

    def extents(self) -> Sequence[Extent]:
        """Where the bytes lie, where they are stored plainly; empty for resident and compressed files."""


class GuestFilesystem(Protocol):
    r"""One mounted file system. Paths are given with ``/`` or ``\``, from the root.

    NTFS, FAT and exFAT names are looked up without regard to case (by the volume's own $UpCase on NTFS).
    """

    @property
    def kind(self) -> str:
        """ntfs, fat, exfat, ext, xfs, btrfs."""

    @property
    def label(self) -> str | None:
        """The volume's label."""

    def stat(self, path: str) -> FileStat | None:
        """Facts of what ``path`` names, itself and not what it links to; ``None`` when there is nothing."""

    def list(self, path: str) -> Sequence[FileStat]:
        """The directory's entries, without ``.`` and ``..``, in the file system's order.

        Raises :class:`vhdtool.errors.NotFoundError` (codes ``no-such-file``, ``not-a-directory``).
        """

    def open(self, path: str) -> GuestFile:
        """Open a file (links are followed inside this file system, to a bounded depth).

        Raises :class:`vhdtool.errors.NotFoundError` (codes ``no-such-file``, ``is-a-directory``).
        """
