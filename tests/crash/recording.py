"""A store that does what the store of the operating system does, and keeps a record of it.

``copy_within`` and ``clone_from`` are recorded as the writes that they amount to; ``give_name`` as a second name and
the removal of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vhdtool.disk.host_store import HostFile, HostStore, OsFile, OsStore
from vhdtool.errors import OutputError


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that went to a file; files are numbered."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file got a length."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Flush:
    """All that a file has is on stable storage."""

    file: int


@dataclass(frozen=True, slots=True)
class Create:
    """A new file."""

    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Link:
    """A file got one more name."""

    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name was taken away, where the file has the name ``after`` already."""

    name: str
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """A file got another name, and what had that name lost it."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class FlushFolder:
    """All names are on stable storage."""


Operation = Write | Truncate | Flush | Create | Link | Unlink | Rename | FlushFolder


class UnflushedFile(OsFile):
    """A file of the operating system that is not flushed: the tests cut the power themselves, and save the time."""

    def flush(self) -> None:
        pass


class UnflushedStore(OsStore):
    """The store of the operating system without its flushes."""

    def open(self, path: str) -> UnflushedFile:
        return UnflushedFile(path, super().open(path).descriptor)

    def create(self, path: str) -> UnflushedFile:
        return UnflushedFile(path, super().create(path).descriptor)

    def flush_folder(self, path: str) -> None:
        pass


UNFLUSHED = UnflushedStore()


class RecordingStore:
    """A :class:`vhdtool.disk.host_store.HostStore` for the files right in ``folder``; ``operations`` is the record.

    ``fail_from``: this change or flush, counted from 0, fails as on a full disk; ``fail_for`` says how many fail then,
    ``None`` for all that follow. ``room`` is what :meth:`free_space` says. ``reflinks``: ``clone_from`` works.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fail_from: int | None = None,
        fail_for: int | None = None,
        room: int | None = None,
        reflinks: bool = False,
        wrapped: HostStore = UNFLUSHED,
    ) -> None:
        self.folder = folder
        self.operations: list[Operation] = []
        self.calls = 0
        self.reflinks = reflinks
        self._fail_from = fail_from
        self._fail_for = fail_for
        self._room = room
        self._wrapped = wrapped
        names = sorted(path.name for path in folder.iterdir())
        self.initial = {name: number for number, name in enumerate(names)}
        self._names = dict(self.initial)
        self._numbers = len(names)

    def open(self, path: str) -> HostFile:
        return RecordingFile(self, self._wrapped.open(path), self._names[self.name_of(path)])

    def create(self, path: str) -> HostFile:
        self.count("make the file")
        file = self._wrapped.create(path)
        number, name = self._numbers, self.name_of(path)
        self._numbers += 1
        self._names[name] = number
        self.operations.append(Create(number, name))
        return RecordingFile(self, file, number)

    def rename(self, old: str, new: str) -> None:
        self.count("give the file its name")
        self._wrapped.rename(old, new)
        self.operations.append(Rename(self.name_of(old), self.name_of(new)))
        self._names[self.name_of(new)] = self._names.pop(self.name_of(old))

    def give_name(self, old: str, new: str) -> None:
        self.count("give the file its name")
        self._wrapped.give_name(old, new)
        number = self._names.pop(self.name_of(old))
        self.operations += [Link(number, self.name_of(new)), Unlink(self.name_of(old), self.name_of(new))]
        self._names[self.name_of(new)] = number

    def remove(self, path: str) -> None:
        self.count("remove the file")
        there = Path(path).exists()
        self._wrapped.remove(path)
        if there:
            self.operations.append(Unlink(self.name_of(path)))
            del self._names[self.name_of(path)]

    def copy_facts(self, old: str, new: str) -> None:
        """Rights and owner are no bytes of a disk: not recorded."""
        copy: Callable[[str, str], None] | None = getattr(self._wrapped, "copy_facts", None)
        if copy is not None:
            copy(old, new)

    def flush_folder(self, path: str) -> None:
        self.name_of(path)
        self.count("flush the folder")
        self._wrapped.flush_folder(path)
        self.operations.append(FlushFolder())

    def free_space(self, path: str) -> int | None:
        return self._wrapped.free_space(path) if self._room is None else self._room

    def name_of(self, path: str) -> str:
        """The file's name; the record knows one folder only."""
        if Path(path).parent.resolve() != self.folder.resolve():
            raise ValueError(f"{path} is not in the recorded folder")
        return Path(path).name

    def count(self, what: str) -> None:
        """Count a call that changes or flushes, or let it fail."""
        number = self.calls
        self.calls += 1
        first = self._fail_from
        if first is None or number < first or (self._fail_for is not None and number >= first + self._fail_for):
            return
        raise OutputError("cannot-write", f"can't {what}: No space left on device", path=str(self.folder))


class RecordingFile:
    """A file of a :class:`RecordingStore`."""

    def __init__(self, store: RecordingStore, file: HostFile, number: int) -> None:
        self._store = store
        self._file = file
        self._number = number

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def descriptor(self) -> int:
        return int(self._file.descriptor)  # type: ignore[attr-defined]

    def read_at(self, offset: int, length: int) -> bytes:
        return self._file.read_at(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._file.read_into(offset, buffer)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if not data:
            return
        self._store.count("write the file")
        self._file.write_at(offset, data)
        self._store.operations.append(Write(self._number, offset, bytes(data)))

    def copy_within(self, source: int, target: int, length: int) -> None:
        self.write_at(target, self._file.read_at(source, length).ljust(length, b"\0"))

    def clone_from(self, source: str) -> bool:
        if not self._store.reflinks:
            return False
        self.write_at(0, Path(source).read_bytes())
        return True

    def truncate(self, size: int) -> None:
        self._store.count("set the file's length")
        self._file.truncate(size)
        self._store.operations.append(Truncate(self._number, size))

    def flush(self) -> None:
        self._store.count("flush the file")
        self._file.flush()
        self._store.operations.append(Flush(self._number))

    def close(self) -> None:
        self._file.close()
