"""The lock against QEMU's own: each refuses the other, in both directions, on a real image."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools import require_tool, run
from vhdtool.disk.write_lock import lock_for_writing, lock_unchanged
from vhdtool.errors import RefusedError

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(sys.platform != "linux", reason="QEMU's locks are looked at on Linux"),
]

FORMATS = {"vhdx": "vhdx", "vhd": "vpc"}


@pytest.fixture(params=FORMATS)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"disk.{request.param}"
    run(require_tool("qemu-img"), "create", "-q", "-f", FORMATS[request.param], str(path), "8M")
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def opened_by_qemu(image: Path, *options: str) -> Iterator[int]:
    """Hold the image open in qemu-io; gives its process id."""
    command = [require_tool("qemu-io"), *options, "-f", FORMATS[image.suffix[1:]], str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"length\n")
            process.stdin.flush()
            assert b"8" in process.stdout.readline()  # it answers: the image is open
            yield process.pid
        finally:
            process.stdin.close()


def test_an_image_that_qemu_writes_to_is_refused(image: Path) -> None:
    with opened_by_qemu(image) as pid:
        before = digest(image)
        for lock in (lock_for_writing, lock_unchanged):
            with pytest.raises(RefusedError) as raised:
                lock(str(image))
            assert raised.value.code == "image-in-use"
            assert raised.value.found == f"process {pid} (qemu-io)"
        assert digest(image) == before
    lock_for_writing(str(image)).release()


def test_an_image_that_qemu_reads_is_refused_for_writing_only(image: Path) -> None:
    with opened_by_qemu(image, "-r"):
        lock_unchanged(str(image)).release()
        with pytest.raises(RefusedError) as raised:
            lock_for_writing(str(image))
    assert raised.value.code == "image-in-use"


def test_qemu_refuses_what_we_write_to(image: Path) -> None:
    kind = FORMATS[image.suffix[1:]]
    with lock_for_writing(str(image)):
        for tool, *options in (("qemu-io", "-c", "length"), ("qemu-io", "-r", "-c", "length"), ("qemu-img", "info")):
            format_option = ("-f", kind, str(image))
            done = run(require_tool(tool), *options, *format_option, check=False)
            assert done.returncode != 0, (tool, *options)
            assert b"lock" in done.stderr
    assert run(require_tool("qemu-img"), "info", "-f", kind, str(image)).returncode == 0


def test_qemu_may_read_and_not_write_what_we_keep_unchanged(image: Path) -> None:
    kind = FORMATS[image.suffix[1:]]
    with lock_unchanged(str(image)):
        assert run(require_tool("qemu-img"), "info", "-f", kind, str(image)).returncode == 0
        done = run(require_tool("qemu-io"), "-c", "length", "-f", kind, str(image), check=False)
        assert done.returncode != 0
        assert b"lock" in done.stderr


def test_a_server_of_the_image_is_named(image: Path, tmp_path: Path) -> None:
    place = tmp_path / "nbd"
    command = [require_tool("qemu-nbd"), "-f", FORMATS[image.suffix[1:]], "-k", str(place), str(image)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                while client.connect_ex(str(place)) != 0:
                    assert process.poll() is None
                assert client.recv(8) == b"NBDMAGIC"  # it serves: the image is open
                with pytest.raises(RefusedError) as raised:
                    lock_for_writing(str(image))
        finally:
            process.terminate()
    assert raised.value.found == f"process {process.pid} (qemu-nbd)"


def test_two_of_us_in_two_processes(image: Path) -> None:
    code = "import sys\nfrom vhdtool.disk.write_lock import lock_for_writing\nlock_for_writing(sys.argv[1])"
    with lock_for_writing(str(image)):
        done = run(sys.executable, "-c", code, str(image), check=False)
        assert b"RefusedError" in done.stderr
    assert run(sys.executable, "-c", code, str(image)).returncode == 0
