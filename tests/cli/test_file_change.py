from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in, refused
from tests.cli.harness import run
from tests.tools import require_ntfs_writer

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _writer() -> None:
    require_ntfs_writer()


@pytest.fixture(params=["windows-guest.vhdx", "windows-guest.vhd", "windows-guest-4kn.vhdx"])
def image(request, tmp_path) -> Path:
    return image_in(tmp_path, request.param)


def content(image: Path, path: str) -> bytes:
    result = run("cat", str(image), path)
    assert result.code == 0, result.stderr
    return result.stdout


def test_file_is_put_replaced_and_removed(image, tmp_path):
    source = tmp_path / "agent.bin"
    source.write_bytes(bytes(range(256)) * 700)
    one, two, three = (tmp_path / f"{name}{image.suffix}" for name in ("one", "two", "three"))
    document = changed("put", image, source, "/Program Files/", "--child", one)
    assert document["files"][0]["path"] == "/Program Files/agent.bin"
    assert document["files"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert document["receipt"]["writers"]
    assert content(one, "/program files/AGENT.bin") == source.read_bytes()
    assert not changed("put", one, source, r"C:\Program Files\agent.bin", "--output", two)["changed"]
    source.write_bytes(b"short")
    changed("put", one, source, "/Program Files/agent.bin", "--child", two)
    assert content(two, "/Program Files/agent.bin") == b"short"
    changed("rm", two, "/Program Files/agent.bin", "--child", three)
    assert run("cat", str(three), "/Program Files/agent.bin").code == 1
    assert not changed("rm", three, "/Program Files/agent.bin", "--in-place", "--no-children")["changed"]


def test_directories_are_made_and_removed_with_all_below(image, tmp_path):
    one, two = (tmp_path / f"{name}{image.suffix}" for name in ("one", "two"))
    changed("mkdir", image, "/Tools/Größe/приёмка", "--parents", "--child", one)
    listed = run("ls", str(one), "/Tools/Größe", "--json").json["entries"]
    assert [(entry["name"], entry["kind"]) for entry in listed] == [("приёмка", "directory")]
    assert not changed("mkdir", one, "/tools", "--output", two)["changed"]
    refused("rm", one, "/Tools", "--child", two)
    changed("rm", one, "/Tools", "--recursive", "--child", two)
    assert run("ls", str(two), "/Tools").code == 1


def test_in_place(image, tmp_path):
    source = tmp_path / "notes.txt"
    source.write_bytes(b"in place")
    changed("put", image, source, "/Windows/", "--in-place", "--no-children")
    assert content(image, "/Windows/notes.txt") == b"in place"
    assert sorted(digests(tmp_path)) == sorted([image.name, source.name])


def test_refusals_leave_everything_as_it_is(image, tmp_path):
    source = tmp_path / "notes.txt"
    source.write_bytes(b"x" * (13 << 20))
    before = digests(tmp_path)
    for arguments in (
        ["put", image, source, "/Windows/System32"],  # into it, and there is no room
        ["put", image, source, "/$MFT"],
        ["rm", image, "/Windows"],
        ["rm", image, "/"],
        ["mkdir", image, "/Windows/System32/ntoskrnl.exe"],
    ):
        refused(*arguments, "--in-place", "--no-children")
        assert digests(tmp_path) == before
    assert run("put", str(image), str(source), "/Nowhere/notes.txt", "--in-place", "--no-children").code == 1
    assert run("put", str(image), str(source), "/Windows/bad?name", "--in-place", "--no-children").code == 4
    assert digests(tmp_path) == before
