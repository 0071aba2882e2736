from __future__ import annotations

from typing import get_args

import pytest

from vhdtool.guest.model import START_NAMES, InstallState
from vhdtool.knowledge.integration import (
    integration_devices,
    integration_drivers,
    integration_services,
    parse_version,
    version_files,
    version_packages,
)
from vhdtool.knowledge.windows_servicing import image_states, installed_states, pending_marks

# Get-Service -Name vm* in Microsoft, "Manage Hyper-V Integration Services"
DOCUMENTED_SERVICES = {
    "vmicguestinterface": "Hyper-V Guest Service Interface",
    "vmicheartbeat": "Hyper-V Heartbeat Service",
    "vmickvpexchange": "Hyper-V Data Exchange Service",
    "vmicrdv": "Hyper-V Remote Desktop Virtualizati",
    "vmicshutdown": "Hyper-V Guest Shutdown Service",
    "vmictimesync": "Hyper-V Time Synchronization Service",
    "vmicvmsession": None,  # named differently by each release
    "vmicvss": "Hyper-V Volume Shadow Copy Requestor",
}


def test_the_services_are_those_that_the_vendor_lists() -> None:
    ours = {row.name: row.display_name for row in integration_services()}
    assert ours.keys() == DOCUMENTED_SERVICES.keys()
    for name, told in DOCUMENTED_SERVICES.items():
        assert told is None or (ours[name] or "").startswith(told)


def test_every_row_names_its_source() -> None:
    rows = (
        *integration_services(),
        *integration_drivers(),
        *integration_devices(),
        *version_files(),
        *version_packages(),
        *pending_marks(),
    )
    assert all(len(row.source) > 8 for row in rows)


def test_names_and_ids_occur_once() -> None:
    for names in (
        [row.name for row in (*integration_services(), *integration_drivers())],
        [row.hardware_id.lower() for row in integration_devices()],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("row", [*integration_services(), *integration_drivers()], ids=lambda row: row.name)
@pytest.mark.parametrize("windows", ["6.0.6002", "6.1.7601", "6.2.9200", "6.3.9600", "10.0.14393", "10.0.26100"])
def test_every_windows_has_one_expectation(row: object, windows: str) -> None:
    for with_package in (False, True):
        expected = row.expected(parse_version(windows), with_package=with_package)  # type: ignore[attr-defined]
        assert expected is not None
        assert expected.start in START_NAMES


@pytest.mark.parametrize(
    ("name", "windows", "with_package", "start"),
    [
        # AddService sections of the INF files, and SYSTEM hives of the versions
        ("vmicheartbeat", "6.1.7601", True, "auto"),
        ("vmicheartbeat", "6.2.9200", False, "manual"),
        ("vmicheartbeat", "10.0.19045", False, "manual"),
        ("storvsc", "6.1.7601", False, "manual"),
        ("storvsc", "6.1.7601", True, "boot"),
        ("storvsc", "6.3.9600", False, "boot"),
        ("vmbus", "6.1.7601", False, "boot"),
        ("netvsc", "10.0.19041", False, "manual"),
        ("vpci", "10.0.18362", False, "manual"),
        ("vpci", "10.0.19041", False, "boot"),
        ("hvcrash", "10.0.19041", False, "disabled"),
    ],
)
def test_expected_starts(name: str, windows: str, with_package: bool, start: str) -> None:
    row = next(row for row in (*integration_services(), *integration_drivers()) if row.name == name)
    expected = row.expected(parse_version(windows), with_package=with_package)
    assert expected is not None
    assert expected.start == start


def test_nothing_is_expected_of_an_unknown_windows() -> None:
    assert integration_services()[0].expected(None, with_package=False) is None


def test_states_are_those_of_the_result_document() -> None:
    assert set(image_states().values()) <= set(get_args(InstallState))
    assert installed_states() == {0x70: "installed", 0x80: "permanent"}
    assert {mark.presence for mark in pending_marks()} == {"key", "children", "value"}
    assert all((mark.value is not None) == (mark.presence == "value") for mark in pending_marks())
