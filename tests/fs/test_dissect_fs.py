from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, NotFoundError, UnsupportedError
from vhdtool.fs.base import FileStat
from vhdtool.fs.boundary import MeteredStream
from vhdtool.fs.dissect_fs import DissectFilesystem, Node

TREE = {
    "": ["usr", "bin", "loop", "Ünï", "device", "secret", "broken"],
    "usr": ["lib"],
    "lib": ["os-release", "back"],
}
LINKS = {"bin": "usr/lib", "loop": "/loop", "back": "../../usr/lib/os-release"}


class TreeDriver:
    """A file system of names."""

    kind = "ext"
    ignores_case = False
    backslash = False
    walked = 0

    def label(self) -> str | None:
        return "tree"

    def root(self) -> Node:
        return Node("", "")

    def children(self, node: Node) -> Iterator[Node]:
        type(self).walked += 1
        for name in TREE[node.handle]:
            yield Node(name, name)

    def facts(self, node: Node) -> FileStat:
        if node.name == "broken":
            raise IndexError("a bug in a parser")
        kind = "symlink" if node.name in LINKS else "directory" if node.handle in TREE else "file"
        if node.name == "device":
            kind = "other"
        storage = "encrypted" if node.name == "secret" else None
        return FileStat(node.name, kind, 4, storage=storage, link_target=LINKS.get(node.name))

    def stream(self, node: Node, path: str) -> BytesSource:
        return BytesSource(b"data" if node.name != "Ünï" else b"da")


class Shout(TreeDriver):
    ignores_case = True
    backslash = True


def tree(driver: TreeDriver | None = None) -> DissectFilesystem:
    return DissectFilesystem(driver or TreeDriver(), MeteredStream(MemoryDevice(b"")))


@pytest.mark.parametrize("path", ["/usr/lib/os-release", "bin/os-release", "/bin/back", "/usr/../bin/./os-release"])
def test_paths_and_links(path: str) -> None:
    file = tree().open(path)
    assert (file.path, file.read_at(1, 9)) == ("/usr/lib/os-release", b"ata")
    assert file.extents() == ()


def test_stat_is_of_the_link_itself() -> None:
    stat = tree().stat("/bin")
    assert stat is not None
    assert (stat.kind, stat.link_target) == ("symlink", "usr/lib")
    assert [entry.name for entry in tree().list("/bin")] == ["os-release", "back"]


def test_case_by_single_letters() -> None:
    assert tree().stat("/ünÏ") is None
    assert tree(Shout()).stat("\\ÜNÏ") is not None
    assert tree().stat("/usr\\lib") is None


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/loop", DamagedError, "too-many-links"),
        ("/usr", NotFoundError, "is-a-directory"),
        ("/usr/none", NotFoundError, "no-such-file"),
        ("/device", UnsupportedError, "not-a-file"),
        ("/secret", UnsupportedError, "file-encrypted"),
        ("/broken", DamagedError, "filesystem-damaged"),
    ],
)
def test_errors(path: str, kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as caught:
        tree().open(path)
    assert caught.value.code == code  # type: ignore[attr-defined]


def test_directories_are_walked_once() -> None:
    fs = tree()
    TreeDriver.walked = 0
    for _ in range(10):
        assert fs.stat("/usr/lib/os-release") is not None
    assert TreeDriver.walked == 3


def test_label() -> None:
    assert (tree().kind, tree().label) == ("ext", "tree")
