r"""Will this Windows find its disk on Hyper-V: the drivers that must start at boot, and what keeps them from it.

A Windows that was last started elsewhere carries ``StartOverride`` values that turn drivers it had no use for into
manual ones: on Hyper-V it then stops with 0x7B (INACCESSIBLE_BOOT_DEVICE), whatever ``Start`` says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from vhdtool.guest.control_set import ControlSet, required_control_set
from vhdtool.guest.display_names import below_windows
from vhdtool.guest.model import StartName
from vhdtool.guest.services import (
    StartFacts,
    hardware_configuration,
    has_newer_package,
    read_start,
    start_name,
    start_name_of,
)
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.values import text
from vhdtool.guest.windows import UNKNOWN_IDENTITY, Architecture, read_architecture, read_identity
from vhdtool.knowledge.boot_drivers import boot_drivers
from vhdtool.knowledge.integration import WindowsVersion, integration_drivers
from vhdtool.registry.hive import Key
from vhdtool.registry.operation import DeleteValue, RegistryOperation, SetValue
from vhdtool.registry.value_data import REG_DWORD

BOOT = 0
FIRST_WITH_GENERATION_2 = (6, 2)
"""Windows 8 and Server 2012: the first that start from UEFI without a BIOS beside it, and from a SCSI controller
(Microsoft, "Should I create a generation 1 or 2 virtual machine in Hyper-V?"); 64-bit only."""

MOST_OVERRIDES = 256


@dataclass(frozen=True, slots=True)
class BootDriverRow:
    """One driver. ``generations`` of virtual machines do not start without it; empty where it is only of use.

    ``start``: what ``Start`` says; ``override`` takes its place; ``effective`` is acted upon. ``file``: the driver's
    path from the volume's root; ``file_present`` is ``None`` where that is not known. ``problems``: why it is not
    ``ok``. ``fixable``: registry values alone can make it ``ok``.
    """

    name: str
    display_name: str | None
    generations: tuple[int, ...]
    location: str
    start: StartName | None
    override: int | None
    effective: StartName | None
    file: str | None
    file_present: bool | None
    ok: bool
    fixable: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootReadyPlan:
    """Whether a Windows starts on Hyper-V, and what to do to the hive SYSTEM where it does not.

    ``ready_for``: the generations of virtual machines that it starts on now; ``ready_after``: once ``operations`` are
    done. ``generations``: those that were asked for, of those that this Windows can run on at all.
    """

    generations: tuple[int, ...]
    ready_for: tuple[int, ...]
    ready_after: tuple[int, ...]
    items: tuple[BootDriverRow, ...]
    operations: tuple[RegistryOperation, ...]

    @property
    def ready(self) -> bool:
        """Whether it starts on every generation that was asked for."""
        return bool(self.generations) and set(self.generations) <= set(self.ready_for)


def plan_boot_ready(installation: WindowsInstallation, *, generation: int | None = None) -> BootReadyPlan:
    """Look at the boot drivers, and plan what makes them start.

    ``generation`` of the virtual machine, 1 or 2; without it every one that this Windows can run on. Raises
    :class:`NotFoundError` ``no-control-set``, and what opening and reading the hives raises.
    """
    system = installation.hive("SYSTEM")
    control_set = required_control_set(system)
    software = installation.optional_hive("SOFTWARE")
    identity = UNKNOWN_IDENTITY if software is None else read_identity(software)
    possible = _generations(identity.numbers, read_architecture(installation, identity, control_set))
    wanted = possible if generation is None else tuple(one for one in possible if one == generation)
    reader = _Reader(installation, control_set, identity.numbers, hardware_configuration(system))
    rows, operations = [], []
    for name, display_name, generations in _drivers(identity.numbers, reader.with_package):
        row, needed = reader.row(name, display_name, tuple(one for one in generations if one in wanted))
        rows.append(row)
        operations += needed
    return BootReadyPlan(
        generations=wanted,
        ready_for=tuple(one for one in wanted if all(row.ok for row in rows if one in row.generations)),
        ready_after=tuple(
            one for one in wanted if all(row.ok or row.fixable for row in rows if one in row.generations)
        ),
        items=tuple(rows),
        operations=tuple(operations),
    )


def _generations(windows: WindowsVersion | None, architecture: Architecture | None) -> tuple[int, ...]:
    if architecture == "arm64":
        return (2,)
    if architecture == "x86" or (windows is not None and windows < FIRST_WITH_GENERATION_2):
        return (1,)
    return (1, 2)


def _drivers(windows: WindowsVersion | None, with_package: bool) -> Iterator[tuple[str, str | None, tuple[int, ...]]]:
    for driver in boot_drivers():
        if windows is None or windows >= driver.since:
            yield driver.name, None, driver.generations
    for component in integration_drivers():
        expected = start_name_of(component.expected(windows, with_package=with_package))
        if component.boots if windows is None else expected == "boot" and windows >= component.offered_from:
            yield component.name, component.display_name, (2,) if component.boots else ()


class _Reader:
    def __init__(
        self,
        installation: WindowsInstallation,
        control_set: ControlSet,
        windows: WindowsVersion | None,
        configuration: int,
    ) -> None:
        self._installation = installation
        self._services = control_set.key("Services")
        self._location = rf"{control_set.location}\Services"
        self._configuration = configuration
        self.with_package = has_newer_package(self._services, windows, Troubles())

    def row(
        self, name: str, display_name: str | None, generations: tuple[int, ...]
    ) -> tuple[BootDriverRow, list[RegistryOperation]]:
        key = None if self._services is None else self._services.subkey(name)
        location = rf"{self._location}\{name}"
        if key is None:
            problem = "It is not installed: Windows must bring it, or the integration services package."
            row = BootDriverRow(
                name, display_name, generations, location, None, None, None, None, None,
                ok=False, fixable=False, problems=(problem,),
            )  # fmt: skip
            return row, []
        facts = read_start(key, location, self._configuration)
        file, present = driver_file(self._installation, name, key)
        operations = list(_operations(key, facts))
        problems = list(_problems(facts, file if present is False else None))
        row = BootDriverRow(
            name=name,
            display_name=display_name,
            generations=generations,
            location=location,
            start=start_name(facts.start),
            override=facts.override,
            effective=start_name(facts.effective),
            file=file,
            file_present=present,
            ok=not problems,
            fixable=bool(operations) and present is not False,
            problems=tuple(problems),
        )
        return row, operations


def driver_file(installation: WindowsInstallation, name: str, key: Key) -> tuple[str | None, bool | None]:
    """Return a driver's path from the volume's root, and whether a file is there; ``None`` where that is not known.

    ``key`` is that of the service ``name``.
    """
    written = text(key, "ImagePath") or rf"System32\drivers\{name}.sys"
    relative = ":" not in written and not written.startswith(("\\", "%"))  # to the Windows directory
    below = below_windows(rf"\SystemRoot\{written}" if relative else written)
    if below is None:
        return None, None
    path = installation.path(below)
    fact = installation.filesystem.stat(path)
    return path, fact is not None and fact.kind != "directory"


def _problems(facts: StartFacts, missing: str | None) -> Iterator[str]:
    if facts.effective != BOOT and facts.override is not None:
        yield f"{facts.override_location} makes it {start_name(facts.override) or facts.override}, whatever Start says."
    elif facts.effective != BOOT:
        yield f"It starts as {start_name(facts.start) or 'unknown'}, not at boot."
    if missing is not None:
        yield f"Its file is not there: {missing}"


def _operations(key: Key, facts: StartFacts) -> Iterator[RegistryOperation]:
    if facts.effective == BOOT:
        return
    if facts.start != BOOT:
        stored = key.value("Start")
        yield SetValue(key.path, "Start" if stored is None else stored.name, REG_DWORD, struct.pack("<I", BOOT))
    overrides = key.subkey("StartOverride")
    for value in islice(() if overrides is None else overrides.values(), MOST_OVERRIDES):
        if value.data != BOOT:  # those of other hardware too: which one the next machine counts as is not known
            yield DeleteValue(rf"{key.path}\StartOverride", value.name)
