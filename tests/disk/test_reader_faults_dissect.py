"""dissect.hypervisor as the other reader: where it is right it agrees, and each of its known faults is reproduced.

A test that fails here because dissect.hypervisor now reads right means that the fault's entry has to go.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from uuid import UUID

import pytest

from tests.disk import vhd_files
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.test_second_opinion import CHILD, PARENT, base_and_child
from tests.disk.vhd_files import WHOLE, open_disk
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, make, overwrite, pattern, stored
from tests.fuzz.vhd_images import DIFFERENCING, FIXED
from vhdtool.disk.create_vhdx import Block, Identity, PendingEntry, PendingLog
from vhdtool.disk.foreign_reader import DISSECT, ReaderError, open_reader
from vhdtool.disk.reader_faults_dissect import AVOIDED, MISREADINGS, REFUSALS
from vhdtool.disk.vhdx_bitmap import bitmap_of
from vhdtool.disk.vhdx_format import BAT_REGION, BlockState
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.disk.witness import Witness

vhd = importlib.import_module("dissect.hypervisor.disk.vhd")
vhdx = importlib.import_module("dissect.hypervisor.disk.vhdx")
PARTIAL = BlockState.PARTIALLY_PRESENT


def said_of(path):
    """What the witness says of a whole disk."""
    with open_disk(path) as disk:
        witness = Witness(DISSECT, disk)
        for start in range(0, disk.size, MIB):
            witness.ask([(start, min(start + MIB, disk.size))], disk.read_at)
        return witness.report()


@contextmanager
def library(path):
    """The image opened without us."""
    other = vhdx.VHDX(path) if path.suffix == ".vhdx" else vhd.VHD(path.open("rb")).disk
    yield other
    while other is not None:
        other.fh.close()
        other = getattr(other, "parent", None)


def wrong_sectors(path, count=1):
    """The sectors that the library reads wrong, or not at all, asked by itself for ``count`` sectors from each."""
    wrong = set()
    with open_disk(path) as disk, library(path) as other:
        sector_size = disk.logical_sector_size
        for sector in range(disk.size // sector_size - count + 1):
            ours = disk.read_at(sector * sector_size, count * sector_size)
            try:
                same = other.read_sectors(sector, count) == ours
            except (ValueError, EOFError):
                same = False
            if not same:
                wrong.add(sector)
    return wrong


def check_excused(report, fault, sectors, sector_size=512):
    """The fault touches ``sectors``, and what is left out by its name covers them; nothing else differs."""
    assert sectors
    assert report.opened
    assert report.agrees, report.differences
    left_out = {left.fault: left.bytes for left in report.left_out}
    assert set(left_out) == {fault}
    assert left_out[fault] >= len(sectors) * sector_size


def refusal(path, fault):
    """The library refuses, and the fault explains it."""
    report = said_of(path)
    assert (report.opened, report.known_fault) == (False, fault)
    assert report.reason
    return report.reason


def test_it_agrees_on_sound_images(tmp_path):
    make(tmp_path / "a.vhdx", blocks={0: Block(data=pattern(0, MIB)), 3: Block(data=pattern(3, 512))})
    vhd_files.make(tmp_path / "b.vhd")
    vhd_files.make(tmp_path / "c.vhd", kind=FIXED)
    for name in ("a.vhdx", "b.vhd", "c.vhd"):
        report = said_of(tmp_path / name)
        assert report.agrees
        assert report.left_out == ()
        assert report.bytes_compared >= 4 * MIB


def test_it_is_given_the_parent_wherever_it_lies(tmp_path):
    base, child, _ = base_and_child(tmp_path, blocks={3: Block(data=pattern(7, MIB))})
    (tmp_path / "elsewhere").mkdir()
    base.rename(tmp_path / "elsewhere" / "other.vhdx")
    with open_disk(child, parent=tmp_path / "elsewhere" / "other.vhdx") as disk:
        witness = Witness(DISSECT, disk)
        assert witness.ask([(0, 4 * MIB)], disk.read_at) == []
        assert witness.report().bytes_equal == 4 * MIB


def test_what_pyvhdi_can_not_be_asked_for_it_reads_right(tmp_path):
    """States of a child, and sector bitmaps that are not there."""
    states = {0: BlockState.ZERO, 1: BlockState.UNMAPPED, 2: BlockState.UNDEFINED}
    _, child, _ = base_and_child(tmp_path, blocks={number: Block(state) for number, state in states.items()})
    report = said_of(child)
    assert report.agrees
    assert report.bytes_equal == 4 * MIB


def test_importing_it_leaves_the_package_whole(tmp_path):
    """Only the format's module is loaded, and who imports the package afterwards gets all of it."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("dissect.hypervisor")}
    try:
        make(tmp_path / "a.vhdx")
        with open_disk(tmp_path / "a.vhdx") as disk:
            assert open_reader(DISSECT, disk).size == disk.size
        assert not any(name.startswith("dissect.hypervisor") for name in sys.modules)
        assert importlib.import_module("dissect.hypervisor").vmdk.VMDK
    finally:
        for name in [name for name in sys.modules if name.startswith("dissect.hypervisor")]:
            del sys.modules[name]
        sys.modules.update(hidden)


def test_fault_log_not_replayed(tmp_path):
    path = tmp_path / "a.vhdx"
    layout = make(tmp_path / "clean.vhdx", blocks={1: Block(data=pattern(1, MIB))})
    log = PendingLog(LOG_GUID, [PendingEntry([DataWrite(layout.blocks[1] + 8192, pattern(9, 4096))])])
    make(path, blocks={1: Block(data=pattern(1, MIB))}, log=log)
    wrong = wrong_sectors(path)
    assert wrong == set(range(2048 + 16, 2048 + 24))
    check_excused(said_of(path), "log-not-replayed", wrong)


def test_fault_first_region_table(tmp_path):
    """The first table names another place for the BAT, under a wrong checksum; the second is right."""
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))})
    table = stored(path, 192 * 1024, 1024)
    entry = table.index(BAT_REGION.bytes_le)
    overwrite(path, 192 * 1024 + entry + 16, (6 * MIB).to_bytes(8, "little"))
    assert wrong_sectors(path)
    refusal(path, "first-region-table")


def test_fault_below_parent_end(tmp_path):
    _, child, _ = base_and_child(tmp_path, 6 * MIB, blocks={5: Block(data=pattern(9, MIB))})
    wrong = wrong_sectors(child)
    assert wrong == set(range(4 * 2048, 5 * 2048))
    check_excused(said_of(child), "below-parent-end", wrong)


def test_fault_partial_below_partial(tmp_path):
    base, middle, top = tmp_path / "base.vhdx", tmp_path / "middle.vhdx", tmp_path / "top.vhdx"
    make(base, blocks={0: Block(data=pattern(0, MIB))})
    bits = bitmap_of([5, 6, 12, 100, 107, 1000], 2048)
    inner = {0: Block(PARTIAL, pattern(5, MIB), bits), 1: Block(PARTIAL, pattern(4, MIB), bits)}
    make(middle, kind="differencing", identity=CHILD, parent=PARENT, blocks=inner)
    outer = {0: Block(PARTIAL, pattern(6, MIB), bitmap_of([3, 11, 12, 102], 2048)), 3: Block(data=pattern(3, MIB))}
    linkage = {"parent_linkage": f"{{{CHILD.data_write}}}", "relative_path": ".\\middle.vhdx"}
    identity = Identity(UUID(int=4), UUID(int=5), UUID(int=6))
    make(top, kind="differencing", identity=identity, parent=linkage, blocks=outer)
    assert wrong_sectors(top, 8)  # also for the reason of "partial-from-odd-sector", so asked as we ask:
    with open_disk(top) as disk:
        reader = open_reader(DISSECT, disk)
        assert reader.read(MIB, 3 * MIB) == disk.read_at(MIB, 3 * MIB)
        with pytest.raises(ReaderError, match="it returned"):
            reader.read(0, 4096)
    report = said_of(top)
    check_excused(report, "partial-below-partial", {0})
    assert [left.bytes for left in report.left_out] == [MIB]


def test_fault_vhd_as_dynamic(tmp_path):
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    parent = vhd_files.make(base)
    vhd_files.make(child, 2, kind=DIFFERENCING, parent=parent, parent_path="base.vhd", blocks={1: WHOLE})
    wrong = wrong_sectors(child)
    assert wrong == {*range(4096), *range(2 * 4096, 3 * 4096)}
    check_excused(said_of(child), "vhd-as-dynamic", wrong)


def test_fault_vhd_bitmap(tmp_path):
    path = tmp_path / "a.vhd"
    vhd_files.make(path, blocks={0: WHOLE})
    vhd_files.overwrite(path, vhd_files.entry(path, 0) * 512, b"\xf0\x0f")
    wrong = wrong_sectors(path)
    assert wrong == {4, 5, 6, 7, 8, 9, 10, 11}
    check_excused(said_of(path), "vhd-bitmap", wrong)


def test_fault_vhd_footer(tmp_path):
    """The last footer was damaged, and its copy at the start of the file says what the disk is."""
    path = tmp_path / "a.vhd"
    vhd_files.make(path)
    size = (1 << 40).to_bytes(8, "big")
    vhd_files.set_footer(path, vhd_files.CURRENT_SIZE, size, seal=False, copies="tail")
    with open_disk(path) as disk, library(path) as other:
        assert disk.size == 8 * MIB
        assert other.size == 1 << 40
    refusal(path, "vhd-footer")


def test_fault_region_table_signature(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path)
    overwrite(path, 256 * 1024, b"iger")
    assert "region table" in refusal(path, "region-table-signature")


def test_fault_header_signature(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path)
    overwrite(path, 128 * 1024, b"daeh")
    with open_disk(path) as disk:
        assert disk.size == 4 * MIB
    assert "header" in refusal(path, "header-signature")


def test_fault_unknown_metadata(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path, metadata_items=[(UUID(int=77), 0, b"something")])
    assert str(UUID(int=77)) in refusal(path, "unknown-metadata")


def test_fault_no_relative_path(tmp_path):
    make(tmp_path / "base.vhdx")
    linkage = {"parent_linkage": f"{{{IDENTITY.data_write}}}", "absolute_win32_path": "C:\\base.vhdx"}
    make(tmp_path / "child.vhdx", kind="differencing", identity=CHILD, parent=linkage)
    assert "relative_path" in refusal(tmp_path / "child.vhdx", "no-relative-path")


def test_fault_crosses_blocks(tmp_path):
    """Asked by itself it is wrong; asked by us, in pieces, it is right."""
    path = tmp_path / "a.vhdx"
    make(path, blocks={0: Block(data=pattern(0, MIB)), 1: Block(data=pattern(1, MIB))}, order=[1, 0])
    with open_disk(path) as disk, library(path) as other:
        asked = (MIB // 2, MIB)
        ours = disk.read_at(*asked)
        assert other.read_sectors(1024, 2048) != ours
        assert open_reader(DISSECT, disk).read(*asked) == ours


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_fault_partial_from_odd_sector(tmp_path, sector_size):
    base, child = tmp_path / "base.vhdx", tmp_path / "child.vhdx"
    per_block = MIB // sector_size
    make(base, blocks={0: Block(data=pattern(0, MIB))}, logical_sector_size=sector_size)
    part = Block(PARTIAL, pattern(5, MIB), bitmap_of([3, 4, 9, 21, 100, per_block - 1], per_block))
    settings = {"kind": "differencing", "identity": CHILD, "parent": PARENT, "logical_sector_size": sector_size}
    make(child, blocks={0: part}, **settings)
    assert wrong_sectors(child, 2)
    with open_disk(child) as disk:
        reader = open_reader(DISSECT, disk)
        for sector in range(2 * per_block):
            for count in (1, 2, 9):
                asked = (sector * sector_size, count * sector_size)
                assert reader.read(*asked) == disk.read_at(*asked)


def test_a_short_answer_is_no_answer(tmp_path):
    """It returns what the file has: the rest of a block that was cut off is not there."""
    path = tmp_path / "a.vhdx"
    layout = make(path, blocks={0: Block(data=pattern(0, MIB))})
    with open_disk(path) as disk:
        with path.open("r+b") as file:
            file.truncate(layout.blocks[0] + 512)
        with pytest.raises(ReaderError, match="512 bytes of 1024"):
            open_reader(DISSECT, disk).read(0, 1024)


def test_chains_of_every_state_have_no_unexplained_difference(tmp_path):
    vhdx_chain(tmp_path)
    vhd_chain(tmp_path)
    for name in ("layer3.vhdx", "layer2.vhdx", "layer3.vhd"):
        report = said_of(tmp_path / name)
        assert report.agrees, report
        assert report.bytes_compared > MIB // 4


def test_every_fault_has_its_test():
    names = {fault.name for fault in (*MISREADINGS, *REFUSALS, *AVOIDED)}
    tests = " ".join(name.replace("_", "-") for name in globals())
    assert all(f"test-fault-{name}" in tests for name in names)
