"""The file systems beside NTFS behind one face: FAT, exFAT, ext2/3/4, XFS, Btrfs.

Each kind has a driver (:mod:`vhdtool.fs.fat`, :mod:`vhdtool.fs.exfat`, :mod:`vhdtool.fs.posix`) that knows its
directories and streams; paths, links and errors are the same for all and live here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import BlockDevice
from vhdtool.errors import DamagedError, NotFoundError, UnsupportedError
from vhdtool.fs.base import Extent, FileStat
from vhdtool.fs.boundary import MeteredStream, reading
from vhdtool.fs.paths import MAX_LINKS, join_path, split_path

MAX_ENTRIES = 1_000_000  # names of one directory
CACHED_NAMES = 20_000


@dataclass(frozen=True, slots=True)
class Node:
    """One file or directory as its driver hands it out; ``handle`` is the driver's own."""

    name: str
    handle: Any


class Driver(Protocol):
    """What one kind of file system answers. Called inside the boundary; may raise anything."""

    kind: str
    ignores_case: bool
    backslash: bool  # is \ a separator of names, or a character

    def label(self) -> str | None:
        """The volume's name."""

    def root(self) -> Node:
        """The root directory."""

    def children(self, node: Node) -> Iterator[Node]:
        """The entries of a directory, without ``.`` and ``..``."""

    def facts(self, node: Node) -> FileStat:
        """Facts of one node."""

    def stream(self, node: Node, path: str) -> ByteSource:
        """The bytes of a file; it may have a method ``extents``."""


class DissectFile:
    """An opened file of one of these file systems."""

    def __init__(self, path: str, source: ByteSource, meter: MeteredStream, kind: str) -> None:
        self.path = path
        self._source = source
        self._meter = meter
        self._kind = kind

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._source.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        with reading(f"the {self._kind} file system", self.path):
            self._meter.allow(length)
            data = self._source.read_at(offset, length)
        if len(data) != length:
            raise DamagedError(
                "truncated",
                "the file's data is cut off",
                path=self.path,
                offset=offset,
                expected=f"{length} bytes",
                found=f"{len(data)} bytes",
            )
        return data

    def extents(self) -> Sequence[Extent]:
        """Where the bytes lie, where they are stored plainly."""
        told = getattr(self._source, "extents", None)
        return tuple(told()) if told is not None else ()


class DissectFilesystem:
    """One volume, read through its driver."""

    def __init__(self, driver: Driver, meter: MeteredStream) -> None:
        self._driver = driver
        self._meter = meter
        self._names: OrderedDict[str, dict[str, Node]] = OrderedDict()

    @property
    def kind(self) -> str:
        """fat, exfat, ext, xfs or btrfs."""
        return self._driver.kind

    @property
    def label(self) -> str | None:
        """The volume's label."""
        with self._reading("/"):
            return self._driver.label()

    def stat(self, path: str) -> FileStat | None:
        """Facts of what ``path`` names, itself and not what it links to; ``None`` when there is nothing."""
        found = self._resolve(path, follow_last=False)
        return None if found is None else self._facts(found[1], found[0])

    def list(self, path: str) -> Sequence[FileStat]:
        """The directory's entries in the file system's order.

        Raises :class:`NotFoundError` (codes ``no-such-file``, ``not-a-directory``).
        """
        place, node, facts = self._find(path)
        if facts.kind != "directory":
            raise NotFoundError("not-a-directory", "this is no directory", path=place)
        return [self._facts(child, place) for child in self._children(node, place)]

    def open(self, path: str) -> DissectFile:
        """Open a file; links are followed inside this file system.

        Raises :class:`NotFoundError` (codes ``no-such-file``, ``is-a-directory``), :class:`UnsupportedError`
        (``file-encrypted``, ``not-a-file`` for devices and pipes).
        """
        place, node, facts = self._find(path)
        if facts.kind == "directory":
            raise NotFoundError("is-a-directory", "this is a directory", path=place)
        if facts.kind != "file":
            raise UnsupportedError("not-a-file", "a device, pipe or socket has no content", path=place)
        if facts.storage == "encrypted":
            raise UnsupportedError("file-encrypted", "the file is encrypted", path=place)
        with self._reading(place):
            source = self._driver.stream(node, place)
        return DissectFile(place, source, self._meter, self.kind)

    def _find(self, path: str) -> tuple[str, Node, FileStat]:
        found = self._resolve(path, follow_last=True)
        if found is None:
            raise NotFoundError("no-such-file", "no such file or directory", path=path)
        return *found, self._facts(found[1], found[0])

    def _resolve(self, path: str, *, follow_last: bool) -> tuple[str, Node] | None:
        pending = deque(split_path(path, backslash=self._driver.backslash))
        with self._reading("/"):
            trail = [self._driver.root()]
        links = 0
        while pending:
            part = pending.popleft()
            here = join_path(node.name for node in trail[1:])
            if part == "..":
                del trail[1 if len(trail) == 1 else -1 :]
                continue
            node = self._child(trail[-1], part, here)
            if node is None:
                return None
            facts = self._facts(node, here)
            if facts.kind != "symlink" or not (pending or follow_last):
                trail.append(node)
                continue
            links += 1
            if links > MAX_LINKS:
                raise DamagedError("too-many-links", "the links of this path lead in a circle", path=path)
            target = facts.link_target or ""
            if target.startswith("/"):
                del trail[1:]
            pending.extendleft(reversed(split_path(target, backslash=False)))
        return join_path(node.name for node in trail[1:]), trail[-1]

    def _child(self, node: Node, name: str, place: str) -> Node | None:
        if self._facts(node, place).kind != "directory":
            return None
        names = self._names.get(place)
        if names is None:
            names = {}
            for child in self._children(node, place):
                names.setdefault(self._key(child.name), child)
            self._remember(place, names)
        else:
            self._names.move_to_end(place)
        return names.get(self._key(name))

    def _key(self, name: str) -> str:
        return _fold(name) if self._driver.ignores_case else name

    def _remember(self, place: str, names: dict[str, Node]) -> None:
        """Keep the names of the directories last walked through."""
        self._names[place] = names
        while len(self._names) > 1 and sum(map(len, self._names.values())) > CACHED_NAMES:
            self._names.popitem(last=False)

    def _children(self, node: Node, place: str) -> Iterator[Node]:
        with self._reading(place):
            entries = self._driver.children(node)
        for _ in range(MAX_ENTRIES):
            with self._reading(place):
                child = next(entries, None)
            if child is None:
                return
            yield child
        raise DamagedError("endless-structure", f"the directory has more than {MAX_ENTRIES} names", path=place)

    def _facts(self, node: Node, place: str) -> FileStat:
        with self._reading(place):
            return self._driver.facts(node)

    def _reading(self, place: str) -> Any:
        self._meter.allow(0)
        return reading(f"the {self.kind} file system", place)


def open_dissect(device: BlockDevice, filesystem: str, *, top: bool = False) -> DissectFilesystem:
    """Open a volume whose marks say ``filesystem`` (fat12, fat16, fat32, exfat, ext, xfs, btrfs).

    ``top``: on Btrfs from the subvolume above all, which holds the others, not from the default one.
    Raises :class:`DamagedError` ``filesystem-damaged``.
    """
    meter = MeteredStream(device)
    with reading(f"the {filesystem} file system"):
        return DissectFilesystem(_driver(device, meter, filesystem, top=top), meter)


def _driver(device: BlockDevice, meter: MeteredStream, filesystem: str, *, top: bool) -> Driver:
    # Each driver imports its own library: 50 ms that only the volume's own kind costs.
    if filesystem == "exfat":
        from vhdtool.fs.exfat import ExfatDriver  # noqa: PLC0415

        return ExfatDriver(device)
    if filesystem.startswith("fat"):
        from vhdtool.fs.fat import FatDriver  # noqa: PLC0415

        return FatDriver(device, meter)
    from vhdtool.fs.posix import BtrfsDriver, ExtDriver, XfsDriver  # noqa: PLC0415

    if filesystem == "btrfs":
        return BtrfsDriver(device, meter, top=top)
    return ExtDriver(device, meter) if filesystem == "ext" else XfsDriver(device, meter)


def _fold(name: str) -> str:
    """Upper case by single characters, as file systems do it: no letter becomes two."""
    return "".join(upper if len(upper := character.upper()) == 1 else character for character in name)
