"""Where a Windows lies and how its hives are opened: the one door from a guest's file system to its registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vhdtool.bytesource import ByteSource
from vhdtool.errors import NotFoundError, VhdtoolError
from vhdtool.fs.base import GuestFile, GuestFilesystem
from vhdtool.guest.model import HiveFact
from vhdtool.registry.hive import Hive

CONFIG = "System32/config"
"""The directory of the hives, below the Windows directory."""

LOG_SUFFIXES = (".LOG", ".LOG1", ".LOG2")
"""Transaction logs beside a hive: ``.LOG`` up to Windows XP and 2003, two numbered ones since Vista."""


@dataclass(frozen=True, slots=True)
class GuestVolume:
    """A volume whose file system could be opened. ``index`` is its place in the volume table."""

    index: int
    filesystem: GuestFilesystem


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of the guest that could not be read, and why; the rest was read all the same."""

    what: str
    error: VhdtoolError


class Troubles:
    """Collects what could not be read."""

    def __init__(self) -> None:
        self.found: list[Trouble] = []

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Run a block; an error of the input ends the block, is noted, and goes no further."""
        try:
            yield
        except VhdtoolError as error:
            self.found.append(Trouble(what, error))


class LazyFile:
    """A guest file that is opened with its first read: a clean hive never asks for its logs."""

    def __init__(self, filesystem: GuestFilesystem, path: str, size: int) -> None:
        self._filesystem = filesystem
        self._path = path
        self._size = size
        self._file: GuestFile | None = None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        if self._file is None:
            self._file = self._filesystem.open(self._path)
        return self._file.read_at(offset, length)


class WindowsInstallation:
    """One Windows on a volume: ``root`` is its directory from the volume's root (``/Windows``).

    Hives are opened when they are asked for, once, with the transaction logs that lie beside them.
    """

    def __init__(self, volume_index: int, root: str, filesystem: GuestFilesystem) -> None:
        self.volume_index = volume_index
        self.root = root
        self.filesystem = filesystem
        self._hives: dict[str, Hive | VhdtoolError] = {}

    def path(self, below: str) -> str:
        """The path, from the volume's root, of something below the Windows directory."""
        return f"{self.root.rstrip('/')}/{below}"

    def hive(self, name: str) -> Hive:
        """Open a hive of ``System32/config``: SYSTEM, SOFTWARE, DRIVERS and so on.

        Raises :class:`NotFoundError` ``no-such-hive``, and what opening a damaged file or hive raises.
        """
        key = name.upper()
        known = self._hives.get(key)
        if known is None:
            try:
                known = self._open(key)
            except VhdtoolError as error:
                known = error
            self._hives[key] = known
        if isinstance(known, VhdtoolError):
            raise known
        return known

    def optional_hive(self, name: str) -> Hive | None:
        """Open a hive that not every Windows has; ``None`` where the file is not there."""
        try:
            return self.hive(name)
        except NotFoundError:
            return None

    def hives(self) -> tuple[HiveFact, ...]:
        """The hives that were opened up to now."""
        return tuple(
            HiveFact(hive.path, hive.state, tuple(hive.logs_applied))
            for hive in self._hives.values()
            if not isinstance(hive, VhdtoolError)
        )

    def opened_hives(self) -> tuple[tuple[str, Hive], ...]:
        """The hives that were opened up to now, by name."""
        return tuple((name, hive) for name, hive in self._hives.items() if not isinstance(hive, VhdtoolError))

    def _open(self, name: str) -> Hive:
        path = self.path(f"{CONFIG}/{name}")
        try:
            file = self.filesystem.open(path)
        except NotFoundError as error:
            raise NotFoundError(
                "no-such-hive", f"the installation has no {name} hive", path=path,
                hint="Is this a whole Windows? See what is there with: vhdtool ls IMAGE /Windows/System32/config",
            ) from error  # fmt: skip
        return Hive.open(file, self._logs(name), path=file.path)

    def _logs(self, name: str) -> list[tuple[str, ByteSource]]:
        logs: list[tuple[str, ByteSource]] = []
        for suffix in LOG_SUFFIXES:
            path = self.path(f"{CONFIG}/{name}{suffix}")
            fact = self.filesystem.stat(path)
            if fact is not None and fact.kind == "file" and fact.size:
                logs.append((fact.name, LazyFile(self.filesystem, path, fact.size)))
        return logs
