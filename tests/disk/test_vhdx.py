from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.disk.vhdx_files import (
    IDENTITY,
    MIB,
    codes,
    make,
    make_plain,
    memory_peak,
    opened,
    overwrite,
    pattern,
    read,
    read_all,
)
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Block, Layout
from vhdtool.disk.device import FileDevice, Origin, Run
from vhdtool.disk.vhdx import looks_like_vhdx, open_vhdx
from vhdtool.disk.vhdx_bitmap import bitmap_of
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.errors import DamagedError, InputError

GIB = 1 << 30
TIB = 1 << 40
EMPTY_STATES = [BlockState.UNDEFINED, BlockState.ZERO, BlockState.UNMAPPED]


def test_what_is_no_vhdx(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(bytes(4096))
    file = FileDevice(path)
    assert not looks_like_vhdx(file)
    with pytest.raises(InputError) as caught:
        open_vhdx(file)
    file.close()
    assert caught.value.code == "not-vhdx"


def test_facts(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(path, kind="fixed", physical_sector_size=512, creator="somebody")
    with opened(path) as layer:
        info = layer.info
        assert (info.path, info.format, info.type) == (str(path), "vhdx", "fixed")
        assert (info.logical_sector_size, info.physical_sector_size) == (512, 512)
        assert (info.file_size, info.log, info.creator) == (layout.file_size, "clean", "somebody")
        assert (info.identity, info.linkage, info.locators) == (str(IDENTITY.data_write), (), ())
        assert layer.leave_blocks_allocated
        assert not layer.has_parent
        assert layer.chunk_ratio == 4096
        assert layer.log_range == (layout.log_offset, MIB)
        assert layer.bat_range == (layout.bat_offset, 32)
        assert layer.stored_size == layout.file_size
        assert layer.parent_entries == {}


def test_a_fixed_image_is_one_run(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(path, kind="fixed", blocks={2: Block(data=pattern(2, MIB))})
    with opened(path) as layer:
        assert list(layer.resolve(0, 4 * MIB)) == [Run(0, 4 * MIB, Origin.DATA, layout.blocks[0])]
    assert read_all(path) == bytes(2 * MIB) + pattern(2, MIB) + bytes(MIB)


def test_blocks_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    blocks = {number: Block(data=pattern(number, 2 * MIB)) for number in range(6)}
    make(path, virtual_size=12 * MIB, block_size=2 * MIB, blocks=blocks, order=[5, 0, 3, 1])
    expected = b"".join(pattern(number, 2 * MIB) for number in range(6))
    assert read_all(path) == expected
    source = random.Random(3)
    with opened(path) as layer:
        for _ in range(300):
            offset = source.randrange(12 * MIB)
            length = source.choice([1, 511, 4096, 3 * MIB, 8 * MIB])
            length = min(length, 12 * MIB - offset)
            assert read(layer, offset, length) == expected[offset : offset + length]


@pytest.mark.parametrize("state", EMPTY_STATES)
@pytest.mark.parametrize("keeps_space", [False, True])
def test_states_without_contents_are_zeros_in_a_child_too(
    tmp_path: Path, state: BlockState, *, keeps_space: bool
) -> None:
    parent = pattern(9, 4 * MIB)
    for kind in ("dynamic", "differencing"):
        path = tmp_path / f"{kind}.vhdx"
        make(path, kind=kind, blocks={1: Block(state, data=pattern(5, MIB), keeps_space=keeps_space)})
        with opened(path) as layer:
            assert list(layer.resolve(MIB, MIB)) == [Run(MIB, MIB, Origin.ZERO)]
            below = parent if kind == "differencing" else b""
            assert read(layer, MIB, MIB, below) == bytes(MIB)
            assert list(layer.resolve(0, 100)) == [Run(0, 100, Origin.PARENT)]


def test_runs_of_one_origin_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    states = [BlockState.ZERO, BlockState.UNMAPPED, BlockState.FULLY_PRESENT, BlockState.FULLY_PRESENT]
    layout = make(path, virtual_size=6 * MIB, blocks={number: Block(state) for number, state in enumerate(states)})
    with opened(path) as layer:
        assert list(layer.resolve(5, 6 * MIB - 10)) == [
            Run(5, 2 * MIB - 5, Origin.ZERO),
            Run(2 * MIB, 2 * MIB, Origin.DATA, layout.blocks[2]),
            Run(4 * MIB, 2 * MIB - 5, Origin.PARENT),
        ]
        assert list(layer.resolve(MIB, 0)) == []


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 4 * MIB + 1), (4 * MIB + 1, 0)])
def test_ranges_outside_the_disk(tmp_path: Path, offset: int, length: int) -> None:
    make_plain(tmp_path / "a.vhdx")
    with opened(tmp_path / "a.vhdx") as layer, pytest.raises(ValueError, match="outside"):
        layer.resolve(offset, length)


SECTORS = {
    "one": [0],
    "last": [-1],
    "edges": [0, -1],
    "some": [3, 4, 5, 8, 100, 101],
    "every second": "2",
    "none": [],
    "all": "1",
}


@pytest.mark.parametrize("sector_size", [512, 4096])
@pytest.mark.parametrize("name", SECTORS)
def test_partial_blocks(tmp_path: Path, sector_size: int, name: str) -> None:
    path = tmp_path / "a.vhdx"
    per_block = 2 * MIB // sector_size
    wanted = SECTORS[name]
    chosen = (
        set(range(0, per_block, int(wanted))) if isinstance(wanted, str) else {sector % per_block for sector in wanted}
    )
    own, parent = pattern(5, 2 * MIB), pattern(9, 8 * MIB)
    partial = Block(BlockState.PARTIALLY_PRESENT, data=own, bitmap=bitmap_of(chosen, per_block))
    make(
        path,
        kind="differencing",
        virtual_size=8 * MIB,
        block_size=2 * MIB,
        logical_sector_size=sector_size,
        blocks={2: partial, 3: Block(data=pattern(6, 2 * MIB))},
    )
    expected = bytearray(parent[: 6 * MIB] + pattern(6, 2 * MIB))
    for sector in chosen:
        start = sector * sector_size
        expected[4 * MIB + start : 4 * MIB + start + sector_size] = own[start : start + sector_size]
    source = random.Random(name)
    with opened(path) as layer:
        assert read(layer, 0, 8 * MIB, parent) == expected
        for _ in range(60):  # cut inside sectors too
            offset = 4 * MIB + source.randrange(2 * MIB)
            length = min(source.choice([1, 100, 5000, MIB]), 8 * MIB - offset)
            assert read(layer, offset, length, parent) == expected[offset : offset + length]


def test_the_bitmap_is_not_looked_at_for_a_full_block(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(path, kind="differencing", all_bitmaps=True, blocks={1: Block(data=pattern(1, MIB))})
    assert layout.bitmaps
    with opened(path) as layer:
        assert read(layer, MIB, MIB, pattern(9, 4 * MIB)) == pattern(1, MIB)


@pytest.mark.parametrize(("sector_size", "block_mib"), [(512, 256), (512, 64), (4096, 256)])
def test_around_chunk_boundaries(tmp_path: Path, sector_size: int, block_mib: int) -> None:
    path = tmp_path / "a.vhdx"
    block_size = block_mib * MIB
    ratio = (1 << 23) * sector_size // block_size
    per_block = block_size // sector_size
    blocks = {}
    for number in (ratio - 1, ratio, 2 * ratio - 1, 2 * ratio):
        bitmap = bitmap_of({0, per_block - 1, number % 1000}, per_block)
        blocks[number] = Block(BlockState.PARTIALLY_PRESENT, data=pattern(number, 2 * MIB), bitmap=bitmap)
    make(
        path,
        kind="differencing",
        virtual_size=(2 * ratio + 1) * block_size,
        block_size=block_size,
        logical_sector_size=sector_size,
        blocks=blocks,
    )
    with opened(path) as layer:
        for number in blocks:
            start = number * block_size
            runs = list(layer.resolve(start, block_size))
            own = {run.offset - start for run in runs if run.origin is Origin.DATA}
            assert own == {0, (number % 1000) * sector_size, block_size - sector_size}
            assert read(layer, start, sector_size) == pattern(number, sector_size)
            place = (number % 1000) * sector_size
            assert read(layer, start + place, 16) == pattern(number, 16)[:8] + (place // 16).to_bytes(8, "big")
        across = list(layer.resolve(ratio * block_size - sector_size, 2 * sector_size))
        assert [run.origin for run in across] == [Origin.DATA, Origin.DATA]


@pytest.fixture
def child(tmp_path: Path) -> tuple[Path, Layout]:
    path = tmp_path / "child.vhdx"
    bitmap = bitmap_of({1}, 2048)
    layout = make(
        path,
        kind="differencing",
        blocks={
            0: Block(data=pattern(1, MIB)),
            2: Block(BlockState.PARTIALLY_PRESENT, data=pattern(2, MIB), bitmap=bitmap),
        },
    )
    return path, layout


def set_entry(image: tuple[Path, Layout], index: int, value: int) -> None:
    overwrite(image[0], image[1].bat_offset + index * 8, struct.pack("<Q", value))


def resolved(path: Path, offset: int, length: int) -> DamagedError:
    with opened(path) as layer, pytest.raises(DamagedError) as caught:
        list(layer.resolve(offset, length))
    return caught.value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (4, "vhdx-block-state"),
        (5 | 9 << 20, "vhdx-block-state"),
        (6, "vhdx-block-overlap"),  # the header section
        (6 | 1 << 20, "vhdx-block-overlap"),  # the log
        (6 | 2 << 20, "vhdx-block-overlap"),  # the metadata
        (6 | 3 << 20, "vhdx-block-overlap"),  # the BAT
        (6 | 1 << 40, "vhdx-block-outside-file"),
        (6 | ((1 << 44) - 1) << 20, "vhdx-block-outside-file"),
        (7 | ((1 << 44) - 1) << 20, "vhdx-block-outside-file"),
    ],
)
def test_a_damaged_entry_costs_its_block_only(child: tuple[Path, Layout], value: int, code: str) -> None:
    set_entry(child, 1, value)
    error = resolved(child[0], MIB + 512, 512)
    assert (error.code, error.path) == (code, str(child[0]))
    assert error.offset == child[1].bat_offset + 8
    assert resolved(child[0], 0, 4 * MIB).code == code
    with opened(child[0]) as layer:
        assert read(layer, 0, MIB) == pattern(1, MIB)
        assert read(layer, 2 * MIB + 512, 512) == pattern(2, 1024)[512:]


def test_reserved_bits_of_an_entry_do_not_move_a_block(child: tuple[Path, Layout]) -> None:
    set_entry(child, 0, 6 | 0xFFFF8 | child[1].blocks[0])
    with opened(child[0]) as layer:
        assert read(layer, 0, MIB) == pattern(1, MIB)


def test_two_blocks_in_one_place(child: tuple[Path, Layout]) -> None:
    set_entry(child, 1, 6 | child[1].blocks[0])
    assert resolved(child[0], 0, 2 * MIB).code == "vhdx-block-overlap"
    set_entry(child, 1, 6 | child[1].bitmaps[0])
    error = resolved(child[0], MIB, 2 * MIB)
    assert error.code == "vhdx-block-overlap"
    assert "payload block 1" in str(error)


@pytest.mark.parametrize("value", [0, 1, 2, 3, 4, 5, 7, 7 | 4 << 20])
def test_a_partial_block_needs_its_bitmap(child: tuple[Path, Layout], value: int) -> None:
    set_entry(child, 4096, value)
    error = resolved(child[0], 2 * MIB, 512)
    assert (error.code, error.offset) == ("vhdx-bitmap-missing", child[1].bat_offset + 4096 * 8)
    with opened(child[0]) as layer:
        assert read(layer, 0, MIB) == pattern(1, MIB)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (6, "vhdx-block-overlap"),
        (6 | 1 << 20, "vhdx-block-overlap"),
        (6 | 1 << 50, "vhdx-block-outside-file"),
        (6 | ((1 << 44) - 1) << 20, "vhdx-block-outside-file"),
    ],
)
def test_a_bitmap_block_in_a_place_that_none_may_have(child: tuple[Path, Layout], value: int, code: str) -> None:
    set_entry(child, 4096, value)
    assert resolved(child[0], 2 * MIB, 512).code == code


def test_a_partial_block_without_a_parent(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    image = path, make(path, blocks={0: Block(data=pattern(1, MIB))})
    set_entry(image, 0, 7 | image[1].blocks[0])
    assert resolved(path, 0, 512).code == "vhdx-block-state"


def test_a_last_block_that_ends_with_the_disk(tmp_path: Path) -> None:
    # old QEMU let the file end there
    path = tmp_path / "a.vhdx"
    layout = make(path, virtual_size=MIB + 5120, blocks={1: Block(data=pattern(1, MIB))})
    with path.open("r+b") as file:
        file.truncate(layout.blocks[1] + 5120)
    with opened(path) as layer:
        assert read(layer, MIB, 5120) == pattern(1, 5120)
    with path.open("r+b") as file:
        file.truncate(layout.blocks[1] + 5119)
    assert resolved(path, MIB, 512).code == "vhdx-block-outside-file"


def test_a_truncated_image_loses_its_last_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(path, blocks={number: Block(data=pattern(number, MIB)) for number in range(4)})
    with path.open("r+b") as file:
        file.truncate(layout.blocks[3] + 1000)
    assert resolved(path, 3 * MIB, 1).code == "vhdx-block-outside-file"
    with opened(path) as layer:
        assert read(layer, 0, 3 * MIB) == b"".join(pattern(number, MIB) for number in range(3))


def test_a_bat_that_is_too_small_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(path)
    overwrite(path, layout.metadata_offset + 65536 + 8, struct.pack("<Q", 64 * TIB))
    with pytest.raises(DamagedError) as caught, opened(path):
        pass
    assert caught.value.code == "vhdx-bat-too-small"


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_the_largest_disk_opens_at_once(tmp_path: Path, sector_size: int) -> None:
    path = tmp_path / "a.vhdx"
    last = 64 * TIB // MIB - 1
    make(
        path,
        virtual_size=64 * TIB,
        logical_sector_size=sector_size,
        blocks={0: Block(data=pattern(1, MIB)), last: Block(data=pattern(2, MIB))},
    )
    started = time.perf_counter()
    with opened(path) as layer:
        spent = time.perf_counter() - started
        assert read(layer, 64 * TIB - MIB, MIB) == pattern(2, MIB)
        assert list(layer.resolve(TIB, TIB)) == [Run(TIB, TIB, Origin.PARENT)]
        first = next(iter(layer.bat_entries()))
        assert (first.kind, first.block_number, first.state) == ("payload", 0, 6)
    assert spent < 0.2  # a few milliseconds; the bound is for a busy machine


def test_opening_reads_little_and_holds_little(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path, virtual_size=8 * TIB, blocks={5: Block(data=pattern(1, MIB))})
    with memory_peak() as peak:
        file = FileDevice(path)
        layer = open_vhdx(file)
        assert read(layer, 5 * MIB, 4096) == pattern(1, 4096)
        layer.close()
    assert file.bytes_read < 256 * 1024
    assert peak() < MIB


def test_closing_closes_the_file(tmp_path: Path) -> None:
    make_plain(tmp_path / "a.vhdx")
    file = FileDevice(tmp_path / "a.vhdx")
    layer = open_vhdx(file)
    layer.close()
    layer.close()
    with pytest.raises(InputError):
        read(layer, 0, 512)


@pytest.mark.data
@pytest.mark.parametrize(("name", "kind", "block_mib"), [("dynamic", "dynamic", 32), ("fixed", "fixed", 2)])
def test_images_made_by_windows(name: str, kind: str, block_mib: int) -> None:
    with opened(data_file(f"vhd/fox-it__dissect.hypervisor/{name}.vhdx.gz")) as layer:
        info = layer.info
        assert (info.type, info.block_size, info.virtual_size) == (kind, block_mib * MIB, 10 * MIB)
        assert (info.logical_sector_size, info.physical_sector_size, info.log) == (512, 4096, "clean")
        assert info.creator == "Microsoft Windows 10.0.18363.0"
        assert codes(layer) == []
        assert read(layer, 510, 2) == b"\x55\xaa"
        (start,) = struct.unpack("<I", read(layer, 446 + 8, 4))
        assert read(layer, start * 512 + 3, 8) == b"NTFS    "


@pytest.mark.data
def test_a_log_left_by_windows() -> None:
    path = data_file("vhd/LTRData__DiscUtils/vhdx-log-replay.vhdx.gz")
    with opened(path) as layer:
        assert layer.info.creator == "Microsoft Windows 10.0.15063.0"
        assert codes(layer) == ["vhdx-log-pending"]
        assert layer.replay is not None
        assert len(layer.replay.entries) == 2
        table = read(layer, 446, 64)
        # two Linux partitions of 100 and 200 MiB, seen with fdisk after qemu-img check -r all
        assert [struct.unpack_from("<II", table, 16 * entry + 8) for entry in range(2)] == [
            (2048, 204800),
            (206848, 409600),
        ]
        assert table[4], table[20] == (0x83, 0x83)
        assert table[32:] == bytes(32)
        assert fmt.BlockState(next(layer.bat_entries()).state) is BlockState.FULLY_PRESENT
