"""How changes reach the host: the steps that every kind of commit has, and what is told of it afterwards.

A commit first prepares: it makes new files under names that nobody looks for, or, in place, nothing at all. Then what
would be there is read again by foreign readers (:mod:`vhdtool.disk.container_opinion`). Only then it is finished,
by steps that leave the old disk or the new one, whenever the power goes; or it is abandoned, and nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vhdtool.bytesource import ByteSource
from vhdtool.progress import Progress

TargetKind = Literal["child", "in-place", "output"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where changes shall go.

    ``path``: the new file of ``child`` and ``output``; ``None`` in place. ``parent_windows_path``: what a child's
    absolute locator shall say of its parent. ``journal``: a redo journal instead of a whole copy, in place on a
    fixed VHD or raw image. ``fold``: bring moved blocks back to their places, in place on a VHDX. ``no_children``:
    the user's word that an image that is changed in place has no children. ``children_folders``: further folders to
    look for children in.
    """

    kind: TargetKind
    path: str | None = None
    parent_windows_path: str | None = None
    journal: bool = False
    fold: bool = True
    no_children: bool = False
    children_folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """The disk as it would be, for foreign readers, before anything is final.

    ``files`` are its files: the changed or new one first, then its parents, each as bytes with the path that it has
    or will have. ``format`` is that of the first: vhdx, vhd or raw.
    """

    format: str
    files: Sequence[tuple[str, ByteSource]]


@dataclass(frozen=True, slots=True)
class Written:
    """What a finished commit did. Sizes in bytes.

    ``path``: the file that now holds the changed disk. ``blocks``: payload blocks written. ``bytes_written``: to the
    host, everything counted. ``file_size_before`` is ``None`` for a new file. ``undo``: how to go back, one sentence.
    ``notes``: what the user must know (a VHD child's copy must keep the parent's time stamp, no lock could be had).
    """

    path: str
    blocks: int
    bytes_written: int
    file_size_before: int | None
    file_size: int
    undo: str
    notes: tuple[str, ...] = ()


RecoveryAction = Literal["finished", "rolled-back", "replayed", "cleared", "repaired"]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done about an interrupted commit or a pending log.

    ``action``: finished, rolled-back, replayed, cleared (left-over files and space of a commit that had ended), or
    repaired (a damaged copy of a structure, from the sound one).
    """

    path: str
    action: RecoveryAction
    bytes_written: int
    notes: tuple[str, ...] = ()


class Commit(Protocol):
    """One commit of some changes to one target."""

    def prepare(self, progress: Progress) -> Candidate:
        """Do all that leaves the image as it is: check room, make new files under a temporary name.

        Raises :class:`vhdtool.errors.RefusedError` and :class:`vhdtool.errors.OutputError`; what was made is removed.
        """

    def finish(self, progress: Progress) -> Written:
        """Make it final. On return everything is on stable storage.

        Raises :class:`vhdtool.errors.OutputError` while the disk is still the old one, and
        :class:`vhdtool.errors.ChangedError` where it may be the new one already.
        """

    def abandon(self) -> None:
        """Remove what :meth:`prepare` made; after :meth:`finish`, and a second time, do nothing."""


def temporary_name(path: str, purpose: str) -> str:
    """The name of a file beside ``path`` that is not whole yet: ``.NAME.vhdtool-PURPOSE``."""
    target = Path(path)
    return str(target.with_name(f".{target.name}.vhdtool-{purpose}"))
