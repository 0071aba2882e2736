"""The ladder of version sources: each alone, each pair in conflict, none at all."""

from __future__ import annotations

import random
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import pytest

from tests.guest.guests import CONFIG, WINDOWS_2012_R2, RegistryData, guest, hive
from tests.package.build_pe import build_pe
from vhdtool.errors import DamagedError
from vhdtool.guest.inspection import integration_version
from vhdtool.guest.integration import LADDER
from vhdtool.guest.model import IntegrationServices
from vhdtool.guest.source import Troubles
from vhdtool.guest.version_driverdb import PACKAGE_VERSION
from vhdtool.layout import packed

Version = tuple[int, int, int, int]
SYSTEM_CLASS = "{4d36e97d-e325-11ce-bfc1-08002be10318}"
HEARTBEAT, STORAGE = "{57164f39-9115-4e78-ab55-382f3bd5422d}", "{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}"
PCI = "{44C4F61D-4444-4400-9D52-802E27EDE19F}"
PACKAGES = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
IC_PACKAGE = "Microsoft-Hyper-V-Integration-Services-Package~31bf3856ad364e35~amd64~~"


@dataclass
class Contents:
    system: dict[str, dict[str, RegistryData]] = field(default_factory=lambda: {"ControlSet001": {}})
    software: dict[str, dict[str, RegistryData]] = field(default_factory=lambda: dict(WINDOWS_2012_R2))
    files: dict[str, bytes] = field(default_factory=dict)

    def read(self) -> IntegrationServices:
        return integration_version(guest(self.system, self.software, self.files))


def random_version() -> Version:
    return 6, random.randrange(4), random.randrange(6000, 10000), random.randrange(16384, 30000)


def text(version: Version) -> str:
    return ".".join(map(str, version))


def package_version(version: Version) -> bytes:
    major, minor, build, revision = version
    guid = uuid.UUID(SYSTEM_CLASS).bytes_le
    return struct.pack("<8s16sQ4H8x", b"\xff\xff\x09", guid, 127953216000000000, revision, build, minor, major)


def with_auto(contents: Contents, version: Version) -> None:
    contents.software[r"Microsoft\Virtual Machine\Auto"] = {"IntegrationServicesVersion": text(version)}


def with_device(contents: Contents, version: Version, path: str = rf"VMBUS\{HEARTBEAT}", number: int = 12) -> None:
    contents.system[rf"ControlSet001\Enum\{path}\5&1ec51bf7&0&{number}"] = {
        "HardwareID": (path,),
        "Driver": rf"{SYSTEM_CLASS}\{number:04d}",
    }
    contents.system[rf"ControlSet001\Control\Class\{SYSTEM_CLASS}\{number:04d}"] = {"DriverVersion": text(version)}


def with_driver(
    contents: Contents,
    version: Version,
    inf: str = "wvmic_heartbeat.inf",
    hardware_id: str = rf"vmbus\{HEARTBEAT.upper()}",
    suffix: str = "amd64_ad33c2d1c7a3023e",
) -> None:
    name = f"{inf}_{suffix}"
    root = "DriverDatabase"
    contents.system.setdefault(rf"{root}\DeviceIds\{hardware_id}", {})[inf] = b"\x01\xff\0\0"
    contents.system[rf"{root}\DriverInfFiles\{inf}"] = {"": (name,), "Active": name}
    contents.system[rf"{root}\DriverPackages\{name}"] = {"Version": package_version(version)}


def with_file(contents: Contents, version: Version, path: str = "System32/icsvc.dll") -> None:
    contents.files[f"Windows/{path}"] = build_pe(version)


def with_package(contents: Contents, version: Version, name: str = IC_PACKAGE, state: int = 0x70) -> None:
    contents.software[rf"{PACKAGES}\{name}{text(version)}"] = {"CurrentState": state}


WRITERS: dict[str, Callable[[Contents, Version], None]] = {
    "auto-value": with_auto,
    "enum-devices": with_device,
    "driver-database": with_driver,
    "file-version": with_file,
    "cbs-packages": with_package,
}


def test_every_source_of_the_ladder_is_tested_here() -> None:
    assert [name for name, _ in LADDER] == list(WRITERS)


@pytest.mark.parametrize("source", WRITERS)
def test_each_source_alone(source: str) -> None:
    contents, version = Contents(), random_version()
    WRITERS[source](contents, version)
    found = contents.read()
    assert (found.version, found.source, found.agreement) == (text(version), source, "single")
    assert [(one.source, one.version) for one in found.evidence] == [(source, text(version))]
    assert found.evidence[0].location


@pytest.mark.parametrize(("first", "second"), list(combinations(WRITERS, 2)))
def test_each_pair_in_conflict(first: str, second: str) -> None:
    contents, one = Contents(), random_version()
    other = (*one[:3], one[3] + 1)
    WRITERS[first](contents, one)
    WRITERS[second](contents, other)
    found = contents.read()
    assert (found.version, found.source, found.agreement) == (text(one), first, "conflict")
    assert [(stated.source, stated.version) for stated in found.evidence] == [(first, text(one)), (second, text(other))]


@pytest.mark.parametrize(("first", "second"), list(combinations(WRITERS, 2)))
def test_each_pair_that_agrees(first: str, second: str) -> None:
    contents, version = Contents(), random_version()
    WRITERS[first](contents, version)
    WRITERS[second](contents, version)
    assert contents.read().agreement == "agree"


def test_all_sources_that_agree_and_one_that_does_not() -> None:
    contents, version = Contents(), random_version()
    for write in WRITERS.values():
        write(contents, version)
    assert contents.read().agreement == "agree"
    with_package(contents, (6, 3, 9600, 31000))
    assert contents.read().agreement == "conflict"


def test_none_at_all() -> None:
    found = Contents().read()
    assert (found.version, found.source, found.agreement, found.evidence) == (None, None, "none", ())


def test_the_lowest_device_decides_and_the_pci_bus_is_not_asked() -> None:
    contents = Contents()
    with_device(contents, (6, 3, 9600, 18692), rf"VMBUS\{HEARTBEAT}", 1)
    with_device(contents, (6, 3, 9600, 17415), r"ACPI\VMBus", 2)
    with_device(contents, (6, 1, 7601, 17514), rf"VMBUS\{PCI}", 3)
    with_device(contents, (6, 2, 9200, 16384), r"ROOT\VMBUS", 4)
    found = contents.read()
    assert found.version == "6.3.9600.17415"
    assert found.evidence[0].location.endswith(rf"{SYSTEM_CLASS}\0002\DriverVersion")
    assert "2 devices" in (found.evidence[0].note or "")


def test_a_device_without_a_driver_says_nothing() -> None:
    contents = Contents()
    contents.system[rf"ControlSet001\Enum\VMBUS\{HEARTBEAT}\1"] = {"HardwareID": (rf"VMBUS\{HEARTBEAT}",)}
    contents.system[rf"ControlSet001\Enum\VMBUS\{STORAGE}\1"] = {"Driver": r"..\..\Select"}
    assert contents.read().version is None


def test_the_lowest_driver_of_the_plain_devices_decides() -> None:
    contents = Contents()
    with_driver(contents, (10, 0, 19041, 1110), "wvmbus.inf", r"ACPI\VMBus", "amd64_a192dbf28b4634a7")
    with_driver(contents, (10, 0, 19041, 1))
    with_driver(contents, (10, 0, 10240, 1), "wvpci.inf", rf"VMBUS\{PCI}")
    found = contents.read()
    assert found.version == "10.0.19041.1"
    assert "wvmic_heartbeat.inf" in found.evidence[0].location


def test_of_the_packages_for_one_device_the_newest_counts_and_a_superseded_one_does_not() -> None:
    contents = Contents()
    with_driver(contents, (6, 2, 9200, 16384), "wvmic.inf", rf"VMBUS\{HEARTBEAT}")
    with_driver(contents, (6, 3, 9600, 18692), "wvmic2.inf", rf"VMBUS\{HEARTBEAT}", "amd64_new")
    old = "wvmic2.inf_amd64_old"
    contents.system[r"DriverDatabase\DriverInfFiles\wvmic2.inf"][""] = (old, "wvmic2.inf_amd64_new")
    contents.system[rf"DriverDatabase\DriverPackages\{old}"] = {"Version": package_version((9, 9, 9, 9))}
    assert contents.read().version == "6.3.9600.18692"


def test_packages_that_the_drivers_hive_keeps_count_too() -> None:
    contents, rest = Contents(), Contents()
    with_driver(contents, (10, 0, 17763, 500))
    with_driver(rest, (10, 0, 17763, 1), "wnetvsc.inf", r"VMBUS\{F8615163-DF3E-46c5-913F-F2D2F965ED0E}")
    contents.files[f"{CONFIG}/DRIVERS"] = hive(rest.system)
    found = contents.read()
    assert found.version == "10.0.17763.1"
    assert found.evidence[0].location.startswith(r"DRIVERS\DriverDatabase\DriverPackages\wnetvsc.inf_")


def test_a_database_of_packages_alone_is_read_by_their_names() -> None:
    contents, version = Contents(), random_version()
    name = "wvmbus.inf_amd64_a192dbf28b4634a7"
    contents.system[rf"DriverDatabase\DriverPackages\{name}"] = {"Version": package_version(version)}
    contents.system[r"DriverDatabase\DriverPackages\wvmbushid.inf_amd64_x"] = {"Version": b"\xff\xff\x09"}
    assert contents.read().version == text(version)


def test_the_package_version_is_unpacked_as_declared() -> None:
    version = random_version()
    data = package_version(version)
    parsed = PACKAGE_VERSION.parse(data)
    assert (parsed.major, parsed.minor, parsed.build, parsed.revision) == version
    assert packed(PACKAGE_VERSION).unpack_from(data)[2:] == version[::-1]


def test_the_oldest_file_decides_and_is_named() -> None:
    contents = Contents()
    with_file(contents, (6, 3, 9600, 18692))
    with_file(contents, (6, 3, 9600, 17415), "System32/drivers/vmbus.sys")
    with_file(contents, (6, 1, 7601, 17514), "System32/vmicsvc.exe")  # left behind by the older package
    (evidence,) = contents.read().evidence
    assert (evidence.version, evidence.location) == ("6.3.9600.17415", "/Windows/System32/drivers/vmbus.sys")
    assert "icsvc.dll 6.3.9600.18692" in (evidence.note or "")


def test_the_service_program_of_older_windows_counts_where_there_is_no_library() -> None:
    contents = Contents()
    with_file(contents, (6, 1, 7601, 17514), "System32/vmicsvc.exe")
    assert contents.read().version == "6.1.7601.17514"


def test_built_in_services_agree_by_build() -> None:
    contents = Contents()
    with_driver(contents, (10, 0, 19041, 1))
    with_file(contents, (10, 0, 19041, 1288))
    guest_package = "HyperV-Guest-DynamicMemory-Package~31bf3856ad364e35~amd64~~"
    with_package(contents, (10, 0, 19041, 964), guest_package)
    found = contents.read()
    assert (found.version, found.agreement) == ("10.0.19041.1", "agree")
    with_file(contents, (10, 0, 17763, 1288))
    assert contents.read().agreement == "conflict"


@pytest.mark.parametrize("state", [0x0, 0x5, 0x40, 0x50, 0x60, 0x65])
def test_a_package_that_is_not_installed_says_nothing(state: int) -> None:
    contents = Contents()
    with_package(contents, random_version(), state=state)
    assert contents.read().version is None


def test_the_newest_installed_package_counts_before_the_built_in_one() -> None:
    contents = Contents()
    with_package(contents, (6, 3, 9600, 16384), "Microsoft-Hyper-V-Guest-Integration-Drivers-Package~x~amd64~~")
    with_package(contents, (6, 3, 9600, 17831))
    with_package(contents, (6, 3, 9600, 18692))
    with_package(contents, (6, 3, 9600, 18907), state=0x50)
    assert contents.read().version == "6.3.9600.18692"


def test_a_source_that_is_damaged_is_silent_while_another_tells() -> None:
    contents = Contents()
    with_auto(contents, (6, 3, 9600, 18692))
    contents.files["Windows/System32/icsvc.dll"] = b"MZ" + bytes(500)
    troubles = Troubles()
    found = integration_version(guest(contents.system, contents.software, contents.files), troubles)
    assert found.version == "6.3.9600.18692"
    assert [trouble.what for trouble in troubles.found] == ["the version source file-version"]


def test_unknown_is_not_said_where_a_source_could_not_be_read() -> None:
    error = DamagedError("index-damaged", "a run of the file is broken")
    with pytest.raises(DamagedError, match="a run of the file is broken"):
        integration_version(guest({"ControlSet001": {}}, files={"Windows/System32/icsvc.dll": error}))


@pytest.mark.parametrize("written", ["", "unknown", "6.3", "6.3.9600.18692 (winblue)", "-1.2.3.4"])
def test_a_value_that_is_no_version_says_nothing(written: str) -> None:
    contents = Contents()
    contents.software[r"Microsoft\Virtual Machine\Auto"] = {"IntegrationServicesVersion": written}
    found = contents.read()
    assert found.version == ("6.3.0.0" if written == "6.3" else None)
