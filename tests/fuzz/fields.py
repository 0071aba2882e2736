"""From a ``construct`` declaration and the place of a structure to the fields that mutations are made in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import construct

from tests.fuzz.mutate import Field

LONGEST = 16  # of a name or a padding only the beginning is a field


def fields_of(
    layout: construct.Struct,
    file: str,
    offset: int,
    group: str,
    *,
    loops: Mapping[str, tuple[int, ...]] | None = None,
    others: Mapping[str, tuple[int, ...]] | None = None,
) -> Iterator[Field]:
    """Every named field of ``layout`` at ``offset`` of ``file``; nested declarations field by field."""
    for item in layout.subcons:
        bare = _bare(item)
        size = int(item.sizeof())
        if isinstance(bare, construct.Struct):
            yield from fields_of(bare, file, offset, f"{group}.{item.name}", loops=loops, others=others)
        elif item.name is not None and size > 0:
            name = str(item.name)
            order = "big" if isinstance(bare, construct.FormatField) and bare.fmtstr.startswith(">") else "little"
            yield Field(
                file, offset, min(size, LONGEST), group, name, order,
                (loops or {}).get(name, ()), (others or {}).get(name, ()),
            )  # fmt: skip
        offset += size


def _bare(field: Any) -> Any:
    while isinstance(field, construct.Renamed | construct.Const):
        field = field.subcon
    return field
