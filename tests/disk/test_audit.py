"""What an audit finds in files that were made sound, then changed in one place with the checksums made right."""

from __future__ import annotations

import struct
import time
import tracemalloc
from dataclasses import replace

import pytest

from tests.disk import vhd_files
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhd_files import KIB, MIB, WHOLE, open_disk
from tests.disk.vhdx_files import LOG_GUID, change, make, overwrite, pattern, stored, write_headers
from tests.fuzz.vhd_images import DIFFERENCING, FIXED
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.audit import SHOWN_OF_A_KIND, audit_disk
from vhdtool.disk.create_vhdx import Block, PendingEntry, PendingLog
from vhdtool.disk.vhdx_bitmap import bitmap_of
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_header import parse_header
from vhdtool.disk.vhdx_log_entry import DataWrite


def audit(path, parent=None):
    with open_disk(path, parent=parent) as disk:
        return audit_disk(disk)


def findings(path, parent=None):
    return {(finding.code, finding.severity) for finding in audit(path, parent).findings}


def set_entry(path, layout, index, value):
    overwrite(path, layout.bat_offset + index * 8, struct.pack("<Q", value))


@pytest.fixture
def image(tmp_path):
    """A VHDX of 4 MiB in blocks of 1 MiB, blocks 0 and 2 stored."""
    path = tmp_path / "a.vhdx"
    layout = make(path, blocks={0: Block(data=pattern(0, MIB)), 2: Block(data=pattern(2, MIB))})
    return path, layout


def test_sound_images(tmp_path, image):
    vhdx_chain(tmp_path)
    vhd_chain(tmp_path)
    assert findings(image[0]) == set()
    report = audit(tmp_path / "layer3.vhdx")
    assert report.sound
    assert report.blocks == 6
    report = audit(tmp_path / "layer3.vhd")
    assert report.sound
    assert report.blocks == 7
    fixed = tmp_path / "fixed.vhd"
    vhd_files.make(fixed, kind=FIXED, virtual_size=MIB, blocks={})
    assert audit(fixed).sound
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(MIB))
    assert audit(raw).findings == ()


@pytest.mark.parametrize(
    ("index", "value", "expected"),
    [
        (1, 4, ("vhdx-block-state", "high")),
        (1, 5, ("vhdx-block-state", "high")),
        (1, 7 | 8 << 20, ("vhdx-block-state", "high")),
        (1, 6 | 1 << 60, ("vhdx-block-outside-file", "high")),
        (1, 6, ("vhdx-block-overlap", "high")),  # over the header section
        (1, 6 | 1 << 20, ("vhdx-block-overlap", "high")),  # over the log
        (1, 6 | 2 << 20, ("vhdx-block-overlap", "high")),  # over the metadata
        (1, 6 | 3 << 20, ("vhdx-block-overlap", "high")),  # over the BAT
        (1, 6 | 4 << 20, ("vhdx-block-overlap", "high")),  # over block 0
        (1, 1 << 20, ("vhdx-block-offset-unused", "low")),
        (1, 2 | 1 << 20, ("vhdx-block-offset-unused", "low")),
        (1, 2 | 1 << 3, ("vhdx-bat-reserved-bits", "low")),
        (1, 3 | 4 << 20, ("vhdx-block-overlap", "high")),  # a soft anchor over block 0
    ],
)
def test_bat_entries(image, index, value, expected):
    path, layout = image
    assert layout.blocks[0] == 4 * MIB
    set_entry(path, layout, index, value)
    report = audit(path)
    assert expected in {(finding.code, finding.severity) for finding in report.findings}
    assert not report.sound
    finding = next(finding for finding in report.findings if finding.code == expected[0])
    assert finding.path == str(path)
    assert finding.offset == layout.bat_offset + (
        2 if "overlap" in expected[0] and value == 6 | 4 << 20 else index
    ) * 8 or (finding.offset == layout.bat_offset + index * 8)


def test_soft_anchors_are_told(tmp_path):
    path = tmp_path / "a.vhdx"
    make(
        path, blocks={1: Block(BlockState.UNMAPPED, keeps_space=True), 2: Block(BlockState.UNDEFINED, keeps_space=True)}
    )
    report = audit(path)
    assert [(finding.code, finding.severity) for finding in report.findings] == [("vhdx-soft-anchor", "info")] * 2
    assert (report.tail_waste, report.blocks) == (0, 0)


def test_space_that_nothing_uses(image):
    path, layout = image
    set_entry(path, layout, 2, 0)
    with path.open("ab") as file:
        file.write(bytes(MIB + 100))
    report = audit(path)
    assert report.sound
    assert report.tail_waste == 2 * MIB + 100
    assert {finding.code for finding in report.findings} == {"vhdx-tail-waste", "vhdx-file-size"}


def test_both_headers_and_both_tables(image):
    path, _ = image
    overwrite(path, 64 * KIB + 8, b"\xff")
    overwrite(path, 256 * KIB + 100, b"\xff")
    codes = findings(path)
    assert ("vhdx-header-copy-damaged", "medium") in codes
    assert ("vhdx-region-table-copy-damaged", "medium") in codes


def test_reserved_bytes_of_a_header(image):
    path, _ = image
    change(path, 64 * KIB, 4096, lambda data: fmt.sealed(data[:4000] + b"\1" + data[4001:]))
    assert findings(path) == {("vhdx-header-reserved", "low")}


def test_a_pending_log_is_told(tmp_path):
    path = tmp_path / "a.vhdx"
    make(path, log=PendingLog(LOG_GUID, [PendingEntry([DataWrite(3 * MIB, bytes(4096))])]))
    assert ("vhdx-log-pending", "medium") in findings(path)


def test_an_empty_log_in_an_impossible_place(image):
    path, _ = image
    header = parse_header(stored(path, 128 * KIB, 4096))
    write_headers(path, replace(header, log_offset=1 << 50))
    assert ("vhdx-log-location", "medium") in findings(path)


def test_partial_blocks_need_their_bitmap(tmp_path):
    base, path = tmp_path / "base.vhdx", tmp_path / "a.vhdx"
    make(base)
    parent = {"parent_linkage": "{22222222-2222-4222-8222-222222222222}", "relative_path": ".\\base.vhdx"}
    partial = Block(BlockState.PARTIALLY_PRESENT, pattern(1, MIB), bitmap_of([1], 2048))
    layout = make(path, kind="differencing", parent=parent, blocks={1: partial})
    assert findings(path, base) == set()
    set_entry(path, layout, 4096, 0)  # the bitmap of chunk 0 stands behind its 4096 payload blocks
    assert ("vhdx-bitmap-missing", "high") in findings(path, base)
    set_entry(path, layout, 4096, 2)
    assert {("vhdx-bitmap-missing", "high"), ("vhdx-block-state", "high")} <= findings(path, base)


def test_a_fixed_image_has_all_its_blocks(tmp_path):
    path = tmp_path / "a.vhdx"
    layout = make(path, kind="fixed")
    assert findings(path) == set()
    set_entry(path, layout, 1, 0)
    assert findings(path) == {("vhdx-fixed-block-absent", "medium")}


def test_many_findings_of_a_kind_are_counted(tmp_path):
    path = tmp_path / "a.vhdx"
    layout = make(path, virtual_size=100 * MIB)
    for index in range(100):
        set_entry(path, layout, index, 5)
    found = audit(path).findings
    assert len(found) == SHOWN_OF_A_KIND + 1
    assert found[-1].message == "and 84 more of this kind"


def test_a_large_file_is_audited_in_little_memory(tmp_path):
    """64 GiB of blocks of 1 MiB, all of them present in a sparse file."""
    path = tmp_path / "a.vhdx"
    size = 64 << 30
    layout = make(path, virtual_size=size)
    count = size // MIB
    first = -(-(layout.bat_offset + 9 * MIB) // MIB)
    with path.open("r+b") as file:
        file.seek(layout.bat_offset)
        for chunk in range(0, count, 4096):
            entries = [6 | (first + block) << 20 for block in range(chunk, chunk + 4096)]
            file.write(struct.pack("<4096QQ", *entries, 0))
        file.truncate((first + count) * MIB)
    tracemalloc.start()
    began = time.monotonic()
    report = audit(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.sound
    assert report.blocks == count
    assert peak < 4 * MIB
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("block", "sector", "expected"),
    [
        (1, 0, ("vhd-block-overlap", "high")),
        (1, 3, ("vhd-block-overlap", "high")),
        (1, 20, ("vhd-block-overlap", "high")),
        (1, 0xFFFFFFFE, ("vhd-block-outside-file", "high")),
    ],
)
def test_vhd_tables(tmp_path, block, sector, expected):
    path = tmp_path / "a.vhd"
    vhd_files.make(path)
    vhd_files.set_entry(path, block, sector)
    report = audit(path)
    assert expected in {(finding.code, finding.severity) for finding in report.findings}
    assert not report.sound


def test_vhd_two_blocks_in_one_place(tmp_path):
    path = tmp_path / "a.vhd"
    vhd_files.make(path)
    vhd_files.set_entry(path, 1, vhd_files.entry(path, 2))
    [finding] = [finding for finding in audit(path).findings if finding.severity == "high"]
    assert (finding.code, finding.offset) == ("vhd-block-overlap", vhd_files.TABLE_AT + 8)


def test_vhd_facts_worth_knowing(tmp_path):
    path = tmp_path / "a.vhd"
    vhd_files.make(path)
    vhd_files.set_footer(path, vhd_files.SAVED, b"\1")
    vhd_files.set_footer(path, 8, bytes(4))
    vhd_files.set_header(path, vhd_files.ENTRIES, struct.pack(">I", 9))
    vhd_files.set_entry(path, 2, 0xFFFFFFFF)
    report = audit(path)
    assert {(finding.code, finding.severity) for finding in report.findings} == {
        ("vhd-saved-state", "medium"),
        ("vhd-features", "low"),
        ("vhd-geometry-differs", "info"),
        ("vhd-bat-entries", "info"),
        ("vhd-tail-waste", "info"),
    }
    assert report.tail_waste == 2 * MIB + 512
    with path.open("r+b") as file:
        file.truncate(vhd_files.footer_at(path) + 511)
    assert ("vhd-footer-short", "info") in findings(path)


def test_vhd_data_that_a_bitmap_hides(tmp_path):
    path = tmp_path / "a.vhd"
    vhd_files.make(path, blocks={0: WHOLE, 1: frozenset({5})})
    assert audit(path).sound
    vhd_files.overwrite(path, vhd_files.entry(path, 0) * 512 + 100, b"\xfe")
    assert ("vhd-bitmap-hides-data", "medium") in findings(path)


def test_vhd_children_hide_nothing(tmp_path):
    base, path = tmp_path / "base.vhd", tmp_path / "a.vhd"
    parent = vhd_files.make(base)
    vhd_files.make(path, 2, kind=DIFFERENCING, parent=parent, parent_path="base.vhd", blocks={0: WHOLE})
    vhd_files.overwrite(path, vhd_files.entry(path, 0) * 512, bytes(100))
    assert audit(path).sound


def test_problems_of_opening_are_findings(tmp_path):
    path = tmp_path / "a.vhd"
    vhd_files.make(path)
    vhd_files.set_footer(path, vhd_files.UNIQUE_ID, b"by hand", seal=False)
    assert ("vhd-checksums-bad", "high") in findings(path)
