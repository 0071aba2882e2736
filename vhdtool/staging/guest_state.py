r"""What staging must know of a guest, read once: which Windows, in what state, with which packages and drivers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from construct import Bytes, Padding, Struct

from vhdtool.guest.control_set import ControlSet, required_control_set
from vhdtool.guest.install_state import install_state, read_image_state, read_setup
from vhdtool.guest.integration import read_version
from vhdtool.guest.model import HiveFact, InstallState, IntegrationServices
from vhdtool.guest.pending import PendingWork, read_pending
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.values import binary, number, text, texts, whole_text
from vhdtool.guest.version_cbs import KEY as PACKAGES_KEY
from vhdtool.guest.version_driverdb import HIVES, MAX_LISTED, MAX_PACKAGES, PACKAGE_VERSION
from vhdtool.guest.windows import (
    CURRENT_VERSION,
    Architecture,
    WindowsIdentity,
    fast_startup,
    read_architecture,
    read_identity,
)
from vhdtool.knowledge.windows_servicing import installed_states
from vhdtool.layout import packed
from vhdtool.package.identity import AssemblyIdentity, AssemblyVersion, parse_assembly_version
from vhdtool.registry.hive import Hive, Key

KVP_SERVICE = "vmickvpexchange"
DISABLED = 4
NAME_PARTS = 5
OEM_MARK = "OEM"
PRODUCT_ID = Struct(Padding(1016), "channel" / Bytes(128))
"""``DigitalProductId4``: the key's channel (``OEM:DM``, ``Retail``, ``Volume:GVLK``) as UTF-16. Layout: slc.h's
DIGITALPRODUCTID4, as key readers have it."""
_PACKAGE_VERSION = packed(PACKAGE_VERSION)


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package that the guest's servicing lists. ``state`` is its CurrentState; ``location`` where it was read."""

    name: str
    version: AssemblyVersion
    state: int | None
    location: str

    @property
    def installed(self) -> bool:
        """Whether it is in use."""
        return self.state in installed_states()


class GuestState:
    """A guest as staging sees it. Raises what opening the SYSTEM and SOFTWARE hives raises, and ``no-control-set``."""

    def __init__(self, installation: WindowsInstallation) -> None:
        self.installation = installation
        self.system: Hive = installation.hive("SYSTEM")
        self.software: Hive = installation.hive("SOFTWARE")
        self.control_set: ControlSet = required_control_set(self.system)
        self.identity: WindowsIdentity = read_identity(self.software)
        self.architecture: Architecture | None = read_architecture(installation, self.identity, self.control_set)
        self.install_state: InstallState = install_state(
            read_image_state(installation, self.software), read_setup(self.system)
        )
        self.pending: tuple[PendingWork, ...] = read_pending(installation, self.software, self.control_set)
        self.fast_startup: bool | None = fast_startup(self.control_set)

    @property
    def numbers(self) -> tuple[int, int, int] | None:
        """major, minor, build of this Windows."""
        return self.identity.numbers

    @property
    def hives(self) -> tuple[HiveFact, ...]:
        """The hives that were opened."""
        return self.installation.hives()

    @cached_property
    def integration(self) -> IntegrationServices:
        """The version of the integration services."""
        return read_version(self.installation, self.control_set, Troubles())

    @cached_property
    def kvp_disabled(self) -> bool:
        """Whether Data Exchange is disabled."""
        return number(self.control_set.key(rf"Services\{KVP_SERVICE}"), "Start") == DISABLED

    @cached_property
    def oem_key(self) -> bool | None:
        """Whether Windows has a product key of the machine's maker; None where nothing tells."""
        key = self.software.key(CURRENT_VERSION)
        stored = binary(key, "DigitalProductId4") or b""
        if len(stored) >= PRODUCT_ID.sizeof():
            channel: str = PRODUCT_ID.parse(stored).channel.decode("utf-16-le", "replace").split("\0")[0]
            if channel:
                return channel.upper().startswith(OEM_MARK)
        product_id = text(key, "ProductId")
        return None if product_id is None else OEM_MARK in product_id.upper()

    @cached_property
    def packages_key(self) -> Key | None:
        """The key of the servicing packages, where it has any."""
        key = self.software.key(PACKAGES_KEY)
        return None if key is None or next(iter(key.subkeys()), None) is None else key

    def packages(self, start: str) -> Iterator[InstalledPackage]:
        """The servicing packages whose names begin with ``start``."""
        key = self.packages_key
        for one in islice(() if key is None else key.subkeys(start=start), MAX_LISTED):
            name = whole_text(one.name)
            if not name.upper().startswith(start.upper()):
                return
            parts = name.split("~")
            version = parse_assembly_version(parts[-1]) if len(parts) == NAME_PARTS else None
            if version is not None:
                yield InstalledPackage(name, version, number(one, "CurrentState"), rf"SOFTWARE\{PACKAGES_KEY}\{name}")

    def versions_of(self, identity: AssemblyIdentity) -> Iterator[InstalledPackage]:
        """The packages of an identity, in every version that is listed."""
        return self.packages(identity.cbs_name.rpartition("~")[0] + "~")

    def driver(self, inf: str) -> tuple[AssemblyVersion, str] | None:
        """The version of the driver package of an INF that is in use, and where it was read; None where unknown."""
        best: tuple[AssemblyVersion, str] | None = None
        for name in HIVES:
            hive = self.installation.optional_hive(name)
            database = None if hive is None else hive.key("DriverDatabase")
            packages = None if database is None else database.subkey("DriverPackages")
            if database is None or packages is None:
                continue
            for package in _package_names(database, packages, inf):
                data = binary(packages.subkey(package), "Version") or b""
                if len(data) >= _PACKAGE_VERSION.size:
                    _, _, revision, build, minor, major = _PACKAGE_VERSION.unpack_from(data)
                    found = (major, minor, build, revision), rf"{name}\DriverDatabase\DriverPackages\{package}\Version"
                    best = found if best is None else max(best, found)
        return best


def _package_names(database: Key, packages: Key, inf: str) -> tuple[str, ...]:
    """The packages of an INF: the one in use, else all that are known."""
    infs = database.subkey("DriverInfFiles")
    if infs is not None:
        key = infs.subkey(inf)
        active = text(key, "Active")
        return (active,) if active else texts(key, "")[:MAX_PACKAGES]
    start = f"{inf}_"
    found = []
    for key in islice(packages.subkeys(start=start), MAX_PACKAGES):
        if not key.name.lower().startswith(start.lower()):
            break
        found.append(whole_text(key.name))
    return tuple(found)
