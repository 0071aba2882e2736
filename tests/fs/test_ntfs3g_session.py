"""The writer's side of a worker that only says what the test tells it to: no process, no library."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.errors import MissingSupportError, NotFoundError, OutputError, RefusedError, UsageError, VhdtoolError
from vhdtool.fs.ntfs3g_self_test import MemoryVolume
from vhdtool.fs.ntfs3g_session import NtfsSession, filetime_of, open_session
from vhdtool.fs.worker_process import WorkerEndedError
from vhdtool.fs.worker_wire import LONGEST_PAYLOAD, UNCHANGED, Kind, Message, pack_facts, pack_fields, unpack_fields
from vhdtool.fs.writer import writer_support

FACTS = {"soname": "libntfs-3g.so.89", "library": "/lib/x", "limits": "set", "landlock": "7", "seccomp": "filter"}
READY = Message(Kind.DONE, payload=pack_facts(FACTS))
DONE = Message(Kind.DONE)


class ScriptedProcess:
    """Stands for a :class:`vhdtool.fs.worker_process.WorkerProcess`."""

    def __init__(self, *said: Message | BaseException) -> None:
        self.said = [READY, *said]
        self.heard: list[tuple[Kind, bytes, int, int]] = []
        self.stopped = 0

    def send(self, kind: Kind, payload: bytes | memoryview = b"", *, first: int = 0, second: int = 0) -> None:
        self.heard.append((kind, bytes(payload), first, second))

    def receive(self) -> Message:
        said = self.said.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said

    def stop(self) -> None:
        self.stopped += 1


def session_of(*said: Message | BaseException) -> tuple[NtfsSession, ScriptedProcess]:
    process = ScriptedProcess(*said)
    return NtfsSession(process=process), process  # type: ignore[arg-type]  # the seam is what both can do


def failure(code: str, what: str = "it broke", **facts: str) -> Message:
    return Message(Kind.FAILED, 5, payload=pack_fields([code.encode(), what.encode(), pack_facts(facts)]))


def test_blocks_are_served_from_the_device_and_counted():
    volume = MemoryVolume(bytes(range(100)))
    session, process = session_of(
        Message(Kind.READ, 10, 5), Message(Kind.WRITE, 90, payload=b"0123456789"), Message(Kind.READ, 95, 5), DONE, DONE
    )
    session.mount(volume)
    assert process.heard[1] == (Kind.MOUNT, b"", 100, 0)
    assert [heard[1] for heard in process.heard[2:]] == [bytes(range(10, 15)), b"56789"]
    report = session.finish()
    assert (report.requests, report.bytes_read, report.bytes_written) == (6, 10, 10)
    assert (report.soname, report.library, report.sandbox.closed) == ("libntfs-3g.so.89", "/lib/x", True)
    assert process.stopped


def test_content_is_served_in_the_pieces_that_are_asked_for():
    session, process = session_of(Message(Kind.CONTENT, 0, 4), Message(Kind.CONTENT, 4, 2), DONE)
    session.put("/a\\Größe", BytesSource(b"abcdef"), modified=datetime(1601, 1, 1, 0, 0, 1, 2, UTC))
    kind, payload, size, modified = process.heard[1]
    assert (kind, size, modified) == (Kind.PUT, 6, 10_000_020)
    assert unpack_fields(payload) == [b"", b"a\0", "Größe".encode("utf-16-le")]
    assert [heard[1] for heard in process.heard[2:]] == [b"abcd", b"ef"]


def test_without_a_time_none_is_sent():
    session, process = session_of(DONE)
    session.put("/a", BytesSource(b""))
    assert process.heard[1][3] == UNCHANGED


@pytest.mark.parametrize(
    "said",
    [
        Message(Kind.READ, 96, 5),
        Message(Kind.READ, 0, LONGEST_PAYLOAD + 1),
        Message(Kind.WRITE, 100, payload=b"x"),
        Message(Kind.CONTENT, 0, 1),
        Message(Kind.ANSWER),
        Message(Kind.PUT),
        Message(Kind.FAILED, payload=b"\1\0\0\0x"),
        Message(Kind.FAILED, payload=b"\1\0"),
        Message(Kind.DONE, payload=pack_fields([b"alone"])),
        WorkerEndedError("it was ended by SIGSEGV"),
    ],
)
def test_nonsense_ends_the_worker_and_nothing_more_is_done(said: Message | BaseException):
    volume = MemoryVolume(bytes(100))
    session, process = session_of(said)
    with pytest.raises(OutputError) as caught:
        session.mount(volume)
    assert (caught.value.code, caught.value.exit_code) == ("ntfs-writer-failed", 7)
    assert process.stopped
    assert volume.read_at(0, 100) == bytes(100)
    with pytest.raises(OutputError, match="ended already"):
        session.finish()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OutputError("spool-full", "no room")])
def test_whatever_happens_here_ends_the_worker_first(error: BaseException):
    class Broken(MemoryVolume):
        def read_into(self, offset: int, buffer: memoryview) -> int:
            raise error

    session, process = session_of(Message(Kind.READ, 0, 1))
    with pytest.raises(type(error)):
        session.mount(Broken(bytes(100)))
    assert process.stopped


def test_content_that_got_shorter_is_an_error_of_the_worker():
    class Shrinking:
        size = 10

        def read_at(self, offset: int, length: int) -> bytes:
            return b"x"

    session, process = session_of(Message(Kind.CONTENT, 0, 10), failure("ntfs-writer-failed", "short"))
    with pytest.raises(OutputError, match="short"):
        session.put("/a", Shrinking())
    assert process.heard[2][:2] == (Kind.ANSWER, b"x")


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        ("no-such-folder", NotFoundError, 1),
        ("no-such-file", NotFoundError, 1),
        ("not-a-directory", NotFoundError, 1),
        ("not-a-file", RefusedError, 4),
        ("name-taken", RefusedError, 4),
        ("directory-not-empty", RefusedError, 4),
        ("file-system-file", RefusedError, 4),
        ("reparse-on-path", RefusedError, 4),
        ("file-reparse", RefusedError, 4),
        ("file-encrypted", RefusedError, 4),
        ("file-compressed", RefusedError, 4),
        ("file-sparse", RefusedError, 4),
        ("ntfs-3g-refuses", RefusedError, 4),
        ("volume-full", OutputError, 7),
        ("ntfs-writer-failed", OutputError, 7),
        ("ntfs-3g-missing", MissingSupportError, 6),
        ("ntfs-3g-unknown", MissingSupportError, 6),
    ],
)
def test_failures_become_our_errors(code: str, kind: type[VhdtoolError], exit_code: int):
    session, process = session_of(failure(code))
    with pytest.raises(kind) as caught:
        session.remove("/there/it is")
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert caught.value.hint or exit_code == 1
    assert process.stopped


def test_what_the_library_said_is_passed_on():
    session, _ = session_of(failure("ntfs-writer-failed", **{"errno": "Input/output error", "library-says": "Bad run"}))
    with pytest.raises(OutputError, match="Input/output error Bad run"):
        session.remove("/a")


def test_a_missing_library_names_the_packages():
    with pytest.raises(MissingSupportError) as caught:
        NtfsSession(process=FailingAtStart(failure("ntfs-3g-missing")))  # type: ignore[arg-type]
    hint = caught.value.hint or ""
    for word in (
        "Debian",
        "libntfs-3g89",
        "libntfs-3g89t64",
        "Ubuntu",
        "Fedora",
        "ntfs-3g-libs",
        "Arch",
        "Alpine",
        "macOS",
    ):
        assert word in hint


class FailingAtStart(ScriptedProcess):
    def __init__(self, said: Message) -> None:
        super().__init__()
        self.said = [said]


def test_windows_hosts_are_told_that_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(MissingSupportError, match="Windows host") as caught:
        open_session(MemoryVolume(b""))
    assert caught.value.code == "ntfs-3g-missing"
    assert writer_support().state == "missing"


def test_no_interpreter_no_worker(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(MissingSupportError) as caught:
        open_session(MemoryVolume(b""))
    assert caught.value.code == "no-python-executable"


CALLS: list[Callable[[NtfsSession, str], None]] = [
    lambda session, path: session.put(path, BytesSource(b"")),
    lambda session, path: session.make_directory(path),
    lambda session, path: session.remove(path),
    lambda session, path: session.resize(path, 1),
]


def refused(
    calls: Iterable[Callable[[NtfsSession, str], None]], path: str, code: str, kind: type[VhdtoolError]
) -> None:
    for call in calls:
        session, process = session_of()
        with pytest.raises(kind) as caught:
            call(session, path)
        assert caught.value.code == code
        assert len(process.heard) == 1  # the worker was not asked


def test_paths_that_make_no_sense_never_reach_the_worker():
    refused(CALLS, "/a/../b", "path-with-dots", UsageError)
    refused(CALLS, "/", "file-system-file", RefusedError)
    refused(CALLS[:2], "/a/nul", "name-not-allowed", RefusedError)
    refused(CALLS[:2], "/a/b:stream", "name-not-allowed", RefusedError)


def test_names_that_are_there_already_may_be_removed_whatever_they_are():
    session, process = session_of(DONE)
    session.remove("/a/nul")
    assert process.heard[1][0] is Kind.REMOVE


@pytest.mark.parametrize("size", [-1, 1 << 63])
def test_sizes_have_bounds(size: int):
    session, _ = session_of()
    with pytest.raises(ValueError, match="63-bit"):
        session.resize("/a", size)


def test_times_are_tenths_of_microseconds_since_1601():
    # MS-DTYP 2.3.3; the Unix epoch is 11,644,473,600 seconds later.
    assert filetime_of(datetime(1970, 1, 1, tzinfo=UTC)) == 116_444_736_000_000_000
    with pytest.raises(ValueError, match="1601"):
        filetime_of(datetime(1600, 12, 31, tzinfo=UTC))
