"""Installations of Windows on the volumes of a disk, and what each says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import NotFoundError, VhdtoolError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import CONFIG, GuestVolume, WindowsInstallation
from vhdtool.guest.values import number, text
from vhdtool.registry.hive import Hive, Key

Architecture = Literal["amd64", "x86", "arm64"]

USUAL_ROOTS = ("Windows", "WINNT")
"""Where Setup puts Windows; looked at first, and all that is looked at where the root can't be listed."""

MAX_ROOT_DIRECTORIES = 256
"""Directories of a volume's root that are looked into for a Windows of another name."""

FIRST_WINDOWS_11_BUILD = 22000
CURRENT_VERSION = r"Microsoft\Windows NT\CurrentVersion"

_ARCHITECTURES: dict[str, Architecture] = {"amd64": "amd64", "x86": "x86", "i386": "x86", "arm64": "arm64"}


def find_windows(volumes: Sequence[GuestVolume]) -> list[WindowsInstallation]:
    r"""Find every Windows, in the order of the volumes and, on one volume, of its directories.

    A directory of a volume's root is an installation when its ``System32\config`` holds a SYSTEM or SOFTWARE hive.
    ``Windows.old`` keeps a replaced installation one level deeper: that is not one that can start, and not listed
    (:func:`vhdtool.guest.inspection.inspect_windows` mentions it). A volume that can't be read is passed over, but
    where nothing is found at all its error is raised.
    """
    found: list[WindowsInstallation] = []
    failed: list[VhdtoolError] = []
    for volume in volumes:
        try:
            found += [
                WindowsInstallation(volume.index, f"/{name}", volume.filesystem)
                for name in _root_directories(volume.filesystem)
                if _has_hives(volume.filesystem, name)
            ]
        except VhdtoolError as error:
            failed.append(error)
    if failed and not found:
        raise failed[0]
    return found


def _root_directories(filesystem: GuestFilesystem) -> Iterator[str]:
    seen = set()
    for name in USUAL_ROOTS:
        fact = filesystem.stat(f"/{name}")
        if fact is not None and fact.kind == "directory":
            seen.add(fact.name.upper())
            yield fact.name
    left = MAX_ROOT_DIRECTORIES
    for fact in filesystem.list("/"):
        if fact.kind == "directory" and fact.name.upper() not in seen and not fact.name.startswith("$"):
            seen.add(fact.name.upper())
            yield fact.name
            left -= 1
            if not left:
                return


def _has_hives(filesystem: GuestFilesystem, name: str) -> bool:
    for hive in ("SYSTEM", "SOFTWARE"):
        try:
            fact = filesystem.stat(f"/{name}/{CONFIG}/{hive}")
        except NotFoundError:
            return False
        if fact is not None and fact.kind == "file":
            return True
    return False


@dataclass(frozen=True, slots=True)
class WindowsIdentity:
    """What the installation calls itself.

    ``numbers``: major, minor, build (0 where unknown). ``registry_product`` is ProductName as it is written, where
    ``product`` corrects it.
    """

    product: str | None
    registry_product: str | None
    numbers: tuple[int, int, int] | None
    edition: str | None
    build_lab: str | None
    client: bool | None

    @property
    def version(self) -> str | None:
        """``6.3.9600``: major, minor and build; without a build where it is unknown."""
        if self.numbers is None:
            return None
        return ".".join(map(str, self.numbers if self.numbers[2] else self.numbers[:2]))


UNKNOWN_IDENTITY = WindowsIdentity(None, None, None, None, None, None)


def read_identity(software: Hive) -> WindowsIdentity:
    r"""Read ``SOFTWARE\Microsoft\Windows NT\CurrentVersion``.

    Windows 10 and later keep 6.3 in ``CurrentVersion`` for old programs and the truth in two numbers beside it.
    Windows 11 clients still say "Windows 10" in ``ProductName``; the build tells them apart.
    """
    key = software.key(CURRENT_VERSION)
    if key is None:
        return UNKNOWN_IDENTITY
    numbers = _version_numbers(key)
    kind = text(key, "InstallationType")
    client = None if kind is None else kind.lower() == "client"
    written = text(key, "ProductName")
    product = written
    if written and numbers and numbers[2] >= FIRST_WINDOWS_11_BUILD and client is not False:
        product = re.sub(r"^Windows 10\b", "Windows 11", written)
    return WindowsIdentity(
        product=product,
        registry_product=written,
        numbers=numbers,
        edition=text(key, "EditionID"),
        build_lab=text(key, "BuildLabEx") or text(key, "BuildLab"),
        client=client,
    )


def _version_numbers(key: Key) -> tuple[int, int, int] | None:
    build_text = text(key, "CurrentBuildNumber") or text(key, "CurrentBuild") or ""
    build = int(build_text) if re.fullmatch(r"\d{1,6}", build_text, re.ASCII) else 0
    major, minor = number(key, "CurrentMajorVersionNumber"), number(key, "CurrentMinorVersionNumber")
    if major is not None:
        return major, minor or 0, build
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text(key, "CurrentVersion") or "", re.ASCII)
    return (int(match[1]), int(match[2]), build) if match else None


def read_architecture(
    installation: WindowsInstallation, identity: WindowsIdentity, control_set: ControlSet | None
) -> Architecture | None:
    r"""The processor architecture: of the system's environment, else of the build's name, else by ``SysWOW64``."""
    environment = None if control_set is None else control_set.key(r"Control\Session Manager\Environment")
    named = text(environment, "PROCESSOR_ARCHITECTURE")
    if named and named.lower() in _ARCHITECTURES:
        return _ARCHITECTURES[named.lower()]
    # 9600.17415.amd64fre.winblue_r4.141028-1500
    match = re.search(r"\.(amd64|x86|i386|arm64)(fre|chk)\b", identity.build_lab or "")
    if match:
        return _ARCHITECTURES[match[1]]
    fact = installation.filesystem.stat(installation.path("SysWOW64"))
    return "amd64" if fact is not None and fact.kind == "directory" else None


def fast_startup(control_set: ControlSet | None) -> bool | None:
    """Whether shutting down hibernates the kernel (``HiberbootEnabled``); ``None`` where Windows does not know it."""
    power = None if control_set is None else control_set.key(r"Control\Session Manager\Power")
    value = number(power, "HiberbootEnabled")
    return None if value is None else value != 0
