r"""The version by the drivers that would bind: ``DriverDatabase``, since Windows 8.

The database maps hardware ids to INF files (``DeviceIds``), INF files to packages (``DriverInfFiles``, the one in use
in ``Active``) and packages to versions (``DriverPackages``). The lowest version over the devices that every machine
on Hyper-V has is what the guest would compute there, so this tells the version also of an image that never ran on
Hyper-V. The SYSTEM hive has the packages needed to start, the DRIVERS hive the rest.
Checked on SYSTEM hives of Windows 8.1, 10 1709, 1903 and 2004.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from construct import Bytes, Int16ul, Int64ul, Padding, Struct

from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import binary, text, texts, whole_text
from vhdtool.guest.version import StatedVersion, VersionNumbers
from vhdtool.knowledge.integration import IntegrationDevice, integration_devices
from vhdtool.layout import packed
from vhdtool.registry.hive import Hive, Key

SOURCE = "driver-database"
HIVES = ("SYSTEM", "DRIVERS")

PACKAGE_VERSION = Struct(
    "architecture" / Padding(8),
    "class_guid" / Bytes(16),
    "date" / Int64ul,
    "revision" / Int16ul,
    "build" / Int16ul,
    "minor" / Int16ul,
    "major" / Int16ul,
)
"""The value ``Version`` of a package; 8 more bytes follow. Worked out from hives of Windows 8.1 and 10."""

MAX_INFS = 64
MAX_PACKAGES = 64
MAX_LISTED = 8192

_PACKAGE_VERSION = packed(PACKAGE_VERSION)


@dataclass(frozen=True, slots=True, order=True)
class _Package:
    numbers: VersionNumbers
    location: str
    device: str


def stated_version(installation: WindowsInstallation, control_set: ControlSet | None) -> StatedVersion | None:
    """The lowest package version over the devices of a machine on Hyper-V."""
    best: dict[str, _Package] = {}
    for database in _databases(installation):
        for device in integration_devices():
            if not device.counts:
                continue
            found = max(database.packages(device), default=None)
            known = best.get(device.hardware_id)
            if found is not None and (known is None or found > known):
                best[device.hardware_id] = found
    if not best:
        return None
    lowest = min(best.values(), key=lambda package: package.numbers)
    note = f"lowest of {len(best)} devices, {lowest.device}"
    return StatedVersion(SOURCE, lowest.numbers, rf"{lowest.location}\Version", note)


def _databases(installation: WindowsInstallation) -> Iterator[_Database]:
    for name in HIVES:
        hive = installation.optional_hive(name)
        root = None if hive is None else hive.key("DriverDatabase")
        if hive is None or root is None:
            return  # without the part in SYSTEM, this Windows keeps no such database
        yield _Database(name, hive, root)


class _Database:
    def __init__(self, hive_name: str, hive: Hive, root: Key) -> None:
        self._name = hive_name
        self._hive = hive
        self._root = root
        self._ids = root.subkey("DeviceIds")
        self._infs = root.subkey("DriverInfFiles")
        self._packages = root.subkey("DriverPackages")

    def packages(self, device: IntegrationDevice) -> Iterator[_Package]:
        """The packages in use that bind to the device."""
        for inf in self._inf_names(device):
            for name in self._package_names(inf):
                key = None if self._packages is None else self._packages.subkey(name)
                data = binary(key, "Version") or b""
                if len(data) >= _PACKAGE_VERSION.size:
                    _, _, revision, build, minor, major = _PACKAGE_VERSION.unpack_from(data)
                    location = rf"{self._name}\DriverDatabase\DriverPackages\{name}"
                    yield _Package((major, minor, build, revision), location, device.hardware_id)

    def _inf_names(self, device: IntegrationDevice) -> Iterable[str]:
        if self._ids is None:
            return device.packages
        key: Key | None = self._ids
        for part in device.hardware_id.split("\\"):
            key = None if key is None else key.subkey(part)
        return () if key is None else [whole_text(value.name) for value in islice(key.values(), MAX_INFS) if value.name]

    def _package_names(self, inf: str) -> Iterable[str]:
        if self._infs is None:
            # every package is named after its INF file: wvmbus.inf_amd64_a192dbf28b4634a7
            listed = islice(() if self._packages is None else self._packages.subkeys(), MAX_LISTED)
            return [whole_text(key.name) for key in listed if key.name.lower().startswith(f"{inf.lower()}_")]
        key = self._infs.subkey(inf)
        active = text(key, "Active")
        return (active,) if active else texts(key, "")[:MAX_PACKAGES]
