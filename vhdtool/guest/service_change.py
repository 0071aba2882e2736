r"""Start types of services, as they shall be: the values to write, and what each service does before and after.

The goal is what Windows will act upon, not the value ``Start`` alone. A ``StartOverride`` of the hardware that the
guest last ran on takes the place of ``Start``; where it says something else than is asked for, it is removed.
``DelayedAutostart`` is a flag beside ``Start``; it is taken back where another start is asked for. Triggers stay as
they are, or are restored to what :mod:`vhdtool.knowledge.service_triggers` recorded from a hive of that Windows.

Only the control set in use is changed, which is the one that is read: the others are what Windows falls back on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import NotFoundError, RefusedError, UsageError
from vhdtool.guest.control_set import required_control_set
from vhdtool.guest.display_names import DisplayNames
from vhdtool.guest.model import START_NAMES, StartName
from vhdtool.guest.services import (
    DELAYED,
    StartFacts,
    hardware_configuration,
    has_newer_package,
    is_service,
    read_start,
    start_name,
    start_name_of,
)
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.values import number, whole_text
from vhdtool.guest.windows import read_identity
from vhdtool.knowledge.integration import (
    IntegrationComponent,
    WindowsVersion,
    integration_drivers,
    integration_services,
)
from vhdtool.knowledge.service_triggers import StoredTrigger, stored_triggers
from vhdtool.registry.hive import Key
from vhdtool.registry.names import fold
from vhdtool.registry.operation import DeleteKey, DeleteValue, RegistryOperation, SetValue
from vhdtool.registry.value_data import REG_BINARY, REG_DWORD

Kind = Literal["service", "driver"]

WORDS: dict[str, StartName] = {name: name for name in START_NAMES} | {"delayed": "auto"}
"""What can be asked for; ``delayed`` is an automatic start some minutes after the others."""

DRIVER_TYPES = 0x01 | 0x02 | 0x08
"""SERVICE_KERNEL_DRIVER, SERVICE_FILE_SYSTEM_DRIVER, SERVICE_RECOGNIZER_DRIVER (winnt.h)."""

MOST_SERVICES = 20_000
MOST_TRIGGERS = 64


@dataclass(frozen=True, slots=True)
class StartState:
    """How a service starts. ``override`` is the number that takes the place of ``start``; ``triggers`` are counted."""

    start: StartName | None
    delayed: bool
    override: int | None
    effective: StartName | None
    triggers: int


@dataclass(frozen=True, slots=True)
class ServiceRow:
    r"""One service, before and after. ``location`` is its key: ``SYSTEM\ControlSet001\Services\vmicvss``.

    ``expected`` is the start of a healthy guest of this Windows, ``None`` where that is not known. ``notes`` say what
    else the change does, and what it does not.
    """

    name: str
    display_name: str | None
    kind: Kind
    location: str
    before: StartState
    after: StartState
    expected: StartName | None
    changes: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What to do to the hive SYSTEM, and the services that it concerns; no operations where all is so already."""

    operations: tuple[RegistryOperation, ...]
    rows: tuple[ServiceRow, ...]


def plan_service_starts(
    installation: WindowsInstallation,
    requests: Sequence[tuple[str, str]],
    *,
    force: bool = False,
    restore_triggers: bool = False,
) -> ServicePlan:
    """Plan the start types of services.

    ``requests``: names and words (:data:`WORDS`). A name is that of the service's key, for an integration service also
    that of Get-VMIntegrationService ("Guest Service Interface") or its English display name; case does not matter.
    Without ``force`` only integration services can be changed.

    Raises :class:`UsageError` ``start-word``, ``start-not-possible`` (boot for a service), ``service-twice``;
    :class:`RefusedError` ``driver-start``, ``not-an-integration-service``, ``triggers-unknown``;
    :class:`NotFoundError` ``no-such-service``, ``no-control-set``; and what opening and reading the hives raises.
    """
    for _, word in requests:
        if word not in WORDS:
            raise UsageError(
                "start-word", "this is no start type", found=repr(word), hint=f"One of: {', '.join(sorted(WORDS))}."
            )
    guest = _Guest(installation)
    chosen: dict[str, str] = {}
    operations: list[RegistryOperation] = []
    rows: list[ServiceRow] = []
    for asked, word in requests:
        service = guest.find(asked)
        if chosen.setdefault(fold(service.key.name), word) != word:
            raise UsageError("service-twice", "a service is asked to start in two ways", found=repr(asked))
        if any(row.name == service.name for row in rows):
            continue
        _refuse(service, word, force=force)
        restored = guest.recorded_triggers(service) if restore_triggers else None
        starts = list(_start_operations(service, word))
        triggers = [] if restored is None else list(_trigger_operations(service.key, restored))
        operations += [*starts, *triggers]
        rows.append(_row(service, word, restored, changes=bool(starts or triggers), retriggered=bool(triggers)))
    return ServicePlan(tuple(operations), tuple(rows))


@dataclass(frozen=True, slots=True)
class _Service:
    key: Key
    name: str
    display_name: str | None
    kind: Kind
    component: IntegrationComponent | None
    facts: StartFacts
    expected: StartName | None
    needs_trigger: bool


class _Guest:
    def __init__(self, installation: WindowsInstallation) -> None:
        system = installation.hive("SYSTEM")
        control_set = required_control_set(system)
        self._path = system.path
        self._services = control_set.key("Services")
        self._location = rf"{control_set.location}\Services"
        self._configuration = hardware_configuration(system)
        self._names = DisplayNames(installation, control_set, Troubles())
        software = installation.optional_hive("SOFTWARE")
        self._windows: WindowsVersion | None = None if software is None else read_identity(software).numbers
        self._with_package = has_newer_package(self._services, self._windows, Troubles())

    def find(self, asked: str) -> _Service:
        component = integration_component(asked)
        name = asked.strip() if component is None else component.name
        key = None if self._services is None or "\\" in name or not name else self._services.subkey(name)
        if key is None or not is_service(key):
            raise self._missing(asked, component)
        facts = read_start(key, rf"{self._location}\{whole_text(key.name)}", self._configuration)
        table = None if component is None else component.display_name
        shown = self._names.resolve(facts.display_name, table=table, open_files=False)
        expected = None if component is None else component.expected(self._windows, with_package=self._with_package)
        return _Service(
            key=key,
            name=whole_text(key.name),
            display_name=None if shown is None else shown.text,
            kind=_kind(key, component),
            component=component,
            facts=facts,
            expected=start_name_of(expected),
            needs_trigger=expected is not None and expected.trigger,
        )

    def recorded_triggers(self, service: _Service) -> tuple[StoredTrigger, ...]:
        found = stored_triggers(service.name, self._windows)
        if found is None:
            version = "unknown" if self._windows is None else ".".join(map(str, self._windows))
            raise RefusedError(
                "triggers-unknown",
                f"it is not recorded which triggers {service.name} has in this Windows",
                path=self._path,
                found=f"Windows version {version}",
                hint="Leave --restore-triggers out, or set the service to auto: it needs no trigger then.",
            )
        return found

    def _missing(self, asked: str, component: IntegrationComponent | None) -> NotFoundError:
        hint = self._similar(asked)
        if component is not None:
            since = ".".join(map(str, component.offered_from))
            hint = f"Windows has it from {since} on, others from the integration services package: install that."
        return NotFoundError(
            "no-such-service", f"the guest has no service {asked!r}", path=self._path, found=self._location, hint=hint
        )

    def _similar(self, asked: str) -> str:
        import difflib  # noqa: PLC0415  # only for the hint

        names = [] if self._services is None else [whole_text(key.name) for key in self._services.subkeys()]
        lowered = {name.lower(): name for name in names[:MOST_SERVICES]}
        close = [lowered[name] for name in difflib.get_close_matches(asked.lower(), lowered, n=3)]
        meant = f"Similar names: {', '.join(close)}. " if close else ""
        return f"{meant}All names: vhdtool services list IMAGE --all-services"


def integration_component(asked: str) -> IntegrationComponent | None:
    """Find an integration service or driver by any of its names, without regard to case and repeated blanks."""
    wanted = " ".join(asked.split()).casefold()
    for component in (*integration_services(), *integration_drivers()):
        names = (component.name, component.host_name, component.display_name)
        if component in integration_drivers():
            names = (component.name, None, None)  # several drivers share a display name
        if any(name is not None and name.casefold() == wanted for name in names):
            return component
    return None


def _kind(key: Key, component: IntegrationComponent | None) -> Kind:
    kind = number(key, "Type")
    if kind is None:
        return "driver" if component in integration_drivers() else "service"
    return "driver" if kind & DRIVER_TYPES else "service"


def _refuse(service: _Service, word: str, *, force: bool) -> None:
    if service.kind == "driver" and not force:
        raise RefusedError(
            "driver-start",
            f"{service.name} is a driver, and drivers are not meant to be serviced by hand",
            found=service.facts.location,
            hint="Make it ready to boot on Hyper-V: vhdtool boot-ready IMAGE --fix. Or insist: --force",
        )
    if service.component is None and not force:
        raise RefusedError(
            "not-an-integration-service",
            f"{service.name} is not one of the integration services",
            found=service.facts.location,
            hint="To change it all the same: --force",
        )
    if service.kind == "service" and word in {"boot", "system"}:
        raise UsageError(
            "start-not-possible",
            f"{service.name} is a service, and only drivers start as {word}",
            hint="A service starts as one of: auto, delayed, manual, disabled.",
        )
    if service.kind == "driver" and word == "delayed":
        raise UsageError(
            "start-not-possible",
            f"{service.name} is a driver, and only services start delayed",
            hint="A driver starts as one of: boot, system, auto, manual, disabled.",
        )


def _start_operations(service: _Service, word: str) -> Iterator[RegistryOperation]:
    key, wanted = service.key, START_NAMES.index(WORDS[word])
    yield from _number(key, "Start", wanted)
    if word == "delayed":
        yield from _number(key, DELAYED, 1)
    elif number(key, DELAYED):
        yield from _number(key, DELAYED, 0)
    if service.facts.override not in {None, wanted}:
        yield remove_override(service.facts, key)


def remove_override(facts: StartFacts, key: Key) -> DeleteValue:
    """Return the operation that removes the value which takes the place of ``Start``."""
    name = (facts.override_location or "").rpartition("\\")[2]
    return DeleteValue(rf"{key.path}\StartOverride", name)


def _number(key: Key, name: str, wanted: int) -> Iterator[SetValue]:
    stored, data = key.value(name), struct.pack("<I", wanted)
    if stored is None or (stored.type, stored.raw) != (REG_DWORD, data):
        yield SetValue(key.path, name if stored is None else stored.name, REG_DWORD, data)


def _trigger_operations(key: Key, wanted: Sequence[StoredTrigger]) -> Iterator[RegistryOperation]:
    place = rf"{key.path}\TriggerInfo"
    info = key.subkey("TriggerInfo")
    there = {} if info is None else {fold(found.name): found for found in info.subkeys()}
    for name in sorted(there.keys() - {fold(trigger.key) for trigger in wanted}):
        yield DeleteKey(rf"{place}\{there[name].name}")
    for trigger in wanted:
        below = rf"{place}\{trigger.key}"
        values = {
            "Action": (REG_DWORD, struct.pack("<I", trigger.action)),
            "GUID": (REG_BINARY, trigger.guid),
            "Type": (REG_DWORD, struct.pack("<I", trigger.type)),
        }
        found = there.get(fold(trigger.key))
        stored = {} if found is None else {fold(value.name): value for value in found.values()}
        for name in sorted(stored.keys() - {fold(name) for name in values}):
            yield DeleteValue(below, stored[name].name)
        for name, value in values.items():
            old = stored.get(fold(name))
            if old is None or (old.type, old.raw) != value:
                yield SetValue(below, name, *value)


def _row(
    service: _Service, word: str, restored: tuple[StoredTrigger, ...] | None, *, changes: bool, retriggered: bool
) -> ServiceRow:
    facts, wanted = service.facts, WORDS[word]
    kept = facts.override if facts.override in {None, START_NAMES.index(wanted)} else None
    before = StartState(
        start_name(facts.start), facts.delayed, facts.override, start_name(facts.effective), len(facts.triggers)
    )
    triggers = len(facts.triggers) if restored is None else len(restored)
    after = StartState(wanted, word == "delayed", kept, wanted, triggers)
    return ServiceRow(
        name=service.name,
        display_name=service.display_name,
        kind=service.kind,
        location=facts.location,
        before=before,
        after=after,
        expected=service.expected,
        changes=changes,
        notes=tuple(_notes(service, after, restored, retriggered=retriggered)),
    )


def _notes(
    service: _Service, after: StartState, restored: tuple[StoredTrigger, ...] | None, *, retriggered: bool
) -> Iterator[str]:
    facts = service.facts
    if facts.override is not None and after.override is None:
        shown = start_name(facts.override) or facts.override
        yield f"{facts.override_location} is removed: it would make it {shown}, whatever Start says."
    if retriggered:
        yield "Its triggers become those of an untouched Windows of this version."
    trigger = None if service.component is None else service.component.trigger
    triggered = restored is not None or trigger in facts.triggers
    if after.start == "manual" and service.needs_trigger and not triggered:
        yield "It has no trigger that starts it, so nothing will: add --restore-triggers, or set it to auto."
