r"""Services and drivers: what each will do at the next start, and what it should do.

``Start`` is not the whole story. A ``StartOverride`` takes its place (an image last started elsewhere carries
``vmbus`` with Start 0 and an override of 3: on Hyper-V it does not find its disk), and from Windows 8 on the
integration services are "manual" by name and started by a trigger in truth: when the host offers the channel, its
device interface arrives.

``status`` of a row:

- ``ok``: starts as in a healthy guest of this Windows.
- ``disabled``: will not start, where it should.
- ``overridden``: ``StartOverride`` makes it start otherwise than it should.
- ``wrong-start``: starts earlier or later than in a healthy guest.
- ``no-trigger``: manual as it should be, but without the trigger that starts it.
- ``missing``: this Windows should have it.
- ``not-offered``: this Windows never had it, or has it only together with its device.
- ``unknown``: nothing is known of what it should be: the guest's version could not be read, or the service is not one
  of the integration components (``all_services``). Where that is so, a service that ``Start`` disables is still
  ``disabled``, and one with an override that changes its start ``overridden``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.display_names import DisplayNames
from vhdtool.guest.model import START_NAMES, Service, ServiceStatus, StartName
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.values import binary, number, text, whole_text
from vhdtool.knowledge.integration import (
    ExpectedStart,
    IntegrationComponent,
    WindowsVersion,
    integration_drivers,
    integration_services,
)
from vhdtool.registry.hive import Hive, Key

START_TRIGGER = 1
"""SERVICE_TRIGGER_ACTION_SERVICE_START (winsvc.h); 2 stops the service."""
DEVICE_INTERFACE_ARRIVAL = 1
"""SERVICE_TRIGGER_TYPE_DEVICE_INTERFACE_ARRIVAL (winsvc.h)."""

FIRST_BUILT_IN = (6, 2)
"""From Windows 8 on the integration services are a part of Windows; a newer package may still replace them."""

DELAYED = "DelayedAutostart"
"""The value that delays an automatic start; ``Start`` stays 2."""

DEFAULT_CONFIGURATION = 0
MAX_TRIGGERS = 64
MAX_SERVICES = 20_000


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What the key of one service says.

    ``triggers``: the interface GUIDs of its start triggers by device, ``""`` for other start triggers.
    ``location``: the key; ``override_location``: the value that overrides the start.
    """

    location: str
    start: int | None
    override: int | None
    override_location: str | None
    delayed: bool
    triggers: tuple[str, ...]
    display_name: str | None

    @property
    def effective(self) -> int | None:
        """The start value that will be acted upon."""
        return self.start if self.override is None else self.override

    @property
    def overridden(self) -> bool:
        """Whether the override changes anything."""
        return self.override is not None and self.override != self.start


def start_name(value: int | None) -> StartName | None:
    """The name of a start value; ``None`` for one that means nothing."""
    return START_NAMES[value] if value is not None and 0 <= value < len(START_NAMES) else None


def hardware_configuration(system: Hive) -> int:
    r"""The hardware configuration of the last start, by which ``StartOverride`` names its values.

    ``HardwareConfig\LastId``, since Windows 8. It is not the hardware profile of ``IDConfigDB``: on hives whose
    ``CurrentConfig`` is 1 every override is named 0, as ``LastId`` says.
    """
    last = number(system.key("HardwareConfig"), "LastId")
    return DEFAULT_CONFIGURATION if last is None else last


def read_start(key: Key, location: str, configuration: int) -> StartFacts:
    """Read the key of one service; ``configuration`` is what :func:`hardware_configuration` says."""
    override = number(key.subkey("StartOverride"), str(configuration))
    return StartFacts(
        location=location,
        start=number(key, "Start"),
        override=override,
        override_location=None if override is None else rf"{location}\StartOverride\{configuration}",
        delayed=number(key, DELAYED) == 1,
        triggers=tuple(_start_triggers(key)),
        display_name=text(key, "DisplayName"),
    )


class ServiceReader:
    """Reads the services of one control set.

    ``windows`` is major, minor and build of the guest, ``None`` where unknown: then nothing is expected.
    """

    def __init__(
        self,
        installation: WindowsInstallation,
        control_set: ControlSet,
        windows: WindowsVersion | None,
        troubles: Troubles,
    ) -> None:
        self._services = control_set.key("Services")
        self._location = rf"{control_set.location}\Services"
        self._windows = windows
        self._troubles = troubles
        self._names = DisplayNames(installation, control_set, troubles)
        self._configuration = hardware_configuration(installation.hive("SYSTEM"))
        self._with_package = has_newer_package(self._services, windows, troubles)

    def services(self) -> tuple[Service, ...]:
        """The integration services."""
        return self._rows(integration_services())

    def drivers(self) -> tuple[Service, ...]:
        """The integration drivers."""
        return self._rows(integration_drivers())

    def every(self, known: Sequence[Service]) -> tuple[Service, ...]:
        """Every service and driver of the guest; ``known`` rows stand for themselves.

        Names that live in files are not looked up here: that would open some hundred files. They are ``None``.
        """
        by_name = {row.name.upper(): row for row in known if row.start_value is not None}
        found = []
        for key in islice(() if self._services is None else self._services.subkeys(), MAX_SERVICES):
            with self._troubles.guard(f"the service {key.name}"):
                row = by_name.get(key.name.upper())
                if row is not None:
                    found.append(row)
                elif is_service(key):
                    found.append(self._other(key))
        return tuple(found)

    def _rows(self, components: Sequence[IntegrationComponent]) -> tuple[Service, ...]:
        return tuple(self._row(component) for component in components)

    def _row(self, component: IntegrationComponent) -> Service:
        expected = component.expected(self._windows, with_package=self._with_package)
        location = rf"{self._location}\{component.name}"
        with self._troubles.guard(f"the service {component.name}"):
            key = None if self._services is None else self._services.subkey(component.name)
            if key is None:
                return self._absent(component, expected)
            facts = self._facts(key, location)
            name = self._names.resolve(facts.display_name, table=component.display_name)
            return _service(
                component.name,
                (None, None) if name is None else (name.text, name.source),
                facts,
                start_name_of(expected),
                _judge(facts, expected, component.trigger),
            )
        return self._unread(component, location)

    def _absent(self, component: IntegrationComponent, expected: ExpectedStart | None) -> Service:
        if self._windows is None:
            status: ServiceStatus = "unknown"
        elif component.optional or self._windows < component.offered_from:
            status, expected = "not-offered", None
        else:
            status = "missing"
        return _no_service(component, start_name_of(expected), status, self._location)

    def _unread(self, component: IntegrationComponent, location: str) -> Service:
        return _no_service(component, None, "unknown", location)

    def _other(self, key: Key) -> Service:
        shown = whole_text(key.name)
        location = rf"{self._location}\{shown}"
        facts = self._facts(key, location)
        name = self._names.resolve(facts.display_name, open_files=False)
        naming = (None, None) if name is None else (name.text, name.source)
        return _service(shown, naming, facts, None, _judge_unexpected(facts))

    def _facts(self, key: Key, location: str) -> StartFacts:
        return read_start(key, location, self._configuration)


def has_newer_package(services: Key | None, windows: WindowsVersion | None, troubles: Troubles) -> bool:
    """Tell whether a guest older than Windows 8 got the integration services of a newer one.

    Those run in svchost.exe, the guest's own in vmicsvc.exe (wvmic.inf 6.3.9600.18398; Windows Server 2008 R2).
    """
    if windows is None or windows >= FIRST_BUILT_IN or services is None:
        return False
    for component in integration_services():
        with troubles.guard(f"the service {component.name}"):
            if "svchost" in (text(services.subkey(component.name), "ImagePath") or "").lower():
                return True
    return False


def start_name_of(expected: ExpectedStart | None) -> StartName | None:
    """The start type that is expected."""
    return None if expected is None else next(name for name in START_NAMES if name == expected.start)


def _judge(facts: StartFacts, expected: ExpectedStart | None, trigger: str | None) -> ServiceStatus:
    effective = start_name(facts.effective)
    if effective is None:
        return "unknown"
    if expected is None:
        return _judge_unexpected(facts)
    if effective != expected.start:
        if facts.overridden:
            return "overridden"
        return "disabled" if effective == "disabled" else "wrong-start"
    if expected.trigger and trigger is not None and trigger not in facts.triggers:
        return "no-trigger"
    return "ok"


def _judge_unexpected(facts: StartFacts) -> ServiceStatus:
    if facts.overridden:
        return "overridden"
    return "disabled" if start_name(facts.start) == "disabled" else "unknown"


def _start_triggers(key: Key) -> Iterator[str]:
    info = key.subkey("TriggerInfo")
    for trigger in islice(() if info is None else info.subkeys(), MAX_TRIGGERS):
        if number(trigger, "Action") != START_TRIGGER:
            continue
        guid = binary(trigger, "GUID") or b""
        by_device = number(trigger, "Type") == DEVICE_INTERFACE_ARRIVAL and len(guid) == len(UUID(int=0).bytes)
        yield str(UUID(bytes_le=guid)) if by_device else ""


def is_service(key: Key) -> bool:
    """Tell whether a key below ``Services`` is a service."""
    # performance counters and event sources have keys here too; a service may be nothing but its Start
    return key.value("ImagePath") is not None or key.value("Start") is not None


def _service(
    name: str,
    naming: tuple[str | None, str | None],
    facts: StartFacts,
    expected: StartName | None,
    status: ServiceStatus,
) -> Service:
    evidence = [facts.location]
    if facts.override_location is not None:
        evidence.append(facts.override_location)
    if facts.triggers:
        evidence.append(rf"{facts.location}\TriggerInfo")
    return Service(
        name=name,
        display_name=naming[0],
        display_name_source=naming[1],
        start=start_name(facts.start),
        start_value=facts.start,
        delayed_auto_start=facts.delayed,
        trigger_start=bool(facts.triggers),
        start_override=facts.override,
        effective_start=start_name(facts.effective),
        expected_start=expected,
        status=status,
        evidence=tuple(evidence),
    )


def _no_service(
    component: IntegrationComponent, expected: StartName | None, status: ServiceStatus, location: str
) -> Service:
    return Service(
        name=component.name,
        display_name=component.display_name,
        display_name_source="table" if component.display_name else None,
        start=None,
        start_value=None,
        delayed_auto_start=None,
        trigger_start=None,
        start_override=None,
        effective_start=None,
        expected_start=expected,
        status=status,
        evidence=(location,),
    )
