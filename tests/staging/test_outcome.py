"""What became of a stage: every state, and what a hostile guest can leave in its place."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.guest.guests import WINDOWS_2012_R2, Keys, guest
from vhdtool.guest.source import WindowsInstallation
from vhdtool.staging.guest_log import MAX_LINE, MAX_TAIL
from vhdtool.staging.outcome import StagedOutcome, read_outcome
from vhdtool.staging.result_file import LOG_NAME, MAX_RESULT, RESULT_NAME
from vhdtool.staging.stage_record import (
    MAX_RECORD,
    MAX_STAGES,
    RecordedPackage,
    StageRecord,
    parse_record,
    record_bytes,
)

ID = "kb9999999-0123abcd"
FOLDER = f"Windows/Setup/vhdtool/{ID}"
SERVICE = rf"ControlSet001\Services\vhdtool-{ID}"
EXCHANGE = r"Microsoft\Virtual Machine\Guest"
CREATED = datetime(2026, 11, 23, 12, tzinfo=UTC)
VMBUS = r"DriverDatabase\DriverPackages\wvmbus.inf_amd64_0"

RECORD = StageRecord(
    schema="vhdtool.staged/1",
    tool="0.1.0",
    id=ID,
    created="2026-11-23T12:00:00Z",
    disk=None,
    windows="6.3.9600",
    architecture="amd64",
    ways=("service",),
    reboot="never",
    service=f"vhdtool-{ID}",
    service_key=SERVICE,
    command="run",
    packages=(
        RecordedPackage(
            file="1-a.cab",
            sha256="0" * 64,
            size=1,
            name="Package~31bf3856ad364e35~amd64~~6.3.9600.20000",
            kb="KB9999999",
            version="6.3.9600.20000",
            architecture="amd64",
            integration_version="6.3.9600.20000",
            source="a.cab",
        ),
    ),
    files=(),
    directories=("Setup/vhdtool", f"Setup/vhdtool/{ID}"),
    registry=(),
    setup_complete=None,
    integration_version="6.3.9600.18692",
)


def filetime(moment: datetime) -> bytes:
    return struct.pack("<Q", int((moment - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()) * 10_000_000)


def installation(
    record: bytes | None = None,
    *,
    service: bool = True,
    shutdown: datetime | None = None,
    told: str | None = None,
    version: str = "6.3.9600.18692",
    files: dict[str, bytes] | None = None,
    software: Keys | None = None,
) -> WindowsInstallation:
    numbers = b"".join(int(part).to_bytes(2, "little") for part in reversed(version.split(".")))
    system: Keys = {VMBUS: {"Version": bytes(32) + numbers + bytes(8)}, r"ControlSet001\Services": {}}
    if service:
        system = {**system, SERVICE: {"Start": 2}}
    if shutdown is not None:
        system = {**system, r"ControlSet001\Control\Windows": {"ShutdownTime": filetime(shutdown)}}
    exchange: Keys = {} if told is None else {EXCHANGE: {"vhdtool.stage": told}}
    software = {**WINDOWS_2012_R2, **exchange, **(software or {})}
    content = {f"{FOLDER}/stage.json": record_bytes(RECORD) if record is None else record, **(files or {})}
    return guest(system, software, dict(content))


def outcome(place: WindowsInstallation) -> StagedOutcome:
    (found,) = read_outcome(place)
    return found


def test_nothing_staged():
    assert read_outcome(guest()) == ()


def test_a_stage_waits_until_the_guest_has_run():
    assert outcome(installation()).state == "staged"
    assert outcome(installation(shutdown=CREATED.replace(hour=11))).state == "staged"
    found = outcome(installation(shutdown=CREATED.replace(hour=13)))
    assert (found.state, found.waits) == ("never-ran", True)
    assert "2026-11-23 13:00" in found.reason


def test_without_its_service_it_will_not_run():
    found = outcome(installation(service=False))
    assert (found.state, found.waits) == ("never-ran", False)


def test_versions_and_titles_are_told():
    found = outcome(installation(version="6.3.9600.18907"))
    assert (found.version_before, found.version_staged, found.version_now) == (
        "6.3.9600.18692",
        "6.3.9600.20000",
        "6.3.9600.18907",
    )
    assert found.title == "KB9999999 6.3.9600.20000"
    assert found.staged.package == found.title


def changed(**facts: Any) -> bytes:
    content = json.loads(record_bytes(RECORD))
    content.update(facts)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"x" * (MAX_RECORD + 1),
        record_bytes(RECORD)[:-40],
        changed(schema="vhdtool.staged/2"),
        changed(id="kb9999999-ffffffff"),
        changed(id="..\\..\\x"),
        changed(files=[{"path": "Setup/../../../etc/passwd", "sha256": "", "size": 1}]),
        changed(directories=["../x"]),
        changed(directories=["/absolute"]),
        changed(packages=[{**json.loads(record_bytes(RECORD))["packages"][0], "file": "..\\..\\evil.cab"}]),
        changed(setup_complete={"path": "System32/config/SYSTEM/..", "before_sha256": None, "before_size": None}),
        changed(packages={}),
        changed(packages=1e400),
    ],
)
def test_a_record_that_can_not_be_used_is_unknown_and_says_why(record):
    found = outcome(installation(record))
    assert (found.state, found.packages) == ("unknown", ())
    assert "[stage-" in found.reason


def test_directories_that_are_no_stages_are_passed_over():
    place = installation(
        files={
            "Windows/Setup/vhdtool/Not One/x": b"",
            "Windows/Setup/vhdtool/file": b"",
            "Windows/Setup/vhdtool/-/x": b"",
        }
    )
    assert [one.id for one in read_outcome(place)] == [ID]


def test_a_guest_with_ever_so_many_stages():
    files = {f"Windows/Setup/vhdtool/kb1-{number:08x}/stage.json": b"" for number in range(MAX_STAGES + 20)}
    assert len(read_outcome(installation(files=files))) <= MAX_STAGES


def test_a_record_comes_back_as_it_was():
    assert parse_record(record_bytes(RECORD), "x") == RECORD


def test_times_that_are_none():
    assert outcome(installation(record_bytes(replace(RECORD, created="yesterday")), shutdown=CREATED)).state == "staged"


def ran(state: str, *, stage: str = ID, code: int = 0, whole: str | None = None) -> dict[str, bytes]:
    """The files of a guest whose runner ended so."""
    text = (
        f"vhdtool-result 1\r\nid={stage}\r\ncab=1 {state} {code} 2 1-a.cab\r\nstate={whole or state}\r\nend={stage}\r\n"
    )
    return {f"{FOLDER}/{RESULT_NAME}": text.encode(), f"{FOLDER}/{LOG_NAME}": b"the first line\r\nthe last line\r\n"}


@pytest.mark.parametrize("state", ["applied", "restart-pending", "not-applicable", "failed", "abandoned"])
def test_the_result_file_tells(state):
    found = outcome(installation(files=ran(state, code=-2146498530), service=False))
    assert (found.state, found.attempts, found.waits) == (state, 2, False)
    assert found.log == ("the first line", "the last line")
    (cab,) = found.cabs
    assert (cab.title, cab.code, cab.attempts) == ("KB9999999 6.3.9600.20000", -2146498530, 2)
    assert "newer one" in (cab.meaning or "")
    assert f"/{FOLDER}/{RESULT_NAME}" in found.evidence


def test_a_failure_comes_with_the_errors_of_dism():
    log = b"2026-11-23 13:00:01, Info   DISM  x\r\n2026-11-23 13:00:02, Error  DISM  API: not enough\x07 room\r\n"
    files = {**ran("failed", code=112), f"{FOLDER}/dism-1.log": b"\xef\xbb\xbf" + log}
    assert outcome(installation(files=files)).log[-1] == "2026-11-23 13:00:02, Error  DISM  API: not enough\ufffd room"
    applied = {**ran("applied"), f"{FOLDER}/dism-1.log": log}
    assert outcome(installation(files=applied)).log[-1] == "the last line"


def test_a_long_log_is_read_at_its_end():
    files = {**ran("applied"), f"{FOLDER}/{LOG_NAME}": b"x" * MAX_TAIL + b"\r\n" + b"y" * 1000 + b"\r\nlast\r\n"}
    assert outcome(installation(files=files)).log == ("y" * MAX_LINE, "last")


def test_tried_and_not_ended():
    found = outcome(installation(files=ran("staged", code=1618)))
    assert (found.state, found.attempts) == ("staged", 2)
    assert "attempted 2 times" in found.reason
    assert outcome(installation(files=ran("staged", code=1618), service=False)).state == "abandoned"


def test_the_versions_have_the_last_word_on_a_restart():
    files = ran("restart-pending", code=3010)
    assert outcome(installation(files=files, version="6.3.9600.20000")).state == "applied"
    found = outcome(installation(files=ran("applied")))
    assert found.state == "applied"
    assert "older" in found.reason


@pytest.mark.parametrize(("state", "expected"), [(0x70, "applied"), (0x60, "restart-pending")])
def test_servicing_has_the_last_word_on_a_package_without_versions(state, expected):
    package = replace(RECORD.packages[0], integration_version=None)
    record = record_bytes(replace(RECORD, packages=(package,)))
    key = rf"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages\{package.name}"
    place = installation(record, files=ran("restart-pending", code=3010), software={key: {"CurrentState": state}})
    assert outcome(place).state == expected


def test_a_result_of_another_stage_is_not_believed():
    found = outcome(installation(files=ran("applied", stage="kb1-00000000")))
    assert found.state == "unknown"
    assert "kb1-00000000" in found.reason


def test_a_result_that_can_not_be_read_is_unknown_unless_the_host_was_told():
    files = {f"{FOLDER}/{RESULT_NAME}": b"vhdtool-result 1\r\nid="}
    found = outcome(installation(files=files))
    assert found.state == "unknown"
    assert "[stage-result-damaged]" in found.reason
    assert outcome(installation(files=files, told=f"{ID};failed;1")).state == "failed"
    too_long = {f"{FOLDER}/{RESULT_NAME}": bytes(MAX_RESULT + 1)}
    assert "[stage-file-too-long]" in outcome(installation(files=too_long)).reason


def test_what_the_host_was_told_of_another_stage_is_not_of_this_one():
    assert outcome(installation(told="kb1-00000000;applied;0")).state == "staged"
