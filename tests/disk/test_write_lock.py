from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disk.held_files import byte_lock
from vhdtool.disk import open_files, write_lock
from vhdtool.disk.write_lock import WriteLock, lock_for_writing, lock_unchanged
from vhdtool.errors import InputError, RefusedError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leases and OFD locks are Linux's")

LOCKS = [lock_for_writing, lock_unchanged]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhdx"
    path.write_bytes(bytes(4096))
    return path


def refused(path: Path, lock: Callable[[str], WriteLock] = lock_for_writing) -> RefusedError:
    before = path.read_bytes()
    with pytest.raises(RefusedError) as raised:
        lock(str(path))
    assert raised.value.code == "image-in-use"
    assert raised.value.exit_code == 4
    assert path.read_bytes() == before
    return raised.value


@pytest.mark.parametrize("lock", LOCKS)
def test_a_file_that_nobody_uses_is_locked_without_a_word(image: Path, lock: Callable[[str], WriteLock]) -> None:
    with lock(str(image)) as held:
        assert held.notes == ()
    with lock(str(image)) as again:
        assert again.path == str(image)


@pytest.mark.parametrize("lock", LOCKS)
def test_descriptors_for_reading_do_not_matter_and_closing_one_keeps_the_lock(
    image: Path, lock: Callable[[str], WriteLock]
) -> None:
    with image.open("rb") as before, lock(str(image)):
        assert before.read(1) == b"\0"
        image.read_bytes()  # opened and closed: a POSIX lock would be gone now
        refused(image)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_file_that_is_open_for_writing_is_refused_and_the_process_is_named(
    image: Path, lock: Callable[[str], WriteLock]
) -> None:
    with image.open("r+b"):
        error = refused(image, lock)
    assert error.found is not None
    assert f"process {os.getpid()} (" in error.found
    lock(str(image)).release()


def test_a_shared_mapping_is_as_good_as_an_open_file(image: Path) -> None:
    with image.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    refused(image)  # the file is closed, its pages can still be written to
    mapping.close()
    lock_for_writing(str(image)).release()


def test_two_of_us_are_kept_apart(image: Path) -> None:
    with lock_for_writing(str(image)):
        refused(image)
        refused(image, lock_unchanged)
    with lock_unchanged(str(image)):
        lock_unchanged(str(image)).release()
        refused(image)


def test_our_own_opening_for_writing_does_not_wait_for_a_lease(image: Path) -> None:
    with lock_for_writing(str(image)), image.open("r+b") as file:
        file.write(b"x")
    assert image.read_bytes()[:1] == b"x"


@pytest.mark.parametrize("place", [100, 101, 103, 200, 201, 203, 0, 1 << 40])
def test_any_byte_that_another_program_locks_refuses_writing(image: Path, place: int) -> None:
    with byte_lock(image, fcntl.F_RDLCK, place):
        refused(image)


@pytest.mark.parametrize(
    ("place", "kept"),
    [(100, True), (201, True), (203, True), (101, False), (102, False), (103, False), (200, False)],
)
def test_reading_lives_with_readers_and_not_with_writers(image: Path, place: int, kept: bool) -> None:
    with byte_lock(image, fcntl.F_RDLCK, place):
        if kept:
            lock_unchanged(str(image)).release()
        else:
            refused(image, lock_unchanged)


def test_an_exclusive_lock_of_another_program_refuses(image: Path) -> None:
    with image.open("r+b") as file:
        file.flush()
    with image.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused(image)
        refused(image, lock_unchanged)


def no_lease(monkeypatch: pytest.MonkeyPatch, number: int = errno.EACCES) -> None:
    real = fcntl.fcntl

    def denied(descriptor: int, command: int, argument: int | bytes = 0) -> int | bytes:
        if command == fcntl.F_SETLEASE:
            raise OSError(number, os.strerror(number))
        return real(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", denied)


def test_without_a_lease_proc_tells_and_a_note_says_so(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_lease(monkeypatch)
    with lock_for_writing(str(image)) as lock:
        (note,) = lock.notes
    assert "no lease" in note
    with image.open("r+b"):
        assert f"process {os.getpid()}" in str(refused(image).found)


def test_processes_of_other_users_are_told_as_unseen(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_lease(monkeypatch, errno.EINVAL)
    monkeypatch.setattr(open_files, "PROC", tmp_path / "no-proc")
    with lock_for_writing(str(image)) as lock:
        (note,) = lock.notes
    assert "can't be seen" in note


def test_a_network_file_system_is_told_and_gets_no_flock(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_lock, "network_file_system", lambda path: "nfs4")
    monkeypatch.setattr(fcntl, "flock", None)
    with lock_for_writing(str(image)) as lock:
        (note,) = lock.notes
    assert "nfs4" in note


def test_file_systems_without_locks_are_told(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> int:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    with lock_for_writing(str(image)) as lock:
        assert [note.split(":")[0].split(" (")[0] for note in lock.notes] == [
            "The image's file system has no locks",
            "The image's file system has no byte locks",
            "The kernel gives no lease on the image",
        ]


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        lock_for_writing(str(tmp_path / "none.vhdx"))
    assert raised.value.code == "cannot-open"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError) as raised:
        lock_for_writing(str(tmp_path / "fifo"))
    assert raised.value.code == "not-a-disk"
