"""The host's side held against the guest's, service by service.

A service runs when it is on at both ends. Where they differ, the host has the last word but for one case (Microsoft,
Manage Hyper-V Integration Services): one that starts in the guest and is off on the host is stopped; one that is
stopped in the guest and on at the host is started again; one that is disabled in the guest can't be started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.guest.model import Guest, Service, ServiceStatus, Severity, StartName
from vhdtool.host.vmconfig import HostService, HostState, VmConfig
from vhdtool.knowledge.linux_daemons import LinuxDaemon, linux_daemons
from vhdtool.knowledge.virtual_devices import HostComponent, host_components

Outcome = Literal[
    "runs",
    "stopped-by-host",
    "cannot-start",
    "not-started",
    "guest-lacks-it",
    "host-lacks-it",
    "off",
    "not-applicable",
    "unknown",
]

OUTCOMES: dict[Outcome, str] = {
    "runs": "runs",
    "stopped-by-host": "stopped by the host",
    "cannot-start": "can't be started by the host",
    "not-started": "nothing starts it",
    "guest-lacks-it": "the host offers it, the guest lacks it",
    "host-lacks-it": "the guest has it, the host does not offer it",
    "off": "off on both sides",
    "not-applicable": "not for this guest",
    "unknown": "can't be told",
}
"""What happens at the next start, in words."""

KERNEL_SERVICES = frozenset({"vmicheartbeat", "vmicshutdown", "vmictimesync"})
"""Services that are in Linux's own kernel, in this module; no daemon turns them on or off."""
KERNEL_MODULE = "hv_utils"


@dataclass(frozen=True, slots=True)
class CrossRow:
    """One service on both sides. ``id`` is what they were matched by; ``name`` that of an English host.

    ``guest_name``: the Windows service, or the Linux daemon or module; ``None`` where this guest knows none.
    ``severity`` is ``None`` where both sides fit; ``info`` where they differ as they do by default.
    """

    id: str | None
    name: str
    host: HostState
    host_location: str | None
    guest_name: str | None
    guest_start: StartName | None
    guest_status: ServiceStatus
    outcome: Outcome
    severity: Severity | None
    message: str | None
    fix: str | None

    @property
    def mismatch(self) -> bool:
        """Whether the two sides differ in a way that somebody should look at."""
        return self.severity not in {None, "info"}


@dataclass(frozen=True, slots=True)
class _Side:
    """The guest's side: a row of its services or drivers, or its absence."""

    name: str | None
    service: Service | None
    status: ServiceStatus
    daemon: LinuxDaemon | None = None

    @property
    def there(self) -> bool:
        return self.status not in {"missing", "not-offered", "unknown"} or (
            self.service is not None and self.service.effective_start is not None
        )


def crosscheck(config: VmConfig, guest: Guest) -> tuple[CrossRow, ...]:
    """Hold a machine's configuration against its guest. The services are matched by their class id, never by name."""
    return tuple(_row(config, host, guest) for host in config.services)


def _row(config: VmConfig, host: HostService, guest: Guest) -> CrossRow:
    side = _linux_side(guest, host.service) if guest.os.family == "linux" else _windows_side(guest, host.service)
    outcome = _outcome(host, side)
    severity, message = _judge(host, side, outcome)
    return CrossRow(
        id=host.id,
        name=host.name,
        host=host.state,
        host_location=host.location,
        guest_name=side.name,
        guest_start=None if side.service is None else side.service.effective_start,
        guest_status=side.status,
        outcome=outcome,
        severity=severity,
        message=message,
        fix=None if severity is None else _fix(config, host, side, outcome),
    )


def _windows_side(guest: Guest, service: str) -> _Side:
    row = next((one for one in guest.services if one.name.lower() == service), None)
    return _Side(service, row, "unknown" if row is None else row.status)


def _linux_side(guest: Guest, service: str) -> _Side:
    if service in KERNEL_SERVICES:
        module = next((one for one in guest.drivers if one.name == KERNEL_MODULE), None)
        return _Side(KERNEL_MODULE, module, "unknown" if module is None else module.status)
    daemons = [daemon for daemon in linux_daemons() if daemon.service == service]
    if not daemons:
        return _Side(None, None, "not-offered")
    rows = {one.name: one for one in guest.services}
    sides = [
        _Side(daemon.name, rows[daemon.name], rows[daemon.name].status, daemon)
        for daemon in daemons
        if daemon.name in rows
    ]
    there = next((side for side in sides if side.there), None)
    lacking = next((side for side in sides if side.status == "missing"), None)
    return there or lacking or (sides[0] if sides else _Side(daemons[0].name, None, "unknown", daemons[0]))


def _outcome(host: HostService, side: _Side) -> Outcome:
    offered = host.state in {"on", "no-switch"}
    if not side.there:
        if side.status == "unknown":
            return "unknown" if offered else "off"
        return "not-applicable" if not _component(host).switch else "guest-lacks-it" if offered else "off"
    effective = None if side.service is None else side.service.effective_start
    if side.service is None or (effective is None and side.daemon is not None):
        return "unknown"
    if effective == "disabled":
        return "cannot-start" if offered else "off"
    if not offered:
        return "host-lacks-it" if host.state == "absent" else "stopped-by-host"
    return "not-started" if side.status == "no-trigger" else "runs"


_TOLD: dict[Outcome, tuple[Severity, str]] = {
    "stopped-by-host": ("medium", "{host} is off on the host: {guest} starts in the guest and is stopped."),
    "cannot-start": ("medium", "{guest} is disabled in the guest: the host offers {host} and can't start it."),
    "not-started": ("medium", "{guest} is manual and has no trigger: nothing starts it when the host offers it."),
    "guest-lacks-it": ("medium", "The host offers {host}; {guest} is missing in the guest."),
    "host-lacks-it": ("info", "The guest has {guest}; this machine has no such device."),
    "unknown": ("low", "Whether {guest} starts in the guest could not be read."),
}
DATA_EXCHANGE = "vmickvpexchange"
_UPDATES = " Without it Windows Update offers the guest no integration services."
"""The guest's update client learns the host's version through it (Microsoft's page, the footnote of its tables)."""


def _judge(host: HostService, side: _Side, outcome: Outcome) -> tuple[Severity | None, str | None]:
    """How much it matters, and what to say of it."""
    if outcome not in _TOLD:
        return None, None
    if outcome == "stopped-by-host" and _component(host).off_by_default:
        return "info", f"{host.name} is off on the host, as it is by default: {side.name} does not run."
    if outcome == "guest-lacks-it" and side.status == "not-offered":
        return "info", f"The host offers {host.name}; this guest never had it."
    severity, told = _TOLD[outcome]
    message = told.format(host=host.name, guest=side.name or host.name)
    return severity, message + (_UPDATES if side.name == DATA_EXCHANGE and severity == "medium" else "")


def _component(host: HostService) -> HostComponent:
    return next(one for one in host_components() if one.service == host.service)


def _fix(config: VmConfig, host: HostService, side: _Side, outcome: Outcome) -> str | None:
    if outcome == "stopped-by-host":
        name = (config.name or "NAME").replace("'", "''")
        return (
            f"On the host: Get-VMIntegrationService -VMName '{name}' | Where-Object Id -like '*{host.id}' | "
            "Enable-VMIntegrationService"
        )
    if outcome == "unknown":
        return "See what could not be read: vhdtool inspect IMAGE"
    if outcome == "guest-lacks-it" and side.status == "not-offered":
        return None
    ways = _linux_ways(side) if side.daemon is not None or side.name == KERNEL_MODULE else _windows_ways(side)
    return ways.get(outcome)


def _windows_ways(side: _Side) -> dict[Outcome, str]:
    return {
        "cannot-start": f"vhdtool services set IMAGE {side.name}={_healthy(side)} --child NEW",
        "not-started": f"vhdtool services set IMAGE {side.name}=manual --restore-triggers --child NEW",
        "guest-lacks-it": "Find a package of integration services that fits: vhdtool cab find IMAGE DIR",
    }


def _linux_ways(side: _Side) -> dict[Outcome, str]:
    if side.daemon is None:
        return {"guest-lacks-it": f"In the guest: install a kernel that has the module {KERNEL_MODULE}."}
    return {
        "cannot-start": f"In the guest: systemctl enable {_unit(side)}",
        "not-started": f"In the guest: systemctl enable {_unit(side)}",
        "guest-lacks-it": "In the guest: install the distribution's package of Hyper-V daemons.",
    }


def _healthy(side: _Side) -> str:
    expected = None if side.service is None else side.service.expected_start
    return expected if expected in {"auto", "manual"} else "auto"


def _unit(side: _Side) -> str:
    if side.daemon is None or side.service is None:
        return ""
    known = (unit for unit in side.daemon.units if any(unit in place for place in side.service.evidence))
    return next(known, side.daemon.units[0]).removesuffix(".service")
