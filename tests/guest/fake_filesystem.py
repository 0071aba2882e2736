"""A guest file system in memory: a dictionary of paths, looked up without regard to case as NTFS does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vhdtool.errors import NotFoundError, VhdtoolError
from vhdtool.fs.base import Extent, FileStat


class FakeFile:
    """A file whose bytes are counted as they are read."""

    def __init__(self, path: str, data: bytes, filesystem: FakeFilesystem) -> None:
        self.path = path
        self._data = data
        self._filesystem = filesystem

    @property
    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._data[offset : offset + length]
        self._filesystem.bytes_read[self.path] = self._filesystem.bytes_read.get(self.path, 0) + len(data)
        return data

    def extents(self) -> Sequence[Extent]:
        return ()


class FakeFilesystem:
    """``files`` maps paths from the root to contents; an error in place of a content is raised when it is opened."""

    kind = "ntfs"
    label: str | None = None

    def __init__(self, files: Mapping[str, bytes | VhdtoolError], directories: Sequence[str] = ()) -> None:
        self._entries: dict[str, tuple[str, bytes | VhdtoolError | None]] = {"": ("", None)}
        for path, content in files.items():
            self._add(path, content)
        for path in directories:
            self._add(path, None)
        self.bytes_read: dict[str, int] = {}
        self.opened: list[str] = []

    def _add(self, path: str, content: bytes | VhdtoolError | None) -> None:
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            self._entries.setdefault(parent.upper(), (parent, None))
        self._entries["/".join(parts).upper()] = ("/".join(parts), content)

    def _find(self, path: str) -> tuple[str, bytes | VhdtoolError | None] | None:
        return self._entries.get(path.replace("\\", "/").strip("/").upper())

    def stat(self, path: str) -> FileStat | None:
        found = self._find(path)
        if found is None:
            return None
        name, content = found
        size = len(content) if isinstance(content, bytes) else 0
        return FileStat(name.rpartition("/")[2], "directory" if content is None else "file", size)

    def list(self, path: str) -> Sequence[FileStat]:
        found = self._find(path)
        if found is None:
            raise NotFoundError("no-such-file", f"{path} is not there", path=path)
        prefix = f"{found[0]}/" if found[0] else ""
        names = [name for name, _ in self._entries.values() if name and name.startswith(prefix)]
        return [fact for name in names if "/" not in name[len(prefix) :] and (fact := self.stat(name)) is not None]

    def open(self, path: str) -> FakeFile:
        found = self._find(path)
        if found is None:
            raise NotFoundError("no-such-file", f"{path} is not there", path=path)
        name, content = found
        if content is None:
            raise NotFoundError("is-a-directory", f"{path} is a directory", path=path)
        if isinstance(content, VhdtoolError):
            raise content
        self.opened.append(f"/{name}")
        return FakeFile(f"/{name}", content, self)
