from __future__ import annotations

import os
import stat

import pytest

from vhdtool.disk.host_store import OS_STORE, OsFile
from vhdtool.errors import InputError, OutputError, RefusedError

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file systems")


@pytest.fixture
def file(tmp_path):
    made = OS_STORE.create(str(tmp_path / "a"))
    yield made
    made.close()


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def test_write_read_and_grow(file, tmp_path):
    file.write_at(10, b"hello")
    file.write_at(3, memoryview(b"abc"))
    assert file.size == 15
    assert file.read_at(0, 100) == b"\0\0\0abc\0\0\0\0hello"
    assert file.read_at(12, 2) == b"ll"
    assert file.read_at(15, 5) == file.read_at(99, 5) == b""
    buffer = bytearray(b"?" * 8)
    assert file.read_into(10, memoryview(buffer)) == 5
    assert buffer == b"hello???"
    assert file.path == str(tmp_path / "a")
    file.flush()
    file.close()
    file.close()


def test_truncate_both_ways(file):
    file.write_at(0, b"x" * 100)
    file.truncate(10)
    file.truncate(20)
    assert file.read_at(0, 100) == b"x" * 10 + bytes(10)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_copy_within(file, monkeypatch, by_kernel):
    if not by_kernel:
        monkeypatch.setattr(os, "copy_file_range", failing(18), raising=False)
    content = os.urandom(3 << 20)
    file.write_at(0, content)
    file.copy_within(100, 4 << 20, len(content) - 100)
    assert file.read_at(4 << 20, 3 << 20) == content[100:]
    file.copy_within(len(content) - 10, 0, 30)  # past the end of what was written, zeros follow
    assert file.read_at(0, 30) == content[-10:] + bytes(20)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="no copy_file_range here")
def test_copy_within_on_a_full_disk(file, monkeypatch):
    file.write_at(0, b"x" * 4096)
    monkeypatch.setattr(os, "copy_file_range", failing(28))
    with pytest.raises(OutputError, match="No space left") as caught:
        file.copy_within(0, 8192, 4096)
    assert caught.value.code == "cannot-write"


def test_a_clone_shares_the_bytes_or_says_that_it_can_not(file, tmp_path):
    (tmp_path / "source").write_bytes(b"s" * 10000)
    if file.clone_from(str(tmp_path / "source")):
        assert file.read_at(0, 20000) == b"s" * 10000
    else:
        assert file.size == 0


@posix
def test_a_clone_of_nothing(file, tmp_path):
    with pytest.raises(InputError) as caught:
        file.clone_from(str(tmp_path / "no"))
    assert caught.value.code == "cannot-open"


@pytest.mark.parametrize(
    ("call", "patched"),
    [
        (lambda f: f.write_at(0, b"x"), "pwrite"),
        (lambda f: f.truncate(1), "ftruncate"),
        (lambda f: f.flush(), "fsync"),
    ],
)
@posix
def test_failures_of_the_host_are_told(file, monkeypatch, call, patched):
    monkeypatch.setattr(os, patched, failing(28))
    with pytest.raises(OutputError, match="No space left") as caught:
        call(file)
    assert caught.value.code == "cannot-write"
    assert caught.value.path == file.path


@posix
def test_a_failing_read(file, monkeypatch):
    file.write_at(0, b"x")
    monkeypatch.setattr(os, "preadv", failing(5))
    with pytest.raises(InputError) as caught:
        file.read_at(0, 1)
    assert caught.value.code == "read-failed"


@posix
def test_short_writes_go_on(file, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    file.write_at(1, b"0123456789")
    assert file.read_at(0, 99) == b"\x000123456789"


def test_open_and_create(tmp_path):
    path = str(tmp_path / "a")
    with pytest.raises(InputError) as caught:
        OS_STORE.open(path)
    assert caught.value.code == "cannot-open-for-writing"
    OS_STORE.create(path).close()
    with pytest.raises(RefusedError) as refused:
        OS_STORE.create(path)
    assert refused.value.code == "file-exists"
    with pytest.raises(OutputError) as output:
        OS_STORE.create(str(tmp_path / "no" / "a"))
    assert output.value.code == "cannot-write"
    opened = OS_STORE.open(path)
    assert isinstance(opened, OsFile)
    opened.write_at(0, b"kept")
    opened.close()
    assert (tmp_path / "a").read_bytes() == b"kept"


@posix
def test_create_does_not_follow_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(RefusedError):
        OS_STORE.create(str(tmp_path / "link"))
    assert not (tmp_path / "target").exists()


@posix
def test_the_umask_rules_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        OS_STORE.create(str(tmp_path / "a")).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_rename_replaces_and_give_name_does_not(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    OS_STORE.rename(str(tmp_path / "a"), str(tmp_path / "b"))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"b": "a", "c": "c"}
    with pytest.raises(RefusedError) as caught:
        OS_STORE.give_name(str(tmp_path / "b"), str(tmp_path / "c"))
    assert caught.value.code == "file-exists"
    OS_STORE.give_name(str(tmp_path / "b"), str(tmp_path / "d"))
    OS_STORE.flush_folder(str(tmp_path / "d"))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"d": "a", "c": "c"}
    with pytest.raises(OutputError):
        OS_STORE.rename(str(tmp_path / "no"), str(tmp_path / "e"))
    with pytest.raises(OutputError):
        OS_STORE.give_name(str(tmp_path / "no"), str(tmp_path / "e"))


@posix
def test_give_name_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", failing(1))
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(RefusedError):
        OS_STORE.give_name(str(tmp_path / "a"), str(tmp_path / "b"))
    OS_STORE.give_name(str(tmp_path / "a"), str(tmp_path / "c"))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"b": "b", "c": "a"}


def test_remove(tmp_path):
    (tmp_path / "a").write_text("a")
    OS_STORE.remove(str(tmp_path / "a"))
    OS_STORE.remove(str(tmp_path / "a"))
    with pytest.raises(OutputError):
        OS_STORE.remove(str(tmp_path))


@posix
def test_a_folder_that_can_not_be_flushed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(22))  # EINVAL: the file system does not know it for folders
    OS_STORE.flush_folder(str(tmp_path / "a"))
    monkeypatch.setattr(os, "fsync", failing(5))
    with pytest.raises(OutputError) as caught:
        OS_STORE.flush_folder(str(tmp_path / "a"))
    assert caught.value.code == "cannot-write"
    with pytest.raises(OutputError):
        OS_STORE.flush_folder(str(tmp_path / "no" / "a"))


def test_free_space(tmp_path):
    assert (OS_STORE.free_space(str(tmp_path / "a")) or 0) > 0
    assert OS_STORE.free_space(str(tmp_path / "no" / "a")) is None


@posix
def test_facts_of_a_file_go_to_another_but_not_its_times(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        path.write_text("x")
    old.chmod(0o604)
    os.utime(old, (1, 1))
    with_attributes = True
    try:
        os.setxattr(old, "user.note", b"kept")
    except OSError:  # a file system without them
        with_attributes = False
    before = new.stat()
    OS_STORE.copy_facts(str(old), str(new))
    after = new.stat()
    assert stat.S_IMODE(after.st_mode) == 0o604
    assert (after.st_mtime, after.st_uid) == (before.st_mtime, old.stat().st_uid)
    if with_attributes:
        assert os.getxattr(new, "user.note") == b"kept"
    OS_STORE.copy_facts(str(tmp_path / "no"), str(new))
