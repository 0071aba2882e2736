"""Every layout that a hot path unpacks by itself equals its ``construct`` declaration, on random bytes, both ways."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

import construct
import pytest

import vhdtool
from vhdtool.layout import field_names, offset_of, packed

ROOT = Path(vhdtool.__file__).parent


def modules() -> Iterator[str]:
    """The modules of the package that declare layouts."""
    for source in sorted(ROOT.rglob("*.py")):
        imports_construct = re.search(r"^(from|import) construct\b", source.read_text(encoding="utf-8"), re.MULTILINE)
        if imports_construct and source.name != "layout.py":
            yield ".".join(["vhdtool", *source.relative_to(ROOT).with_suffix("").parts])


def has_fixed_format(layout: construct.Struct) -> bool:
    try:
        packed(layout)
    except (ValueError, construct.SizeofError):
        return False
    return True


@pytest.mark.parametrize("module", list(modules()))
def test_packed_equals_the_declaration(module: str) -> None:
    for layout in vars(importlib.import_module(module)).values():
        if isinstance(layout, construct.Struct) and has_fixed_format(layout):
            compare(layout)


def compare(layout: construct.Struct) -> None:
    source = random.Random(layout.sizeof())
    form = packed(layout)
    names = field_names(layout)
    assert form.size == layout.sizeof()
    constants = {field.name: field.subcon.value for field in layout.subcons if is_constant(field)}
    for _ in range(20):
        data = bytearray(source.randbytes(form.size))
        for name, value in constants.items():
            place = offset_of(layout, name)
            stored = next(field for field in layout.subcons if field.name == name).build(value)
            data[place : place + len(stored)] = stored
        fields = dict(zip(names, form.unpack(data), strict=True))
        parsed = layout.parse(bytes(data))
        assert fields == {name: parsed[name] for name in names}
        built = layout.build(fields)
        assert form.pack(*fields.values()) == built
        assert form.unpack(built) == tuple(fields.values())


def test_the_known_formats_are_among_them() -> None:
    assert {"vhdtool.disk.vhdx_format", "vhdtool.disk.vhd_format"} <= set(modules())


def is_constant(field: object) -> bool:
    return isinstance(field, construct.Renamed) and isinstance(field.subcon, construct.Const)


LAYOUT = construct.Struct(
    "first" / construct.Int16ul, construct.Padding(3), "second" / construct.Bytes(5), "third" / construct.Int32ul
)


def test_offsets() -> None:
    assert [offset_of(LAYOUT, name) for name in ("first", "second", "third")] == [0, 5, 10]
    with pytest.raises(KeyError):
        offset_of(LAYOUT, "fourth")


def test_padding_is_left_out() -> None:
    assert field_names(LAYOUT) == ("first", "second", "third")
    assert packed(LAYOUT).unpack(bytes(range(14))) == (0x0100, bytes(range(5, 10)), 0x0D0C0B0A)


@pytest.mark.parametrize(
    "layout",
    [
        construct.Struct("text" / construct.CString("utf8")),
        construct.Struct("a" / construct.Int16ul, "b" / construct.Int16ub),
    ],
)
def test_what_has_no_fixed_format(layout: construct.Struct) -> None:
    with pytest.raises((ValueError, construct.SizeofError)):
        packed(layout)
