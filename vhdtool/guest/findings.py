"""What the user should know of a guest, each with the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vhdtool.guest.model import Finding, HiveFact, InstallState, IntegrationServices, Service, Severity
from vhdtool.guest.pending import PendingWork
from vhdtool.guest.services import FIRST_BUILT_IN
from vhdtool.guest.source import Trouble
from vhdtool.guest.windows import WindowsIdentity
from vhdtool.knowledge.integration import integration_drivers

KVP_SERVICE = "vmickvpexchange"
CLEAN_SHUTDOWN = "Start the guest and shut it down completely: shutdown /s /f /t 0"
STARTS_BADLY = frozenset({"disabled", "overridden", "wrong-start", "missing"})


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """All that the rules look at. ``old_installation`` is the path of a ``Windows.old``."""

    identity: WindowsIdentity
    install_state: InstallState
    pending: Sequence[PendingWork]
    fast_startup: bool | None
    hibernated: bool
    version: IntegrationServices
    services: Sequence[Service]
    drivers: Sequence[Service]
    hives: tuple[HiveFact, ...]
    troubles: Sequence[Trouble]
    old_installation: str | None


def guest_findings(facts: GuestFacts) -> tuple[Finding, ...]:
    """Apply every rule, in the order of :data:`RULES`."""
    return tuple(finding for rule in RULES for finding in rule(facts))


def _hibernated(facts: GuestFacts) -> Iterator[Finding]:
    if facts.hibernated:
        yield Finding(
            "hibernated",
            "high",
            "The guest is hibernated: its memory is newer than what is read here, and a change would be lost.",
            f"{CLEAN_SHUTDOWN}; where fast startup brought it about: powercfg /h off",
        )


def _hives(facts: GuestFacts) -> Iterator[Finding]:
    for hive in facts.hives:
        if hive.state == "dirty":
            yield Finding(
                "hive-dirty",
                "high",
                f"The hive {hive.path} was not written completely and its logs can't repair it: facts may be stale.",
                CLEAN_SHUTDOWN,
            )
        elif hive.state == "recovered":
            yield Finding(
                "hive-recovered",
                "info",
                f"The hive {hive.path} is older than its logs ({', '.join(hive.logs)}); they were applied in memory.",
                f"None needed for reading. {CLEAN_SHUTDOWN}",
            )


def trouble_findings(troubles: Sequence[Trouble]) -> Iterator[Finding]:
    """Tell what could not be read, each thing once."""
    seen = set()
    for trouble in troubles:
        text = f"Could not read {trouble.what}: {trouble.error} [{trouble.error.code}]"
        if text not in seen:
            seen.add(text)
            yield Finding("evidence-unreadable", "medium", text, trouble.error.hint)


def _troubles(facts: GuestFacts) -> Iterator[Finding]:
    yield from trouble_findings(facts.troubles)


def _version(facts: GuestFacts) -> Iterator[Finding]:
    if facts.version.version is None:
        yield Finding(
            "integration-version-unknown",
            "medium",
            "No source tells the integration services version.",
            "The guest may have none: see the services and drivers, and install the integration services package.",
        )
    yield from version_conflict(facts.version)


def version_conflict(version: IntegrationServices) -> Iterator[Finding]:
    """Tell that the sources of the version contradict each other."""
    if version.agreement == "conflict":
        told = "; ".join(f"{one.source} {one.version}" for one in version.evidence)
        yield Finding(
            "integration-version-conflict",
            "medium",
            f"The sources of the integration services version contradict each other: {told}.",
            "An update may be half done: finish pending servicing in the guest, or install the package again.",
        )


def _boot_drivers(facts: GuestFacts) -> Iterator[Finding]:
    needed = {component.name for component in integration_drivers() if component.boots}
    for driver in facts.drivers:
        at_boot = driver.expected_start or driver.start  # where the guest's version is unknown, what Start says
        if at_boot != "boot" or driver.status not in STARTS_BADLY:
            continue
        severity: Severity = "high" if driver.name in needed else "low"
        risk = " On Hyper-V the guest may stop with 0x7B (INACCESSIBLE_BOOT_DEVICE)." if driver.name in needed else ""
        if driver.status == "overridden":
            yield Finding(
                "boot-driver-overridden",
                severity,
                f"{driver.name} has Start {driver.start_value} but StartOverride {driver.start_override}"
                f" makes it {driver.effective_start}.{risk}",
                f"Delete the value {driver.evidence[1]}.",
            )
        elif driver.status == "missing":
            yield Finding(
                "boot-driver-missing",
                severity,
                f"The driver {driver.name} is not installed.{risk}",
                "Install the integration services package into the guest.",
            )
        else:
            yield Finding(
                "boot-driver-not-boot-start",
                severity,
                f"{driver.name} starts as {driver.effective_start}, not at boot.{risk}",
                f"Set Start to 0 in {driver.evidence[0]}.",
            )


def _services(facts: GuestFacts) -> Iterator[Finding]:
    windows = facts.identity.numbers
    if windows is not None and windows < FIRST_BUILT_IN and _all_absent(facts.services):
        yield Finding(
            "integration-services-not-installed",
            "medium",
            "None of the integration services is installed.",
            "Install the integration services package into the guest.",
        )
        return
    for service in facts.services:
        yield from _service(service)


def _all_absent(services: Sequence[Service]) -> bool:
    return all(service.status in {"missing", "not-offered"} for service in services)


def _service(service: Service) -> Iterator[Finding]:
    place = service.evidence[0]
    if service.effective_start == "disabled" and service.expected_start != "disabled":
        if service.name == KVP_SERVICE:
            return  # _kvp says it, with what follows from it
        yield Finding(
            "service-disabled",
            "medium",
            f"{service.name} is disabled: it will not start, and the host can't start it.",
            _set_start(service, place),
        )
    elif service.status == "no-trigger":
        yield Finding(
            "service-no-trigger",
            "medium",
            f"{service.name} is to be started by a trigger when the host offers it, and has none.",
            f"Restore {place}\\TriggerInfo, or let it start by itself: set Start to 2.",
        )
    elif service.status in {"wrong-start", "overridden"}:
        yield Finding(
            "service-wrong-start",
            "low",
            f"{service.name} starts as {service.effective_start}, a healthy guest has {service.expected_start}.",
            _set_start(service, place),
        )
    elif service.status == "missing":
        yield Finding(
            "service-missing",
            "medium",
            f"This Windows should have {service.name}, and has not.",
            "Repair the guest's component store: DISM /Online /Cleanup-Image /RestoreHealth, or install the package.",
        )


def _set_start(service: Service, place: str) -> str:
    values = {"boot": 0, "system": 1, "auto": 2, "manual": 3}
    wanted = values.get(service.expected_start or "manual", 3)
    return f"Set Start to {wanted} in {place}."


def _kvp(facts: GuestFacts) -> Iterator[Finding]:
    for service in facts.services:
        if service.name == KVP_SERVICE and service.effective_start == "disabled":
            yield Finding(
                "kvp-disabled",
                "medium",
                "Data Exchange is disabled: the guest does not learn which host it runs on, and Windows Update offers"
                " no integration services to a guest older than Windows 8.1.",
                f"{_set_start(service, service.evidence[0])} Or install the integration services package offline.",
            )


def _pending(facts: GuestFacts) -> Iterator[Finding]:
    if facts.pending:
        yield Finding(
            "servicing-pending",
            "medium",
            "Work waits for the next start: " + "; ".join(str(work) for work in facts.pending) + ".",
            "Start the guest, let it finish (restart once more), and shut it down.",
        )


def _install_state(facts: GuestFacts) -> Iterator[Finding]:
    state = facts.install_state
    if state in {"complete", "unknown"}:
        return
    if state == "generalized":
        yield Finding(
            "image-generalized",
            "info",
            "The image is generalized: its next start runs setup.",
            "None needed: this is the state to deploy from. What is staged now runs when setup is done.",
        )
        return
    yield Finding(
        "image-not-complete",
        "medium",
        f"The installation is not complete (state {state}): its next start goes on with setup.",
        "Start the guest, let setup finish, and shut it down; or generalize it with sysprep.",
    )


def _fast_startup(facts: GuestFacts) -> Iterator[Finding]:
    if facts.fast_startup:
        yield Finding(
            "fast-startup-enabled",
            "info",
            "Fast startup is on: shutting down from the menu hibernates the kernel and leaves hives behind their logs.",
            "Shut down with: shutdown /s /f /t 0, or turn it off: powercfg /h off",
        )


def _product(facts: GuestFacts) -> Iterator[Finding]:
    identity = facts.identity
    if identity.product != identity.registry_product:
        yield Finding(
            "product-name-corrected",
            "info",
            f"The registry names the product {identity.registry_product}; build {(identity.numbers or (0, 0, 0))[2]}"
            f" is {identity.product}.",
            None,
        )


def _old_installation(facts: GuestFacts) -> Iterator[Finding]:
    if facts.old_installation is not None:
        yield Finding(
            "old-installation",
            "info",
            f"{facts.old_installation} keeps the installation that an upgrade replaced; it was not inspected.",
            "Remove it in the guest with Disk Cleanup, if it is no longer needed.",
        )


RULES: tuple[Callable[[GuestFacts], Iterator[Finding]], ...] = (
    _hibernated,
    _hives,
    _troubles,
    _install_state,
    _pending,
    _boot_drivers,
    _version,
    _kvp,
    _services,
    _fast_startup,
    _product,
    _old_installation,
)
