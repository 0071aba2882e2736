"""Real SYSTEM hives: what we say of each service against python-registry, and the versions known of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from Registry import Registry

from tests.data_files import data_file
from tests.guest.fake_filesystem import FakeFilesystem
from tests.guest.guests import CONFIG
from vhdtool.guest.inspection import inspect_windows, integration_version, list_services
from vhdtool.guest.model import Service
from vhdtool.guest.source import GuestVolume, WindowsInstallation
from vhdtool.guest.windows import find_windows

pytestmark = pytest.mark.data

WINDOWS_10_2004 = "hives/fox-it__dissect.regf/SYSTEM.gz"
WINDOWS_7 = "hives/mkorman90__regipy/SYSTEM.xz"
WINDOWS_XP = "hives/log2timeline__dfwinreg/SYSTEM.xz"
SOFTWARE_7 = "hives/libguestfs__libguestfs/windows-software"


def installed(system: str, software: str | None = None) -> tuple[WindowsInstallation, FakeFilesystem, Path]:
    path = data_file(system)
    files = {f"{CONFIG}/SYSTEM": path.read_bytes()}
    if software:
        files[f"{CONFIG}/SOFTWARE"] = data_file(software).read_bytes()
    filesystem = FakeFilesystem(files)
    (installation,) = find_windows([GuestVolume(0, filesystem)])
    return installation, filesystem, path


def python_registry_starts(path: Path) -> dict[str, tuple[int | None, int | None]]:
    """Start and the override of hardware configuration 0, by service."""
    services = Registry.Registry(str(path)).open(r"ControlSet001\Services")

    def value(key: Registry.RegistryKey, name: str) -> int | None:
        return next((found.value() for found in key.values() if found.name() == name), None)

    found = {}
    for key in services.subkeys():
        override = next((below for below in key.subkeys() if below.name() == "StartOverride"), None)
        found[key.name()] = (value(key, "Start"), None if override is None else value(override, "0"))
    return found


@pytest.mark.parametrize("system", [WINDOWS_10_2004, WINDOWS_7, WINDOWS_XP])
def test_every_service_starts_as_python_registry_reads_it(system: str) -> None:
    installation, _, path = installed(system)
    services, drivers, every = list_services(installation, all_services=True)
    theirs = python_registry_starts(path)
    assert every is not None
    assert len(every) > 200
    assert len({row.name for row in every}) == len(every)
    for row in (*every, *(row for row in (*services, *drivers) if row.start_value is not None)):
        assert (row.start_value, row.start_override) == theirs[row.name], row.name
    # the keys that we leave out describe no service
    left_out = theirs.keys() - {row.name for row in every}
    assert all(theirs[name][0] is None for name in left_out)


def by_name(rows: tuple[Service, ...]) -> dict[str, Service]:
    return {row.name: row for row in rows}


def test_windows_10() -> None:
    installation, filesystem, _ = installed(WINDOWS_10_2004)
    found = inspect_windows(installation)
    # wvmbus is at 10.0.19041.1110, the packages of the services at 10.0.19041.1; the lowest counts
    assert found.integration_services.version == "10.0.19041.1"
    assert found.integration_services.source == "driver-database"
    assert (found.os.architecture, found.os.install_state, found.os.control_set) == ("amd64", "complete", 1)
    assert found.os.fast_startup is True
    services, drivers = by_name(found.services), by_name(found.drivers)
    assert {row.start for row in services.values()} == {"manual"}
    assert all(row.trigger_start for row in services.values())
    for name in ("vmbus", "storvsc", "storflt", "bttflt", "vpci"):
        assert (drivers[name].start, drivers[name].start_override, drivers[name].status) == ("boot", 3, "overridden")
    assert drivers["vmbus"].display_name == "Virtual Machine Bus"
    assert drivers["hvcrash"].effective_start == "disabled"
    assert sum(filesystem.bytes_read.values()) < 1 << 20


def test_the_version_costs_little_reading() -> None:
    installation, filesystem, _ = installed(WINDOWS_10_2004)
    assert integration_version(installation).version == "10.0.19041.1"
    assert sum(filesystem.bytes_read.values()) < 256 << 10


def test_windows_7_before_it_met_hyper_v() -> None:
    installation, _, _ = installed(WINDOWS_7, SOFTWARE_7)
    found = inspect_windows(installation)
    assert found.integration_services.agreement == "none"
    assert (found.os.architecture, found.os.install_state, found.os.fast_startup) == ("x86", "complete", None)
    services, drivers = by_name(found.services), by_name(found.drivers)
    assert services["vmicheartbeat"].status == "missing"
    assert services["vmicguestinterface"].status == "not-offered"
    assert (drivers["storvsc"].start, drivers["storvsc"].status) == ("manual", "ok")
    assert (drivers["vmbus"].start, drivers["vmbus"].status) == ("boot", "ok")
    assert "integration-services-not-installed" in {finding.code for finding in found.findings}


def test_windows_xp() -> None:
    installation, _, _ = installed(WINDOWS_XP)
    found = inspect_windows(installation)
    assert (found.os.architecture, found.os.install_state, found.os.control_set) == ("x86", "complete", 1)
    assert {row.status for row in (*found.services, *found.drivers)} == {"unknown"}
