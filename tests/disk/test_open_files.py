from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vhdtool.disk import open_files
from vhdtool.disk.open_files import network_file_system, writers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up /proc and /sys/block."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "self" / "mountinfo").write_text("")
    monkeypatch.setattr(open_files, "PROC", folder)
    monkeypatch.setattr(open_files, "BLOCK_DEVICES", tmp_path / "block")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhdx"
    path.write_bytes(b"")
    return path


def process(proc: Path, number: int, name: str, files: dict[Path, str]) -> Path:
    """A process with open files: what each leads to, and its flags in octal."""
    place = proc / str(number)
    (place / "fd").mkdir(parents=True)
    (place / "fdinfo").mkdir()
    (place / "comm").write_text(name + "\n")
    for descriptor, (target, flags) in enumerate(files.items(), 3):
        (place / "fd" / str(descriptor)).symlink_to(target)
        (place / "fdinfo" / str(descriptor)).write_text(f"pos:\t0\nflags:\t{flags}\nmnt_id:\t29\n")
    return place


def test_writers_are_named_and_readers_are_not(proc: Path, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"")
    process(proc, 10, "reader", {image: "0100000"})
    process(proc, 11, "qemu-nbd", {other: "0100002", image: "02100002"})
    process(proc, 12, "appender", {image: "0102001"})
    process(proc, 13, "bystander", {other: "0100002"})
    found = writers_of(str(image))
    assert sorted(found.names) == ["process 11 (qemu-nbd)", "process 12 (appender)"]
    assert found.complete


def test_a_process_that_shows_nothing_makes_the_answer_incomplete(
    proc: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(proc, 10, "writer", {image: "0100002"})
    process(proc, 11, "secret", {image: "0100002"})
    real = os.scandir

    def scandir(path: os.PathLike[str] | str) -> object:
        if "11" in Path(path).parts:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = writers_of(str(image))
    assert found.names == ("process 10 (writer)",)
    assert not found.complete


def test_a_process_that_ends_meanwhile_is_passed_over(proc: Path, image: Path) -> None:
    (proc / "10").mkdir()  # no fd any more
    broken = process(proc, 11, "writer", {image: "0100002"})
    (broken / "fdinfo" / "3").unlink()
    assert writers_of(str(image)).names == ()
    assert writers_of(str(image)).complete


def test_a_command_name_that_plays_with_the_terminal_is_left_out(proc: Path, image: Path) -> None:
    process(proc, 10, "\x1b[31m", {image: "0100001"})
    assert writers_of(str(image)).names == ("process 10",)


def test_loop_devices(proc: Path, image: Path, tmp_path: Path) -> None:
    for number, backing in ((0, str(tmp_path / "other")), (7, str(image))):
        place = tmp_path / "block" / f"loop{number}" / "loop"
        place.mkdir(parents=True)
        (place / "backing_file").write_text(backing + "\n")
    assert writers_of(str(image)).names == ("loop device loop7",)


def test_without_proc_nothing_is_known(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "PROC", tmp_path / "none")
    assert not writers_of(str(image)).complete
    assert network_file_system(str(image)) is None


def test_the_file_system_of_the_deepest_mount_counts(proc: Path) -> None:
    (proc / "self" / "mountinfo").write_text(
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "22 21 0:40 / /srv rw - nfs4 server:/srv rw\n"
        "23 22 0:41 / /srv/local rw - tmpfs tmpfs rw\n"
        "24 21 0:42 / /my\\040disks rw - cifs //server/share rw\n"
        "25 21 0:43 / /twice rw - nfs4 server:/a rw\n"
        "26 21 0:44 / /twice rw - tmpfs tmpfs rw\n"
        "broken line\n"
    )
    assert network_file_system("/srv/disk.vhdx") == "nfs4"
    assert network_file_system("/srv/local/disk.vhdx") is None
    assert network_file_system("/srvlocal/disk.vhdx") is None
    assert network_file_system("/my disks/disk.vhdx") == "cifs"
    assert network_file_system("/twice/disk.vhdx") is None
