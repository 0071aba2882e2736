"""The checks of the baseline that look at the integration services: version, services, drivers, boot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from vhdtool.checks.baseline_guest import each_guest
from vhdtool.checks.model import Check, Parameter, Values, Verdict
from vhdtool.checks.node import Node
from vhdtool.checks.version_order import compare_versions, version_order
from vhdtool.guest.advice import newer_exists
from vhdtool.guest.model import IntegrationServices
from vhdtool.guest.version import version_numbers
from vhdtool.knowledge.integration import integration_drivers
from vhdtool.knowledge.integration_versions import newest_version
from vhdtool.knowledge.linux_modules import hyperv_modules
from vhdtool.knowledge.windows_names import installed_system

BOOT_FINDINGS = frozenset(
    {
        "boot-driver-missing",
        "boot-driver-not-boot-start",
        "boot-driver-overridden",
        "boot-module-missing",
        "boot-module-not-in-initramfs",
        "initramfs-missing",
        "kernel-not-found",
        "module-blacklisted",
    }
)
"""Findings of inspect that may keep a guest from starting; of these the severe ones do."""

FITTING = frozenset({"ok", "not-offered", "unknown"})
WINDOWS_PARTS = 3


def _version(guest: Node, values: Values) -> Iterator[Verdict]:
    integration = guest.child("integration_services")
    installed = integration.text("version")
    place = f"{integration.place}.version"
    wanted, by = _wanted(guest, values["minimum"])
    if wanted is None and by is None:
        yield from _newest(guest, integration, installed)
    elif wanted is None:
        yield Verdict("not-applicable", place, "No version is asked of this guest.")
    elif installed is None:
        yield Verdict("fail", place, f"The version is not known, at least {wanted} is asked of {by}.")
    else:
        yield _compared(place, installed, wanted, f"asked of {by}")


def _compared(place: str, installed: str, wanted: str, why: str) -> Verdict:
    has, needs = version_order(installed), version_order(wanted)
    if has is None or needs is None:
        return Verdict("fail", place, f"{installed} is no version to compare, at least {wanted} is {why}.")
    if compare_versions(has, needs) < 0:
        return Verdict("fail", place, f"The version is {installed}, at least {wanted} is {why}.")
    return Verdict("pass", place, f"The version is {installed}, at least {wanted} is {why}.")


def _newest(guest: Node, integration: Node, installed: str | None) -> Iterator[Verdict]:
    """Without a minimum of the policy's: the newest that is known for this Windows, where there is one for it alone."""
    place = f"{integration.place}.version"
    newest = newest_version(_windows(guest))
    if newest is None or newest.version is None:
        yield Verdict("not-applicable", place, "This guest has the integration services of its own system.")
        return
    wanted = ".".join(map(str, newest.version))
    if installed is None:
        yield Verdict("fail", place, f"The version is not known; the newest for this guest is {wanted}.")
        return
    try:
        newer = newer_exists(msgspec.convert(integration.value, IntegrationServices), newest)
    except msgspec.ValidationError as error:
        raise integration.misfit(str(error)) from error
    how = " ".join(filter(None, (newest.kb, f"({newest.note})")))
    if newer:
        fix = f"Stage the package {how}: vhdtool stage IMAGE --cab CAB"
        text = f"The version is {installed}, the newest for this guest is {wanted}."
        yield Verdict("fail", place, text, fix=fix if newest.by == "cab" else f"Get it with {how}.")
    elif newer is None:
        yield Verdict("not-applicable", place, f"Whether {installed} is {wanted} or newer can't be told.")
    else:
        yield Verdict("pass", place, f"The version is {installed}, the newest for this guest is {wanted}.")


def _wanted(guest: Node, minimum: Mapping[str, str] | None) -> tuple[str | None, str | None]:
    """The version that a policy asks of a guest, and by which of its names; its nearest name counts."""
    if not minimum:
        return None, None
    system = guest.child("os")
    family = system.text("family") or ""
    names = [family, "any"]
    if family == "windows":
        known = installed_system(_windows(guest), system.text("product"), system.text("edition"))
        if known is not None:
            names.insert(0, known.id)
    return next(((minimum[name], name) for name in names if name in minimum), (None, family))


def _windows(guest: Node) -> tuple[int, ...] | None:
    system = guest.child("os")
    numbers = version_numbers(system.text("version")) if system.text("family") == "windows" else None
    return None if numbers is None else numbers[:WINDOWS_PARTS]


def _sources_agree(guest: Node, _: Values) -> Iterator[Verdict]:
    integration = guest.child("integration_services")
    agreement = integration.text("agreement")
    place = f"{integration.place}.agreement"
    if agreement == "conflict":
        told = "; ".join(f"{one.text('source')} {one.text('version')}" for one in integration.items("evidence"))
        yield Verdict("fail", place, f"The sources of the version contradict each other: {told}.")
    elif agreement == "agree":
        yield Verdict("pass", place, "The sources of the version agree.")
    else:
        yield Verdict("not-applicable", place, "There are no two sources of the version.")


def _services(guest: Node, values: Values) -> Iterator[Verdict]:
    yield from _rows(guest, "services", values, frozenset())


def _drivers(guest: Node, values: Values) -> Iterator[Verdict]:
    yield from _rows(guest, "drivers", values, boot_components())


def _rows(guest: Node, kind: str, values: Values, elsewhere: frozenset[str]) -> Iterator[Verdict]:
    failed = told = 0
    for row in guest.items(kind):
        name = row.text("name") or ""
        if name in values["ignore"] or name in elsewhere:
            continue
        verdict = _row(row, name, values["expect"].get(name), _told_fix(guest, name))
        told += verdict is not None
        if verdict is not None and verdict.outcome == "fail":
            failed += 1
            yield verdict
    place = f"{guest.place}.{kind}"
    if not told:
        yield Verdict("not-applicable", place, f"Nothing is known of this guest's {kind}.")
    elif not failed:
        yield Verdict("pass", place, f"{told} {kind} are as they are expected.")


def _told_fix(guest: Node, name: str) -> str | None:
    """How inspect says to mend a service: its finding begins with the name."""
    findings = (one for one in guest.items("findings") if (one.text("message") or "").startswith(f"{name} "))
    return next((one.text("fix") for one in findings), None)


def _row(row: Node, name: str, expected: str | None, fix: str | None) -> Verdict | None:
    """What is to be said of a service; ``None`` where nothing is known, or this system never had it."""
    status, start = row.text("status"), row.text("effective_start")
    if expected is not None:
        if start == expected:
            return Verdict("pass", row.place, "", name)
        is_so = f"starts as {start}" if start else "is not there"
        return Verdict("fail", row.place, f"{name} {is_so}, the policy expects {expected}.", name, _set(name, expected))
    if status in {"not-offered", "unknown"} or status is None:
        return None
    if status in FITTING:
        return Verdict("pass", row.place, "", name)
    healthy = row.text("expected_start")
    what = {
        "disabled": f"{name} is disabled",
        "missing": f"{name} is not installed",
        "no-trigger": f"{name} is to be started by a trigger, and has none",
        "overridden": f"{name} starts as {start}, whatever its Start says",
    }.get(status, f"{name} starts as {start}")
    text = f"{what}; a healthy guest has {healthy}." if healthy and status != "missing" else f"{what}."
    if status in {"disabled", "wrong-start"} and healthy and name.startswith("vmic"):
        fix = _set(name, healthy)
    return Verdict("fail", row.place, text, name, fix)


def _set(name: str, start: str) -> str:
    """How to make a service start so; what is no service of Windows has other ways."""
    return f"vhdtool services set IMAGE {name}={start}" if name.startswith("vmic") else f"Make {name} start: {start}."


def boot_components() -> frozenset[str]:
    """Drivers and modules without which a disk of Hyper-V is not found at start."""
    return frozenset(
        [one.name for one in integration_drivers() if one.boots] + [one.name for one in hyperv_modules() if one.boots]
    )


def _boot_ready(guest: Node, _: Values) -> Iterator[Verdict]:
    failed = False
    needed = boot_components()
    for finding in guest.items("findings"):
        if finding.text("code") in BOOT_FINDINGS and finding.text("severity") == "high":
            failed = True
            message = finding.text("message") or finding.text("code") or ""
            words = message.replace(",", " ").replace(".", " ").split()
            name = next((word for word in words if word in needed), finding.text("code") or "")
            yield Verdict("fail", finding.place, message, name, finding.text("fix"))
    if failed:
        return
    rows = [row for row in guest.items("drivers") if row.text("name") in needed]
    place = f"{guest.place}.drivers"
    if rows and all(row.text("status") in {"ok", "not-offered"} for row in rows):
        names = " and ".join(row.text("name") or "" for row in rows)
        yield Verdict("pass", place, f"{names} start at boot.")
    else:
        yield Verdict("not-applicable", place, "It is not known whether the drivers of Hyper-V start at boot.")


_ROW_PARAMETERS = (
    Parameter("ignore", "texts", (), "names that are not looked at"),
    Parameter("expect", "starts", {}, "the start that is asked of a name, in the place of a healthy guest's"),
)

INTEGRATION_CHECKS = (
    Check(
        "boot-ready",
        "high",
        "The guest finds its disk on Hyper-V: the drivers that it needs for that start at boot.",
        "Without them Windows stops with 0x7B (INACCESSIBLE_BOOT_DEVICE), Linux in its initramfs.",
        "vhdtool boot-ready IMAGE looks at the other boot drivers too, and with --fix mends what the registry can.",
        each_guest(_boot_ready),
    ),
    Check(
        "integration-version",
        "medium",
        "The integration services are at least of a version.",
        "Older ones lack functions of the host and repairs; hosts warn of them, and support asks for newer ones.",
        "vhdtool advise IMAGE --host HOST tells how this guest gets newer ones on a host.",
        each_guest(_version),
        (
            Parameter(
                "minimum",
                "minimum-versions",
                None,
                "the least version by the guest: a name (Windows Server 2012 R2, 2016, win7), windows, linux or any;"
                " without it the newest that is known for the guest's Windows",
            ),
        ),
    ),
    Check(
        "version-sources-agree",
        "medium",
        "The sources of the integration services' version do not contradict each other.",
        "An update may be half done: files of one version, drivers of another.",
        "Finish pending servicing in the guest, or install the package again.",
        each_guest(_sources_agree),
    ),
    Check(
        "services-expected",
        "medium",
        "The integration services start as in a healthy guest of this system.",
        "A service that does not start is missing on the host's side too: no addresses, no clean shutdown, no backup.",
        "vhdtool services set IMAGE NAME=START, or install the integration services again.",
        each_guest(_services),
        _ROW_PARAMETERS,
    ),
    Check(
        "drivers-expected",
        "low",
        "The integration drivers start as in a healthy guest of this system; boot-ready looks at those for the disk.",
        "A device of the host without its driver does not work in the guest: network, memory, screen, input.",
        "Install the integration services again; for a start alone: vhdtool services set IMAGE NAME=START --force. A"
        " module of Linux comes with the kernel's package.",
        each_guest(_drivers),
        _ROW_PARAMETERS,
    ),
)
