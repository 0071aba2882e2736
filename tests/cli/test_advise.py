"""``vhdtool advise``: on the fixtures' guest, on what registry changes make of it, by name, and the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import changed, image_in
from tests.cli.harness import run
from tests.cli.images import bitlocker_volume, mbr_disk, windows_volume
from tests.cli.linux import linux_disk
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms

WINDOWS = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
SERVICE = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\vmickvpexchange"
PACKAGES = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
SEVEN = f"""\
[{WINDOWS}]
"ProductName"="Windows 7 Enterprise"
"CurrentVersion"="6.1"
"CurrentBuild"="7601"
"CurrentBuildNumber"="7601"
"EditionID"="Enterprise"
"InstallationType"="Client"
"""
SHA2 = rf"""
[{PACKAGES}\Package_for_KB4474419~31bf3856ad364e35~amd64~~6.1.3.2]
"CurrentState"=dword:00000070
"""
DISABLED = f"""
[{SERVICE}]
"Start"=dword:00000004
"""


def image_with(folder: Path, *parts: str) -> Path:
    """The fixtures' guest with values of its registry changed."""
    for hive in ("SOFTWARE", "SYSTEM"):
        text = [part for part in parts if rf"\{hive}" in part]
        if text:
            file = folder / f"{hive}.reg"
            file.write_text("Windows Registry Editor Version 5.00\n\n" + "\n".join(text), encoding="utf-8")
    image = image_in(folder, "windows-guest.vhdx")
    for file in sorted(folder.glob("*.reg")):
        changed("reg", "import", image, file, "--in-place")
    return image


def advice(*arguments: str | Path) -> dict:
    result = run("advise", *map(str, arguments), "--json")
    assert (result.code, result.stderr) == (0, "")
    assert_conforms(result.json, "advise")
    return result.json


def test_the_fixtures_guest():
    image = str(fixture_file("windows-guest.vhdx"))
    told = advice(image, "--host", "Windows Server 2016")
    assert (told["host"], told["guest"]) == ("Windows Server 2016", "Windows Server 2012 R2")
    assert (told["listed"], told["mechanism"], told["revision"]) == (True, "windows-update", "2020-02")
    assert told["found"]["integration_services"] == "6.3.9600.18692"
    assert (told["newest"]["version"], told["newest"]["newer"]) == ("6.3.9600.19456", True)
    assert [one["code"] for one in told["obstacles"]] == ["integration-services-old"]
    (stage,) = [one["command"] for one in told["steps"] if "vhdtool stage" in (one["command"] or "")]
    assert stage == f"vhdtool stage {image} --cab Windows6.2-HyperVIntegrationServices-x64.cab --child updated.vhdx"


def test_where_two_revisions_differ_both_are_told_and_which_is_used():
    image = str(fixture_file("windows-guest.vhdx"))
    told = advice(image, "--host", "2012r2")
    assert [(one["revision"], one["mechanism"], one["used"]) for one in told["cells"]] == [
        ("2019-09", "windows-update", False),
        ("2020-02", "integration-services-disk", True),
    ]
    text = run("advise", image, "--host", "2012r2").text
    assert "Insert Integration Services Setup Disk" in text
    rows = text.partition("What the pages say")[2].splitlines()[3:]
    assert [row.split()[:2] for row in rows] == [["-", "2019-09"], ["yes", "2020-02"]]


def test_what_stands_in_the_way_of_an_older_guest(tmp_path):
    image = image_with(tmp_path, SEVEN, DISABLED)
    before = image.read_bytes()
    told = advice(image, "--host", "2016")
    assert told["guest"] == "Windows 7"
    codes = {one["code"]: one for one in told["obstacles"]}
    assert {"kvp-disabled", "sha2-missing", "integration-services-old"} <= set(codes)
    assert codes["kvp-disabled"]["blocks"] == ["windows-update"]
    assert "KB4474419" in codes["sha2-missing"]["message"]
    assert "6.3.9600.18692" in codes["integration-services-old"]["message"]
    text = run("advise", str(image), "--host", "2016").text
    assert "will never offer" in text
    assert "What stands in the way" in text
    assert image.read_bytes() == before


def test_what_does_not_stand_in_the_way(tmp_path):
    told = advice(image_with(tmp_path, SEVEN, SHA2), "--host", "2016")
    assert {one["code"] for one in told["obstacles"]} & {"kvp-disabled", "sha2-missing"} == set()


def test_the_old_services_of_a_package_give_way_once_mended(tmp_path):
    image = image_with(tmp_path, SEVEN, SHA2, DISABLED)
    (obstacle,) = [one for one in advice(image, "--host", "2016")["obstacles"] if one["code"] == "kvp-disabled"]
    fix = obstacle["fix"].partition(", or")[0].split()
    assert fix[:4] == ["vhdtool", "services", "set", str(image)]
    changed(*fix[1:])
    assert "kvp-disabled" not in {one["code"] for one in advice(image, "--host", "2016")["obstacles"]}


@pytest.mark.parametrize(
    ("guest", "host", "mechanism"),
    [
        ("win7", "2016", "windows-update"),
        ("Windows 7", "Windows 8", "integration-services-disk"),
        ("2022", "azure local", "built-in"),
        ("Debian 12", "win10", "package-manager"),
        ("Windows 8", "2025", None),
    ],
)
def test_a_guest_by_name(guest, host, mechanism):
    told = advice("--guest", guest, "--host", host)
    assert (told["image"], told["found"], told["mechanism"]) == (None, None, mechanism)
    assert told["listed"] == (mechanism is not None)
    assert told["steps"]
    assert run("advise", "--guest", guest, "--host", host).code == 0


def test_linux_by_its_distribution():
    told = " ".join(step["text"] for step in advice("--guest", "ubuntu", "--host", "2016")["steps"])
    assert "linux-cloud-tools-virtual" in told


def test_the_tables():
    result = run("advise", "--matrix", "--json")
    assert result.code == 0
    assert_conforms(result.json, "update-matrix")
    assert [len(table["rows"]) for table in result.json["tables"]] == [14, 19, 16, 13]
    some = run("advise", "--matrix", "--host", "win8", "--json").json
    assert some["host"] == "Windows 8"
    assert [table["hosts"] for table in some["tables"]] == [["Windows 8", "Windows Server 2012"]]
    text = run("advise", "--matrix").text
    assert text.count("Update mechanism") == 4
    assert "2020-02, used" in text
    assert "Footnotes" in text


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--host", "2016"], "guest-missing", "--guest win7"),
        (["--guest", "win7"], "host-missing", "--matrix"),
        ([], "host-missing", "--matrix"),
        (["--guest", "win7", "--host", "beos"], "unknown-host", "Windows Server 2016"),
        (["--guest", "win7", "--host", "2008 R2"], "unknown-host", "Windows Server 2016"),
        (["--guest", "beos", "--host", "2016"], "unknown-guest", "Windows 7"),
        (["--matrix", "--host", "beos"], "unknown-host", "Azure Local"),
        (["--matrix", "--guest", "win7"], "matrix-alone", ""),
        (["any.vhdx", "--matrix"], "matrix-alone", ""),
        (["any.vhdx", "--host", "2016", "--guest", "win7"], "guest-number", ""),
    ],
)
def test_wrong_usage(arguments, code, named):
    result = run("advise", *arguments)
    assert result.code == 2
    assert f"error[{code}]" in result.stderr
    assert named in result.stderr


def test_wrong_host_and_wrong_image_have_a_document_too(tmp_path):
    for image, host, expected in (
        (str(fixture_file("windows-guest.vhdx")), "beos", (2, "unknown-host")),
        (str(mbr_disk(tmp_path / "encrypted.raw", [bitlocker_volume()])), "2016", (4, "encrypted")),
        (str(mbr_disk(tmp_path / "two.raw", [windows_volume(), windows_volume()])), "2016", (2, "ambiguous-guest")),
        (str(tmp_path / "absent.vhdx"), "2016", (3, "cannot-open")),
    ):
        result = run("advise", image, "--host", host, "--json")
        assert (result.code, result.json["error"]["code"]) == expected
        assert_conforms(result.json, "advise")


def test_one_of_two_by_its_place(tmp_path):
    image = mbr_disk(tmp_path / "two.raw", [windows_volume(), windows_volume()])
    assert advice(image, "--host", "2016", "--guest", "1")["found"]["volume"] == 1


def test_a_windows_that_is_not_known(tmp_path):
    image = image_with(tmp_path, f'[{WINDOWS}]\n"CurrentVersion"="5.0"\n"CurrentBuildNumber"="2195"\n')
    result = run("advise", str(image), "--host", "2016")
    assert result.code == 3
    assert "error[guest-not-known]" in result.stderr


def test_help_has_examples():
    text = run("advise", "--help").text
    assert 'vhdtool advise server.vhdx --host "Windows Server 2016"' in text
    assert "--matrix" in text


@pytest.mark.oracle
def test_a_linux(tmp_path):
    told = advice(linux_disk(tmp_path / "linux.raw"), "--host", "2016")
    assert (told["guest"], told["mechanism"], told["newest"]) == ("Linux guests", "package-manager", None)
    assert told["found"]["product"] == "Debian GNU/Linux 12 (bookworm)"
    assert any("daemons" in step["text"] for step in told["steps"])
    assert not any("vhdtool stage" in (step["command"] or "") for step in told["steps"])
