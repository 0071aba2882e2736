"""The worker of the NTFS writer shut in, killed, hanging, crashing, and without a library that can be trusted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.ntfs_volumes import FileVolume, new_volume, require_library
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.disk.chain import open_disk
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import MissingSupportError, OutputError, VhdtoolError
from vhdtool.fs import ntfs3g_library, ntfs3g_self_test, ntfs3g_session, worker_process
from vhdtool.fs.ntfs3g_self_test import MemoryVolume, load_volume
from vhdtool.fs.ntfs3g_session import NtfsSession, open_session, self_test
from vhdtool.fs.sandbox import CALLS
from vhdtool.fs.worker_process import WorkerProcess
from vhdtool.fs.worker_wire import Kind, Layer, Message
from vhdtool.fs.writer import Sandbox, open_writer, writer_support

pytestmark = pytest.mark.oracle

LINUX = sys.platform == "linux"


@pytest.fixture(autouse=True, scope="module")
def _library() -> None:
    require_library()


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """No worker outlives its session."""
    before = workers()
    yield
    assert workers() == before


def workers() -> set[int]:
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = place.read_text().split(" ", 1)
            if int(rest.rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(number))
    return found


def some_work(session: NtfsSession) -> None:
    session.make_directory("/d")
    session.put("/d/f", BytesSource(bytes(range(256)) * 100))
    session.resize("/d/f", 40_000)
    session.put("/d/f", BytesSource(b"short"))
    session.remove("/d/f")


class TestSandbox:
    def test_the_worker_tries_to_open_to_connect_and_to_execute_and_is_refused(self) -> None:
        with NtfsSession() as session:
            sandbox = session.sandbox(tried=True)
            if not sandbox.closed:
                pytest.skip("this kernel has neither Landlock nor seccomp")
            assert (sandbox.opening, sandbox.connecting, sandbox.executing) == ("EPERM", "EPERM", "EPERM")
            session.mount(load_volume())  # and it works all the same
            some_work(session)
            session.finish()

    def test_seccomp_alone(self) -> None:
        with NtfsSession(layers=Layer.SECCOMP) as session:
            sandbox = session.sandbox(tried=True)
            if sandbox.seccomp == "none":
                pytest.skip("this kernel has no seccomp")
            assert sandbox == Sandbox("none", "none", "filter", "EPERM", "EPERM", "EPERM")
            session.mount(load_volume())
            some_work(session)

    def test_landlock_alone(self) -> None:
        with NtfsSession(layers=Layer.LANDLOCK) as session:
            sandbox = session.sandbox(tried=True)
            if sandbox.landlock == "none":
                pytest.skip("this kernel has no Landlock")
            assert (sandbox.limits, sandbox.seccomp) == ("none", "none")
            assert (sandbox.opening, sandbox.executing) == ("EACCES", "EACCES")
            assert sandbox.connecting == ("EACCES" if int(sandbox.landlock) >= 4 else "allowed")
            session.mount(load_volume())
            some_work(session)

    def test_limits_alone_leave_no_room_for_another_descriptor(self) -> None:
        with NtfsSession(layers=Layer.LIMITS) as session:
            sandbox = session.sandbox(tried=True)
            assert (sandbox.opening, sandbox.connecting) == ("EMFILE", "EMFILE")
            assert sandbox.executing == "not-tried"

    def test_without_any_it_works_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control of the tests above: nothing refuses. And what a kernel without them gets."""
        with NtfsSession(layers=Layer.NONE) as session:
            sandbox = session.sandbox(tried=True)
            assert sandbox == Sandbox("none", "none", "none", "allowed", "allowed", "not-tried")
            session.mount(load_volume())
            some_work(session)
            session.finish()
        monkeypatch.setattr(
            NtfsSession.__init__, "__kwdefaults__", NtfsSession.__init__.__kwdefaults__ | {"layers": Layer.NONE}
        )
        support = writer_support()
        assert support.state == "limited"
        assert "neither Landlock nor seccomp" in support.message

    def test_the_host_is_told_what_is_in_force(self) -> None:
        support = writer_support()
        assert support.state in ("ok", "limited")
        assert support.library is not None
        assert Path(support.library).is_file()
        assert support.soname is not None
        assert support.sandbox is not None

    @pytest.mark.skipif(not LINUX, reason="reads /proc")
    def test_the_worker_has_the_socket_and_nothing_else(self) -> None:
        with contextlib.closing(Path(__file__).open("rb")) as held:
            os.set_inheritable(held.fileno(), True)
            with NtfsSession(layers=Layer.NONE) as session:
                pid = session._process.pid
                links = {int(place.name): str(place.readlink()) for place in Path(f"/proc/{pid}/fd").iterdir()}
                assert links[0].startswith("socket:")
                assert {number: link for number, link in links.items() if number} == {1: "/dev/null", 2: "/dev/null"}
                assert Path(f"/proc/{pid}/environ").read_bytes() == b""
                assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
                modules = Path(f"/proc/{pid}/maps").read_text()
                assert "site-packages" not in modules

    @pytest.mark.skipif(not LINUX, reason="reads /proc")
    def test_the_limits_are_set(self) -> None:
        with NtfsSession() as session:
            limits = Path(f"/proc/{session._process.pid}/limits").read_text() if os.geteuid() == 0 else ""
            status = Path(f"/proc/{session._process.pid}/status").read_text()
        assert re.search(r"NoNewPrivs:\s+1", status)
        if limits:
            assert re.search(r"Max open files\s+3\s+3", limits)
            assert re.search(r"Max core file size\s+0\s+0", limits)
            assert re.search(rf"Max address space\s+{1 << 30}\s+{1 << 30}", limits)

    def test_system_calls_have_the_numbers_of_the_kernels_headers(self) -> None:
        headers = {0: "asm/unistd_64.h", 1: "asm-generic/unistd.h"}
        places = {column: header(name) for column, name in headers.items()}
        if not any(places.values()):
            pytest.skip("the kernel's headers (linux-libc-dev) are not installed")
        for column, text in places.items():
            for name, row in CALLS.items() if text else ():
                found = re.findall(rf"^#define __NR(?:3264)?_{name}\s+(\d+)", text, re.MULTILINE)
                assert [str(row[column])] == found[:1] or (row[column] is None and not found), (column, name)


def header(name: str) -> str:
    for folder in ("/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"):
        place = Path(folder, name)
        if place.is_file() and (name != "asm/unistd_64.h" or "x86_64" in folder):
            return place.read_text()
    return ""


class KilledAt(WorkerProcess):
    """A worker that is killed just before its message number ``at`` is heard."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at
        self.heard = 0

    def receive(self) -> Message:
        self.heard += 1
        if self.heard == self.at:
            os.kill(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return super().receive()


class TestKilled:
    def test_at_every_request_of_a_run(self, tmp_path: Path) -> None:
        """Each time the run ends 7, at once, and what it worked on is as it was."""
        path = tmp_path / "volume"
        path.write_bytes(load_volume().read_at(0, 1 << 30))
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        with open_disk(str(path)) as disk, Overlay(disk) as overlay:
            requests = self.work(overlay, None)
            assert requests > 60
            for at in range(1, requests):  # after the last one everything is done
                started = time.monotonic()
                with Overlay(disk) as doomed, pytest.raises(OutputError) as caught:
                    self.work(doomed, at)
                assert (caught.value.code, caught.value.exit_code) == ("ntfs-writer-failed", 7), at
                assert time.monotonic() - started < 10
        assert hashlib.sha256(path.read_bytes()).hexdigest() == before

    @staticmethod
    def work(overlay: Overlay, at: int | None) -> int:
        process = KilledAt(at)
        with NtfsSession(process=process) as session:
            session.mount(overlay)
            session.make_directory("/d")
            session.put("/d/f", BytesSource(bytes(range(256)) * 100))
            session.resize("/d/f", 40_000)
            session.remove("/d/f")
            session.finish()
        return process.heard

    def test_the_cause_is_told(self) -> None:
        with NtfsSession(process=KilledAt(2)) as session, pytest.raises(OutputError, match="SIGKILL") as caught:
            session.mount(load_volume())
        assert caught.value.hint is not None
        assert "untouched" in caught.value.hint

    def test_a_crash_is_told_as_one(self) -> None:
        with NtfsSession() as session:
            session.mount(load_volume())
            os.kill(session._process.pid, signal.SIGSEGV)
            with pytest.raises(OutputError, match="SIGSEGV"):
                session.make_directory("/d")

    def test_one_that_says_nothing_is_killed(self) -> None:
        with NtfsSession(process=WorkerProcess(silence=1.0)) as session:
            session.mount(load_volume())
            os.kill(session._process.pid, signal.SIGSTOP)
            started = time.monotonic()
            with pytest.raises(OutputError, match="said nothing for 1 seconds"):
                session.make_directory("/d")
            assert time.monotonic() - started < 5

    def test_it_dies_with_its_writer(self) -> None:
        session = NtfsSession()
        pid = session._process.pid
        session._process._stream.close()
        session._process._socket.close()
        assert session._process._process.wait(timeout=5) == 0
        session.abort()
        assert not Path(f"/proc/{pid}").exists() or not LINUX

    def test_control_c_ends_it(self) -> None:
        class Interrupted(MemoryVolume):
            reads = 0

            def read_into(self, offset: int, buffer: memoryview) -> int:
                self.reads += 1
                if self.reads == 20:
                    raise KeyboardInterrupt
                return super().read_into(offset, buffer)

        with NtfsSession() as session, pytest.raises(KeyboardInterrupt):
            session.mount(Interrupted(load_volume().read_at(0, 1 << 30)))

    def test_control_c_at_the_terminal_is_not_for_the_worker(self) -> None:
        with NtfsSession() as session:
            assert os.getsid(session._process.pid) != os.getsid(0)
            os.kill(session._process.pid, signal.SIGINT)
            session.mount(load_volume())


@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_error_of_the_device_at_any_call_ends_the_run_with_that_error(kind: str) -> None:
    """Given back to the library, such errors made it crash at 25 of 399 places: it never sees them."""

    class Failing(MemoryVolume):
        left = 0

        def count(self) -> None:
            self.left -= 1
            if self.left == 0:
                raise OutputError("spool-full", "no room")

        def read_into(self, offset: int, buffer: memoryview) -> int:
            if kind == "read":
                self.count()
            return super().read_into(offset, buffer)

        def write_at(self, offset: int, data: Any) -> None:
            if kind == "write":
                self.count()
            super().write_at(offset, data)

    content = load_volume().read_at(0, 1 << 30)
    place, failures = 0, 0
    while True:
        place += 4
        volume = Failing(content)
        volume.left = place
        code = outcome(volume)
        assert code in (None, "spool-full")
        if code is None:
            break
        failures += 1
    assert failures > 10


def outcome(volume: MemoryVolume) -> str | None:
    """The code that some work ends with."""
    try:
        with NtfsSession() as session:
            session.mount(volume)
            some_work(session)
            session.finish()
    except VhdtoolError as error:
        return error.code
    return None


def test_a_damaged_volume_costs_nothing(tmp_path: Path) -> None:
    """Noise in the structures: it works, is refused, or crashes; always an error of ours, always at once."""
    import random  # noqa: PLC0415

    good = new_volume(tmp_path / "volume").read_bytes()
    places = [match.start() for match in re.finditer(b"FILE0|INDX", good)]
    for seed in range(25):
        source = random.Random(seed)
        data = bytearray(good)
        for _ in range(source.randrange(1, 30)):
            place = source.choice(places) + source.randrange(1024)
            data[place] = source.randrange(256)
        started = time.monotonic()
        with NtfsSession() as session, contextlib.suppress(VhdtoolError):
            session.mount(MemoryVolume(data))
            some_work(session)
            session.finish()
        assert time.monotonic() - started < 20


class TestLibrary:
    def test_a_missing_one_is_told_with_its_packages(self) -> None:
        with pytest.raises(MissingSupportError) as caught:
            NtfsSession(names=("libntfs-3g.so.0", "/nowhere/libntfs-3g.so.1"))
        assert (caught.value.code, caught.value.exit_code) == ("ntfs-3g-missing", 6)
        assert "Debian" in (caught.value.hint or "")
        assert "libntfs-3g.so.0" in (caught.value.found or "")

    def test_another_library_of_that_name_is_passed_over(self) -> None:
        other = next((name for name in ("libz.so.1", "libm.so.6") if _loads(name)), None)
        if other is None:
            pytest.skip("neither libz.so.1 nor libm.so.6 is installed")
        with pytest.raises(MissingSupportError) as caught:
            NtfsSession(names=(other,))
        assert "ntfs_set_char_encoding" in (caught.value.found or "")
        with NtfsSession(names=(other, "libntfs-3g.so.89")) as session:
            assert session.soname == "libntfs-3g.so.89"

    def test_an_unknown_version_has_to_pass_the_self_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self_test.cache_clear()
        tested = []
        original = ntfs3g_self_test.run_self_test

        def counted(session: NtfsSession) -> str | None:
            tested.append(session.soname)
            return original(session)

        monkeypatch.setattr(ntfs3g_self_test, "run_self_test", counted)
        volume = load_volume()
        with open_session(volume, tested=()) as session:
            session.make_directory("/d")
            session.finish()
        with open_session(volume, tested=()) as session:
            session.finish()
        assert len(tested) == 1

    @pytest.mark.parametrize(
        "fault",
        [
            "v.MountedVolume._write = lambda self, inode, size, content: None",  # files stay empty
            "v.MountedVolume.remove = lambda self, names: None",
            "v.MountedVolume.resize = lambda self, names, size: None",
            "v.MountedVolume.put = lambda *a: __import__('os')._exit(1)",
        ],
    )
    def test_one_that_fails_it_is_refused(self, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self_test.cache_clear()
        start = worker_process._START.replace("main()", f"import os, vhdtool.fs.ntfs3g_volume as v; {fault}; main()")
        monkeypatch.setattr(worker_process, "_START", start)
        volume = load_volume()
        before = volume.read_at(0, volume.size)
        with pytest.raises(MissingSupportError) as caught:
            open_session(volume, tested=())
        assert (caught.value.code, caught.value.exit_code) == ("ntfs-3g-unknown", 6)
        assert volume.read_at(0, volume.size) == before
        monkeypatch.setattr(ntfs3g_session, "TESTED", ())
        assert writer_support().state == "missing"

    @pytest.mark.parametrize(
        ("structure", "field"), [("Volume", "cluster_size"), ("Inode", "data_size"), ("Attribute", "data_size")]
    )
    def test_structures_laid_out_in_another_way_are_noticed(
        self, structure: str, field: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One more field in the middle, as a later version might have it: seen before anything is written."""
        text = Path(ntfs3g_library.__file__).read_text(encoding="utf-8")
        start = text.index(f"class {structure}(Structure)")
        place = text.index(f'        ("{field}"', start)
        changed = text[:place] + '        ("more", c_uint64),\n' + text[place:]
        code = (
            "import sys, types; import vhdtool.fs; name = 'vhdtool.fs.ntfs3g_library'; m = types.ModuleType(name); "
            f"sys.modules[name] = vhdtool.fs.ntfs3g_library = m; exec({changed!r}, m.__dict__); "
        )
        start_code = worker_process._START.replace("from vhdtool", code + "from vhdtool")
        monkeypatch.setattr(worker_process, "_START", start_code)
        volume = load_volume()
        before = volume.read_at(0, volume.size)
        with NtfsSession() as session, pytest.raises(MissingSupportError) as caught:
            session.mount(volume)
        assert caught.value.code == "ntfs-3g-unknown"
        assert volume.read_at(0, volume.size) == before


def _loads(name: str) -> bool:
    import ctypes  # noqa: PLC0415

    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def test_starting_takes_at_most_60_milliseconds() -> None:
    """From nothing to a mounted volume, in processor time of both sides: the machine may be shared."""
    times = []
    for _ in range(9):
        before = processor_time()
        with NtfsSession() as session:
            session.mount(load_volume_once())
            session.finish()
        times.append(processor_time() - before)
    assert min(times) <= 0.060, times


def processor_time() -> float:
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


_loaded: list[bytes] = []


def load_volume_once() -> MemoryVolume:
    if not _loaded:
        _loaded.append(load_volume().read_at(0, 1 << 30))
    return MemoryVolume(_loaded[0])


@pytest.mark.skipif(not LINUX, reason="strace")
def test_what_the_worker_asks_of_the_kernel(tmp_path: Path) -> None:
    """Once shut in it reads, writes and has memory, and asks for nothing else: strace has the list."""
    strace = require_tool("strace")
    log = tmp_path / "log"
    script = (
        "from vhdtool.fs.ntfs3g_session import NtfsSession\n"
        "from vhdtool.fs.ntfs3g_self_test import run_self_test\n"
        "with NtfsSession() as session:\n"
        "    assert run_self_test(session) is None\n"
    )
    root = Path(worker_process.__file__).parents[2]
    script = f"import sys; sys.path.insert(0, {str(root)!r})\n{script}"
    done = run(strace, "-f", "-o", str(log), sys.executable, "-c", script, check=False)
    if done.returncode:
        pytest.skip("strace can't trace here")
    lines = log.read_text(errors="replace").splitlines()
    (worker,) = {line.split()[0] for line in lines if "PR_SET_SECCOMP" in line}
    own = [line.split(None, 1)[1] for line in lines if line.split()[0] == worker]
    shut = next(number for number, line in enumerate(own) if "PR_SET_SECCOMP" in line)
    asked = {match[1] for line in own[shut + 1 :] if (match := re.match(r"(\w+)\(", line))}
    assert asked <= set(CALLS)
    assert not [line for line in own[shut + 1 :] if "EPERM" in line]


def test_a_writer_that_was_aborted_leaves_no_trace_in_the_image(tmp_path: Path) -> None:
    path = new_volume(tmp_path / "volume")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with open_disk(str(path)) as disk, Overlay(disk) as overlay:
        writer = open_writer(overlay)
        writer.put("/f", BytesSource(bytes(100_000)))
        writer.abort()
        writer.abort()
        with pytest.raises(OutputError, match="ended already"):
            writer.finish()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_the_volume_of_the_self_test_is_a_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(load_volume().read_at(0, 1 << 30))
    run(require_tool("ntfsfix"), "-n", str(path))
    shutil.copy(path, tmp_path / "copy")
    with contextlib.closing(FileVolume(path)) as volume, NtfsSession() as session:
        assert ntfs3g_self_test.run_self_test is not None
        session.mount(volume)
        session.finish()
    assert path.read_bytes() == (tmp_path / "copy").read_bytes()
    assert Kind.FINISH.value == 8
