from __future__ import annotations

import pytest

from tests.guest.fake_filesystem import FakeFilesystem
from tests.guest.guests import CONFIG, SELECT, WINDOWS_7, WINDOWS_11, WINDOWS_2012_R2, Keys, guest, hive
from vhdtool.errors import DamagedError, NotFoundError
from vhdtool.guest.control_set import current_control_set
from vhdtool.guest.source import GuestVolume
from vhdtool.guest.windows import find_windows, read_architecture, read_identity

SYSTEM, SOFTWARE = hive(SELECT), hive(WINDOWS_7)


def roots(*filesystems: FakeFilesystem) -> list[tuple[int, str]]:
    found = find_windows([GuestVolume(index, filesystem) for index, filesystem in enumerate(filesystems)])
    return [(installation.volume_index, installation.root) for installation in found]


def test_installations_are_found_on_every_volume_and_under_any_name() -> None:
    first = FakeFilesystem(
        {
            "WINNT/system32/config/system": SYSTEM,
            "Zweites/System32/Config/SYSTEM": SYSTEM,
            "windows/SYSTEM32/CONFIG/SOFTWARE": SOFTWARE,
            "Data/readme.txt": b"",
        }
    )
    second = FakeFilesystem({"Users/x/file": b""})
    third = FakeFilesystem({f"{CONFIG}/SYSTEM": SYSTEM, f"{CONFIG}/SOFTWARE": SOFTWARE})
    assert roots(first, second, third) == [(0, "/windows"), (0, "/WINNT"), (0, "/Zweites"), (2, "/Windows")]


def test_what_is_no_installation_is_not_found() -> None:
    replaced = FakeFilesystem({"Windows.old/Windows/System32/config/SYSTEM": SYSTEM})
    recovery = FakeFilesystem({"$Recycle.Bin/System32/config/SYSTEM": SYSTEM})
    directory = FakeFilesystem({f"{CONFIG}/SYSTEM/file": b""})
    assert roots(replaced, recovery, directory) == []


class BrokenRoot(FakeFilesystem):
    def stat(self, path: str) -> None:
        raise DamagedError("index-damaged", "the root is broken")


def test_a_broken_volume_hides_no_other_but_is_not_silent_where_nothing_is_found() -> None:
    whole = FakeFilesystem({f"{CONFIG}/SYSTEM": SYSTEM})
    assert roots(BrokenRoot({}), whole) == [(1, "/Windows")]
    with pytest.raises(DamagedError, match="the root is broken"):
        roots(BrokenRoot({}), FakeFilesystem({}))


@pytest.mark.parametrize(
    ("software", "product", "version", "edition"),
    [
        (WINDOWS_7, "Windows 7 Enterprise", "6.1.7601", "Enterprise"),
        (WINDOWS_2012_R2, "Windows Server 2012 R2 Standard", "6.3.9600", "ServerStandard"),
        (WINDOWS_11, "Windows 11 Pro", "10.0.22631", "Professional"),
    ],
)
def test_identity(software: Keys, product: str, version: str, edition: str) -> None:
    identity = read_identity(guest(software=software).hive("SOFTWARE"))
    assert (identity.product, identity.version, identity.edition) == (product, version, edition)


def test_a_server_of_a_windows_11_build_keeps_its_name() -> None:
    key, values = next(iter(WINDOWS_11.items()))
    software = {key: {**values, "ProductName": "Windows Server 2025 Standard", "InstallationType": "Server"}}
    assert read_identity(guest(software=software).hive("SOFTWARE")).product == "Windows Server 2025 Standard"


def test_an_identity_of_wrong_types_is_unknown() -> None:
    software: Keys = {next(iter(WINDOWS_7)): {"ProductName": 7, "CurrentVersion": "six", "CurrentBuild": "7601x"}}
    identity = read_identity(guest(software=software).hive("SOFTWARE"))
    assert (identity.product, identity.version, identity.edition) == (None, None, None)
    assert read_identity(guest(software={"Other": {}}).hive("SOFTWARE")).version is None


@pytest.mark.parametrize(
    ("environment", "software", "files", "expected"),
    [
        ({"PROCESSOR_ARCHITECTURE": "ARM64"}, WINDOWS_2012_R2, {}, "arm64"),
        ({"PROCESSOR_ARCHITECTURE": "x86"}, WINDOWS_2012_R2, {}, "x86"),
        ({}, WINDOWS_2012_R2, {}, "amd64"),
        ({}, WINDOWS_7, {"Windows/SysWOW64/ntdll.dll": b""}, "amd64"),
        ({"PROCESSOR_ARCHITECTURE": "PDP11"}, WINDOWS_7, {}, None),
    ],
)
def test_architecture(
    environment: dict[str, str], software: Keys, files: dict[str, bytes], expected: str | None
) -> None:
    installation = guest({r"ControlSet001\Control\Session Manager\Environment": environment}, software, files)
    control_set = current_control_set(installation.hive("SYSTEM"))
    assert read_architecture(installation, read_identity(installation.hive("SOFTWARE")), control_set) == expected


def test_a_hive_is_opened_once_and_an_absent_one_is_named() -> None:
    installation = guest()
    assert installation.hive("system") is installation.hive("SYSTEM")
    assert installation.optional_hive("DRIVERS") is None
    with pytest.raises(NotFoundError) as caught:
        installation.hive("DRIVERS")
    assert caught.value.code == "no-such-hive"
    assert [fact.path for fact in installation.hives()] == [f"/{CONFIG}/SYSTEM"]
