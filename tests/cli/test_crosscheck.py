"""``vhdtool crosscheck``: machines made by the tests against the fixtures' guest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.changing import changed, digests
from tests.cli.harness import run
from tests.data_files import data_file
from tests.fixtures import fixture_file
from tests.host.machines import DATA_EXCHANGE, GUEST_INTERFACE, VSS, machine, place_machine
from tests.report.conformity import assert_conforms

GUEST = "windows-guest.vhdx"
ON_HOST = rf"C:\ClusterStorage\web\Virtual Hard Disks\{GUEST}"


def checked(*arguments: str | Path, code: int = 0) -> Any:
    result = run("crosscheck", *map(str, arguments), "--json")
    assert result.code == code, (result.code, result.stderr)
    assert_conforms(result.json, "crosscheck")
    return result.json


def outcomes(document: Any) -> dict[str, str]:
    return {row["guest_name"]: row["outcome"] for row in document["services"]}


@pytest.fixture
def disk(tmp_path) -> Path:
    """The fixture's disk where an exported machine has it, below the folder of the test."""
    folder = tmp_path / "Virtual Hard Disks"
    folder.mkdir()
    return Path(shutil.copy2(fixture_file(GUEST), folder / GUEST))


@pytest.mark.parametrize("form", ["vmcx", "xml"])
def test_both_sides_fit(tmp_path, disk, form):
    config = place_machine(tmp_path, machine(ON_HOST), form)
    before = digests(tmp_path / "Virtual Machines") | digests(disk.parent)
    document = checked(disk, "--vm", config)
    assert (document["vm"]["format"], document["vm"]["name"], document["vm"]["generation"]) == (form, "Büro's VM", 2)
    assert (document["guest"], document["os"]["version"], document["findings"]) == (0, "6.3.9600", [])
    assert document["vm"]["disks"][0] | {"found": None} == {
        "controller": "SCSI",
        "controller_number": 0,
        "location": 0,
        "type": "VHD",
        "path": ON_HOST,
        "found": None,
    }
    assert Path(document["vm"]["disks"][0]["found"]).samefile(disk)
    assert outcomes(document) == {
        "vmicheartbeat": "runs",
        "vmickvpexchange": "runs",
        "vmicshutdown": "runs",
        "vmictimesync": "runs",
        "vmicvss": "runs",
        "vmicguestinterface": "stopped-by-host",
        "vmicrdv": "runs",
        "vmicvmsession": "not-applicable",
    }
    assert digests(tmp_path / "Virtual Machines") | digests(disk.parent) == before


def test_the_image_is_found_through_the_machine(tmp_path, disk):
    config = place_machine(tmp_path, machine(ON_HOST))
    document = checked("--vm", config)
    assert Path(document["image"]["path"]).samefile(disk)
    assert outcomes(document) == outcomes(checked(disk, "--vm", config))


def test_of_several_disks_the_one_with_a_guest_is_taken(tmp_path, disk):
    made = run("disk", "create", str(disk.with_name("data.vhdx")), "--size", "64M")
    assert made.code == 0, made.stderr
    disk.with_name("text.vhdx").write_bytes(b"no disk")
    tree = machine(r"C:\a\gone.vhdx", r"C:\a\text.vhdx", r"C:\a\data.vhdx", ON_HOST)
    document = checked("--vm", place_machine(tmp_path, tree))
    assert Path(document["image"]["path"]).samefile(disk)
    assert [one["found"] is None for one in document["vm"]["disks"]] == [True, False, False, False]


@pytest.mark.parametrize(("name", "code"), [("text.vhdx", "vhdx-signature-damaged"), ("data.vhdx", "no-guest")])
def test_disks_without_a_guest(tmp_path, disk, name, code):
    assert run("disk", "create", str(disk.with_name("data.vhdx")), "--size", "64M").code == 0
    disk.with_name("text.vhdx").write_bytes(b"no disk")
    config = place_machine(tmp_path, machine(rf"C:\a\{name}"))
    for arguments in ([], [str(disk.with_name(name))]):
        failed = run("crosscheck", *arguments, "--vm", str(config), "--json")
        assert (failed.code, failed.json["error"]["code"]) == (3, code)


def test_no_disk_is_found_and_every_place_is_told(tmp_path):
    config = place_machine(tmp_path, machine(r"D:\vm\server.vhdx"))
    failed = run("crosscheck", "--vm", str(config), "--json")
    assert (failed.code, failed.json["error"]["code"]) == (3, "vm-disk-not-found")
    assert_conforms(failed.json, "crosscheck")
    assert failed.json["image"]["path"] == str(config)
    assert r"D:\vm\server.vhdx" in failed.json["error"]["message"]
    assert str(tmp_path / "Virtual Hard Disks" / "server.vhdx") in failed.json["error"]["message"]
    bare = run("crosscheck", "--vm", str(place_machine(tmp_path, machine())), "--json")
    assert (bare.code, bare.json["error"]["code"]) == (3, "vm-disk-not-found")


def test_mismatches_end_1_with_their_fixes(tmp_path, disk):
    child = disk.with_name("changed.vhdx")
    changed("services", "set", disk, "vmicheartbeat=disabled", "vmicvss=disabled", "--child", child)
    config = place_machine(
        tmp_path, machine(rf"C:\vm\{child.name}", off=(VSS, DATA_EXCHANGE), on=(GUEST_INTERFACE,), name="web")
    )
    document = checked(child, "--vm", config, code=1)
    found = {row["guest_name"]: row for row in document["services"]}
    assert {name: (row["outcome"], row["severity"]) for name, row in found.items()} == {
        "vmicheartbeat": ("cannot-start", "medium"),
        "vmickvpexchange": ("stopped-by-host", "medium"),
        "vmicshutdown": ("runs", None),
        "vmictimesync": ("runs", None),
        "vmicvss": ("off", None),
        "vmicguestinterface": ("runs", None),
        "vmicrdv": ("runs", None),
        "vmicvmsession": ("not-applicable", None),
    }
    text = run("crosscheck", str(child), "--vm", str(config))
    assert text.code == 1
    assert "can't be started by the host" in text.text
    assert "stopped by the host" in text.text
    assert "vhdtool services set IMAGE vmicheartbeat=manual --child NEW" in text.text
    assert f"Where-Object Id -like '*{DATA_EXCHANGE}' | Enable-VMIntegrationService" in text.text
    fixed = disk.with_name("fixed.vhdx")
    changed("services", "set", child, "vmicheartbeat=manual", "--child", fixed)
    again = place_machine(tmp_path, machine(rf"C:\vm\{fixed.name}"))
    assert outcomes(checked(fixed, "--vm", again, code=1))["vmicheartbeat"] == "runs"
    assert outcomes(checked(fixed, "--vm", again, code=1))["vmicvss"] == "cannot-start"


def test_the_state_of_the_machine_is_told(tmp_path, disk):
    config = place_machine(tmp_path, machine(ON_HOST), saved=True)
    document = checked(disk, "--vm", config)
    assert document["vm"]["saved_state"] == "yes"
    assert [one["code"] for one in document["findings"]] == ["vm-saved-state"]
    config = place_machine(tmp_path, machine(rf"C:\vm\{GUEST}", checkpoints=2))
    document = checked(disk, "--vm", config)
    assert (document["vm"]["checkpoints"], [one["code"] for one in document["findings"]]) == (2, ["vm-has-checkpoints"])
    assert "Remove-VMCheckpoint" in run("crosscheck", str(disk), "--vm", str(config)).text


def test_an_image_of_another_machine_is_told(tmp_path, disk):
    config = place_machine(tmp_path, machine(r"C:\vm\other.vhdx"))
    assert [one["code"] for one in checked(disk, "--vm", config)["findings"]] == ["vm-disk-not-attached"]


def test_files_that_are_no_configuration(tmp_path, disk):
    config = place_machine(tmp_path, machine(ON_HOST))
    runtime = run("crosscheck", str(disk), "--vm", str(config.with_suffix(".VMRS")), "--json")
    assert (runtime.code, runtime.json["error"]["code"]) == (3, "vm-config-runtime")
    assert str(config) in runtime.json["error"]["hint"]
    swapped = run("crosscheck", str(config), "--vm", str(disk), "--json")
    assert (swapped.code, swapped.json["error"]["code"]) == (3, "not-a-vm-config")
    config.write_bytes(config.read_bytes()[:0x3100])
    damaged = run("crosscheck", str(disk), "--vm", str(config), "--json")
    assert (damaged.code, damaged.json["error"]["code"]) == (3, "truncated")


def test_usage(tmp_path, disk):
    assert run("crosscheck", str(disk)).code == 2
    config = place_machine(tmp_path, machine(ON_HOST))
    assert run("crosscheck", "--vm", str(config), "--parent", str(disk)).code == 2
    assert run("crosscheck", str(disk), "--vm", str(config), "--guest", "3").code == 2
    over = run("crosscheck", str(disk), "--vm", str(config), "-o", f"json={config}")
    assert (over.code, "output-is-input" in over.stderr) == (2, True)
    shown = run("crosscheck", "--help").text
    assert "Example" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.data
def test_the_real_machine(disk):
    config = data_file("vmconfig/fox-it__dissect.hypervisor/test.vmcx")
    document = checked(disk, "--vm", config)
    assert (document["vm"]["name"], document["vm"]["generation"]) == ("Other Location", 1)
    assert outcomes(document)["vmicguestinterface"] == "stopped-by-host"
    assert {row["host"] for row in document["services"] if row["guest_name"] != "vmicvmsession"} == {"on", "off"}
    text = run("crosscheck", str(disk), "--vm", str(config)).text
    assert r"IDE 0:0      C:\Users\Public\Documents\Hyper-V\Virtual Hard Disks\Other Location.vhdx" in text
    header = next(line for line in text.splitlines() if line.startswith("VMName"))
    assert header.split() == ["VMName", "Name", "Enabled", "Guest", "Start", "Status", "AtNextStart"]
