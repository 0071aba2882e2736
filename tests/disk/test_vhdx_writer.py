from __future__ import annotations

import random
from uuid import UUID

import pytest

from vhdtool.disk import vhdx_writer
from vhdtool.disk.chain import open_disk
from vhdtool.disk.new_file import new_file
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_writer import Identity, VhdxShape, VhdxWriter
from vhdtool.errors import UsageError

MIB = 1 << 20
IDENTITY = Identity(UUID(int=1), UUID(int=2), UUID(int=3))


def test_blocks_in_any_order_with_few_pages_in_memory(tmp_path, monkeypatch):
    """A table of many pages, of which three are kept: entries written before are found again."""
    monkeypatch.setattr(vhdx_writer, "_PAGES_KEPT", 3)
    source = random.Random(6)
    size = 20 << 30
    numbers = source.sample(range(size // MIB), 60)
    with new_file(tmp_path / "a.vhdx") as file:
        writer = VhdxWriter(file, VhdxShape(size, MIB), IDENTITY)
        for number in numbers:
            writer.put(number * MIB, number.to_bytes(4, "big"))
        for number in reversed(numbers):
            writer.put(number * MIB + 4, b"again")
        assert writer.blocks == 60
        writer.finish()
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert not disk.info.problems
        for number in numbers:
            assert disk.read_at(number * MIB, 10) == number.to_bytes(4, "big") + b"again\0"
        assert sum(extent.length for extent in disk.extents() if extent.kind == "data") == 60 * MIB


def test_a_piece_over_several_blocks(tmp_path):
    data = random.Random(1).randbytes(3 * MIB)
    with new_file(tmp_path / "a.vhdx") as file:
        writer = VhdxWriter(file, VhdxShape(8 * MIB, MIB), IDENTITY)
        writer.put(MIB // 2, data)
        writer.finish()
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert disk.read_at(0, 5 * MIB) == bytes(MIB // 2) + data + bytes(3 * MIB // 2)


def test_a_fixed_image_is_whole_and_in_order(tmp_path):
    with new_file(tmp_path / "a.vhdx") as file:
        writer = VhdxWriter(file, VhdxShape(5 * MIB + 512, MIB, kind="fixed"), IDENTITY)
        writer.put(3 * MIB, b"3")
        writer.put(MIB, b"1")
        assert writer.finish() == 10 * MIB
    with open_disk(tmp_path / "a.vhdx") as disk:
        [extent] = disk.extents()
        assert (extent.kind, extent.length, disk.info.type) == ("data", 5 * MIB + 512, "fixed")
        assert disk.read_at(MIB, 1) + disk.read_at(3 * MIB, 1) == b"13"


def test_bitmaps_are_made_once(tmp_path):
    with new_file(tmp_path / "a.vhdx") as file:
        shape = VhdxShape(9 << 30, MIB, kind="differencing")
        writer = VhdxWriter(file, shape, IDENTITY, parent={"parent_linkage": "{}"}, all_bitmaps=True)
        assert shape.chunk_count == 3
        assert len({writer.allocate_bitmap(chunk) for chunk in (0, 1, 2, 1)}) == 3
        assert writer.finish() == (3 + 1 + 3) * MIB


def test_blocks_that_the_disk_does_not_have(tmp_path):
    with new_file(tmp_path / "a.vhdx") as file:
        writer = VhdxWriter(file, VhdxShape(3 * MIB, MIB), IDENTITY)
        for call in (lambda: writer.allocate(3), lambda: writer.set_state(-1, BlockState.ZERO)):
            with pytest.raises(UsageError) as caught:
                call()
            assert caught.value.code == "vhdx-create-invalid"
        writer.set_state(1, BlockState.ZERO)
        writer.finish()
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert [extent.kind for extent in disk.extents()] == ["hole", "zero", "hole"]
