"""Children of ours before other readers: byte for byte, but where a reader's fault is known by name."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.commits import changed, commit, content_of
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhdx_files import MIB, make
from tests.tools import require_tool, run
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_child import ChildCommit
from vhdtool.disk.container_opinion import confirm_container
from vhdtool.disk.create_vhd import Block as VhdBlock
from vhdtool.disk.create_vhd import write_vhd
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.second_opinion import compare_with_pyvhdi
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.progress import SILENT

pytestmark = pytest.mark.oracle


def by_7zip(path: Path, folder: Path, size: int) -> bytes | None:
    """7-Zip 26.02 opens no VHDX, QEMU's own neither, whose disk is not a multiple of 8 KiB: then ``None``."""
    out = folder / "7z"
    shutil.rmtree(out, ignore_errors=True)
    ended = run(require_tool("7zz"), "e", f"-o{out}", "-y", str(path), check=False)
    if path.suffix == ".vhdx" and size % (8 << 10):
        assert ended.returncode == 2
        return None
    assert ended.returncode == 0, ended.stdout
    [found] = out.iterdir()
    return found.read_bytes()


def by_dissect(path: Path, size: int) -> bytes:
    """In aligned pieces: reads that cross a block's end from its middle are wrong (vhdx.py ``read_sectors``)."""
    vhdx = pytest.importorskip("dissect.hypervisor.disk.vhdx")
    disk = vhdx.VHDX(path)
    pieces = []
    for place in range(0, size, MIB):
        disk.seek(place)
        pieces.append(disk.read(min(MIB, size - place)))
    while disk is not None:  # it closes nothing by itself
        disk.fh.close()
        disk = disk.parent
    return b"".join(pieces)


def random_changes(size: int, seed: int, count: int = 6) -> dict[int, bytes]:
    source = random.Random(seed)
    found = {}
    for _ in range(count):
        data = source.choice([source.randbytes(source.randrange(1, 9000)), bytes(source.randrange(1, 70000))])
        found[source.randrange(size - len(data))] = data
    return found | {size - 700: b"end" * 200}


def base_of_every_kind(folder: Path, name: str) -> Path:
    """A disk to change: with ZERO, UNMAPPED and PARTIAL blocks, of every type, whole or in a chain."""
    if name == "vhdx chain":
        vhdx_chain(folder)
        return folder / "layer3.vhdx"
    if name == "vhd chain":
        vhd_chain(folder)
        return folder / "layer3.vhd"
    if name in {"fixed vhdx", "dynamic vhdx"}:
        size, blocks = (
            37 * MIB + (512 if name == "fixed vhdx" else 8192),
            {1: Block(data=b"block" * 100_000), 4: Block(data=b"4" * (8 * MIB))},
        )
        make(folder / "base.vhdx", virtual_size=size, block_size=8 * MIB, kind=name.partition(" ")[0], blocks=blocks)
        return folder / "base.vhdx"
    common = {"virtual_size": 9 * MIB + 512, "unique_id": UUID(int=4), "timestamp": EPOCH}
    write_vhd(folder / "base.vhd", kind=name.partition(" ")[0], blocks={1: VhdBlock(b"v" * MIB)}, **common)
    return folder / "base.vhd"


BASES = ["vhdx chain", "fixed vhdx", "dynamic vhdx", "vhd chain", "fixed vhd", "dynamic vhd"]


@pytest.mark.parametrize("name", BASES)
def test_three_children_in_a_row(tmp_path, name):
    parent = base_of_every_kind(tmp_path, name)
    suffix = parent.suffix
    for number in range(3):
        child = tmp_path / f"child{number}{suffix}"
        _, expected = commit(ChildCommit, parent, random_changes(len(content_of(parent)), number), child)
        assert content_of(child) == expected
        assert by_7zip(child, tmp_path, len(expected)) in {expected, None}
        with open_disk(child) as disk:
            report = compare_with_pyvhdi(disk)
        assert report.agrees, report
        faults = {left.fault for left in report.left_out}
        if suffix == ".vhdx":
            # what the child itself holds is read by all; only what its parents hold may meet a fault
            assert faults <= {"sector-bitmap-missing", "zero-reads-parent"}
            assert by_dissect(child, len(expected)) == expected
        elif name != "vhd chain":
            assert not faults
        parent = child


@pytest.mark.parametrize("name", BASES)
def test_all_that_was_changed_is_confirmed(tmp_path, name):
    parent = base_of_every_kind(tmp_path, name)
    size = len(content_of(parent))
    with changed(parent, random_changes(size, 9)) as overlay:
        steps = ChildCommit(overlay, Target("child", str(tmp_path / f"child{parent.suffix}")))
        candidate = steps.prepare(SILENT)
        verdict = confirm_container(candidate, overlay, seed=1)
        steps.abandon()
    assert verdict.unconfirmed_bytes == 0
    assert verdict.changed_bytes > 0
    assert verdict.confirmed_bytes == verdict.changed_bytes + verdict.sampled_bytes


@pytest.mark.parametrize("size", [5 * MIB + 4096, 5 * MIB + 8192, 66 << 30])
def test_large_sectors(tmp_path, size):
    """dissect.hypervisor reads children with 4096-byte sectors wrongly: pyvhdi and 7-Zip judge."""
    base, child = tmp_path / "base.vhdx", tmp_path / "child.vhdx"
    blocks = {0: Block(data=b"0" * 5000), 2: Block(data=b"2" * MIB)}
    make(
        base, virtual_size=size, logical_sector_size=4096, block_size=MIB if size < 1 << 30 else 32 * MIB, blocks=blocks
    )
    changes = {4096 * 3: b"x" * 9000, size - 5000: b"end", MIB + 17: b"y" * 300_000}
    with changed(base, changes) as overlay:
        steps = ChildCommit(overlay, Target("child", str(child)))
        candidate = steps.prepare(SILENT)
        verdict = confirm_container(candidate, overlay, seed=2)
        steps.finish(SILENT)
    assert verdict.unconfirmed_bytes == 0
    assert verdict.confirmed_bytes == verdict.changed_bytes + verdict.sampled_bytes
    with open_disk(child) as disk:
        report = compare_with_pyvhdi(disk)
        assert report.agrees, report
        assert report.left_out == ()
        if size < 1 << 30:
            assert by_7zip(child, tmp_path, size) in {disk.read_at(0, size), None}
