"""What to do in a Linux guest, where start types can't be set from outside: the line to type there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vhdtool.fs.base import GuestFilesystem
from vhdtool.guest.linux_loading import COMMAND_LINE
from vhdtool.guest.linux_model import LinuxDaemonFact
from vhdtool.guest.linux_release import read_release, release_ids
from vhdtool.guest.linux_start import UNIT_FOLDERS
from vhdtool.guest.service_change import integration_component
from vhdtool.knowledge.linux_daemons import LinuxDaemon, daemon_package, linux_daemons

DEBIAN_KIN = frozenset({"debian", "ubuntu"})
RED_HAT_KIN = frozenset({"fedora", "rhel", "centos", "ol", "almalinux", "rocky"})
DRACUT_KIN = RED_HAT_KIN | {"suse", "sles", "opensuse", "azurelinux", "mariner"}


def linux_advice(filesystem: GuestFilesystem, requests: Sequence[tuple[str, str]] = ()) -> str | None:
    """Tell how services are turned on in the Linux on this file system; ``None`` where no Linux is on it.

    ``requests`` as of :func:`vhdtool.guest.service_change.plan_service_starts`; without any, all daemons are told.
    The units are those that the guest has; for one that it has not, the package to install is named (os-release(5)).
    """
    release = read_release(filesystem)
    if release is None:
        return None
    wanted = [*requests] or [(daemon.service, "auto") for daemon in linux_daemons()]
    return "; ".join(dict.fromkeys(_lines(filesystem, release, wanted)))


def daemon_advice(release: Mapping[str, str], fact: LinuxDaemonFact) -> str:
    """Tell how a daemon that does not start is made to."""
    daemon = next(one for one in linux_daemons() if one.name == fact.name)
    unit = None if fact.unit is None else fact.unit.removesuffix(".service")
    if fact.path is None:
        return f"In the guest: {_install(release, daemon)}"
    if unit is None:
        return f"{fact.path} has no unit: make one, or install {_package(release)}."
    if any(one.startswith(COMMAND_LINE) for one in fact.started_by):
        return "In the guest: take the option out of the kernel's command line (GRUB: /etc/default/grub)."
    unmask = f"systemctl unmask {unit}; " if fact.start == "masked" else ""
    return f"In the guest: {unmask}{_enable(unit)}"


def rebuild_advice(release: Mapping[str, str], kernel: str) -> str:
    """Tell how the initramfs is made again with the modules of Hyper-V in it."""
    ids = set(release_ids(release))
    if ids & DEBIAN_KIN:
        return (
            "In the guest: add hv_vmbus, hv_storvsc and hv_netvsc to /etc/initramfs-tools/modules,"
            f" then: update-initramfs -u -k {kernel}"
        )
    if ids & DRACUT_KIN:
        return f'In the guest: dracut -f --add-drivers "hv_vmbus hv_storvsc hv_netvsc" --kver {kernel}'
    if "arch" in ids:
        return "In the guest: add hv_vmbus hv_storvsc hv_netvsc to MODULES in /etc/mkinitcpio.conf, then: mkinitcpio -P"
    if "alpine" in ids:
        return f"In the guest: add the feature hyperv to /etc/mkinitfs/mkinitfs.conf, then: mkinitfs {kernel}"
    return "In the guest: make the initramfs again, with hv_vmbus, hv_storvsc and hv_netvsc in it."


def unblock_advice(release: Mapping[str, str], blocked: Sequence[str]) -> str:
    """Tell how modules are let load again: ``blocked`` as :class:`vhdtool.guest.linux_model.LinuxModule` has it."""
    ids = set(release_ids(release))
    debian, dracut = ids & DEBIAN_KIN, ids & DRACUT_KIN
    steps: list[str] = []
    if any(not one.startswith(COMMAND_LINE) for one in blocked):
        steps.append("take the line out of the file")
        steps.append("update-initramfs -u" if debian else "dracut -f" if dracut else "make the initramfs again")
    if any(one.startswith(COMMAND_LINE) for one in blocked):
        steps.append("take the option out of the kernel's command line (GRUB: /etc/default/grub)")
        steps.append("update-grub" if debian else "grub2-mkconfig" if dracut else "make the boot menu again")
    return f"In the guest: {', then: '.join(steps)}"


def _lines(filesystem: GuestFilesystem, release: dict[str, str], wanted: list[tuple[str, str]]) -> Iterator[str]:
    for name, word in wanted:
        component = integration_component(name)
        service = name if component is None else component.name
        daemons = [one for one in linux_daemons() if service in {one.service, one.name, *one.programs, *_units(one)}]
        if not daemons:
            yield (
                f"{name} is no daemon of Hyper-V"
                if component is None
                else f"{name}: in the kernel (module hv_utils), with no service to set"
            )
            continue
        unit = next((unit for daemon in daemons if (unit := _unit(filesystem, daemon)) is not None), None)
        if unit is not None:
            yield f"systemctl disable {unit}" if word == "disabled" else _enable(unit)
        elif word != "disabled":
            yield _install(release, daemons[0])


def _units(daemon: LinuxDaemon) -> set[str]:
    return {*daemon.units, *(unit.removesuffix(".service") for unit in daemon.units)}


def _enable(unit: str) -> str:
    return f"systemctl enable {unit}"


def _install(release: Mapping[str, str], daemon: LinuxDaemon) -> str:
    return f"install {_package(release)}, then: {_enable(_likely(release, daemon))}"


def _package(release: Mapping[str, str]) -> str:
    package = daemon_package(release_ids(release))
    return "the package with the Hyper-V daemons" if package is None else f"the package {package}"


def _unit(filesystem: GuestFilesystem, daemon: LinuxDaemon) -> str | None:
    for folder in UNIT_FOLDERS:
        for unit in daemon.units:
            if filesystem.stat(f"{folder}/{unit}") is not None:
                return unit.removesuffix(".service")
    return None


def _likely(release: Mapping[str, str], daemon: LinuxDaemon) -> str:
    """The first unit is that of Debian and Ubuntu, the second that of Fedora and its kin, the third all others'."""
    ids = set(release_ids(release))
    place = 0 if ids & DEBIAN_KIN else 1 if ids & RED_HAT_KIN else 2
    return daemon.units[place].removesuffix(".service")
