from __future__ import annotations

import pytest

from tests.cli.harness import run
from tests.cli.images import bitlocker_volume, mbr_disk, windows_volume
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms

IMAGES = ["demo.vhdx", "windows-guest.vhdx", "windows-guest.vhd", "windows-guest-4kn.vhdx"]


@pytest.mark.parametrize("name", IMAGES)
def test_version_of_every_container(name):
    result = run("version", str(fixture_file(name)), "--json")
    assert (result.code, result.stderr) == (0, "")
    assert_conforms(result.json, "version")
    facts = result.json["integration_services"]
    assert (facts["version"], facts["agreement"]) == ("6.3.9600.18692", "agree")
    assert result.json["root"] == "/Windows"


def test_text_names_the_source_and_every_other():
    text = run("version", str(fixture_file("windows-guest.vhdx"))).text
    assert text.splitlines()[0].split() == ["IntegrationServicesVersion", "6.3.9600.18692"]
    assert "driver-database" in text
    assert "file-version" in text


def test_recovered_hive_is_told():
    text = run("version", str(fixture_file("demo.vhdx"))).text
    assert "recovered in memory from SYSTEM.LOG1" in text


def test_terminal_gets_a_drawn_table():
    result = run("version", str(fixture_file("demo.vhdx")), terminal=True)
    assert "\x1b[" in result.text
    assert "\x1b[" not in run("version", str(fixture_file("demo.vhdx")), "--color", "never", terminal=True).text
    assert "\x1b[" not in run("--color", "never", "version", str(fixture_file("demo.vhdx")), terminal=True).text
    assert "\x1b[" in run("version", str(fixture_file("demo.vhdx")), "--color", "always").text


def test_two_installations_must_be_told_apart(tmp_path):
    image = mbr_disk(tmp_path / "two.raw", [windows_volume(), windows_volume()])
    result = run("version", str(image), "--json")
    assert result.code == 2
    assert_conforms(result.json, "version")
    assert result.json["error"]["code"] == "ambiguous-guest"
    assert "--guest 0: /Windows on volume 0" in result.stderr
    chosen = run("version", str(image), "--guest", "1", "--json")
    assert (chosen.code, chosen.json["volume"]) == (0, 1)
    assert run("version", str(image), "--guest", "2").code == 2


def test_encrypted_system_volume_is_refused(tmp_path):
    image = mbr_disk(tmp_path / "encrypted.raw", [bitlocker_volume()])
    for command in (("version",), ("services", "list")):
        result = run(*command, str(image), "--json")
        assert (result.code, result.json["error"]["code"]) == (4, "encrypted")
        assert "bitlocker" in result.stderr


def test_no_windows_is_an_input_that_can_not_be_used(tmp_path):
    image = mbr_disk(tmp_path / "empty.raw", [bytes(1 << 20)])
    assert run("version", str(image)).code == 3
    assert run("services", "list", str(image)).code == 3


def test_who_brought_the_version_and_whether_there_is_a_newer_one():
    image = str(fixture_file("windows-guest.vhdx"))
    document = run("version", image, "--json").json
    (shipped,) = document["shipped_by"]
    assert (shipped["kb"], shipped["hosts"], shipped["exact"]) == (
        "KB4022720", ["Windows Server 2012 R2", "Windows 8.1"], True,
    )  # fmt: skip
    newest = document["newest"]
    assert (newest["version"], newest["newer"], newest["by"]) == ("6.3.9600.19456", True, "cab")
    text = run("version", image).text
    assert "Windows Server 2012 R2 and Windows 8.1: KB4022720" in text
    assert "6.3.9600.19456: a newer one exists" in text
