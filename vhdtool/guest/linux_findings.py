"""What the user should know of a Linux guest, each with the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vhdtool.guest.findings import trouble_findings, version_conflict
from vhdtool.guest.linux_advice import daemon_advice, rebuild_advice, unblock_advice
from vhdtool.guest.linux_kernels import InstalledKernel
from vhdtool.guest.linux_model import LinuxDaemonFact, LinuxFacts, LinuxKernel, LinuxModule
from vhdtool.guest.model import Finding, InstallState, IntegrationServices, Severity
from vhdtool.guest.source import Trouble
from vhdtool.knowledge.linux_daemons import linux_daemons
from vhdtool.knowledge.linux_modules import HypervModule, hyperv_modules

RISK = " On Hyper-V the guest may not find its disk and stop in the initramfs."
USES = {
    "hv_kvp_daemon": "the host can't read the guest's addresses and names, nor set them",
    "hv_vss_daemon": "a backup or checkpoint by the host is not consistent for its programs",
    "hv_fcopy_daemon": "Copy-VMFile can't bring files into it",
    "hv_fcopy_uio_daemon": "Copy-VMFile can't bring files into it",
}
HELPERS = {
    "hv_get_dhcp_info": "the host does not learn whether the guest uses DHCP",
    "hv_get_dns_info": "the host does not learn the guest's DNS servers",
    "hv_set_ifconfig": "the host can't set the guest's address, as Hyper-V Replica does at a failover",
}
KVP = "hv_kvp_daemon"
SEVERITIES: Mapping[str, Severity] = {"hv_kvp_daemon": "medium", "hv_vss_daemon": "medium"}
"""Of a daemon that does not run; the host offers the others only when it is asked to."""


@dataclass(frozen=True, slots=True)
class LinuxGuestFacts:
    """All that the rules look at. ``release`` is os-release; ``pending`` what package work is not finished."""

    release: Mapping[str, str]
    linux: LinuxFacts
    kernel: LinuxKernel | None
    installed: InstalledKernel | None
    indexed: bool
    version: IntegrationServices
    install_state: InstallState
    pending: Sequence[str]
    troubles: Sequence[Trouble]


def linux_findings(facts: LinuxGuestFacts) -> tuple[Finding, ...]:
    """Apply every rule, in the order of :data:`RULES`."""
    return tuple(finding for rule in RULES for finding in rule(facts))


def needs(module: HypervModule, kernel: tuple[int, ...] | None) -> bool:
    """Whether a healthy guest with this kernel has the module."""
    return module.expected and (kernel is None or kernel >= module.since)


def offers(module: HypervModule, kernel: tuple[int, ...] | None) -> bool:
    """Whether this kernel ever had the module."""
    return kernel is None or kernel >= module.since


def is_present(module: LinuxModule) -> bool:
    """Whether the kernel has the module, in itself or as a file."""
    return bool(module.built_in) or module.path is not None or bool(module.in_initramfs)


def _troubles(facts: LinuxGuestFacts) -> Iterator[Finding]:
    yield from trouble_findings(facts.troubles)


def _mounts(facts: LinuxGuestFacts) -> Iterator[Finding]:
    for mount in facts.linux.mounts:
        if mount.volume is None and mount.path in {"/boot", "/usr", "/var", "/var/lib"}:
            yield Finding(
                "mount-not-found",
                "medium",
                f"{mount.path} is a volume of its own ({mount.device}) that is not on this image: what lies there is"
                " unknown.",
                "Name the disk that it is on too, or copy both disks into one image.",
            )


def _no_kernel(facts: LinuxGuestFacts) -> Iterator[Finding]:
    if facts.kernel is None:
        yield Finding(
            "kernel-not-found",
            "medium",
            "No kernel was found: neither modules in /lib/modules nor an image in /boot.",
            "Where /boot is on another disk, inspect that one. Else install the kernel's package.",
        )


def _boot_modules(facts: LinuxGuestFacts) -> Iterator[Finding]:
    kernel = facts.kernel
    if kernel is None:
        return
    boots = {known.name for known in hyperv_modules() if known.boots}
    modules = [module for module in kernel.modules if module.name in boots]
    missing = [module.name for module in modules if not is_present(module)]
    if missing:
        yield Finding(
            "boot-module-missing",
            "high",
            f"The kernel {kernel.release} has no {' and no '.join(missing)}.{RISK}",
            "Install a kernel with the modules of Hyper-V (the distribution's usual one, not one cut down).",
        )
    files = [module for module in modules if module.built_in is False and is_present(module)]
    if kernel.initramfs is None:
        if files and kernel.image is not None:
            yield Finding(
                "initramfs-missing",
                "high",
                f"{' and '.join(module.name for module in files)} of the kernel {kernel.release} are files, and there"
                f" is no initramfs that has them.{RISK}",
                rebuild_advice(facts.release, kernel.release),
            )
        return
    lacking = " and ".join(module.name for module in files if module.in_initramfs is False)
    if lacking:
        yield Finding(
            "boot-module-not-in-initramfs",
            "high",
            f"The initramfs {kernel.initramfs.path} of the kernel {kernel.release} lacks {lacking}.{RISK}",
            rebuild_advice(facts.release, kernel.release),
        )


def _blocked(facts: LinuxGuestFacts) -> Iterator[Finding]:
    kernel = facts.kernel
    known = {one.name: one for one in hyperv_modules()}
    for module in () if kernel is None else kernel.modules:
        if module.blocked and is_present(module):
            boots, expected = known[module.name].boots, known[module.name].expected
            yield Finding(
                "module-blacklisted",
                "high" if boots else "medium" if expected else "low",
                f"{module.name} is kept from loading: {'; '.join(module.blocked)}.{RISK if boots else ''}",
                unblock_advice(facts.release, module.blocked),
            )


def _missing_modules(facts: LinuxGuestFacts) -> Iterator[Finding]:
    kernel = facts.kernel
    if kernel is None:
        return
    numbers = None if facts.installed is None else facts.installed.numbers
    by_name = {module.name: module for module in kernel.modules}
    for known in hyperv_modules():
        module = by_name[known.name]
        if needs(known, numbers) and not known.boots and not is_present(module):
            yield Finding(
                "module-missing",
                "medium",
                f"The kernel {kernel.release} has no {known.name} ({known.title}).",
                "Install the package with the rest of the kernel's modules (Ubuntu: linux-modules-extra; Red Hat:"
                " kernel-modules), or the distribution's usual kernel.",
            )
    if not facts.indexed and kernel.modules_directory is not None and _has_files(kernel):
        yield Finding(
            "modules-not-indexed",
            "medium",
            f"{kernel.modules_directory} has no modules.dep: modprobe finds no module of this kernel.",
            f"In the guest: depmod {kernel.release}",
        )


def _has_files(kernel: LinuxKernel) -> bool:
    return any(module.path is not None for module in kernel.modules)


def _other_kernels(facts: LinuxGuestFacts) -> Iterator[Finding]:
    boots = [known.name for known in hyperv_modules() if known.boots]
    for kernel in facts.linux.kernels:
        if kernel.default or kernel.image is None:
            continue
        by_name = {module.name: module for module in kernel.modules}
        lacking = [
            name
            for name in boots
            if not is_present(by_name[name])
            or (by_name[name].built_in is False and by_name[name].in_initramfs is False)
        ]
        if lacking:
            yield Finding(
                "other-kernel-not-ready",
                "low",
                f"The kernel {kernel.release}, which can be chosen at start, boots without {' and '.join(lacking)}.",
                rebuild_advice(facts.release, kernel.release),
            )


def _is_there_at_boot(module: LinuxModule) -> bool:
    """Whether nothing speaks against it: what is not known does not."""
    return is_present(module) and not (module.built_in is False and module.in_initramfs is False)


def _version(facts: LinuxGuestFacts) -> Iterator[Finding]:
    if facts.kernel is not None:
        yield from version_conflict(facts.version)


def _daemons(facts: LinuxGuestFacts) -> Iterator[Finding]:
    numbers = None if facts.installed is None else facts.installed.numbers
    known = {daemon.name: daemon for daemon in linux_daemons()}
    for fact in facts.linux.daemons:
        if known[fact.name].serves(numbers) and not (numbers is None and fact.name == "hv_fcopy_uio_daemon"):
            yield from _daemon(fact, facts)


def _daemon(fact: LinuxDaemonFact, facts: LinuxGuestFacts) -> Iterator[Finding]:
    severity = SEVERITIES.get(fact.name, "info")
    advice = daemon_advice(facts.release, fact)
    if fact.path is None:
        yield Finding("daemon-missing", severity, f"{fact.name} is not installed: {USES[fact.name]}.", advice)
    elif fact.program is None:
        release = "" if facts.kernel is None else facts.kernel.release
        yield Finding(
            "daemon-not-for-kernel",
            severity,
            f"{fact.path} runs what was built for the running kernel, and there is none for {release}:"
            f" {USES[fact.name]}.",
            f"In the guest: install linux-cloud-tools-{release}",
        )
    elif fact.start in {"no", "masked"}:
        off = "is masked" if fact.start == "masked" else "is started by nothing"
        code = "kvp-disabled" if fact.name == KVP else "daemon-masked" if fact.start == "masked" else "daemon-disabled"
        yield Finding(code, severity, f"{fact.name} is installed and {off}: {USES[fact.name]}.", advice)


def _helpers(facts: LinuxGuestFacts) -> Iterator[Finding]:
    daemon = next((fact for fact in facts.linux.daemons if fact.name == KVP), None)
    lacking = [helper.name for helper in facts.linux.helpers if helper.path is None]
    if daemon is None or daemon.path is None or not lacking:
        return
    told = "; ".join(HELPERS[name] for name in lacking if name in HELPERS)
    yield Finding(
        "kvp-helper-missing",
        "info",
        f"hv_kvp_daemon calls scripts that are not there: {', '.join(lacking)}. So {told}.",
        "Where that is needed, put the script of the distribution's kernel sources (tools/hv) in place.",
    )


def _install_state(facts: LinuxGuestFacts) -> Iterator[Finding]:
    if facts.install_state == "generalized":
        yield Finding(
            "image-generalized",
            "info",
            "The guest has no machine id: its next start makes one, and runs what is meant for the first start.",
            "None needed: this is the state to deploy from.",
        )


def _pending(facts: LinuxGuestFacts) -> Iterator[Finding]:
    if facts.pending:
        yield Finding(
            "servicing-pending",
            "medium",
            "The work of the package manager is not finished: " + "; ".join(facts.pending) + ".",
            "In the guest: dpkg --configure -a",
        )


RULES: tuple[Callable[[LinuxGuestFacts], Iterator[Finding]], ...] = (
    _troubles,
    _mounts,
    _no_kernel,
    _boot_modules,
    _blocked,
    _missing_modules,
    _other_kernels,
    _version,
    _daemons,
    _helpers,
    _pending,
    _install_state,
)
