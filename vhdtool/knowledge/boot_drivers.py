"""The drivers of Windows itself that it needs to start on Hyper-V, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from vhdtool.knowledge.integration import WindowsVersion, parse_version


@dataclass(frozen=True, slots=True)
class BootDriver:
    """A driver that starts at boot; ``generations`` of virtual machines need it, Windows has it from ``since`` on."""

    name: str
    generations: tuple[int, ...]
    since: WindowsVersion
    source: str


@cache
def boot_drivers() -> tuple[BootDriver, ...]:
    """The drivers, from the bus to the volume."""
    document = tomllib.loads(files(__package__).joinpath("boot_drivers.toml").read_text(encoding="utf-8"))
    return tuple(
        BootDriver(row["name"], tuple(row["generations"]), parse_version(row["windows_from"]), row["source"])
        for row in document["driver"]
    )
