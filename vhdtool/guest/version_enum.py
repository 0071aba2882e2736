r"""The version by the devices that were once present: the computation that the guest itself does, done offline.

``VmGetIntegrationServicesVersion`` (icsvc.dll 6.3.9600.18692) takes the lowest driver version over the present devices
whose hardware id starts with ``VMBUS\`` or ``ACPI\VMBUS``, all but the virtual PCI bus. Offline: the devices below
``Enum``, and for each the ``DriverVersion`` of its key below ``Control\Class``. This follows the design of Windows
and the hardware ids of the INF files; no hive of a real Hyper-V guest was at hand to check it on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import text, texts, whole_text
from vhdtool.guest.version import StatedVersion, VersionNumbers, version_numbers
from vhdtool.knowledge.integration import integration_devices
from vhdtool.registry.hive import Key

SOURCE = "enum-devices"
MAX_DEVICES = 1024
MAX_INSTANCES = 256

_DRIVER = re.compile(r"\{[0-9a-fA-F-]{36}\}\\\d{4,5}", re.ASCII)


def stated_version(installation: WindowsInstallation, control_set: ControlSet | None) -> StatedVersion | None:
    """The lowest driver version of the VMBus devices that ``Enum`` knows."""
    if control_set is None:
        return None
    found: list[tuple[VersionNumbers, str, str]] = []
    for hardware_id, device in _devices(control_set):
        driver = text(device, "Driver")
        if driver is None or not _DRIVER.fullmatch(driver):
            continue
        path = rf"Control\Class\{driver}"
        numbers = version_numbers(text(control_set.key(path), "DriverVersion"))
        if numbers is not None:
            found.append((numbers, hardware_id, rf"{control_set.location}\{path}\DriverVersion"))
    if not found:
        return None
    numbers, hardware_id, location = min(found)
    return StatedVersion(
        SOURCE, numbers, location, f"lowest of {len(found)} devices, {hardware_id}; by design, not seen on a sample"
    )


def _devices(control_set: ControlSet) -> Iterator[tuple[str, Key]]:
    excluded = {device.hardware_id.upper() for device in integration_devices() if device.excluded}
    for bus, device, instance in _instances(control_set):
        ids = {hardware_id.upper() for hardware_id in texts(instance, "HardwareID")} or {f"{bus}\\{device}".upper()}
        counted = [found for found in ids if found.startswith(("VMBUS\\", "ACPI\\VMBUS"))]
        if counted and not ids & excluded:
            yield min(counted), instance


def _instances(control_set: ControlSet) -> Iterator[tuple[str, str, Key]]:
    vmbus = control_set.key(r"Enum\VMBUS")
    for device in islice(() if vmbus is None else vmbus.subkeys(), MAX_DEVICES):
        for instance in islice(device.subkeys(), MAX_INSTANCES):
            yield "VMBUS", whole_text(device.name), instance
    # firmware names the bus device VMBus or, in a container of its own, VMBUS; lookup is without regard to case
    bus = control_set.key(r"Enum\ACPI\VMBus")
    for instance in islice(() if bus is None else bus.subkeys(), MAX_INSTANCES):
        yield "ACPI", "VMBus", instance
