"""Everything that is known of one Windows: the entry points of the guest layer.

A Linux has its own (:mod:`vhdtool.guest.linux_inspection`); the questions that both answer are asked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdtool.errors import DamagedError, NotFoundError
from vhdtool.guest.control_set import ControlSet, current_control_set, required_control_set
from vhdtool.guest.findings import GuestFacts, guest_findings
from vhdtool.guest.install_state import install_state, read_image_state, read_setup
from vhdtool.guest.integration import read_version
from vhdtool.guest.model import Guest, InstallState, IntegrationServices, OperatingSystem, Service
from vhdtool.guest.pending import PendingWork, read_pending
from vhdtool.guest.services import ServiceReader
from vhdtool.guest.source import Trouble, Troubles, WindowsInstallation
from vhdtool.guest.windows import (
    UNKNOWN_IDENTITY,
    Architecture,
    WindowsIdentity,
    fast_startup,
    read_architecture,
    read_identity,
)
from vhdtool.registry.hive import Hive

if TYPE_CHECKING:
    from vhdtool.guest.linux import LinuxInstallation

HIBERNATION_FILE = "/hiberfil.sys"
HIBERNATED_MARKS = frozenset({b"hibr", b"HIBR"})
"""First bytes of a hibernation file that waits to be resumed (as ntfs-3g tests); ``wake`` and ``RSTR`` are done."""

OLD_INSTALLATION = "/Windows.old"

MAX_PROBLEMS = 8
"""Damages of one hive that are told; a broken one has thousands, of one cause."""


def inspect_windows(installation: WindowsInstallation, *, all_services: bool = False) -> Guest:
    """Read all facts of an installation.

    What can't be read leaves its facts unknown and is named in a finding. Where neither the SYSTEM nor the SOFTWARE
    hive can be read, the error of the first is raised.
    """
    troubles = Troubles()
    system, software = _hives(installation, troubles)
    control_set = _control_set(system, troubles)
    identity = _identity(software, troubles)
    state: InstallState = "unknown"
    with troubles.guard("the install state"):
        setup = None if system is None else read_setup(system)
        state = install_state(read_image_state(installation, software), setup)
    pending: tuple[PendingWork, ...] = ()
    with troubles.guard("the marks of pending work"):
        pending = read_pending(installation, software, control_set)
    architecture: Architecture | None = None
    with troubles.guard("the architecture"):
        architecture = read_architecture(installation, identity, control_set)
    fast: bool | None = None
    with troubles.guard("the setting of fast startup"):
        fast = fast_startup(control_set)
    hibernated = False
    with troubles.guard("the hibernation file"):
        hibernated = _is_hibernated(installation)
    old: str | None = None
    with troubles.guard("the root directory"):
        fact = installation.filesystem.stat(OLD_INSTALLATION)
        old = None if fact is None or fact.kind != "directory" else OLD_INSTALLATION
    version = read_version(installation, control_set, troubles)
    services, drivers, every = _services(installation, control_set, identity, troubles, all_services=all_services)
    _note_damage(installation, troubles)
    facts = GuestFacts(
        identity=identity,
        install_state=state,
        pending=pending,
        fast_startup=fast,
        hibernated=hibernated,
        version=version,
        services=services,
        drivers=drivers,
        hives=installation.hives(),
        troubles=troubles.found,
        old_installation=old,
    )
    return Guest(
        volume=installation.volume_index,
        os=OperatingSystem(
            family="windows",
            product=identity.product,
            version=identity.version,
            edition=identity.edition,
            architecture=architecture,
            install_state=state,
            control_set=None if control_set is None else control_set.number,
            pending=tuple(str(work) for work in pending),
            fast_startup=fast,
        ),
        integration_services=version,
        services=services,
        drivers=drivers,
        hives=facts.hives,
        staged=(),
        findings=guest_findings(facts),
        all_services=every,
    )


def inspect_guest(installation: WindowsInstallation | LinuxInstallation, *, all_services: bool = False) -> Guest:
    """Read all facts of a guest, of whichever family. Raises as :func:`inspect_windows`."""
    if isinstance(installation, WindowsInstallation):
        return inspect_windows(installation, all_services=all_services)
    from vhdtool.guest.linux_inspection import inspect_linux  # noqa: PLC0415  # only for such guests

    return inspect_linux(installation, all_services=all_services)


def integration_version(
    installation: WindowsInstallation | LinuxInstallation, troubles: Troubles | None = None
) -> IntegrationServices:
    """Read the integration services version, and of the image only what that takes; of a Linux its kernel's.

    A version that no source states is ``None``. Where a source could not be read and no other tells, its error is
    raised: then the version is not known to be unknown. Where another tells, the error goes to ``troubles``.
    """
    troubles = Troubles() if troubles is None else troubles
    if not isinstance(installation, WindowsInstallation):
        from vhdtool.guest.linux_inspection import linux_version  # noqa: PLC0415  # only for such guests

        return linux_version(installation, troubles)
    control_set: ControlSet | None = None
    with troubles.guard("the control set"):
        system = installation.optional_hive("SYSTEM")
        control_set = None if system is None else current_control_set(system)
    version = read_version(installation, control_set, troubles)
    if version.version is None and troubles.found:
        raise troubles.found[0].error
    _note_damage(installation, troubles)
    return version


def list_services(
    installation: WindowsInstallation | LinuxInstallation,
    *,
    all_services: bool = False,
    troubles: Troubles | None = None,
) -> tuple[tuple[Service, ...], tuple[Service, ...], tuple[Service, ...] | None]:
    """Read the integration services, the integration drivers and, where asked for, every service.

    Of a Linux: its daemons, and the modules of the kernel that starts.

    What can't be read leaves its facts unknown and goes to ``troubles``. Raises what opening the SYSTEM hive raises,
    and :class:`NotFoundError` ``no-control-set``.
    """
    troubles = Troubles() if troubles is None else troubles
    if not isinstance(installation, WindowsInstallation):
        from vhdtool.guest.linux_inspection import linux_services  # noqa: PLC0415  # only for such guests

        return linux_services(installation, troubles, all_services=all_services)
    system = installation.hive("SYSTEM")
    control_set = required_control_set(system)
    software: Hive | None = None
    with troubles.guard("the SOFTWARE hive"):
        software = installation.optional_hive("SOFTWARE")
    identity = _identity(software, troubles)
    rows = _services(installation, control_set, identity, troubles, all_services=all_services)
    _note_damage(installation, troubles)
    return rows


def _hives(installation: WindowsInstallation, troubles: Troubles) -> tuple[Hive | None, Hive | None]:
    system: Hive | None = None
    software: Hive | None = None
    with troubles.guard("the SYSTEM hive"):
        system = installation.hive("SYSTEM")
    with troubles.guard("the SOFTWARE hive"):
        software = installation.hive("SOFTWARE")
    if system is None and software is None:
        raise troubles.found[0].error
    return system, software


def _control_set(system: Hive | None, troubles: Troubles) -> ControlSet | None:
    with troubles.guard("the control set"):
        return None if system is None else current_control_set(system)
    return None


def _identity(software: Hive | None, troubles: Troubles) -> WindowsIdentity:
    with troubles.guard("the identity of the installation"):
        return UNKNOWN_IDENTITY if software is None else read_identity(software)
    return UNKNOWN_IDENTITY


def _services(
    installation: WindowsInstallation,
    control_set: ControlSet | None,
    identity: WindowsIdentity,
    troubles: Troubles,
    *,
    all_services: bool,
) -> tuple[tuple[Service, ...], tuple[Service, ...], tuple[Service, ...] | None]:
    if control_set is None:
        return (), (), () if all_services else None
    with troubles.guard("the services"):
        reader = ServiceReader(installation, control_set, identity.numbers, troubles)
        services, drivers = reader.services(), reader.drivers()
        every = reader.every((*services, *drivers)) if all_services else None
        return services, drivers, every
    return (), (), () if all_services else None


def _is_hibernated(installation: WindowsInstallation) -> bool:
    try:
        file = installation.filesystem.open(HIBERNATION_FILE)
    except NotFoundError:
        return False
    return file.read_at(0, 4) in HIBERNATED_MARKS


def _note_damage(installation: WindowsInstallation, troubles: Troubles) -> None:
    for name, hive in installation.opened_hives():
        for problem in hive.problems[:MAX_PROBLEMS]:
            if problem.code == "hive-dirty":
                continue  # the state of the hive says so, and has a finding of its own
            error = DamagedError(problem.code, problem.message, path=problem.path, offset=problem.offset)
            troubles.found.append(Trouble(f"a part of the {name} hive", error))
