"""What a changed disk must read as: all that changes, and a bounded sample of the rest."""

from __future__ import annotations

import time

from tests.disk.vhd_files import open_disk
from tests.disk.vhdx_files import MIB, make, pattern
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.expected_disk import SAMPLE_SIZE, ExpectedDisk
from vhdtool.disk.overlay import Overlay


def test_the_sample_and_the_changes_are_apart_and_right(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path, virtual_size=8 * MIB, blocks={number: Block(data=pattern(number, MIB)) for number in (1, 2, 6)})
    with open_disk(path) as disk, Overlay(disk) as over:
        for place in range(0, 64, 3):
            over.write_at(MIB + place * 4096 + 512, b"\xff" * 1024)
        changed = {
            sector for start, length in over.changed() for sector in range(start // 512, (start + length) // 512)
        }
        stored = 0
        for seed in range(20):
            expected = ExpectedDisk(over, seed)
            assert expected.changed_bytes == len(changed) * 512
            seen = set()
            for sample in expected.samples:
                assert sample.data == disk.read_at(sample.offset, len(sample.data))
                sectors = set(range(sample.offset // 512, (sample.offset + len(sample.data)) // 512))
                assert not sectors & (changed | seen)
                seen |= sectors
                stored += sum(sector // 2048 in {1, 2, 6} for sector in sectors)
            assert expected.sampled_bytes == len(seen) * 512 <= 46 * SAMPLE_SIZE
            assert {0, 8 * MIB // 512 - 1} <= seen
        assert stored > 20 * 400  # mostly where the file holds something


def test_changed_ranges_are_cut_into_windows(tmp_path):
    make(tmp_path / "a.vhdx", virtual_size=8 * MIB)
    with open_disk(tmp_path / "a.vhdx") as disk, Overlay(disk) as over:
        over.write_at(MIB - 1024, b"\1" * (2 * MIB + 1024))
        over.write_at(5 * MIB, b"\1" * 512)
        over.write_at(5 * MIB + 8192, b"\1" * 512)
        assert list(ExpectedDisk(over, 1).changed(MIB)) == [
            [(MIB - 1024, MIB)],
            [(MIB, 2 * MIB)],
            [(2 * MIB, 3 * MIB)],
            [(5 * MIB, 5 * MIB + 512), (5 * MIB + 8192, 5 * MIB + 8704)],
        ]


def test_a_huge_empty_disk_costs_nothing(tmp_path):
    make(tmp_path / "a.vhdx", virtual_size=8 << 40, block_size=MIB)
    with open_disk(tmp_path / "a.vhdx") as disk, Overlay(disk) as over:
        over.write_at(5 << 40, b"\1" * 512)
        started = time.perf_counter()
        expected = ExpectedDisk(over, 1)
        assert time.perf_counter() - started < 2
        assert expected.sampled_bytes > 10 * SAMPLE_SIZE
        assert expected.unreadable == 0


def test_an_unchanged_disk_has_a_sample(tmp_path):
    make(tmp_path / "a.vhdx", blocks={1: Block(data=pattern(1, MIB))})
    with open_disk(tmp_path / "a.vhdx") as disk, Overlay(disk) as over:
        expected = ExpectedDisk(over, 1)
        assert expected.changed_bytes == 0
        assert list(expected.changed(MIB)) == []
        assert expected.sampled_bytes > 0
