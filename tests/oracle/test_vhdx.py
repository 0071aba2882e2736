"""VHDX images read by us and by programs that we did not write; where one of those is wrong, a test shows how.

qemu-img knows no differencing images and no 4 KiB sectors, and refuses a pending log unless it may write; it judges
everything else. pyvhdi, dissect.hypervisor and 7-Zip judge chains.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data_files import data_file
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, change, make, opened, overwrite, pattern, read, read_all
from tests.tools import require_tool, run
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Block, Identity, Layout, PendingEntry, PendingLog
from vhdtool.disk.device import Origin
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_bitmap import bitmap_of
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_log_entry import DataWrite, LogWrite, ZeroWrite

pytestmark = pytest.mark.oracle

GIB = 1 << 30
PARENT_IDENTITY = Identity(IDENTITY.virtual_disk, IDENTITY.file_write, IDENTITY.virtual_disk)
LINKAGE = {"parent_linkage": f"{{{PARENT_IDENTITY.data_write}}}", "relative_path": ".\\base.vhdx"}
BLOCKS = 8


# --- readers ---------------------------------------------------------------------------------------------------------


def by_qemu(path: Path) -> bytes:
    raw = path.with_suffix(".raw")
    run(require_tool("qemu-img"), "convert", "-f", "vhdx", "-O", "raw", str(path), str(raw))
    return raw.read_bytes()


def by_7zip(path: Path) -> bytes:
    return run(require_tool("7zz"), "e", "-so", "-tvhdx", str(path)).stdout


def by_pyvhdi(path: Path, offset: int, length: int, parent: Path | None = None) -> bytes:
    pyvhdi = pytest.importorskip("pyvhdi")
    file, below = pyvhdi.file(), None
    file.open(str(path))
    try:
        if parent is not None:
            below = pyvhdi.file()
            below.open(str(parent))
            file.set_parent(below)
        return bytes(file.read_buffer_at_offset(length, offset))
    finally:
        file.close()
        if below is not None:
            below.close()


def by_dissect(path: Path, offset: int, length: int, step: int = MIB, *, chained: bool = False) -> bytes:
    vhdx = pytest.importorskip("dissect.hypervisor.disk.vhdx")
    with ExitStack() as files:
        # a path is what it needs to find a parent; the files that it opens then stay open
        disk = vhdx.VHDX(path if chained else files.enter_context(path.open("rb")))
        files.callback(disk.fh.close)
        if disk.parent is not None:
            files.callback(disk.parent.fh.close)
        disk.seek(offset)
        return b"".join(disk.read(min(step, length - done)) for done in range(0, length, step))


# --- images without a parent -----------------------------------------------------------------------------------------


def every_state(block_size: int) -> dict[int, Block]:
    return {
        0: Block(data=pattern(10, block_size)),
        2: Block(BlockState.ZERO),
        3: Block(BlockState.UNMAPPED),
        4: Block(data=pattern(14, block_size // 2)),
        5: Block(BlockState.UNDEFINED),
        7: Block(data=pattern(17, block_size)),
    }


def expected_of(blocks: Mapping[int, Block], block_size: int, below: bytes = b"") -> bytes:
    """What the specification makes of blocks whose bitmaps are left out."""
    disk = bytearray(below or bytes(BLOCKS * block_size))
    for number, block in blocks.items():
        data = block.data if block.state is BlockState.FULLY_PRESENT else b""
        assert isinstance(data, bytes)
        disk[number * block_size : (number + 1) * block_size] = data.ljust(block_size, b"\0")
    return bytes(disk)


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize(("sector_size", "block_mib"), [(512, 1), (512, 2), (4096, 1), (4096, 4)])
def test_every_state_without_a_parent(tmp_path: Path, kind: str, sector_size: int, block_mib: int) -> None:
    path = tmp_path / "a.vhdx"
    size = block_mib * MIB
    blocks = every_state(size)
    if kind == "fixed":
        blocks = {number: block for number, block in blocks.items() if block.state is BlockState.FULLY_PRESENT}
    make(
        path,
        kind=kind,
        virtual_size=BLOCKS * size,
        block_size=size,
        logical_sector_size=sector_size,
        blocks=blocks,
        order=[7, 4],
    )
    expected = expected_of(blocks, size)
    assert read_all(path) == expected
    assert by_pyvhdi(path, 0, len(expected)) == expected
    assert by_dissect(path, 0, len(expected), size) == expected
    assert by_7zip(path) == expected
    if sector_size == 512:
        assert by_qemu(path) == expected
        run(require_tool("qemu-img"), "check", str(path))


@pytest.mark.parametrize("options", ["subformat=dynamic,block_size=1M", "subformat=fixed", "subformat=dynamic"])
def test_images_made_by_qemu(tmp_path: Path, options: str) -> None:
    raw = tmp_path / "a.raw"
    source = random.Random(options)
    with raw.open("wb") as file:
        file.truncate(41 * MIB)
        for _ in range(20):
            file.seek(source.randrange(40 * MIB))
            file.write(source.randbytes(source.randrange(1, MIB)))
    path = tmp_path / "a.vhdx"
    run(require_tool("qemu-img"), "convert", "-f", "raw", "-O", "vhdx", "-o", options, str(raw), str(path))
    assert read_all(path) == raw.read_bytes()


@pytest.mark.parametrize(("sector_size", "block_mib"), [(512, 16), (4096, 16)])
def test_across_chunks(tmp_path: Path, sector_size: int, block_mib: int) -> None:
    path = tmp_path / "a.vhdx"
    size = block_mib * MIB
    ratio = (1 << 23) * sector_size // size
    numbers = [ratio - 1, ratio, 2 * ratio - 1, 2 * ratio]
    blocks = {
        number: Block(data=pattern(number, MIB) + bytes(size - 2 * MIB) + pattern(number + 9, MIB))
        for number in numbers
    }
    make(path, virtual_size=(2 * ratio + 2) * size, block_size=size, logical_sector_size=sector_size, blocks=blocks)
    with opened(path) as layer:
        for number in numbers:
            for offset in (number * size - 4096, number * size, (number + 1) * size - 4096):
                ours = read(layer, offset, 8192)
                assert ours == by_pyvhdi(path, offset, 8192)
                assert ours == by_dissect(path, offset, 8192, 4096)
        assert read(layer, numbers[1] * size, 4096) == pattern(ratio, 4096)


@pytest.mark.data
@pytest.mark.parametrize("name", ["dynamic", "fixed"])
def test_images_made_by_windows(name: str) -> None:
    path = data_file(f"vhd/fox-it__dissect.hypervisor/{name}.vhdx.gz")
    ours = read_all(path)
    assert ours == by_qemu(path)
    assert ours == by_7zip(path)
    assert ours == by_pyvhdi(path, 0, len(ours))
    assert ours == by_dissect(path, 0, len(ours))


# --- pending logs ----------------------------------------------------------------------------------------------------


def repaired_by_qemu(path: Path) -> Path:
    """A raw file of the disk after qemu-img replayed the log into a copy."""
    copy, raw = path.with_name("replayed.vhdx"), path.with_name("replayed.raw")
    shutil.copyfile(path, copy)
    run(require_tool("qemu-img"), "check", "-r", "all", str(copy))
    run(require_tool("qemu-img"), "convert", "-f", "vhdx", "-O", "raw", str(copy), str(raw))
    return raw


@pytest.mark.data
def test_a_log_left_by_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    shutil.copyfile(data_file("vhd/LTRData__DiscUtils/vhdx-log-replay.vhdx.gz"), path)
    raw = repaired_by_qemu(path)
    assert raw.stat().st_size == GIB
    before = path.read_bytes()
    with opened(path) as layer, raw.open("rb") as file:
        assert layer.info.log == "replayed"
        stored = 0
        for run_ in layer.resolve(0, GIB):
            for offset in range(run_.offset, run_.offset + run_.length, MIB):
                theirs = file.read(MIB)
                if run_.origin is Origin.DATA:
                    stored += 1
                    assert theirs == read(layer, offset, MIB)
                else:
                    assert theirs.count(0) == MIB
        assert stored == 32
    assert path.read_bytes() == before


def logged(path: Path, entries: list[PendingEntry], **wanted: Any) -> Layout:
    return make(path, blocks={0: Block(data=pattern(1, MIB))}, log=PendingLog(LOG_GUID, entries, **wanted))


@pytest.mark.parametrize("case", ["one", "two", "zero", "many", "torn", "stale", "wrapped"])
def test_pending_logs_are_replayed_as_qemu_does(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(tmp_path / "plan.vhdx", blocks={0: Block(data=pattern(1, MIB))})
    at = layout.blocks[0]

    def data(sector: int, value: int) -> LogWrite:
        return DataWrite(at + sector * 4096, pattern(value, 4096))

    bat = DataWrite(layout.bat_offset, (encode_bat_entry(6, at) + encode_bat_entry(2, 0)).ljust(4096, b"\0"))
    entries = {
        "one": [[bat, data(3, 300)]],
        "two": [[data(3, 300), data(4, 400)], [bat, data(4, 401)]],
        "zero": [[data(3, 300), ZeroWrite(at, 16 * 4096), data(5, 500)]],
        "many": [[data(sector, number * 1000 + sector) for sector in range(126)] for number in (1, 2)],
        "torn": [[data(3, 300)], [data(3, 301)], [data(3, 302)]],
        "stale": [[data(3, 300)], [data(4, 400)]],
        "wrapped": [[data(sector, number * 10 + sector) for sector in range(3)] for number in (1, 2, 3)],
    }[case]
    start = MIB - 6 * 4096 if case == "wrapped" else 0
    pending = [PendingEntry(writes) for writes in entries]
    if case == "stale":
        pending[1] = replace(pending[1], tail=8192)
    logged(path, pending, start=start)
    if case == "torn":
        overwrite(path, MIB + 2 * 8192 + 5000, b"torn")
    with opened(path) as layer:
        assert layer.info.log == "replayed"
        assert (case == "torn") == any(problem.code == "vhdx-log-torn-entry" for problem in layer.info.problems)
    ours = read_all(path)
    if case == "stale":
        # 2.3.3 leaves out what stands before the tail, because the file has it already; qemu-img does not look at it
        theirs = repaired_by_qemu(path).read_bytes()
        assert ours[3 * 4096 :][:4096] == pattern(1, MIB)[3 * 4096 :][:4096]
        assert theirs[3 * 4096 :][:4096] == pattern(300, 4096)
        assert ours[4 * 4096 :][:4096] == theirs[4 * 4096 :][:4096] == pattern(400, 4096)
        return
    assert ours == repaired_by_qemu(path).read_bytes()
    if case == "torn":
        assert ours[3 * 4096 :][:4096] == pattern(301, 4096)


def test_fault_readers_ignore_a_pending_log(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(tmp_path / "plan.vhdx", blocks={0: Block(data=pattern(1, MIB))})
    logged(path, [PendingEntry([DataWrite(layout.blocks[0], pattern(300, 4096))])])
    assert read_all(path)[:4096] == pattern(300, 4096)
    old = pattern(1, 4096)
    assert by_pyvhdi(path, 0, 4096) == old
    assert by_dissect(path, 0, 4096) == old
    seven_zip = run(require_tool("7zz"), "e", "-so", "-tvhdx", str(path), check=False)
    assert (seven_zip.returncode, seven_zip.stdout[:4096]) == (2, old)
    qemu = run(require_tool("qemu-img"), "info", str(path), check=False)
    assert qemu.returncode == 1
    assert b"log that needs to be replayed" in qemu.stderr


def test_fault_qemu_replays_a_part_of_a_full_log(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    layout = make(tmp_path / "plan.vhdx", blocks={0: Block(data=pattern(1, MIB))})
    writes = [DataWrite(layout.blocks[0] + sector * 4096, pattern(1000 + sector, 4096)) for sector in range(252)]
    sizes = (126, 126, 1)  # entries of 127, 127 and 2 sectors: all 256 of the log
    entries = [
        PendingEntry(writes[126 * number :][:size] if number < 2 else writes[:1]) for number, size in enumerate(sizes)
    ]
    logged(path, entries)
    new = b"".join(pattern(1000 + sector, 4096) for sector in range(252))
    assert read_all(path)[: len(new)] == new
    assert repaired_by_qemu(path).read_bytes()[: len(new)] != new


# --- chains ----------------------------------------------------------------------------------------------------------


def chain_of(
    folder: Path, child_blocks: Mapping[int, Block], *, size: int = MIB, sector_size: int = 512, **wanted: Any
) -> tuple[Path, Path, bytes]:
    """A full parent and a child beside it; the parent's disk."""
    below = b"".join(pattern(100 + number, size) for number in range(BLOCKS))
    settings = {"virtual_size": BLOCKS * size, "block_size": size, "logical_sector_size": sector_size}
    parent, child = folder / "base.vhdx", folder / "child.vhdx"
    parents = {number: Block(data=pattern(100 + number, size)) for number in range(BLOCKS)}
    make(parent, blocks=parents, identity=PARENT_IDENTITY, order=[3, 1], **settings)
    make(child, kind="differencing", blocks=child_blocks, **({"parent": LINKAGE} | settings | wanted))
    return parent, child, below


def partial(number: int, sectors: set[int], size: int, sector_size: int) -> Block:
    bitmap = bitmap_of(sectors, size // sector_size)
    return Block(BlockState.PARTIALLY_PRESENT, data=pattern(number, size), bitmap=bitmap)


def lay(below: bytes, number: int, sectors: set[int], *, size: int, sector_size: int, block: int) -> bytes:
    disk = bytearray(below)
    own = pattern(number, size)
    for sector in sectors:
        start = sector * sector_size
        disk[block * size + start : block * size + start + sector_size] = own[start : start + sector_size]
    return bytes(disk)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_children_of_every_state(tmp_path: Path, sector_size: int) -> None:
    size = MIB
    chosen = {0, 3, 4, 5, 100, size // sector_size - 1}
    whole = {
        1: Block(data=pattern(1, size)),
        3: Block(BlockState.ZERO),
        4: Block(BlockState.UNMAPPED),
        6: Block(BlockState.UNDEFINED),
    }
    blocks = whole | {2: partial(2, chosen, size, sector_size)}
    _, child, below = chain_of(tmp_path, blocks, sector_size=sector_size)
    expected = lay(expected_of(whole, size, below), 2, chosen, size=size, sector_size=sector_size, block=2)
    assert read_all(child, below) == expected
    assert by_7zip(child) == expected
    if sector_size == 512:
        assert by_dissect(child, 0, len(expected), size, chained=True) == expected


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_children_as_pyvhdi_reads_them_right(tmp_path: Path, sector_size: int) -> None:
    size = 2 * MIB
    chosen = set(range(8, 24)) | set(range(size // sector_size - 8, size // sector_size))
    blocks = {1: Block(data=pattern(1, size)), 2: partial(2, chosen, size, sector_size)}
    parent, child, below = chain_of(tmp_path, blocks, size=size, sector_size=sector_size, all_bitmaps=True)
    expected = lay(expected_of({1: blocks[1]}, size, below), 2, chosen, size=size, sector_size=sector_size, block=2)
    assert read_all(child, below) == expected
    assert by_pyvhdi(child, 0, len(expected), parent) == expected


@pytest.mark.parametrize("state", [BlockState.ZERO, BlockState.UNMAPPED, BlockState.UNDEFINED])
def test_fault_pyvhdi_shows_the_parent_through_empty_states(tmp_path: Path, state: BlockState) -> None:
    parent, child, below = chain_of(tmp_path, {1: Block(state)}, all_bitmaps=True)
    assert read_all(child, below)[MIB : 2 * MIB] == bytes(MIB)
    assert by_pyvhdi(child, MIB, MIB, parent) == below[MIB : 2 * MIB]


def test_fault_pyvhdi_reads_offset_0_for_a_missing_bitmap(tmp_path: Path) -> None:
    parent, child, below = chain_of(tmp_path, {})
    assert read_all(child, below) == below == by_7zip(child) == by_dissect(child, 0, len(below), chained=True)
    assert by_pyvhdi(child, 0, len(below), parent) != below


def test_fault_dissect_reads_on_past_a_block_that_it_entered_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    size = 2 * MIB
    blocks = {number: Block(data=pattern(number + 1, size)) for number in range(BLOCKS)}
    make(path, virtual_size=BLOCKS * size, block_size=size, blocks=blocks, order=[7, 5, 3, 1])
    expected = expected_of(blocks, size)
    assert read_all(path) == expected == by_dissect(path, 0, len(expected), MIB)
    assert by_dissect(path, 0, len(expected), 3 * MIB) != expected


def test_fault_dissect_reads_children_of_large_sectors_wrong(tmp_path: Path) -> None:
    chosen = {0, 3, 4, 5, 100, 255}
    _, child, below = chain_of(tmp_path, {2: partial(2, chosen, MIB, 4096)}, sector_size=4096)
    expected = lay(below, 2, chosen, size=MIB, sector_size=4096, block=2)
    assert read_all(child, below) == expected == by_7zip(child)
    assert by_dissect(child, 0, len(expected), 8192, chained=True) != expected


def test_fault_readers_give_up_where_one_copy_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))})
    expected = read_all(path)
    change(path, fmt.HEADER_OFFSETS[0] + 60, 1, lambda byte: bytes([byte[0] ^ 1]))
    assert read_all(path) == expected
    assert run(require_tool("7zz"), "e", "-so", "-tvhdx", str(path), check=False).returncode == 2
    change(path, fmt.HEADER_OFFSETS[0] + 60, 1, lambda byte: bytes([byte[0] ^ 1]))
    overwrite(path, fmt.REGION_TABLE_OFFSETS[0], bytes(64))
    assert read_all(path) == expected
    with pytest.raises(OSError, match="region"):
        by_pyvhdi(path, 0, 512)
    assert run(require_tool("qemu-img"), "info", str(path), check=False).returncode == 1


def test_fault_dissect_fails_at_an_unknown_metadata_item(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    item = (IDENTITY.file_write, fmt.METADATA_IS_USER, b"note")
    make(path, blocks={1: Block(data=pattern(1, MIB))}, metadata_items=[item])
    assert read_all(path) == by_qemu(path) == by_7zip(path) == by_pyvhdi(path, 0, 4 * MIB)
    with pytest.raises(KeyError):
        by_dissect(path, 0, 512)


def test_a_child_in_the_middle_of_a_merge(tmp_path: Path) -> None:
    linkage = {"parent_linkage": f"{{{LOG_GUID}}}", "parent_linkage2": LINKAGE["parent_linkage"]}
    _, child, below = chain_of(tmp_path, {}, parent=linkage | {"relative_path": ".\\base.vhdx"})
    with opened(child) as layer:
        assert layer.info.linkage == (str(LOG_GUID), str(PARENT_IDENTITY.data_write))
    assert read_all(child, below) == below
    # 7-Zip knows the first linkage only
    assert run(require_tool("7zz"), "e", "-so", "-tvhdx", str(child), check=False).returncode == 2
