"""The daemons and modules of a Linux guest as rows of the tables that Windows services are shown in.

A start means what it means there: ``boot`` with the kernel (built in, or in the initramfs), ``auto`` with the system,
``manual`` with a trigger when the host offers the device, ``disabled`` never.
"""

from __future__ import annotations

from vhdtool.guest.linux_findings import is_present, needs, offers
from vhdtool.guest.linux_kernels import InstalledKernel
from vhdtool.guest.linux_model import LinuxDaemonFact, LinuxModule
from vhdtool.guest.linux_modules import KernelModules
from vhdtool.guest.linux_start import Start, StartRules
from vhdtool.guest.model import Service, ServiceStatus, StartName
from vhdtool.knowledge.integration import integration_services
from vhdtool.knowledge.linux_daemons import linux_daemons
from vhdtool.knowledge.linux_modules import HypervModule, hyperv_modules

DISPLAY_SOURCE = "table"


def daemon_rows(daemons: tuple[LinuxDaemonFact, ...], kernel: InstalledKernel | None) -> tuple[Service, ...]:
    """The daemons; one that this kernel has no use for is ``not-offered``."""
    names = {one.name: one.host_name or one.display_name for one in integration_services()}
    numbers = None if kernel is None else kernel.numbers
    served = {one.name for one in linux_daemons() if one.serves(numbers)}
    if numbers is None:
        served.discard("hv_fcopy_uio_daemon")
    rows = []
    for fact in daemons:
        installed = fact.path is not None
        start = _daemon_start(fact) if installed else None
        status: ServiceStatus
        if fact.name not in served:
            status = "not-offered"
        elif not installed or fact.program is None:
            status = "missing"
        else:
            status = "disabled" if start == "disabled" else "ok"
        rows.append(
            Service(
                name=fact.name,
                display_name=names.get(fact.service),
                display_name_source=DISPLAY_SOURCE,
                start=start,
                start_value=None,
                delayed_auto_start=None,
                trigger_start=fact.start == "device" if installed else None,
                start_override=None,
                effective_start=start,
                expected_start=_expected(fact, start) if fact.name in served else None,
                status=status,
                evidence=tuple(one for one in (fact.path, *fact.started_by) if one),
            )
        )
    return tuple(rows)


def module_rows(kernel: InstalledKernel, modules: KernelModules) -> tuple[Service, ...]:
    """The modules of one kernel."""
    by_name = {module.name: module for module in modules.modules}
    return tuple(_module_row(known, by_name[known.name], kernel) for known in hyperv_modules())


def unit_rows(starts: StartRules) -> tuple[Service, ...]:
    """Every service of the guest's systemd. One that nothing starts by itself may be wanted by another: no start."""
    return tuple(_unit_row(start) for start in starts.services())


def _daemon_start(fact: LinuxDaemonFact) -> StartName:
    match fact.start:
        case "boot":
            return "auto"
        case "device":
            return "manual"
        case _:
            return "disabled"


def _expected(fact: LinuxDaemonFact, start: StartName | None) -> StartName:
    """Both ways are right; one that is off is expected as systemctl enable would make it."""
    return start if start is not None and start != "disabled" else "auto"


def _module_row(known: HypervModule, module: LinuxModule, kernel: InstalledKernel) -> Service:
    present = is_present(module)
    start: StartName | None = None
    trigger: bool | None = None
    if present:
        start, trigger = _module_start(module)
    expected: StartName | None = None
    if needs(known, kernel.numbers):
        expected = "boot" if known.boots else start if start not in {None, "disabled"} else "manual"
    status: ServiceStatus
    if not present:
        wanted = needs(known, kernel.numbers) or offers(known, kernel.numbers)
        status = "missing" if needs(known, kernel.numbers) else "not-offered"
        if wanted and module.built_in is None and kernel.modules is None:
            status = "unknown"
    elif module.blocked:
        status = "disabled"
    elif known.boots and start != "boot":
        status = "wrong-start" if module.in_initramfs is False or kernel.initramfs is None else "unknown"
    else:
        status = "ok"
    places = (module.path, *module.blocked, *module.loaded_by)
    return Service(
        name=known.name,
        display_name=known.title,
        display_name_source=DISPLAY_SOURCE,
        start=start,
        start_value=None,
        delayed_auto_start=None,
        trigger_start=trigger,
        start_override=None,
        effective_start="disabled" if present and module.blocked else start,
        expected_start=expected,
        status=status,
        evidence=tuple(place for place in places if place) or _built_in_at(module, kernel),
        built_in=module.built_in,
    )


def _module_start(module: LinuxModule) -> tuple[StartName, bool]:
    if module.built_in or module.in_initramfs:
        return "boot", False
    if module.loaded_by:
        return "auto", False
    return "manual", True


def _built_in_at(module: LinuxModule, kernel: InstalledKernel) -> tuple[str, ...]:
    if not module.built_in:
        return ()
    return (f"{kernel.modules}/modules.builtin",) if kernel.modules is not None else (kernel.config or "",)


def _unit_row(start: Start) -> Service:
    names: dict[str, StartName] = {"boot": "auto", "device": "manual", "masked": "disabled"}
    name = names.get(start.how)
    return Service(
        name=(start.unit or "").removesuffix(".service"),
        display_name=None,
        display_name_source=None,
        start=name,
        start_value=None,
        delayed_auto_start=None,
        trigger_start=start.how == "device",
        start_override=None,
        effective_start=name,
        expected_start=None,
        status="unknown",
        evidence=tuple(one for one in (start.unit_path, *start.by) if one),
    )
