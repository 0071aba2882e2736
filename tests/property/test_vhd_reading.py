"""Arbitrary VHD layouts, fixed, dynamic and differencing, read through the chain equal a naive model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.vhd_images import DIFFERENCING, DYNAMIC, FIXED, VhdLayer, read_model, write_vhd
from vhdtool.disk.chain import open_disk
from vhdtool.errors import InputError

KIB = 1 << 10


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vhdtool-property-") as name:
        yield Path(name)


@st.composite
def sectors(draw: st.DrawFn, per_block: int) -> frozenset[int]:
    found: set[int] = set()
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.one_of(st.integers(0, per_block - 1), st.sampled_from([0, 7, 8, per_block - 1])))
        found.update(range(first, min(per_block, first + draw(st.integers(1, 40)))))
    return frozenset(found)


@st.composite
def chains(draw: st.DrawFn) -> list[VhdLayer]:
    """A base (fixed or dynamic) and up to three children, all of one virtual size, as the format wants it."""
    size = draw(st.integers(1, 8 * 1024)) * 512
    kind = draw(st.sampled_from([FIXED, DYNAMIC, DYNAMIC]))
    layers: list[VhdLayer] = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        block_size = draw(st.sampled_from([512 * KIB, 2048 * KIB]))
        per_block = block_size // 512
        count = -(-size // block_size)
        if layers:
            kind = DIFFERENCING
        whole = frozenset(range(per_block))
        blocks = {
            block: whole if kind == DYNAMIC or draw(st.booleans()) else draw(sectors(per_block))
            for block in range(count)
            if draw(st.booleans())
        }
        parent = layers[-1] if layers else None
        layers.append(
            VhdLayer(number, size, blocks, block_size, kind, parent, f"layer{number - 1}.vhd" if parent else "")
        )
    return layers


@given(chains(), st.lists(st.tuples(st.integers(0, 4 << 20), st.integers(0, 1 << 20)), max_size=8))
def test_chains_read_as_the_model(layers: list[VhdLayer], requests: list[tuple[int, int]]) -> None:
    with folder() as place:
        for layer in layers:
            write_vhd(place / f"layer{layer.number}.vhd", layer)
        top = layers[-1]
        with open_disk(place / f"layer{top.number}.vhd") as disk:
            assert disk.size == top.virtual_size
            assert disk.info.problems == ()
            for offset, length in requests:
                assert disk.read_at(offset, length) == read_model(top, offset, length)
            whole = read_model(top, 0, top.virtual_size)
            assert disk.read_at(0, disk.size) == whole
            position = 0
            for extent in disk.extents():
                assert extent.offset == position
                position += extent.length
                if extent.kind != "data":
                    assert not any(whole[extent.offset : position])
            assert position == top.virtual_size


@given(chains(), st.integers(0, 2))
def test_a_child_without_its_parent_is_an_error(layers: list[VhdLayer], missing: int) -> None:
    if len(layers) < 2:
        return
    lost = layers[missing % (len(layers) - 1)]
    with folder() as place:
        for layer in layers:
            if layer is not lost:
                write_vhd(place / f"layer{layer.number}.vhd", layer)
        with pytest.raises(InputError) as caught:
            open_disk(place / f"layer{layers[-1].number}.vhd")
        assert caught.value.code
        assert f"layer{lost.number}.vhd" in f"{caught.value} {caught.value.hint}"


@given(chains(), st.data())
def test_one_damaged_footer_is_survived_and_reported(layers: list[VhdLayer], data: st.DataObject) -> None:
    """A dynamic or differencing image has two copies of the footer: either may be lost."""
    top = layers[-1]
    if top.kind == FIXED:
        return
    with folder() as place:
        for layer in layers:
            write_vhd(place / f"layer{layer.number}.vhd", layer)
        path = place / f"layer{top.number}.vhd"
        end = path.stat().st_size - 512
        where = data.draw(st.sampled_from([0, end])) + data.draw(st.integers(0, 84))
        with path.open("r+b") as file:
            file.seek(where)
            byte = file.read(1)
            file.seek(where)
            file.write(bytes([byte[0] ^ data.draw(st.integers(1, 255))]))
        with open_disk(path) as disk:
            assert disk.read_at(0, disk.size) == read_model(top, 0, top.virtual_size)
            assert disk.info.problems
