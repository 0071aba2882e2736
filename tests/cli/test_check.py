"""``vhdtool check``: ten guests in different states, saved documents, exit codes, formats."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from tests.cli.harness import Result, run
from tests.cli.images import bitlocker_volume, mbr_disk, windows_volume
from tests.cli.staging_guests import CURRENT, GENERALIZED, STATE, guest, put
from tests.fixtures import FOLDER, fixture_file
from tests.report.conformity import assert_conforms

MANAGER = r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager"
SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
POLICY = """\
name = "golden images"
fail-on = "medium"

[checks.integration-version.minimum]
2012r2 = "6.3.9600.18692"
linux = "4.0"

[[rule]]
code = "server-2012r2"
severity = "high"
what = "The image is of the release that this farm runs."
fix = "Upgrade it, or keep it out of the farm."
path = "guests[os.family=windows].os.version"
op = "at-least"
value = "6.3"

[[rule]]
code = "no-windows-old"
severity = "low"
what = "There is no Windows.old."
path = "guests[*].findings[code=old-installation]"
op = "absent"
"""


@pytest.fixture(scope="module")
def healthy() -> str:
    return str(fixture_file("windows-guest.vhdx"))


@pytest.fixture
def golden(tmp_path) -> str:
    path = tmp_path / "golden.toml"
    path.write_text(POLICY)
    return str(path)


def checked(*arguments: str | Path, code: int) -> dict:
    result = run("check", *map(str, arguments), "--json")
    assert result.code == code, result.stderr
    assert_conforms(result.json, "check")
    return result.json


def failed(document: dict) -> set[tuple[str, str]]:
    return {(one["code"], one["subject"]) for one in document["results"] if one["counts"]}


def dirty_volume() -> bytes:
    """The Windows volume with the mark that NTFS sets while it is mounted (bit 0 of $VOLUME_INFORMATION's flags)."""
    volume = bytearray(windows_volume())
    mft = struct.unpack_from("<Q", volume, 0x30)[0] * volume[0x0D] * 512
    record = 1024
    for start in (mft + 3 * record, volume_mirror(volume) + 3 * record):
        at = start + struct.unpack_from("<H", volume, start + 0x14)[0]
        while struct.unpack_from("<I", volume, at)[0] != 0x70:
            at += struct.unpack_from("<I", volume, at + 4)[0]
        flags = at + struct.unpack_from("<H", volume, at + 0x14)[0] + 10
        struct.pack_into("<H", volume, flags, 1)
    return bytes(volume)


def volume_mirror(volume: bytes) -> int:
    return struct.unpack_from("<Q", volume, 0x38)[0] * volume[0x0D] * 512


def ten(tmp_path: Path) -> dict[str, tuple[Path, set[tuple[str, str]]]]:
    """Images in ten states, each with what the policy must find: code and subject."""

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    images: dict[str, tuple[Path, set[tuple[str, str]]]] = {
        "healthy": (fixture_file("windows-guest.vhdx"), set()),
        "demo": (
            fixture_file("demo.vhdx"),
            {("boot-ready", "storvsc"), ("image-sound", "vhdx-log-pending"), ("services-expected", "vmickvpexchange")},
        ),
        "generalized": (guest(folder("generalized"), *GENERALIZED), set()),
        "in setup": (
            guest(folder("setup"), ("add", STATE, "/v", "ImageState", "/d", "IMAGE_STATE_UNDEPLOYABLE")),
            {("install-state", "")},
        ),
        "pending": (
            guest(
                folder("pending"),
                ("add", MANAGER, "/v", "PendingFileRenameOperations", "/t", "REG_MULTI_SZ", "/d", r"\??\C:\a.sys"),
            ),
            {("no-pending-work", "")},
        ),
        "no backup": (
            guest(folder("vss"), ("add", rf"{SERVICES}\vmicvss", "/v", "Start", "/t", "REG_DWORD", "/d", "4")),
            {("services-expected", "vmicvss")},
        ),
        "too old": (
            guest(
                folder("old"),
                ("add", CURRENT, "/v", "CurrentVersion", "/d", "6.1"),
                ("add", CURRENT, "/v", "CurrentBuildNumber", "/d", "7601"),
                ("add", CURRENT, "/v", "CurrentBuild", "/d", "7601"),
            ),
            {("server-2012r2", "")},
        ),
        "hibernated": (guest(folder("hibernated")), {("not-hibernated", "volume 2")}),
        "dirty": (mbr_disk(tmp_path / "dirty.raw", [dirty_volume()]), {("filesystem-clean", "volume 0")}),
        "encrypted": (
            mbr_disk(tmp_path / "encrypted.raw", [bitlocker_volume()]),
            {("guest-found", ""), ("facts-complete", "volume-encrypted")},
        ),
    }
    put(images["hibernated"][0], "/hiberfil.sys", b"hibr".ljust(4096, b"\0"))
    return images


def test_a_policy_over_ten_guests_in_different_states(tmp_path, golden):
    images = ten(tmp_path)
    paths = [str(path) for path, _ in images.values()]
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path, _ in images.values()]
    result = run("check", *paths, "--policy", golden, "--json")
    assert result.code == 1, result.stderr
    documents = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    for document, (name, (path, expected)) in zip(documents, images.items(), strict=True):
        assert_conforms(document, "check")
        assert document["image"]["path"] == str(path)
        found = failed(document)
        assert document["passed"] == (not found), name
        if name == "pending":  # its subject is the work itself
            assert {code for code, _ in found} == {"no-pending-work"}, name
        elif name == "too old":  # what a Windows 7 is expected to have beside that is not this test's
            assert expected <= found, name
        else:
            assert found == expected, name
        counts = document["counts"]
        assert counts["counting"] == len([one for one in document["results"] if one["counts"]])
        assert counts["failed"] + counts["waived"] + counts["passed"] + counts["not_applicable"] == len(
            document["results"]
        )
    assert before == [hashlib.sha256(path.read_bytes()).hexdigest() for path, _ in images.values()]
    saved = tmp_path / "saved.json"
    saved.write_bytes(run("inspect", *paths, "--json").stdout)
    again = run("check", "--from-json", str(saved), "--policy", golden, "--json")
    assert (again.code, again.stdout) == (1, result.stdout)


def test_the_table_reads_well(healthy, golden):
    demo = str(fixture_file("demo.vhdx"))
    text = run("check", demo, "--policy", golden).text
    lines = text.splitlines()
    assert lines[0].startswith(f"{demo}  3 failed, ")
    for words in ("storvsc has Start 0", "How to mend it", "boot-ready storvsc", "Passed", "Failed: 3 failures of"):
        assert words in text
    drawn = run("check", demo, "--policy", golden, terminal=True, environment={"NO_COLOR": "1", "COLUMNS": "80"})
    assert "\x1b" not in drawn.text
    assert max(len(line) for line in drawn.text.splitlines() if demo not in line) <= 80
    assert "\x1b[" in run("check", demo, terminal=True).text
    passed = run("check", healthy, "--policy", golden).text
    assert passed.splitlines()[-1] == "Passed."
    assert "How to mend it" not in passed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["--fail-on", "high"], 0),
        (["--fail-on", "medium"], 1),
        (["--fail-on", "never"], 0),
        (["--without", "integration-version"], 0),
        (["--without", "integration-version", "--with", "generalized"], 1),
        (["--without", "integration-version", "--with", "fast-startup-off"], 0),
    ],
)
def test_the_threshold_and_the_choice_of_checks(healthy, arguments, code):
    assert checked(healthy, *arguments, code=code)["passed"] == (code == 0)


def test_failures_below_the_threshold_are_told_and_do_not_count(healthy):
    document = checked(healthy, "--fail-on", "high", code=0)
    (one,) = [one for one in document["results"] if one["outcome"] == "fail"]
    assert (one["code"], one["counts"], document["counts"]["failed"]) == ("integration-version", False, 1)
    assert "KB4072650" in one["fix"]
    assert "none of high severity" in run("check", healthy, "--fail-on", "high").text


def test_waivers(healthy, tmp_path):
    today = datetime.now(UTC).date()
    policy = tmp_path / "p.toml"
    for days, code, note in ((0, 0, False), (-1, 1, True)):
        day = (today + timedelta(days)).isoformat()
        waiver = f"[[waiver]]\ncode = 'integration-version'\nreason = 'Next week.'\nexpires = {day}\n"
        policy.write_text(waiver + f"[[waiver]]\ncode = 'boot-ready'\nreason = 'x'\nexpires = {today}\n")
        result = run("check", healthy, "--policy", str(policy), "--json")
        assert result.code == code
        assert_conforms(result.json, "check")
        first, second = result.json["policy"]["waivers"]
        assert (first["expired"], first["used"], second["used"]) == (note, int(not note), 0)
        waived = [one["waived"] for one in result.json["results"] if one["waived"]]
        assert waived == ([] if note else [{"reason": "Next week.", "expires": day}])
        assert ("expired on" in result.stderr) == note
        text = run("check", healthy, "--policy", str(policy))
        assert ("expired on" in text.text) == note
        assert ("Waived until" in text.text) == (not note)
        assert text.stderr == ""


def test_a_rule_about_all_services_makes_inspect_list_them(healthy, tmp_path):
    policy = tmp_path / "p.toml"
    policy.write_text(
        "baseline = false\n[[rule]]\ncode = 'no-vss'\nwhat = 'No VSS.'\n"
        "path = 'guests[*].all_services[name=vmicvss]'\nop = 'absent'\n"
    )
    assert failed(checked(healthy, "--policy", policy, code=1)) == {("no-vss", "")}


def test_an_image_that_fails_ends_with_its_own_code_one_of_several_with_5(healthy, tmp_path):
    text = tmp_path / "text.vhdx"
    text.write_bytes(b"no disk at all")
    assert checked(text, code=3)["error"]["code"]
    result = run("check", healthy, str(text), str(tmp_path / "absent"), "--json")
    assert result.code == 5
    lines = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    for line in lines:
        assert_conforms(line, "check")
    assert [set(line) & {"error", "results"} for line in lines] == [{"results"}, {"error"}, {"error"}]
    assert result.stderr.count("error[") == 2
    assert run("check", healthy, healthy).code == 1
    assert run("check", healthy, healthy, "--fail-on", "high").code == 0


def test_a_fault_of_ours_in_one_image_does_not_cost_the_others(healthy, monkeypatch):
    from vhdtool.image import open_image as real  # noqa: PLC0415

    def faulty(path, **named):
        if path == "broken":
            raise IndexError("oh")
        return real(path, **named)

    monkeypatch.setattr("vhdtool.image.open_image", faulty)
    result = run("check", "broken", healthy, "--json")
    assert result.code == 70
    lines = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    assert lines[0]["error"]["code"] == "internal-fault"
    assert lines[1]["results"]
    assert run("check", "broken").code == 70


def from_stdin(data: bytes, *arguments: str) -> Result:
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(data))):
        return run("check", "--from-json", *arguments, "--json")


def test_saved_documents_from_files_and_standard_input(healthy, tmp_path):
    live = run("check", healthy, "--json")
    line = run("inspect", healthy, "--json").stdout
    pretty = run("inspect", healthy, "--json", terminal=True).stdout
    saved = tmp_path / "saved.json"
    saved.write_bytes(pretty)
    assert run("check", "--from-json", str(saved), "--json").stdout == live.stdout
    assert from_stdin(line, "-").stdout == live.stdout
    assert from_stdin(line + line, "-", str(saved)).stdout == live.stdout * 3


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not-json"),
        (b"vhdxfile", "not-json"),
        (b"\xff" * 100, "not-json"),
        (b"[1, 2]", "not-an-inspect-document"),
        (b"{}", "not-an-inspect-document"),
        (b'{"schema": "vhdtool.version/1", "image": {"path": "x"}}', "not-an-inspect-document"),
        (b'{"schema": "vhdtool.inspect/1", "image": 7}', "not-an-inspect-document"),
        (b'{"schema": "vhdtool.inspect/1", "image": {"path": "x"}, "guests": [[[]]]}', "not-an-inspect-document"),
        (b'{"schema": "vhdtool.inspect/1", "image": {"path": "x"}, "error": 3}', "not-an-inspect-document"),
        (b'{"a":' * 100_000, "not-json"),
        (
            b'{"schema": "vhdtool.inspect/1", "image": {"path": "x"}, "error": {"code": "not-a-disk", "message": ""}}',
            "not-a-disk",
        ),
    ],
)
def test_what_can_not_be_checked(data, code):
    result = from_stdin(data, "-")
    assert (result.code, result.json["error"]["code"]) == (3, code)
    assert_conforms(result.json, "check")
    assert "Traceback" not in result.stderr


def test_what_stands_before_the_damage_is_checked(healthy):
    line = run("inspect", healthy, "--json").stdout
    result = from_stdin(line + b'{"schema"', "-")
    assert result.code == 5
    documents = [msgspec.json.decode(one) for one in result.stdout.splitlines()]
    assert [set(one) & {"error", "results"} for one in documents] == [{"results"}, {"error"}]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["--with", "boot-redy"], 2, "no-such-check"),
        (["--without", "x"], 2, "no-such-check"),
        (["--policy", "/nonexistent.toml"], 3, "cannot-open"),
        (["--policy", "."], 3, "cannot-open"),
        (["--from-json", "--parent", "x"], 2, "one-image"),
        (["second.vhdx", "--parent", "x"], 2, "one-image"),
        (["--fail-on", "severe"], 2, "usage"),
        (["-o", "xml"], 2, "usage"),
        (["-o", "sarif="], 2, "usage"),
        (["-o", "sarif", "-o", "junit"], 2, "output"),
        (["-o", "sarif", "--json"], 2, "output"),
    ],
)
def test_wrong_usage(healthy, arguments, exit_code, code):
    result = run("check", healthy, *arguments)
    assert (result.code, result.stdout) == (exit_code, b"")
    assert f"error[{code}]" in result.stderr
    assert run("check").code == 2


def test_every_format_at_once(healthy, tmp_path):
    targets = {form: tmp_path / f"out.{form}" for form in ("json", "sarif", "junit")}
    options = [word for form, path in targets.items() for word in ("-o", f"{form}={path}")]
    result = run("check", healthy, str(fixture_file("demo.vhdx")), *options, "-o", "table")
    assert result.code == 1
    assert "How to mend it" in result.text
    assert targets["json"].read_bytes().count(b"\n") == 2
    assert len(json.loads(targets["sarif"].read_text())["runs"][0]["artifacts"]) == 2
    assert targets["junit"].read_text().count("<testsuite ") == 2


def test_nothing_that_is_read_is_written_over(tmp_path):
    image = tmp_path / "image.vhdx"
    image.write_bytes(lzma.decompress((FOLDER / "windows-guest.vhdx.xz").read_bytes()))
    policy = tmp_path / "p.toml"
    policy.write_text(POLICY)
    before = image.read_bytes()
    for file in (image, policy):
        for form in ("json", "sarif", "junit"):
            result = run("check", str(image), "--policy", str(policy), "-o", f"{form}={file}")
            assert (result.code, "output-is-input" in result.stderr) == (2, True), (file, form)
    assert (image.read_bytes(), policy.read_text()) == (before, POLICY)


def test_names_from_an_image_can_not_command_the_terminal(healthy):
    document = run("inspect", healthy, "--json").json
    document["guests"][0]["os"]["pending"] = ["\x1b]0;x\x07\u202e"]
    for form in ("table", "junit", "sarif"):
        with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(document).encode()))):
            result = run("check", "--from-json", "-", "-o", form)
        assert result.code == 1
        assert not {"\x1b", "\x07", "\u202e"} & set(result.text), form


def test_help_has_examples():
    text = run("check", "--help").text
    for words in ("--policy golden.toml", "--from-json -", "sarif or junit", "ends 5"):
        assert words in text
