"""What is known of one installed operating system: the ``guests`` part of the result document.

The names are the interface (docs/design.md section 7). Unknown is ``None``, never a guess. Every fact carries the
place it was read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, UnsetType

from vhdtool.guest.linux_model import LinuxFacts

Family = Literal["windows", "linux"]
InstallState = Literal["complete", "generalized", "audit", "specialize", "oobe", "setup", "undeployable", "unknown"]
StartName = Literal["boot", "system", "auto", "manual", "disabled"]
ServiceStatus = Literal[
    "ok", "disabled", "wrong-start", "no-trigger", "overridden", "missing", "not-offered", "unknown"
]
Agreement = Literal["single", "agree", "conflict", "none"]
HiveStateName = Literal["clean", "recovered", "dirty"]
Severity = Literal["info", "low", "medium", "high"]
StagedState = Literal[
    "staged", "applied", "restart-pending", "not-applicable", "failed", "abandoned", "never-ran", "unknown"
]

START_NAMES: tuple[StartName, ...] = ("boot", "system", "auto", "manual", "disabled")
"""Names of the SCM's start values 0 to 4, by value."""


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """Identity of the installation.

    ``version`` is as Windows counts: ``6.3.9600``; with the revision where known. Of a Linux it is the release of the
    kernel that starts: ``6.1.0-25-amd64``.
    """

    family: Family
    product: str | None
    version: str | None
    edition: str | None
    architecture: Literal["amd64", "x86", "arm64"] | None
    install_state: InstallState
    control_set: int | None
    pending: tuple[str, ...]
    fast_startup: bool | None


@dataclass(frozen=True, slots=True)
class VersionEvidence:
    """One source of the integration services version.

    ``source`` is one of auto-value, enum-devices, driver-database, file-version, cbs-packages; of a Linux kernel,
    kernel-image, vermagic, module-version, kernel-package, daemons-package.
    ``location`` says where it was read: hive path and key, or file path. ``note`` qualifies it where there is
    something to say (a source that is by design, without a sample; which device set the minimum).
    """

    source: str
    version: str
    location: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class IntegrationServices:
    """The integration services version and how sure it is."""

    version: str | None
    source: str | None
    agreement: Agreement
    evidence: tuple[VersionEvidence, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """A service or driver of the guest with what it will do at the next boot.

    ``start`` and ``start_value`` are what ``Start`` says; ``start_override`` is the value that replaces it on this
    hardware profile; ``effective_start`` is what the system will act upon. ``trigger_start`` tells whether a start
    trigger is registered. ``expected_start`` is what a healthy guest of this Windows version has.
    """

    name: str
    display_name: str | None
    display_name_source: str | None
    start: StartName | None
    start_value: int | None
    delayed_auto_start: bool | None
    trigger_start: bool | None
    start_override: int | None
    effective_start: StartName | None
    expected_start: StartName | None
    status: ServiceStatus
    evidence: tuple[str, ...]
    built_in: bool | None = None


@dataclass(frozen=True, slots=True)
class HiveFact:
    """A hive that facts were read from, and whether its logs had to be applied."""

    path: str
    state: HiveStateName
    logs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Staged:
    """An update package that was staged into the guest."""

    id: str
    package: str
    state: StagedState


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the user should know, with the way out."""

    code: str
    severity: Severity
    message: str
    fix: str | None


@dataclass(frozen=True, slots=True)
class Guest:
    """One installed operating system. ``volume`` is the index of the volume it lives on.

    ``linux`` is what else is known of a Linux; a Windows has no such part.
    """

    volume: int
    os: OperatingSystem
    integration_services: IntegrationServices
    services: tuple[Service, ...]
    drivers: tuple[Service, ...]
    hives: tuple[HiveFact, ...]
    staged: tuple[Staged, ...]
    findings: tuple[Finding, ...]
    all_services: tuple[Service, ...] | None = None
    linux: LinuxFacts | UnsetType = UNSET
