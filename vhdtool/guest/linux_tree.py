"""The directory tree of a Linux guest: its root volume with the volumes that are mounted below it, seen as one.

Links are resolved here, for they may lead from one volume to another; the file systems below are only asked for paths
without links. Links that lead in a circle lead nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from vhdtool.errors import NotFoundError, UnsupportedError
from vhdtool.fs.base import FileStat, GuestFile, GuestFilesystem
from vhdtool.fs.paths import split_path

MOST_LINKS = 40
"""Links that are followed in one path (Linux, include/linux/namei.h, MAXSYMLINKS)."""

MOST_REMEMBERED = 20_000
LARGEST_TEXT = 4 << 20

_DIRECTORY = FileStat("", "directory", 0)


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A file system and the directory of it that is mounted: ``/`` or a subvolume."""

    volume: int
    filesystem: GuestFilesystem
    base: str

    def inner(self, below: str) -> str:
        """The path inside the file system of what lies ``below`` the mount point."""
        return f"{self.base.rstrip('/')}{below}" or "/"


class LinuxTree:
    """The tree of one Linux. It answers like a :class:`GuestFilesystem`, with the paths of the running guest."""

    def __init__(self, root: MountedVolume) -> None:
        self.root = root
        self._mounts: dict[str, MountedVolume] = {"": root}
        self._known: dict[str, FileStat | None] = {}

    @property
    def kind(self) -> str:
        """As :attr:`GuestFilesystem.kind`, of the root volume."""
        return self.root.filesystem.kind

    @property
    def label(self) -> str | None:
        """As :attr:`GuestFilesystem.label`, of the root volume."""
        return self.root.filesystem.label

    def mount(self, path: str, volume: MountedVolume) -> None:
        """Let a directory be another volume."""
        self._mounts[path.rstrip("/")] = volume
        self._known.clear()

    def stat(self, path: str) -> FileStat | None:
        """As :meth:`GuestFilesystem.stat`: of a link itself."""
        found = self._resolve(path, follow_last=False)
        return None if found is None else self._fact(found)

    def target(self, path: str) -> FileStat | None:
        """Facts of what ``path`` leads to, links followed; ``None`` where it leads nowhere."""
        found = self._resolve(path, follow_last=True)
        return None if found is None else self._fact(found)

    def real(self, path: str) -> str | None:
        """The path without links; ``None`` where there is nothing."""
        found = self._resolve(path, follow_last=True)
        return None if found is None else found or "/"

    def list(self, path: str) -> Sequence[FileStat]:
        """As :meth:`GuestFilesystem.list`."""
        volume, inner = self._place(self._existing(path))
        return volume.filesystem.list(inner)

    def open(self, path: str) -> GuestFile:
        """As :meth:`GuestFilesystem.open`."""
        volume, inner = self._place(self._existing(path))
        return volume.filesystem.open(inner)

    def entries(self, path: str) -> tuple[FileStat, ...]:
        """The entries of a directory by name; none where it is absent or no directory."""
        try:
            return tuple(sorted(self.list(path), key=lambda fact: fact.name))
        except NotFoundError:
            return ()

    def is_file(self, path: str) -> bool:
        """Whether ``path`` leads to a file."""
        fact = self.target(path)
        return fact is not None and fact.kind == "file"

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` leads to a directory."""
        fact = self.target(path)
        return fact is not None and fact.kind == "directory"

    def read(self, path: str, most: int = LARGEST_TEXT) -> bytes | None:
        """Read a file; ``None`` where it is absent, or no file.

        Raises :class:`UnsupportedError` ``guest-file-too-large`` for one of more than ``most`` bytes, and what the
        file system raises.
        """
        if not self.is_file(path):
            return None
        file = self.open(path)
        if file.size > most:
            raise UnsupportedError(
                "guest-file-too-large",
                "the file is larger than any of its kind",
                path=path,
                expected=f"at most {most} bytes",
                found=file.size,
            )
        return file.read_at(0, file.size)

    def text(self, path: str, most: int = LARGEST_TEXT) -> str | None:
        """Read a file as UTF-8; bytes that are not become replacement characters."""
        data = self.read(path, most)
        return None if data is None else data.decode("utf-8", errors="replace")

    def _existing(self, path: str) -> str:
        found = self._resolve(path, follow_last=True)
        if found is None:
            raise NotFoundError("no-such-file", "no such file or directory", path=path)
        return found

    def _resolve(self, path: str, *, follow_last: bool) -> str | None:
        pending = deque(split_path(path, backslash=False))
        here = ""
        links = 0
        while pending:
            part = pending.popleft()
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            fact = self._fact(f"{here}/{part}")
            if fact is None:
                return None
            if fact.kind == "symlink" and (pending or follow_last):
                links += 1
                if links > MOST_LINKS:
                    return None  # the guest itself gets ELOOP, and goes on as if there were nothing
                target = fact.link_target or ""
                if target.startswith("/"):
                    here = ""
                pending.extendleft(reversed(split_path(target, backslash=False)))
                continue
            if pending and fact.kind != "directory":
                return None
            here = f"{here}/{part}"
        return here

    def _fact(self, path: str) -> FileStat | None:
        """Facts of a path whose directories are no links."""
        if path in self._mounts:
            return _DIRECTORY
        if path in self._known:
            return self._known[path]
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        volume, inner = self._place(path)
        fact = self._known[path] = volume.filesystem.stat(inner)
        return fact

    def _place(self, path: str) -> tuple[MountedVolume, str]:
        """The volume that holds a path, and the path on it."""
        at = path
        while at not in self._mounts:
            at = at.rpartition("/")[0]
        volume = self._mounts[at]
        return volume, volume.inner(path[len(at) :] or ("" if volume.base != "/" else "/"))
