"""pyvhdi as the second reader: where it is right it agrees, and each of its known faults is reproduced.

A test that fails here because pyvhdi now reads right means that the fault's entry in reader_faults.py has to go.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from uuid import UUID

import pytest

from tests.disk import vhd_files
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.test_convert import Listener
from tests.disk.vhd_files import KIB, WHOLE, open_disk
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, make, overwrite, pattern
from tests.fuzz.vhd_images import DIFFERENCING, FIXED
from vhdtool.disk.create_vhdx import Block, Identity, PendingEntry, PendingLog
from vhdtool.disk.foreign_reader import open_reader
from vhdtool.disk.reader_faults_pyvhdi import AVOIDED, MISREADINGS, REFUSALS
from vhdtool.disk.second_opinion import DIFFERENCES_KEPT, compare_with_pyvhdi, compare_with_readers
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_bitmap import bitmap_of
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_log_entry import DataWrite

pyvhdi = importlib.import_module("pyvhdi")
CHILD = Identity(UUID(int=1), UUID(int=2), UUID(int=3))
PARENT = {"parent_linkage": f"{{{IDENTITY.data_write}}}", "relative_path": ".\\base.vhdx"}


def opinion(path, parent=None):
    with open_disk(path, parent=parent) as disk:
        return compare_with_pyvhdi(disk)


def wrong_sectors(*paths):
    """The sectors that pyvhdi reads differently from us, or not at all: by itself, without any excuse."""
    readers = []
    for path in paths:
        readers.append(pyvhdi.file())
        readers[-1].open(str(path))
    for child, parent in pairwise(readers):
        child.set_parent(parent)
    wrong = set()
    with open_disk(paths[0]) as disk:
        for sector in range(disk.size // 512):
            try:
                same = readers[0].read_buffer_at_offset(512, sector * 512) == disk.read_at(sector * 512, 512)
            except OSError:
                same = False
            if not same:
                wrong.add(sector)
    for reader in readers:
        reader.close()
    return wrong


def check_excused(report, fault, sectors):
    """The fault touches ``sectors``, is excused by its name and no more than it says, and nothing else differs."""
    assert sectors
    assert report.opened
    left_out = {left.fault: left.bytes for left in report.left_out}
    assert report.agrees, report.differences
    assert left_out[fault] >= len(sectors) * 512
    assert all(left.summary for left in report.left_out)


def base_and_child(folder, virtual_size=4 * MIB, **wanted):
    base, child = folder / "base.vhdx", folder / "child.vhdx"
    make(base, blocks={number: Block(data=pattern(number, MIB)) for number in range(4)})
    settings = {"kind": "differencing", "identity": CHILD, "parent": PARENT, "virtual_size": virtual_size}
    layout = make(child, **(settings | wanted))
    return base, child, layout


def test_it_agrees_on_a_sound_image(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path, blocks={0: Block(data=pattern(0, MIB)), 2: Block(BlockState.ZERO), 3: Block(data=pattern(3, 512))})
    listener = Listener()
    with open_disk(path) as disk:
        report = compare_with_pyvhdi(disk, listener)
    assert report.agrees
    assert (report.reader, report.version) == ("pyvhdi", pyvhdi.get_version())
    assert report.bytes_compared == report.bytes_equal == 2 * MIB + 2 * 2 * 64 * KIB
    assert (report.left_out, report.differences, report.bytes_different) == ((), (), 0)
    assert listener.told == [("compare", 4 * MIB), "finish"]
    assert listener.done == 4 * MIB


def test_it_agrees_on_vhds(tmp_path):
    for kind in (FIXED, vhd_files.DYNAMIC):
        path = tmp_path / f"{kind}.vhd"
        vhd_files.make(path, kind=kind)
        report = opinion(path)
        assert report.agrees
        assert report.bytes_compared >= 4 * MIB


def test_it_agrees_on_a_chain_of_three(tmp_path):
    parent = None
    for number in (1, 2, 3):
        kind = DIFFERENCING if parent else vhd_files.DYNAMIC
        path = f"{number - 1}.vhd" if parent else ""
        blocks = {number: WHOLE, 0: frozenset(range(8 * number, 2048))}
        target = tmp_path / f"{number}.vhd"
        parent = vhd_files.make(target, number, kind=kind, parent=parent, parent_path=path, blocks=blocks)
    report = opinion(tmp_path / "3.vhd")
    assert report.agrees
    assert report.bytes_compared > 6 * MIB
    assert report.left_out == ()


def test_a_difference_is_told_with_its_place(tmp_path, monkeypatch):
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))})
    with open_disk(path) as disk:
        real = disk.read_at

        def altered(offset, length):
            data = bytearray(real(offset, length))
            for place in range(MIB + 512, 2 * MIB, 2048):
                if offset <= place < offset + length:
                    data[place - offset] ^= 1
            return bytes(data)

        monkeypatch.setattr(disk, "read_at", altered)
        report = compare_with_pyvhdi(disk)
    assert report.opened
    assert not report.agrees
    assert report.bytes_different == 512 * 512
    assert len(report.differences) == DIFFERENCES_KEPT
    assert (report.differences[0].offset, report.differences[0].length) == (MIB + 512, 512)
    assert report.bytes_equal + report.bytes_different == report.bytes_compared


def test_refusing_to_open_is_not_agreeing(tmp_path, monkeypatch):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(MIB))
    report = opinion(path)
    assert (report.opened, report.agrees, report.known_fault) == (False, False, None)
    assert report.reason
    make(tmp_path / "a.vhdx")
    with open_disk(tmp_path / "a.vhdx") as disk:
        (tmp_path / "a.vhdx").rename(tmp_path / "b.vhdx")
        report = compare_with_pyvhdi(disk)
    assert (report.opened, report.agrees, report.known_fault) == (False, False, None)
    assert report.reason


def test_another_size_is_a_difference(tmp_path, monkeypatch):
    path = tmp_path / "a.vhdx"
    make(path)
    with open_disk(path) as disk:
        make(tmp_path / "b.vhdx", virtual_size=6 * MIB)
        (tmp_path / "b.vhdx").replace(path)
        report = compare_with_pyvhdi(disk)
    assert not report.agrees
    assert (report.differences[0].offset, report.differences[0].length) == (4 * MIB, 2 * MIB)


def test_fault_log_ignored_in_the_table(tmp_path):
    path, clean = tmp_path / "a.vhdx", tmp_path / "clean.vhdx"
    layout = make(clean, blocks={0: Block(data=pattern(0, MIB)), 2: Block(data=pattern(2, MIB))})
    table = bytearray(4096)
    for number in (0, 2):  # the log swaps the two blocks
        table[number * 8 : number * 8 + 8] = encode_bat_entry(BlockState.FULLY_PRESENT, layout.blocks[2 - number])
    log = PendingLog(LOG_GUID, [PendingEntry([DataWrite(layout.bat_offset, bytes(table))])])
    make(path, blocks={0: Block(data=pattern(0, MIB)), 2: Block(data=pattern(2, MIB))}, log=log)
    wrong = wrong_sectors(path)
    assert wrong <= {*range(2048), *range(4096, 6144)}
    report = opinion(path)
    check_excused(report, "log-ignored", wrong)
    assert [left.bytes for left in report.left_out] == [2 * MIB]
    assert report.bytes_compared > 0


def test_fault_log_ignored_in_the_data(tmp_path):
    """QEMU wrote payload through the log; MS-VHDX 2.3 forbids it, and readers replay it all the same."""
    path = tmp_path / "a.vhdx"
    layout = make(tmp_path / "clean.vhdx", blocks={1: Block(data=pattern(1, MIB))})
    log = PendingLog(LOG_GUID, [PendingEntry([DataWrite(layout.blocks[1] + 8192, pattern(9, 4096))])])
    make(path, blocks={1: Block(data=pattern(1, MIB))}, log=log)
    wrong = wrong_sectors(path)
    assert wrong == set(range(2048 + 16, 2048 + 24))
    report = opinion(path)
    check_excused(report, "log-ignored", wrong)
    assert [left.bytes for left in report.left_out] == [4096]


@pytest.mark.parametrize("state", [BlockState.ZERO, BlockState.UNMAPPED, BlockState.UNDEFINED])
def test_fault_zero_reads_parent(tmp_path, state):
    base, child, _ = base_and_child(tmp_path, blocks={1: Block(state)}, all_bitmaps=True)
    wrong = wrong_sectors(child, base)
    assert wrong == set(range(2048, 4096))
    report = opinion(child)
    check_excused(report, "zero-reads-parent", set(range(256)))  # of a block of zeros, both ends are looked at
    assert [left.fault for left in report.left_out] == ["zero-reads-parent"]


def test_fault_sector_bitmap_missing(tmp_path):
    base, child, _ = base_and_child(tmp_path, blocks={3: Block(data=pattern(7, MIB))})
    wrong = wrong_sectors(child, base)
    report = opinion(child)
    check_excused(report, "sector-bitmap-missing", wrong)
    assert max(wrong) < 3 * 2048
    left = sum(left.bytes for left in report.left_out)
    assert left <= 1000 * 512  # the bits of the file type identifier, no more


def test_no_fault_where_the_sector_bitmap_is_there(tmp_path):
    present = Block(BlockState.PARTIALLY_PRESENT, pattern(5, MIB), bitmap_of([1, 2, 100, 2047], 2048))
    base, child, _ = base_and_child(tmp_path, blocks={1: present, 3: Block(data=pattern(7, MIB))})
    assert wrong_sectors(child, base) == set()
    report = opinion(child)
    assert report.agrees
    assert report.left_out == ()
    assert report.bytes_equal == 4 * MIB


def test_fault_bitmap_byte_run(tmp_path):
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    parent = vhd_files.make(base)
    blocks = {0: frozenset({1, 5, 77, 4095}), 2: WHOLE}
    vhd_files.make(child, 2, kind=DIFFERENCING, parent=parent, parent_path="base.vhd", blocks=blocks)
    wrong = wrong_sectors(child, base)
    assert wrong == {2, 3, 4, 6, 7, 78, 79}
    report = opinion(child)
    check_excused(report, "bitmap-byte-run", wrong)
    assert [left.bytes for left in report.left_out] == [7 * 512]
    assert report.bytes_equal == report.bytes_compared


def test_fault_bitmap_byte_run_in_a_dynamic_image(tmp_path):
    path = tmp_path / "a.vhd"
    vhd_files.make(path, blocks={0: WHOLE})
    vhd_files.overwrite(path, vhd_files.entry(path, 0) * 512, b"\xf0\x0f")
    wrong = wrong_sectors(path)
    assert wrong == {4, 5, 6, 7}
    check_excused(opinion(path), "bitmap-byte-run", wrong)


def test_fault_past_parent_end(tmp_path):
    base, child, _ = base_and_child(tmp_path, 6 * MIB, blocks={5: Block(data=pattern(9, MIB))}, all_bitmaps=True)
    wrong = wrong_sectors(child, base)
    assert wrong == set(range(4 * 2048, 5 * 2048))
    report = opinion(child)
    check_excused(report, "past-parent-end", set(range(256)))
    assert report.bytes_compared >= 5 * MIB


def test_fault_parent_into_block(tmp_path):
    """Asked by itself over two blocks it is wrong; asked by us, block by block, it is right."""
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    small = {"virtual_size": MIB, "block_size": 64 * KIB}
    parent = vhd_files.make(base, **small, blocks={})
    blocks = {3: frozenset(range(64, 72)), 4: frozenset(range(128))}
    vhd_files.make(child, 2, kind=DIFFERENCING, parent=parent, parent_path="base.vhd", blocks=blocks, **small)
    readers = [pyvhdi.file() for _ in range(2)]
    for reader, path in zip(readers, (child, base), strict=True):
        reader.open(str(path))
    readers[0].set_parent(readers[1])
    with open_disk(child) as disk:
        offset, length = (3 * 128 + 74) * 512, 128 * 512
        ours = disk.read_at(offset, length)
        assert any(ours)
        assert readers[0].read_buffer_at_offset(length, offset) == bytes(length)
        assert open_reader("pyvhdi", disk).read(offset, length) == ours
    for reader in readers:
        reader.close()
    assert opinion(child).agrees


@pytest.mark.parametrize("place", [192 * KIB, 256 * KIB])
def test_fault_region_table_copy(tmp_path, place):
    path = tmp_path / "a.vhdx"
    make(path)
    overwrite(path, place + 100, b"\1")
    report = opinion(path)
    assert (report.opened, report.known_fault) == (False, "region-table-copy")
    assert "checksum" in report.reason


@pytest.mark.parametrize("place", [64 * KIB, 128 * KIB])
def test_fault_header_copy(tmp_path, place):
    path = tmp_path / "a.vhdx"
    make(path)
    overwrite(path, place, b"daeh")
    report = opinion(path)
    assert (report.opened, report.known_fault) == (False, "header-copy")


def test_fault_linkage2_only(tmp_path):
    linkage = {"parent_linkage": f"{{{UUID(int=9)}}}", "parent_linkage2": PARENT["parent_linkage"]}
    _, child, _ = base_and_child(tmp_path, parent={**PARENT, **linkage}, all_bitmaps=True)
    report = opinion(child)
    assert (report.opened, report.known_fault) == (False, "linkage2-only")
    assert "identifier" in report.reason


@pytest.mark.parametrize("size", [0, 511])
def test_fault_last_footer(tmp_path, size):
    path = tmp_path / "a.vhd"
    vhd_files.make(path)
    with path.open("r+b") as file:
        file.truncate(vhd_files.footer_at(path) + size)
    report = opinion(path)
    assert (report.opened, report.known_fault) == (False, "last-footer")


def test_an_unexplained_refusal_has_no_excuse(tmp_path):
    vhdx_chain(tmp_path)
    with open_disk(tmp_path / "layer3.vhdx") as disk:
        (tmp_path / "layer1.vhdx").unlink()
        (tmp_path / "layer1.vhdx").write_bytes(bytes(MIB))
        report = compare_with_pyvhdi(disk)
    assert (report.opened, report.known_fault) == (False, None)


def test_chains_of_every_state_have_no_unexplained_difference(tmp_path):
    vhdx_chain(tmp_path)
    vhd_chain(tmp_path)
    for name in ("layer3.vhdx", "layer3.vhd"):
        report = opinion(tmp_path / name)
        assert report.agrees, report
        assert report.bytes_compared > MIB


def test_what_pyvhdi_can_not_be_asked_for_another_is(tmp_path):
    _, child, _ = base_and_child(tmp_path, blocks={1: Block(BlockState.ZERO), 3: Block(data=pattern(7, MIB))})
    with open_disk(child) as disk:
        first, second = compare_with_readers(disk)
        assert first == compare_with_pyvhdi(disk)
    assert {left.fault for left in first.left_out} == {"zero-reads-parent", "sector-bitmap-missing"}
    assert (second.reader, second.agrees, second.left_out) == ("dissect.hypervisor", True, ())
    assert second.bytes_equal == sum(left.bytes for left in first.left_out)


def test_a_reader_that_is_not_needed_is_not_asked(tmp_path):
    make(tmp_path / "a.vhdx", blocks={0: Block(data=pattern(0, MIB))})
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert [report.reader for report in compare_with_readers(disk)] == ["pyvhdi"]


def test_where_the_first_reader_refuses_the_second_reads_all(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path, blocks={0: Block(data=pattern(0, MIB))})
    overwrite(path, 256 * KIB + 100, b"\1")
    with open_disk(path) as disk:
        first, second = compare_with_readers(disk)
    assert (first.opened, first.known_fault) == (False, "region-table-copy")
    assert second.agrees
    assert second.bytes_compared >= MIB


def test_every_fault_has_its_test():
    names = {fault.name for fault in (*MISREADINGS, *REFUSALS, *AVOIDED)}
    tests = " ".join(name.replace("_", "-") for name in globals())
    assert all(f"test-fault-{name}" in tests for name in names)
