"""The kernel modules of Hyper-V guests, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class HypervModule:
    """A module. ``path`` is below ``/lib/modules/RELEASE``, without ``.ko``; ``init`` its initcall, where it is known.

    ``config``: options of the kernel's configuration; the first that it names counts.
    ``boots``: a disk behind it is not found at boot without it. ``expected``: a healthy guest has it.
    """

    name: str
    title: str
    path: str
    config: tuple[str, ...]
    init: str | None
    since: tuple[int, ...]
    boots: bool
    expected: bool
    source: str


@cache
def hyperv_modules() -> tuple[HypervModule, ...]:
    """The modules, in the order they are shown."""
    document = tomllib.loads(files(__package__).joinpath("linux_modules.toml").read_text(encoding="utf-8"))
    return tuple(
        HypervModule(
            name=row["name"],
            title=row["title"],
            path=row["path"],
            config=tuple(row["config"]),
            init=row.get("init"),
            since=tuple(int(part) for part in row["since"].split(".")),
            boots=row["boots"],
            expected=row["expected"],
            source=row["source"],
        )
        for row in document["module"]
    )
