"""The virtual devices that a machine's configuration names, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from vhdtool.knowledge.integration import integration_services


@dataclass(frozen=True, slots=True)
class HostComponent:
    """An integration service as the host's configuration knows it.

    ``service``: its name in a Windows guest; ``name``: what Get-VMIntegrationService calls it on an English host.
    ``id``: its class id, lower case without braces, ``None`` where the configuration has nothing of it. ``switch``:
    whether the configuration turns it on and off.
    """

    service: str
    name: str
    id: str | None
    switch: bool
    off_by_default: bool


@cache
def host_components() -> tuple[HostComponent, ...]:
    """The integration services, in the order they are shown."""
    rows = {row["service"]: row for row in _document()["integration"]}
    found = []
    for service in integration_services():
        row = rows.get(service.name, {})
        identity = row.get("id", service.host_id)
        found.append(
            HostComponent(
                service.name,
                service.host_name or service.display_name or service.name,
                identity,
                row.get("switch", identity is not None),
                row.get("off_by_default", False),
            )
        )
    return tuple(found)


@cache
def disk_controllers() -> dict[str, str]:
    """The kinds of controllers by their class id."""
    return {row["id"]: row["kind"] for row in _document()["controller"]}


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("virtual_devices.toml").read_text(encoding="utf-8"))
