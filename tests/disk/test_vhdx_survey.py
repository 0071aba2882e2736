from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tests.crash.vhdx_scenarios import IMAGE, differencing, odd_size
from tests.disk.vhdx_files import MIB, make, opened, overwrite, pattern
from vhdtool.disk.create_vhdx import Block, ExtraRegion
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_survey import Holding, Survey


def test_the_end_of_what_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))})
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(5 * MIB))
    with opened(path) as layer:
        assert Survey(layer).end == size


def test_a_region_nobody_knows_and_a_log_are_in_use(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path, regions=[ExtraRegion(UUID(int=7), b"x" * (2 * MIB))])
    with opened(path) as layer:
        region = layer.regions[-1]
        assert Survey(layer).end == region.offset + region.length == path.stat().st_size
        survey = Survey(layer, [(region.offset + MIB, region.offset + MIB + 1)])
        assert survey.in_the_way == [Holding(region.offset, region.offset + 2 * MIB, None)]
        assert [one.start for one in Survey(layer, [(MIB, 2 * MIB)]).in_the_way] == [MIB]
        assert Survey(layer, [(MIB, 2 * MIB)], log=False).in_the_way == []


def test_blocks_bitmaps_and_anchors(tmp_path: Path) -> None:
    differencing(tmp_path)
    with opened(tmp_path / IMAGE) as layer:
        places = {(entry.kind, entry.block_number): entry.file_offset for entry in layer.bat_entries()}
        bitmap, anchor, block = places["bitmap", 0], places["payload", 4], places["payload", 1]
        wanted = sorted((place + 4096, place + 8192) for place in (bitmap, anchor, block))
        survey = Survey(layer, wanted)
        found = {(one.start, one.block) for one in survey.in_the_way}
        assert found == {(bitmap, None), (anchor, 4), (block, 1)}
        assert {one.end - one.start for one in survey.in_the_way} == {MIB}
        assert Survey(layer, [(survey.end, survey.end + MIB)]).in_the_way == []
        assert survey.cut_off == []


def test_blocks_past_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))})
    size = path.stat().st_size
    with opened(path) as layer:
        start = layer.bat_range[0]
    overwrite(path, start, encode_bat_entry(BlockState.FULLY_PRESENT, size))
    overwrite(path, start + 16, encode_bat_entry(BlockState.UNMAPPED, size + 4 * MIB))
    with opened(path) as layer:
        survey = Survey(layer)
    assert survey.end == size + 5 * MIB
    # what is not read needs no room in the file
    assert survey.cut_off == [Holding(size, size + MIB, 0)]


def test_a_last_block_that_ends_with_the_disk(tmp_path: Path) -> None:
    odd_size(tmp_path)
    with opened(tmp_path / IMAGE) as layer:
        survey = Survey(layer)
        assert survey.cut_off == []
        assert survey.end > layer.stored_size
