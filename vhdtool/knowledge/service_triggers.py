"""The start triggers of untouched integration services, as data: what a lost one is restored from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from vhdtool.knowledge.integration import WindowsVersion, parse_version


@dataclass(frozen=True, slots=True)
class StoredTrigger:
    """One subkey of ``TriggerInfo``: its name, and its values as the hive holds them."""

    key: str
    action: int
    type: int
    guid: bytes


def stored_triggers(service: str, windows: WindowsVersion | None) -> tuple[StoredTrigger, ...] | None:
    """Return what ``TriggerInfo`` of a service holds in this Windows; ``None`` where that is not recorded.

    ``service`` is the key's name, in any case.
    """
    if windows is None:
        return None
    document = _document()
    recorded = any(
        parse_version(row["windows_from"]) <= windows < parse_version(row["windows_below"])
        and service.lower() in row["services"]
        for row in document["windows"]
    )
    if not recorded:
        return None
    return tuple(
        StoredTrigger(row["key"], row["action"], row["type"], bytes.fromhex(row["guid"]))
        for row in document["trigger"]
        if row["service"] == service.lower()
    )


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("service_triggers.toml").read_text(encoding="utf-8"))
