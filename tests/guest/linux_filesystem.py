"""A Linux file system in memory: names with their case, links that are told and never followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.guest.fake_filesystem import FakeFile
from vhdtool.errors import NotFoundError, VhdtoolError
from vhdtool.fs.base import FileStat
from vhdtool.guest.linux_mounts import LinuxVolume
from vhdtool.guest.linux_tree import LinuxTree, MountedVolume


class Link(str):
    """The target of a link, in the place of a content."""

    __slots__ = ()


Content = bytes | Link | VhdtoolError


class LinuxFilesystem:
    """``files`` maps paths to contents, links and errors; a path that ends with ``/`` is an empty directory."""

    kind = "ext"
    label: str | None = None

    def __init__(self, files: Mapping[str, Content | str]) -> None:
        self._entries: dict[str, Content | None] = {"": None}
        self.bytes_read: dict[str, int] = {}
        for path, content in files.items():
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                self._entries.setdefault("/".join(parts[:depth]), None)
            plain = content.encode() if isinstance(content, str) and not isinstance(content, Link) else content
            self._entries["/".join(parts)] = None if path.endswith("/") else plain

    def stat(self, path: str) -> FileStat | None:
        key = path.strip("/")
        if key not in self._entries:
            return None
        content = self._entries[key]
        name = key.rpartition("/")[2]
        if content is None:
            return FileStat(name, "directory", 0)
        if isinstance(content, Link):
            return FileStat(name, "symlink", 0, link_target=str(content))
        return FileStat(name, "file", len(content) if isinstance(content, bytes) else 1)

    def list(self, path: str) -> Sequence[FileStat]:
        key = path.strip("/")
        if key not in self._entries:
            raise NotFoundError("no-such-file", "nothing there", path=path)
        if self._entries[key] is not None:
            raise NotFoundError("not-a-directory", "no directory", path=path)
        prefix = f"{key}/" if key else ""
        names = [name for name in self._entries if name.startswith(prefix) and name != key]
        return [fact for name in names if "/" not in name[len(prefix) :] and (fact := self.stat(name)) is not None]

    def open(self, path: str) -> FakeFile:
        content = self._entries.get(path.strip("/"))
        if path.strip("/") not in self._entries:
            raise NotFoundError("no-such-file", "nothing there", path=path)
        assert not isinstance(content, Link), "links are followed by the tree"
        if content is None:
            raise NotFoundError("is-a-directory", "a directory", path=path)
        if isinstance(content, VhdtoolError):
            raise content
        return FakeFile(path, content, self)  # type: ignore[arg-type]  # it only counts the bytes


def tree(files: Mapping[str, Content | str], *, base: str = "/") -> LinuxTree:
    return LinuxTree(MountedVolume(0, LinuxFilesystem(files), base))


def volume(index: int, files: Mapping[str, Content | str], *, uuid: str | None = None, **names: str) -> LinuxVolume:
    """A volume of an image; ``names``: kind, label, name, partition_id."""
    filesystem = LinuxFilesystem(files)

    def no_device() -> None:
        raise AssertionError("the UUID is given")

    made = LinuxVolume(index, names.pop("kind", "ext"), no_device, lambda: filesystem, **names)  # type: ignore[arg-type]
    made.__dict__["uuid"] = uuid
    return made
