"""Everything that is known of one Linux: the entry points of the guest layer for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vhdtool.guest.linux import LinuxInstallation, is_generalized
from vhdtool.guest.linux_daemons import read_daemons, read_helpers
from vhdtool.guest.linux_findings import LinuxGuestFacts, linux_findings
from vhdtool.guest.linux_initramfs import MOST_UNPACKED
from vhdtool.guest.linux_kernels import InstalledKernel, Kernels, read_kernels
from vhdtool.guest.linux_kvp_pools import kvp_host, read_pools
from vhdtool.guest.linux_loading import read_load_rules
from vhdtool.guest.linux_model import LinuxDaemonFact, LinuxFacts, LinuxKernel, LinuxPackage
from vhdtool.guest.linux_modules import KernelModules, read_modules
from vhdtool.guest.linux_packages import PackageDatabase, open_packages
from vhdtool.guest.linux_rows import daemon_rows, module_rows, unit_rows
from vhdtool.guest.linux_start import StartRules
from vhdtool.guest.model import (
    Agreement,
    Guest,
    InstallState,
    IntegrationServices,
    OperatingSystem,
    Service,
    VersionEvidence,
)
from vhdtool.guest.source import Troubles

Architecture = Literal["amd64", "x86", "arm64"]

ARCHITECTURES: tuple[tuple[str, Architecture], ...] = (
    ("amd64", "amd64"), ("x86_64", "amd64"), ("arm64", "arm64"), ("aarch64", "arm64"), ("i686", "x86"), ("i386", "x86"),
    ("686", "x86"),
)  # fmt: skip
"""What kernel releases end with."""

MOST_UNPACKED_OF_ALL = 3 << 30
"""Bytes that the initramfs of all kernels may unpack to; what is beyond is told as unreadable."""

COMPARED = frozenset({"kernel", "kernel-image", "vermagic"})
"""Sources that tell the release itself. Packages and modules have versions that count differently."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A kernel with its modules, as both are read."""

    installed: InstalledKernel
    modules: KernelModules


def inspect_linux(installation: LinuxInstallation, *, all_services: bool = False) -> Guest:
    """Read all facts of a Linux. What can't be read leaves its facts unknown and is named in a finding."""
    troubles = Troubles()
    tree = installation.tree
    troubles.found += installation.troubles()
    release: dict[str, str] = {}
    with troubles.guard("os-release"):
        release = installation.release
    kernels, read = _kernels(installation, troubles, everything=True)
    starts = StartRules(tree, troubles, _command_line(kernels))
    daemons = read_daemons(tree, kernels.default, starts, troubles)
    packages = open_packages(tree, troubles)
    owners = _owners(packages, read, daemons, troubles)
    daemons = tuple(_owned(fact, owners) for fact in daemons)
    pools = read_pools(tree, troubles)
    facts = LinuxFacts(
        init=starts.init,
        boot_source=kernels.boot_source,
        package_manager=None if packages is None else packages.manager,
        kernels=tuple(_kernel_fact(one, kernels, owners) for one in read),
        daemons=daemons,
        helpers=read_helpers(tree, troubles),
        mounts=installation.mounts,
        kvp_pools=pools,
        kvp_host=kvp_host(pools),
    )
    default = next((one for one in read if one.installed == kernels.default), None)
    kernel = next((one for one in facts.kernels if one.default), None)
    version = _version(default, owners, daemons)
    state: InstallState = "complete"
    with troubles.guard("the machine id"):
        state = "generalized" if is_generalized(tree, starts.init) else "complete"
    pending = tuple(_pending(facts))
    every: tuple[Service, ...] | None = None
    if all_services:
        every = unit_rows(starts)
    return Guest(
        volume=installation.volume_index,
        os=OperatingSystem(
            family="linux",
            product=release.get("PRETTY_NAME") or release.get("NAME") or None,
            version=None if kernel is None else kernel.release,
            edition=release.get("VARIANT") or None,
            architecture=_architecture(default),
            install_state=state,
            control_set=None,
            pending=pending,
            fast_startup=None,
        ),
        integration_services=version,
        services=daemon_rows(daemons, kernels.default),
        drivers=() if default is None else module_rows(default.installed, default.modules),
        hives=(),
        staged=(),
        findings=linux_findings(
            LinuxGuestFacts(
                release=release,
                linux=facts,
                kernel=kernel,
                installed=kernels.default,
                indexed=default is None or default.modules.indexed,
                version=version,
                install_state=state,
                pending=pending,
                troubles=troubles.found,
            )
        ),
        all_services=every,
        linux=facts,
    )


def linux_version(installation: LinuxInstallation, troubles: Troubles) -> IntegrationServices:
    """Read which kernel starts, and what else tells its version; not its initramfs, which says nothing of it."""
    troubles.found += installation.troubles()
    kernels, read = _kernels(installation, troubles, everything=False, initramfs=False)
    starts = StartRules(installation.tree, troubles, _command_line(kernels))
    daemons = read_daemons(installation.tree, kernels.default, starts, troubles)
    owners = _owners(open_packages(installation.tree, troubles), read, daemons, troubles)
    return _version(next(iter(read), None), owners, tuple(_owned(fact, owners) for fact in daemons))


def linux_services(
    installation: LinuxInstallation, troubles: Troubles, *, all_services: bool = False
) -> tuple[tuple[Service, ...], tuple[Service, ...], tuple[Service, ...] | None]:
    """Read the daemons, the modules of the kernel that starts and, where asked for, every service."""
    troubles.found += installation.troubles()
    kernels, read = _kernels(installation, troubles, everything=False)
    starts = StartRules(installation.tree, troubles, _command_line(kernels))
    daemons = read_daemons(installation.tree, kernels.default, starts, troubles)
    drivers = module_rows(read[0].installed, read[0].modules) if read else ()
    return daemon_rows(daemons, kernels.default), drivers, unit_rows(starts) if all_services else None


def _kernels(
    installation: LinuxInstallation, troubles: Troubles, *, everything: bool, initramfs: bool = True
) -> tuple[Kernels, tuple[_Kernel, ...]]:
    """All kernels with their modules, or the one alone that starts. That one is read first, from what is allowed."""
    kernels = read_kernels(installation.tree, troubles)
    rules = read_load_rules(installation.tree, troubles)
    order = sorted(kernels.all, key=lambda one: one != kernels.default)[: None if everything else 1]
    read: dict[str, _Kernel] = {}
    left = MOST_UNPACKED_OF_ALL
    for kernel in order:
        shown = kernel if initramfs else replace(kernel, initramfs=None)
        modules = read_modules(installation.tree, shown, rules, troubles, unpack=min(left, MOST_UNPACKED))
        left = max(0, left - modules.unpacked)
        read[kernel.release] = _Kernel(kernel, modules)
    return kernels, tuple(read[kernel.release] for kernel in kernels.all if kernel.release in read)


def _command_line(kernels: Kernels) -> str:
    return "" if kernels.default is None else kernels.default.command_line or ""


def _owners(
    packages: PackageDatabase | None, kernels: Sequence[_Kernel], daemons: Sequence[LinuxDaemonFact], troubles: Troubles
) -> dict[str, LinuxPackage]:
    programs = [path for fact in daemons for path in (fact.program, fact.path) if path is not None]
    files = [path for one in kernels for path in _kernel_files(one)]
    with troubles.guard("the package database"):
        wanted = tuple(dict.fromkeys([*programs, *files]))
        return {} if packages is None or not wanted else packages.owners(wanted, frozenset(programs))
    return {}


def _kernel_files(kernel: _Kernel) -> Iterator[str]:
    """Files that the kernel's package brings, the most telling first."""
    if kernel.installed.image is not None:
        yield kernel.installed.image
    if kernel.installed.modules is not None:
        yield f"{kernel.installed.modules}/vmlinuz"
        yield f"{kernel.installed.modules}/modules.builtin"


def _owned(fact: LinuxDaemonFact, owners: dict[str, LinuxPackage]) -> LinuxDaemonFact:
    package = owners.get(fact.program or "") or owners.get(fact.path or "")
    return fact if package is None else replace(fact, package=package)


def _kernel_package(kernel: _Kernel, owners: dict[str, LinuxPackage]) -> LinuxPackage | None:
    return next((owners[path] for path in _kernel_files(kernel) if path in owners), None)


def _kernel_fact(kernel: _Kernel, kernels: Kernels, owners: dict[str, LinuxPackage]) -> LinuxKernel:
    installed = kernel.installed
    return LinuxKernel(
        release=installed.release,
        default=installed == kernels.default,
        image=installed.image,
        image_release=installed.image_release,
        modules_directory=installed.modules,
        config=installed.config,
        initramfs=kernel.modules.initramfs,
        package=_kernel_package(kernel, owners),
        command_line=installed.command_line,
        command_line_source=installed.command_line_source,
        modules=kernel.modules.modules,
    )


def _version(
    kernel: _Kernel | None, owners: dict[str, LinuxPackage], daemons: Sequence[LinuxDaemonFact]
) -> IntegrationServices:
    if kernel is None:
        return IntegrationServices(None, None, "none", ())
    evidence = tuple(_evidence(kernel, owners, daemons))
    told = {one.version for one in evidence if one.source in COMPARED}
    compared = sum(one.source in COMPARED for one in evidence)
    agreement: Agreement = "conflict" if len(told) > 1 else "agree" if compared > 1 else "single"
    return IntegrationServices(kernel.installed.release, "kernel", agreement, evidence)


def _evidence(
    kernel: _Kernel, owners: dict[str, LinuxPackage], daemons: Sequence[LinuxDaemonFact]
) -> Iterator[VersionEvidence]:
    installed = kernel.installed
    yield VersionEvidence("kernel", installed.release, installed.modules or installed.image or "")
    if installed.image_release is not None and installed.image is not None:
        yield VersionEvidence("kernel-image", installed.image_release, installed.image)
    paths = {module.name: module.path for module in kernel.modules.modules}
    for name, info in kernel.modules.info.items():
        if info.release is not None:
            yield VersionEvidence("vermagic", info.release, paths.get(name) or name)
            break
    bus = kernel.modules.info.get("hv_vmbus")
    if bus is not None and bus.version is not None:
        yield VersionEvidence(
            "module-version", bus.version, paths.get("hv_vmbus") or "", "hv_vmbus, as Linux Integration Services count"
        )
    package = _kernel_package(kernel, owners)
    if package is not None:
        yield VersionEvidence("kernel-package", package.version, package.name, "as its distribution counts")
    for fact in daemons:
        if fact.package is not None:
            note = "of the daemons, as their distribution counts"
            yield VersionEvidence("daemons-package", fact.package.version, fact.package.name, note)
            break


def _architecture(kernel: _Kernel | None) -> Architecture | None:
    """By a module, for which machine it is; else by what the release ends with."""
    if kernel is None:
        return None
    for info in kernel.modules.info.values():
        if info.architecture is not None:
            return info.architecture
    release = kernel.installed.release
    return next((name for ending, name in ARCHITECTURES if release.endswith(ending)), None)


def _pending(facts: LinuxFacts) -> Iterator[str]:
    seen = set()
    owned = [*(kernel.package for kernel in facts.kernels), *(daemon.package for daemon in facts.daemons)]
    for package in owned:
        if package is not None and package.state is not None and package not in seen:
            seen.add(package)
            yield f"the package {package.name} is {package.state}"
