"""The worker's own code over a library that is made of Python: no process, nothing loaded, nothing shut in."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vhdtool.fs import ntfs3g_library as abi
from vhdtool.fs import ntfs3g_worker
from vhdtool.fs.ntfs3g_volume import FileError, MountedVolume
from vhdtool.fs.ntfs3g_worker import Worker
from vhdtool.fs.worker_wire import HEADER, Kind, header, pack_fields, parse_header, unpack_fields


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, socket.socket]]:
    def end() -> None:
        raise Ended

    monkeypatch.setattr(ntfs3g_worker, "_end", end)
    theirs, ours = socket.socketpair()
    ours.settimeout(5)
    with theirs, ours:
        yield Worker(theirs.fileno()), ours


def told(ours: socket.socket) -> tuple[Kind, bytes]:
    kind, length, _, _ = parse_header(ours.recv(HEADER.size, socket.MSG_WAITALL))
    return kind, ours.recv(length, socket.MSG_WAITALL) if length else b""


def failure(ours: socket.socket) -> tuple[str, str]:
    kind, payload = told(ours)
    assert kind is Kind.FAILED
    code, what, _ = unpack_fields(payload)
    return code.decode(), what.decode()


class FakeLibrary:
    """Answers every call with what it was told to."""

    unnamed = 0
    soname = "libntfs-3g.so.89"
    path = "/lib"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.called: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.called.append((name, arguments))
            answer = self.answers.get(name, 0)
            return answer(*arguments) if callable(answer) else answer

        return call


class TestCallbacks:
    """Trap 10: an exception that reaches ctypes looks like 0 to the library, the end of the file."""

    @pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt(), MemoryError()])
    def test_every_exception_ends_the_process_from_within(
        self, error: BaseException, pair: tuple[Worker, socket.socket]
    ) -> None:
        worker, ours = pair

        def callback(*_: Any) -> int:
            raise error

        with pytest.raises(Ended):
            ntfs3g_worker._guarded(callback, worker._die)(None, 0, 10, 0)
        assert failure(ours) == ("ntfs-writer-failed", f"the worker met {type(error).__name__}: {error}")

    def test_a_read_is_asked_for_and_put_where_the_library_wants_it(self, pair: tuple[Worker, socket.socket]) -> None:
        worker, ours = pair
        worker._size = 100
        buffer = ctypes.create_string_buffer(8)
        ours.sendall(header(Kind.ANSWER, 8) + b"contents")
        assert worker._pread(None, ctypes.addressof(buffer), 8, 40) == 8
        assert buffer.raw == b"contents"
        assert ours.recv(HEADER.size) == header(Kind.READ, 0, 40, 8)

    @pytest.mark.parametrize(
        ("offset", "count", "left"), [(100, 10, 0), (-1, 10, 0), (200, 1, 0), (10, 0, 0), (98, 10, 2)]
    )
    def test_a_read_ends_with_the_volume(
        self, offset: int, count: int, left: int, pair: tuple[Worker, socket.socket]
    ) -> None:
        worker, ours = pair
        worker._size = 100
        buffer = ctypes.create_string_buffer(16)
        ours.sendall(header(Kind.ANSWER, 2) + b"ab")
        assert worker._pread(None, ctypes.addressof(buffer), count, offset) == left

    @pytest.mark.parametrize(("offset", "count"), [(-1, 4), (97, 4), (0, -1), (1 << 62, 4)])
    def test_a_write_outside_the_volume_ends_it(
        self, offset: int, count: int, pair: tuple[Worker, socket.socket]
    ) -> None:
        worker, ours = pair
        worker._size = 100
        buffer = ctypes.create_string_buffer(16)
        with pytest.raises(Ended):
            ntfs3g_worker._guarded(worker._pwrite, worker._die)(None, ctypes.addressof(buffer), count, offset)
        assert "outside the volume" in failure(ours)[1]

    def test_a_place_is_kept_between_calls(self, pair: tuple[Worker, socket.socket]) -> None:
        worker, ours = pair
        worker._size = 100
        buffer = ctypes.create_string_buffer(b"0123456789", 10)
        assert worker._seek(None, -10, os.SEEK_END) == 90
        assert worker._write(None, ctypes.addressof(buffer), 10) == 10
        assert worker._seek(None, 0, os.SEEK_CUR) == 100
        assert worker._read(None, ctypes.addressof(buffer), 10) == 0
        worker._channel.flush()
        assert ours.recv(100) == header(Kind.WRITE, 10, 90) + b"0123456789"

    def test_what_the_device_can_not_do_is_refused(self, pair: tuple[Worker, socket.socket]) -> None:
        worker, _ = pair
        assert worker._refuse(None) == -1
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        assert worker._do_nothing(None) == 0

    def test_the_writer_being_gone_ends_it(self, pair: tuple[Worker, socket.socket]) -> None:
        worker, ours = pair
        worker._size = 100
        ours.close()
        with pytest.raises(Ended):
            worker._pread(None, ctypes.addressof(ctypes.create_string_buffer(8)), 8, 0)


class TestMount:
    BOOT = bytes(11) + b"\0\2\x08" + bytes(498)

    def mount(self, pair: tuple[Worker, socket.socket], library: FakeLibrary) -> tuple[str, str]:
        worker, ours = pair
        worker._library = library  # type: ignore[assignment]  # it answers the same calls
        ours.sendall(header(Kind.MOUNT, 0, 1 << 20, 512) + header(Kind.ANSWER, 512) + self.BOOT)
        with pytest.raises(Ended):
            worker.run()
        assert told(ours)[0] is Kind.READ
        return failure(ours)

    def test_trap_1_it_is_mounted_to_be_written_or_not_at_all(self, pair: tuple[Worker, socket.socket]) -> None:
        library = FakeLibrary(ntfs_device_alloc=1, ntfs_device_mount=None)
        assert self.mount(pair, library)[0] == "ntfs-3g-refuses"
        (flags,) = {arguments[1] for name, arguments in library.called if name == "ntfs_device_mount"}
        assert flags == 0  # neither read-only nor perhaps read-only

    def test_trap_1_a_volume_that_came_up_read_only_is_refused(self, pair: tuple[Worker, socket.socket]) -> None:
        volume = ctypes.pointer(abi.Volume(state=abi.NV_READ_ONLY))
        library = FakeLibrary(ntfs_device_alloc=1, ntfs_device_mount=volume)
        assert self.mount(pair, library) == ("ntfs-3g-refuses", "libntfs-3g mounts the volume read-only")
        assert "ntfs_create" not in {name for name, _ in library.called}

    def test_a_volume_that_is_told_otherwise_than_its_boot_sector_is_refused(
        self, pair: tuple[Worker, socket.socket]
    ) -> None:
        volume = ctypes.pointer(abi.Volume(sector_size=512, cluster_size=512, clusters=100))
        library = FakeLibrary(ntfs_device_alloc=1, ntfs_device_mount=volume)
        assert self.mount(pair, library)[0] == "ntfs-3g-unknown"


class TestCommands:
    @pytest.mark.parametrize(
        "command",
        [
            header(Kind.ANSWER),
            header(Kind.DONE),
            header(Kind.MOUNT),
            header(Kind.REMOVE, 0),
            header(Kind.REMOVE, 4) + pack_fields([b""]),
            header(Kind.PUT, 5) + b"\1\0\0\0x",
        ],
    )
    def test_what_makes_no_sense_ends_it(self, command: bytes, pair: tuple[Worker, socket.socket]) -> None:
        worker, ours = pair
        ours.sendall(command)
        with pytest.raises(Ended):
            worker.run()
        assert failure(ours)[0] == "ntfs-writer-failed"

    def test_to_finish_without_a_volume_is_no_error(self, pair: tuple[Worker, socket.socket]) -> None:
        worker, ours = pair
        ours.sendall(header(Kind.FINISH))
        with pytest.raises(Ended):
            worker.run()
        assert told(ours) == (Kind.DONE, b"")


def mounted(**answers: Any) -> tuple[MountedVolume, FakeLibrary, Any]:
    library = FakeLibrary(**answers)
    volume = ctypes.pointer(abi.Volume(first_data_position=77, state=abi.NV_COMPRESSION | 2, cluster_size=4096))
    return MountedVolume(library, volume, lambda security, directory: b""), library, volume  # type: ignore[arg-type]


def test_trap_8_a_named_stream_is_not_the_content() -> None:
    stream = ctypes.pointer(abi.Attribute(type=abi.AT_DATA, name_length=4))
    volume, library, _ = mounted(ntfs_attr_open=stream)
    with pytest.raises(FileError, match="another stream"):
        volume._open_data(None)
    assert library.called[0][1][2] == library.unnamed


@pytest.mark.parametrize(
    ("flags", "code"), [(0x0001, "file-compressed"), (0x4000, "file-encrypted"), (0x8000, "file-sparse")]
)
def test_trap_9_what_the_content_itself_says_is_checked(flags: int, code: str) -> None:
    volume, _, _ = mounted(ntfs_attr_open=ctypes.pointer(abi.Attribute(type=abi.AT_DATA, flags=flags)))
    with pytest.raises(FileError) as caught:
        volume._open_data(None)
    assert caught.value.code == code


def test_the_start_of_the_search_for_clusters_is_set_back_and_no_zone_counts_as_full() -> None:
    volume, _, told_volume = mounted()
    facts = told_volume.contents
    assert facts.state == 2  # what is made in compressed directories stays plain
    facts.first_data_position, facts.full_zones = 5000, 7
    volume._begin()
    assert (facts.first_data_position, facts.full_zones) == (77, 0)


def test_a_size_that_can_not_be_had_at_once_is_reached_in_steps() -> None:
    """The library says that the volume is full for everything above 20 KiB at once."""
    data = abi.Attribute(data_size=0)
    asked = []

    def truncate(_data: Any, size: int) -> int:
        asked.append(size)
        if size - data.data_size > 20_480:
            ctypes.set_errno(errno.ENOSPC)
            return -1
        data.data_size = size
        return 0

    volume, _, _ = mounted(ntfs_attr_truncate_solid=truncate)
    volume._grow(ctypes.pointer(data), 100_000)
    assert data.data_size == 100_000
    assert len(asked) < 40


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "volume-full"), (errno.EIO, "ntfs-writer-failed")])
def test_a_size_that_can_not_be_had_at_all_is_an_error(number: int, code: str) -> None:
    def truncate(_data: Any, _size: int) -> int:
        ctypes.set_errno(number)
        return -1

    volume, _, _ = mounted(ntfs_attr_truncate_solid=truncate)
    with pytest.raises(FileError) as caught:
        volume._grow(ctypes.pointer(abi.Attribute(data_size=0)), 100_000)
    assert (caught.value.code, caught.value.number) == (code, number)
