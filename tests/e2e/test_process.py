"""The command line as a process of its own: what only the operating system sees."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures import fixture_file

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vhdtool", *arguments]


def call(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_module_and_exit_code():
    done = call("version", "--json", str(fixture_file("demo.vhdx")))
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["integration_services"]["version"] == "6.3.9600.18692"
    assert call("version", "no-such-file").returncode == 3


def test_a_closed_pipe_is_quiet(tmp_path):
    hive = tmp_path / "SYSTEM"
    hive.write_bytes(call("cat", str(fixture_file("windows-guest.vhdx")), "/Windows/System32/config/SYSTEM").stdout)
    for arguments in (
        ("reg", "query", str(hive), "\\", "--recursive"),
        ("reg", "query", str(hive), "\\", "--recursive", "--json"),
        ("cat", str(fixture_file("windows-guest.vhdx")), "/Windows/System32/config/SYSTEM"),
    ):
        process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        assert (process.wait(60), error) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not here")
@pytest.mark.parametrize("arguments", [("version",), ("version", "--json"), ("version", "-o", "json=/dev/full")])
def test_a_full_disk_ends_7(arguments):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*arguments, str(fixture_file("demo.vhdx"))),
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )  # fmt: skip
    assert done.returncode == 7
    assert b"error[cannot-write]" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_closed_stdout_ends_7():
    line = f"exec {shlex.join(command('version', str(fixture_file('demo.vhdx'))))} >&-"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, b"stdout is closed" in done.stderr) == (7, True)


def test_interruption_ends_130_and_leaves_nothing(tmp_path):
    big = tmp_path / "big.img"
    with big.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(446)
        file.write(bytes([0, 0, 2, 0, 7, 0, 0, 0]) + (2048).to_bytes(4, "little") + (1 << 20).to_bytes(4, "little"))
        file.seek(510)
        file.write(b"\x55\xaa")
    process = subprocess.Popen(
        command("inspect", "--hash", str(big)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # a background job of a shell ignores it; no threads here
    )  # fmt: skip
    try:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["big.img"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_can_not_show_a_name_escapes_it(tmp_path, encoding):
    image = tmp_path / "한국어.vhdx"
    image.write_bytes(fixture_file("windows-guest.vhdx").read_bytes())
    done = call("disk", "info", str(image), env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\ud55c\\uad6d\\uc5b4" in done.stdout


def test_no_command_changes_the_image(tmp_path):
    image = tmp_path / "demo.vhdx"
    image.write_bytes(fixture_file("demo.vhdx").read_bytes())
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    for arguments in (
        ("inspect", str(image), "--hash", "--evidence-dir", str(tmp_path / "case"), "--all-services"),
        ("version", str(image)),
        ("services", "list", str(image)),
        ("reg", "query", str(image), r"HKLM\SYSTEM\Select"),
        ("ls", str(image)),
        ("cat", str(image), "/Windows/System32/config/SYSTEM"),
        ("extract", str(image), "/Windows", str(tmp_path / "out")),
        ("disk", "info", str(image)),
        ("disk", "map", str(image)),
        ("disk", "convert", str(image), str(tmp_path / "out.raw")),
    ):
        assert call(*arguments).returncode == 0, arguments
    assert call("disk", "verify", str(image)).returncode in {0, 1}
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case", "demo.vhdx", "out", "out.raw"]
