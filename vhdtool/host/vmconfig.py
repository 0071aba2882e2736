r"""What a machine's configuration says: ``.vmcx``, ``.vmrs`` and the older ``.xml``.

Services are told apart by their class ids, never by names: the host writes names in its own language.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from vhdtool.errors import Problem
from vhdtool.host.config_file import ConfigFormat, read_config_tree
from vhdtool.host.config_tree import ConfigNode, node, number, numbered, text, truth
from vhdtool.host.vm_state import Checkpoints, SavedState, is_among_checkpoints, read_checkpoints, read_saved_state
from vhdtool.knowledge.virtual_devices import HostComponent, disk_controllers, host_components

HostState = Literal["on", "off", "absent", "no-switch"]

MACHINES = "Virtual Machines"
"""``type_id`` of a machine's configuration; that of a checkpoint has another."""
FIRST_WITH_GENERATIONS = 0x0500
"""Windows Server 2012 R2; before it there was no generation 2."""
MAX_DISKS = 4096
"""Drives that are listed; Hyper-V allows 260."""
NO_DISKS = frozenset({"NONE", "ISO", "VFD"})
"""Types of drives that hold no hard disk."""


@dataclass(frozen=True, slots=True)
class HostService:
    """An integration service on the host.

    ``state``: on, off, absent (this machine's configuration has no such device), no-switch (there is none for it).
    ``location``: the key that says so.
    """

    service: str
    name: str
    id: str | None
    state: HostState
    location: str | None


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    r"""A disk of the machine: ``controller`` IDE, SCSI, Floppy or unknown, its number, the place on it.

    ``type`` is as written: VHD for any image file. ``path`` is that on the host: ``C:\vm\a.vhdx``.
    """

    controller: str
    controller_number: int
    location: int
    type: str
    path: str


@dataclass(frozen=True, slots=True)
class VmConfig:
    """A machine as its configuration tells. Unknown is ``None``. ``id`` in upper case, as files are named.

    ``version``: that of the configuration: 5.0 is 2012 R2, 8.0 is 2016, 9.0 is 2019.
    """

    path: str
    format: ConfigFormat
    name: str | None
    id: str | None
    generation: int | None
    version: str | None
    is_checkpoint: bool
    saved_state: SavedState
    checkpoints: Checkpoints
    merge_pending: bool | None
    services: tuple[HostService, ...]
    disks: tuple[AttachedDisk, ...]
    problems: tuple[Problem, ...]


def read_vm_config(path: str | os.PathLike[str]) -> VmConfig:
    """Read a machine's configuration, and look beside it for a saved state and checkpoints.

    Raises :class:`InputError` ``cannot-open``, ``not-a-vm-config``, ``vm-config-too-large`` and its kinds:
    :class:`DamagedError` ``vm-config-damaged``, ``truncated``; :class:`UnsupportedError`
    ``vm-config-version-unsupported``.
    """
    named = os.fspath(path)
    kind, tree = read_config_tree(named)
    config = node(tree, "configuration") or {}
    version = number(config, "properties", "version")
    identity = _guid(text(config, "properties", "global_id"))
    saved_state, state_problems = read_saved_state(named, kind, tree)
    checkpoints, checkpoint_problems = read_checkpoints(named, config, identity)
    return VmConfig(
        path=named,
        format=kind,
        name=text(config, "properties", "name"),
        id=identity,
        generation=_generation(number(config, "properties", "subtype"), version),
        version=None if version is None or version < 0 else f"{version >> 8}.{version & 0xFF}",
        is_checkpoint=is_among_checkpoints(named)
        or (text(config, "properties", "type_id") or MACHINES).casefold() != MACHINES.casefold(),
        saved_state=saved_state,
        checkpoints=checkpoints,
        merge_pending=truth(config, "global_settings", "disk_merge_pending"),
        services=() if kind == "vmrs" else tuple(_services(config)),
        disks=tuple(_disks(config)),
        problems=(*state_problems, *checkpoint_problems),
    )


def _generation(subtype: int | None, version: int | None) -> int | None:
    if subtype in {0, 1}:
        return subtype + 1
    return 1 if subtype is None and version is not None and 0 <= version < FIRST_WITH_GENERATIONS else None


def _guid(value: str | None) -> str | None:
    try:
        return None if value is None else str(UUID(value.strip())).upper()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Device:
    """A row of the manifest: class id and instance id, in lower case."""

    device: str
    instance: str
    location: str


def _manifest(config: ConfigNode) -> tuple[_Device, ...] | None:
    """The devices in the manifest's order; ``None`` where there is no manifest."""
    manifest = node(config, "manifest")
    if manifest is None:
        return None
    found = []
    for at, row in numbered(manifest, "vdev"):
        device = _guid(text(row, "device"))
        if device is not None:
            instance = _guid(text(row, "instance")) or device
            found.append(_Device(device.lower(), instance.lower(), f"/configuration/manifest/vdev{at:03}"))
    return tuple(found)


def _services(config: ConfigNode) -> Iterator[HostService]:
    manifest = _manifest(config)
    for component in host_components():
        yield _service(component, config, manifest)


def _service(component: HostComponent, config: ConfigNode, manifest: tuple[_Device, ...] | None) -> HostService:
    """One service: the manifest says whether the machine has the device, ``Enabled`` whether it is on.

    A machine made by Hyper-V has no ``Enabled`` but for the services that are off, or were off once.
    """

    def told(state: HostState, location: str | None) -> HostService:
        return HostService(component.service, component.name, component.id, state, location)

    if component.id is None:
        return told("no-switch", None)
    device = next((one for one in manifest or () if one.device == component.id), None)
    section = _section(config, component.id if device is None else device.instance)
    if device is None and (manifest or section is None):
        return told("absent", None if manifest is None else "/configuration/manifest")
    location = f"/configuration/{section[0]}" if section is not None else device.location if device else None
    enabled = None if section is None else truth(section[1], "Enabled")
    if enabled is None:
        return told("on", location)
    return told("on" if enabled else "off", f"{location}/Enabled")


def _section(config: ConfigNode, instance: str) -> tuple[str, ConfigNode] | None:
    wanted = f"_{instance}_"
    name = wanted if wanted in config else next((one for one in config if one.lower() == wanted), wanted)
    section = node(config, name)
    return None if section is None else (name, section)


def _disks(config: ConfigNode) -> Iterator[AttachedDisk]:
    """The disks, controller by controller. Those of IDE number themselves, of SCSI each is a device of its own."""
    left = MAX_DISKS
    for kind, first, section in _controllers(config):
        for at, controller in numbered(section, "controller"):
            for location, drive in numbered(controller, "drive"):
                path, form = text(drive, "pathname"), text(drive, "type") or "unknown"
                if path and form.upper() not in NO_DISKS and left:
                    left -= 1
                    yield AttachedDisk(kind, first + at, location, form, path)


def _controllers(config: ConfigNode) -> Iterator[tuple[str, int, ConfigNode]]:
    """The sections with drives: those of the manifest in its order, then those it does not name (IDE in old files)."""
    kinds = disk_controllers()
    numbers: dict[str, int] = {}
    seen: set[str] = set()
    named = [(one.device, one.instance) for one in _manifest(config) or ()]
    unnamed = [(name[1:-1].lower(),) * 2 for name in config if name.startswith("_") and name.endswith("_")]
    for device, instance in (*named, *unnamed):
        section = _section(config, instance)
        if section is None or section[0] in seen:
            continue
        seen.add(section[0])
        if device not in kinds and next(numbered(section[1], "controller"), None) is None:
            continue
        kind = kinds.get(device, "unknown")
        yield kind, numbers.get(kind, 0), section[1]
        numbers[kind] = numbers.get(kind, 0) + 1
