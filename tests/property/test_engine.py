"""The engine itself sees what it is there to see: each way in which a reader can fail is told, and told once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import case as case_module
from tests.fuzz import pool as pool_module
from tests.fuzz.pool import campaign
from tests.fuzz.seals import crc32c_seal
from tests.fuzz.target import Observation, Target
from vhdtool.disk.device import FileDevice
from vhdtool.errors import DamagedError, UsageError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the engine forks its workers")
CLEAN = bytes(range(256)) * 16


def outcomes(reader: Callable[[bytes, Path], Observation], *, sealed: bool = False, cases: int = 30) -> dict[str, int]:
    """What a reader's runs over 30 mutated files were judged to be."""

    def run(folder: Path) -> Observation:
        file = FileDevice(folder / "input")
        data = file.read_at(0, file.size)
        file.close()
        return Observation("clean", ()) if data == CLEAN else reader(data, folder / "input")

    def build(folder: Path) -> None:
        (folder / "input").write_bytes(CLEAN)

    seals = [crc32c_seal("input", 0, len(CLEAN), 4, "all")] if sealed else []
    report = campaign([Target("fake", 1, build, run, lambda _: ([], seals))], cases, 1, jobs=1)
    assert len(report.results) == cases
    found: dict[str, int] = {}
    for result in report.results:
        found[result.outcome] = found.get(result.outcome, 0) + 1
        good = {"identical", "reported", "differs", "payload", "error-3", "error-4"}
        assert (result.failure is None) == (result.outcome in good), result.failure
    return found


def raising(error: BaseException) -> Callable[[bytes, Path], Observation]:
    def reader(_data: bytes, _path: Path) -> Observation:
        raise error

    return reader


def test_content_reports_and_clear_errors_are_good() -> None:
    assert outcomes(lambda data, path: Observation("clean", ())) == {"identical": 30}
    assert outcomes(lambda data, path: Observation("other", ("note",))) == {"reported": 30}
    assert outcomes(lambda data, path: Observation("other", ())) == {"differs": 30}
    assert outcomes(raising(DamagedError("some-code", "one line"))) == {"error-3": 30}


def test_other_content_under_a_broken_checksum_is_a_failure() -> None:
    found = outcomes(lambda data, path: Observation("other", ()), sealed=True)
    assert set(found) == {"silent", "differs"}  # differs where the checksum was made right again
    assert min(found.values()) > 5


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("a traceback"), "traceback"),
        (RecursionError(), "traceback"),
        (MemoryError(), "memory"),
        (UsageError("some-code", "exit code 2"), "error-2"),
        (DamagedError("Not Kebab", "text"), "error-3"),
        (DamagedError("code", ""), "error-3"),
        (DamagedError("code", "two\nlines"), "error-3"),
    ],
)
def test_other_ends_are_failures(error: BaseException, kind: str) -> None:
    if kind == "error-3":
        with pytest.raises(AssertionError):  # a failure whose outcome would be good
            outcomes(raising(error), cases=2)
    else:
        assert outcomes(raising(error), cases=2) == {kind: 2}


def test_a_hang_is_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_module, "SECONDS", 0.2)
    assert outcomes(lambda data, path: time.sleep(60), cases=3) == {"hang": 3}  # type: ignore[arg-type, return-value]


def test_a_hang_that_no_signal_ends_is_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "HARD_SECONDS", 1.0)

    def deaf(_data: bytes, _path: Path) -> Observation:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(60)
        raise AssertionError

    assert outcomes(deaf, cases=2) == {"hang": 2}


def test_too_much_memory_is_told_and_the_next_case_judged_alone() -> None:
    def greedy(data: bytes, _path: Path) -> Observation:
        held = bytearray(600 << 20) if len(data) < len(CLEAN) or data[:1] != CLEAN[:1] else b""
        return Observation("clean", ("big",) if held else ())

    found = outcomes(greedy, cases=40)
    assert 0 < found["memory"] < 40
    assert found["memory"] + found["identical"] == 40


def test_a_crash_costs_one_case() -> None:
    def crash(data: bytes, _path: Path) -> Observation:
        if len(data) < len(CLEAN):
            os.kill(os.getpid(), signal.SIGKILL)
        return Observation("clean", ())

    found = outcomes(crash, cases=60)
    assert 0 < found["crash"] < 60
    assert found["crash"] + found["identical"] == 60


@pytest.mark.parametrize("size", [4, 0])
def test_a_source_that_was_written_is_told(size: int) -> None:
    def writer(_data: bytes, path: Path) -> Observation:
        if size:
            path.chmod(0o644)
            path.write_bytes(b"gone")
        else:
            path.with_name("beside").write_bytes(b"")
        return Observation("clean", ())

    assert outcomes(writer, cases=1) == {"source-changed": 1}
