"""The struct formats that hot paths use are those of the construct declarations, for every declaration there is."""

from __future__ import annotations

import importlib
import pkgutil
import struct
from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vhdtool
from vhdtool.layout import field_names, offset_of, packed

PARSERS = tuple(f"vhdtool.{name}." for name in ("disk", "volume", "fs", "registry", "package"))


def declarations() -> list[tuple[str, construct.Struct]]:
    found = []
    for module in pkgutil.walk_packages(vhdtool.__path__, "vhdtool."):
        if not module.name.startswith(PARSERS):
            continue
        names = vars(importlib.import_module(module.name))
        found += [
            (f"{module.name}.{name}", item)
            for name, item in sorted(names.items())
            if isinstance(item, construct.Struct) and not name.startswith("_")
        ]
    return sorted(dict(found).items())


def flat(layout: construct.Struct) -> bool:
    try:
        packed(layout)
    except (ValueError, construct.SizeofError):
        return False
    return True


DECLARATIONS = [pytest.param(layout, id=name) for name, layout in declarations() if flat(layout)]


def test_the_declarations_are_found() -> None:
    assert len(DECLARATIONS) >= 10


@pytest.mark.parametrize("layout", DECLARATIONS)
@given(data=st.data())
def test_packed_reads_what_construct_reads(layout: construct.Struct, data: st.DataObject) -> None:
    size = layout.sizeof()
    raw = bytearray(data.draw(st.binary(min_size=min(size, 64), max_size=min(size, 64)))[:size].ljust(size, b"\x5a"))
    parsed = parse_without_constants(layout, bytes(raw))
    assert packed(layout).unpack(bytes(raw)) == tuple(parsed[name] for name in field_names(layout))


def parse_without_constants(layout: construct.Struct, raw: bytes) -> dict[str, Any]:
    """Field by field, so that a constant that random bytes miss does not end it."""
    found: dict[str, Any] = {}
    for item in layout.subcons:
        start = offset_of(layout, item.name) if item.name else None
        if start is None:
            continue
        bare = item
        while isinstance(bare, construct.Renamed | construct.Const):
            bare = bare.subcon
        found[str(item.name)] = bare.parse(raw[start : start + item.sizeof()])
    return found


@st.composite
def layouts(draw: st.DrawFn) -> tuple[construct.Struct, str, list[int]]:
    """A declaration of one byte order, the struct format it must give, and the offsets of its named fields."""
    order = draw(st.sampled_from(["l", "b"]))
    fields, letters, offsets, at = [], "<" if order == "l" else ">", [], 0
    for number in range(draw(st.integers(1, 8))):
        match draw(st.sampled_from(["integer", "bytes", "padding", "constant"])):
            case "integer":
                bits, signed = draw(st.sampled_from([8, 16, 32, 64])), draw(st.booleans())
                kind = getattr(construct, f"Int{bits}{'s' if signed else 'u'}{order}")
                letter = {8: "b", 16: "h", 32: "i", 64: "q"}[bits]
                fields.append(f"f{number}" / kind)
                letters += letter if signed else letter.upper()
                size = bits // 8
            case "bytes":
                size = draw(st.integers(1, 40))
                fields.append(f"f{number}" / construct.Bytes(size))
                letters += f"{size}s"
            case "constant":
                size = 4
                fields.append(f"f{number}" / construct.Const(b"abcd"))
                letters += "4s"
            case _:
                size = draw(st.integers(1, 9))
                fields.append(construct.Padding(size))
                letters += f"{size}x"
                at += size
                continue
        offsets.append(at)
        at += size
    return construct.Struct(*fields), letters, offsets


@given(layouts())
def test_packed_gives_the_format_that_the_fields_say(made: tuple[construct.Struct, str, list[int]]) -> None:
    layout, letters, offsets = made
    ours = packed(layout)
    assert ours.size == struct.calcsize(letters) == layout.sizeof()
    assert [offset_of(layout, name) for name in field_names(layout)] == offsets
    raw = bytes(range(256))[: ours.size].ljust(ours.size, b"\x07")
    assert ours.unpack(raw) == struct.unpack(letters, raw)
