from __future__ import annotations

import pytest

from tests.guest.linux_filesystem import Link, LinuxFilesystem, tree
from vhdtool.errors import NotFoundError, UnsupportedError
from vhdtool.guest.linux_tree import MountedVolume


def test_links_are_followed_from_where_they_are_and_from_the_root():
    found = tree({"usr/lib/os-release": "x", "etc/os-release": Link("../usr/lib/os-release"), "lib": Link("usr/lib")})
    assert found.text("/etc/os-release") == "x"
    assert found.text("/lib/os-release") == "x"
    assert found.real("/lib/os-release") == "/usr/lib/os-release"
    assert found.stat("/lib").kind == "symlink"
    assert found.target("/lib").kind == "directory"
    assert [fact.name for fact in found.list("/lib")] == ["os-release"]


def test_a_link_may_lead_to_another_volume():
    found = tree({"lib": Link("usr/lib"), "usr/": "", "boot/": "", "abs": Link("/usr/lib/a")})
    found.mount("/usr", MountedVolume(1, LinuxFilesystem({"lib/a": "there", "up": Link("../boot/b")}), "/"))
    found.mount("/boot", MountedVolume(2, LinuxFilesystem({"b": "boot"}), "/"))
    assert found.text("/lib/a") == found.text("/abs") == "there"
    assert found.text("/usr/up") == "boot"
    assert [fact.name for fact in found.entries("/boot")] == ["b"]


def test_a_subvolume_is_a_root_of_its_own():
    found = tree({"@/etc/os-release": "x", "@/abs": Link("/etc/os-release"), "@home/a": "home"}, base="/@")
    assert found.text("/abs") == "x"
    assert found.stat("/@home") is None
    assert found.text("/../../etc/os-release") == "x"
    assert [fact.name for fact in found.list("/")] == ["etc", "abs"]


@pytest.mark.parametrize("path", ["/a", "/a/b", "/self", "/deep/x", "/file/x", "/to-nothing", ""])
def test_what_leads_nowhere_is_nothing(path: str):
    found = tree(
        {"a": Link("b"), "b": Link("a"), "self": Link("self/self"), "deep": Link("a/x"), "file": "x",
         "to-nothing": Link("/nothing")}
    )  # fmt: skip
    assert not found.is_file(path)
    assert found.read(path) is None
    if path:
        assert found.target(path) is None
        with pytest.raises(NotFoundError):
            found.open(path)
    assert found.entries("/file") == ()


def test_a_file_that_is_larger_than_any_of_its_kind_is_not_read():
    found = tree({"big": b"x" * 101})
    with pytest.raises(UnsupportedError) as caught:
        found.read("/big", 100)
    assert caught.value.code == "guest-file-too-large"
    assert found.root.filesystem.bytes_read == {}


def test_what_is_no_utf_8_is_text_all_the_same():
    assert tree({"a": b"ab\xff"}).text("/a") == "ab�"
