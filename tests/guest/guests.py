"""Guests in memory: hives from flat descriptions, files beside them, and the installation found on them."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.fixtures.hive_files import hive_bytes
from scripts.fixtures.server_2012_r2 import REG_BINARY, REG_DWORD, REG_MULTI_SZ, REG_SZ, Data
from tests.guest.fake_filesystem import FakeFilesystem
from vhdtool.errors import VhdtoolError
from vhdtool.guest.source import GuestVolume, WindowsInstallation
from vhdtool.guest.windows import find_windows

RegistryData = int | str | bytes | tuple[str, ...]
Keys = Mapping[str, Mapping[str, RegistryData]]
"""Values by name, by the key's path from the root of the hive; keys between are made as needed."""

CONFIG = "Windows/System32/config"
CURRENT_VERSION = r"Microsoft\Windows NT\CurrentVersion"
SELECT: Keys = {"Select": {"Current": 1, "Default": 1, "Failed": 0, "LastKnownGood": 1}}

WINDOWS_7: Keys = {
    CURRENT_VERSION: {
        "ProductName": "Windows 7 Enterprise",
        "CurrentVersion": "6.1",
        "CurrentBuild": "7601",
        "CurrentBuildNumber": "7601",
        "EditionID": "Enterprise",
        "InstallationType": "Client",
    }
}
WINDOWS_2012_R2: Keys = {
    CURRENT_VERSION: {
        "ProductName": "Windows Server 2012 R2 Standard",
        "CurrentVersion": "6.3",
        "CurrentBuild": "9600",
        "CurrentBuildNumber": "9600",
        "EditionID": "ServerStandard",
        "InstallationType": "Server",
        "BuildLabEx": "9600.17415.amd64fre.winblue_r4.141028-1500",
    }
}
WINDOWS_11: Keys = {
    CURRENT_VERSION: {
        "ProductName": "Windows 10 Pro",
        "CurrentVersion": "6.3",
        "CurrentMajorVersionNumber": 10,
        "CurrentMinorVersionNumber": 0,
        "CurrentBuild": "22631",
        "CurrentBuildNumber": "22631",
        "UBR": 3737,
        "EditionID": "Professional",
        "InstallationType": "Client",
    }
}


def hive(keys: Keys) -> bytes:
    return hive_bytes(
        {path: {name: _data(value) for name, value in values.items()} for path, values in keys.items()}, "X"
    )


def _data(value: RegistryData) -> Data:
    kinds = {int: REG_DWORD, str: REG_SZ, bytes: REG_BINARY, tuple: REG_MULTI_SZ}
    return Data(kinds[type(value)], value)


def guest(
    system: Keys | bytes | None = None,
    software: Keys | bytes | None = None,
    files: Mapping[str, bytes | VhdtoolError] | None = None,
) -> WindowsInstallation:
    """A Windows in ``/Windows``. ``system`` gets a Select key of its own; ``files`` are paths from the root."""
    content: dict[str, bytes | VhdtoolError] = dict(files or {})
    content[f"{CONFIG}/SYSTEM"] = system if isinstance(system, bytes) else hive({**SELECT, **(system or {})})
    content[f"{CONFIG}/SOFTWARE"] = software if isinstance(software, bytes) else hive(software or WINDOWS_2012_R2)
    (found,) = find_windows([GuestVolume(2, FakeFilesystem(content))])
    return found
