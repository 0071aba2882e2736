from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.disk.vhdx_files import IDENTITY, MIB, PARENT, make, opened, pattern, read, read_all
from vhdtool.disk.create_vhdx import Block, write_vhdx
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.errors import OutputError, RefusedError, UsageError


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bytes_depend_on_the_arguments_alone(tmp_path: Path) -> None:
    blocks = {2: Block(data=pattern(2, 5000)), 0: Block(BlockState.ZERO)}
    for name in ("a", "b"):
        make(tmp_path / name, blocks=blocks, kind="differencing")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_the_file_is_made_of_whole_mib(tmp_path: Path) -> None:
    layout = make(tmp_path / "a", virtual_size=MIB + 512, blocks={1: Block(data=pattern(1, 512))})
    assert layout.file_size == (tmp_path / "a").stat().st_size == 5 * MIB


@pytest.mark.skipif(not hasattr(os.stat_result, "st_blocks"), reason="this host does not tell allocated blocks")
def test_zeros_take_no_space(tmp_path: Path) -> None:
    make(tmp_path / "a", virtual_size=1 << 40, block_size=256 * MIB, kind="fixed")
    status = (tmp_path / "a").stat()
    assert status.st_size > 1 << 40
    assert status.st_blocks * 512 < 4 * MIB


def test_data_may_come_from_a_call(tmp_path: Path) -> None:
    make(tmp_path / "a", blocks={1: Block(data=lambda: pattern(4, MIB))})
    assert read_all(tmp_path / "a")[MIB : 2 * MIB] == pattern(4, MIB)


def test_a_block_may_keep_its_space(tmp_path: Path) -> None:
    layout = make(tmp_path / "a", blocks={1: Block(BlockState.UNMAPPED, data=pattern(4, MIB), keeps_space=True)})
    with opened(tmp_path / "a") as layer:
        entry = list(layer.bat_entries())[1]
    assert (entry.state, entry.file_offset) == (3, layout.blocks[1])


def test_sequence_numbers_and_all_bitmaps(tmp_path: Path) -> None:
    layout = make(
        tmp_path / "a",
        virtual_size=9 << 30,
        block_size=256 * MIB,
        kind="differencing",
        all_bitmaps=True,
        sequence_number=40,
    )
    assert sorted(layout.bitmaps) == [0, 1, 2]
    with opened(tmp_path / "a") as layer:
        assert [copy.header.sequence_number for copy in layer.headers] == [40, 41]
        assert read(layer, 0, 512, b"p" * 512) == b"p" * 512


@pytest.mark.parametrize(
    "wanted",
    [
        {"virtual_size": 0},
        {"virtual_size": 513},
        {"virtual_size": (64 << 40) + 512},
        {"virtual_size": MIB + 512, "logical_sector_size": 4096},
        {"block_size": MIB // 2},
        {"block_size": 3 * MIB},
        {"block_size": 512 * MIB},
        {"logical_sector_size": 1024},
        {"logical_sector_size": 0},
        {"physical_sector_size": 0},
        {"log_length": 0},
        {"log_length": MIB + 4096},
        {"kind": "differencing", "parent": None},
        {"kind": "dynamic", "parent": PARENT},
        {"blocks": {4: Block()}},
        {"blocks": {-1: Block()}},
        {"blocks": {0: Block(data=bytes(MIB + 1))}},
        {"kind": "differencing", "blocks": {0: Block(BlockState.PARTIALLY_PRESENT)}},
        {"kind": "differencing", "blocks": {0: Block(BlockState.PARTIALLY_PRESENT, bitmap=bytes(255))}},
    ],
)
def test_arguments_that_no_vhdx_can_have(tmp_path: Path, wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        make(tmp_path / "a", **wanted)
    assert caught.value.code == "vhdx-create-invalid"
    assert not (tmp_path / "a").exists()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"precious")
    with pytest.raises(RefusedError) as caught:
        make(tmp_path / "a")
    assert caught.value.code == "file-exists"
    assert (tmp_path / "a").read_bytes() == b"precious"


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_vhdx(tmp_path / "none" / "a", virtual_size=MIB, block_size=MIB, identity=IDENTITY)
    assert caught.value.code == "cannot-write"


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OutputError) as caught:
        make(tmp_path / "a", blocks={0: Block(data=b"x")})
    assert caught.value.code == "cannot-write"
    assert not (tmp_path / "a").exists()
