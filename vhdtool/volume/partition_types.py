"""What a partition's type says it is for: the facts of ``knowledge/partition_types.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class PartitionType:
    """One known type. ``role`` is a role of the result document; the rest is ``None`` where it says nothing."""

    name: str
    role: str
    container: str | None = None
    encryption: str | None = None


UNKNOWN_TYPE = PartitionType("unknown", "unknown")


def gpt_type(guid: str) -> PartitionType:
    """Return what is known of a GPT partition type GUID (lower case, without braces)."""
    return _tables()[0].get(guid, UNKNOWN_TYPE)


def mbr_type(number: int) -> PartitionType:
    """Return what is known of an MBR partition type byte."""
    return _tables()[1].get(number, UNKNOWN_TYPE)


@cache
def _tables() -> tuple[dict[str, PartitionType], dict[int, PartitionType]]:
    text = resources.files("vhdtool.knowledge").joinpath("partition_types.toml").read_text(encoding="utf-8")
    facts = tomllib.loads(text)
    return (
        {row["id"]: _partition_type(row) for row in facts["gpt"]},
        {row["id"]: _partition_type(row) for row in facts["mbr"]},
    )


def _partition_type(row: dict[str, str]) -> PartitionType:
    return PartitionType(row["name"], row["role"], row.get("container"), row.get("encryption"))
