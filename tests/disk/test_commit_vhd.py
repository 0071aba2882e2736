"""A dynamic or differencing VHD changed in place; power cuts are in tests/crash/test_vhd_in_place.py."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.commits import changed
from tests.disk.in_place import CHANGES, Full, commit, refused
from tests.disk.vhd_files import (
    ENTRIES,
    HEADER_CHECKSUM,
    MIB,
    SAVED,
    TABLE_AT,
    WHOLE,
    change,
    entry,
    footer_at,
    make,
    overwrite,
    set_entry,
    set_footer,
    set_header,
    stored,
)
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_vhd import VhdInPlaceCommit
from vhdtool.disk.create_vhd import Block, Parent, write_vhd
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.disk.vhd_move import MAGIC
from vhdtool.errors import DamagedError, OutputError, RefusedError
from vhdtool.progress import SILENT

STORED = 2 * MIB + 512
LATER = {7 * MIB: b"hole"}


def test_old_blocks_stay_where_they_are_and_new_ones_follow(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    before, size, footer = [entry(path, n) for n in range(4)], path.stat().st_size, stored(path, 0, 512)
    written = commit(VhdInPlaceCommit, path, CHANGES)
    after = [entry(path, n) for n in range(4)]
    assert before == [4, 0xFFFFFFFF, 4 + STORED // 512, 0xFFFFFFFF]
    assert after == [4, (size - 512) // 512, 4 + STORED // 512, (size - 512 + STORED) // 512]
    assert path.stat().st_size == size + 2 * STORED
    assert (written.blocks, written.file_size_before) == (3, size)
    assert stored(path, 0, 512) == stored(path, footer_at(path), 512) == footer
    assert written.bytes_written < 4 * STORED
    with open_disk(path) as disk:
        assert {finding.code for finding in audit_disk(disk).findings} == {"vhd-geometry-differs"}


def test_without_new_blocks_the_file_keeps_its_size(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    size = path.stat().st_size
    commit(VhdInPlaceCommit, path, {5: b"x", 5 * MIB: b"y" * 70000})
    assert path.stat().st_size == size


def test_blocks_stay_in_their_new_places_where_that_is_asked_for(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    size = path.stat().st_size
    commit(VhdInPlaceCommit, path, CHANGES, fold=False)
    assert path.stat().st_size == size + 3 * STORED
    assert entry(path, 0) == (size - 512 + 2 * STORED) // 512


def test_no_change_writes_nothing(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    before = path.read_bytes()
    with open_disk(path) as disk:
        same = {100: disk.read_at(100, 5000)}
    written = commit(VhdInPlaceCommit, path, same)
    assert (written.blocks, written.bytes_written) == (0, 0)
    assert path.read_bytes() == before


def test_touched_blocks_of_a_child_become_whole(tmp_path):
    """Also those bits are set whose sectors were the parent's; other blocks and the ways to the parent stay."""
    parent = make(tmp_path / "base.vhd", 1)
    path = tmp_path / "child.vhd"
    bits = b"\xa5" + bytes(511)
    blocks = {0: Block(b"c" * 4096, bits), 3: Block(b"d" * 8192, bits)}
    layout = write_vhd(
        path, virtual_size=8 * MIB, unique_id=UUID(int=4), timestamp=EPOCH, kind="differencing", blocks=blocks,
        parent=Parent(parent.unique_id, name="base.vhd", relative=".\\base.vhd"),
    )  # fmt: skip
    start = stored(path, 0, TABLE_AT)
    commit(VhdInPlaceCommit, path, {1000: b"hello" * 200, 5 * MIB: b"new"})
    assert stored(path, layout.blocks[0], 512) == b"\xff" * 512
    assert stored(path, layout.blocks[3], 512) == bits
    assert stored(path, entry(path, 2) * 512, 512) == b"\xff" * 512
    assert stored(path, 0, TABLE_AT) == start


def test_a_short_footer_becomes_a_whole_one(tmp_path):
    path = tmp_path / "old.vhd"
    blocks = {0: Block(b"c" * 4096)}
    write_vhd(path, virtual_size=8 * MIB, unique_id=UUID(int=4), timestamp=EPOCH, blocks=blocks, short_footer=True)
    size = path.stat().st_size
    commit(VhdInPlaceCommit, path, {0: b"x"})
    assert path.stat().st_size == size + 1


def test_a_last_block_without_room_behind_it(tmp_path):
    """Some programs store only what the disk has of its last block; the footer follows at once."""
    path = tmp_path / "disk.vhd"
    write_vhd(path, virtual_size=2 * MIB + 1024, unique_id=UUID(int=4), timestamp=EPOCH, blocks={1: Block(b"e" * 1024)})
    footer = stored(path, 0, 512)
    with path.open("r+b") as file:
        file.truncate(entry(path, 1) * 512 + 512 + 1024)
    overwrite(path, path.stat().st_size, footer)
    size = path.stat().st_size
    commit(VhdInPlaceCommit, path, {2 * MIB + 512: b"end" * 100})
    assert path.stat().st_size == size


def test_a_table_with_more_entries_than_blocks(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    set_header(path, ENTRIES, struct.pack(">I", 100))
    commit(VhdInPlaceCommit, path, CHANGES)
    assert [entry(path, n) for n in range(4, 128)] == [0xFFFFFFFF] * 124


def test_bytes_that_look_like_a_record_in_a_block_are_none(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path, blocks={0: WHOLE})
    commit(VhdInPlaceCommit, path, {2 * MIB - 512: MAGIC.ljust(512, b"\1")})
    commit(VhdInPlaceCommit, path, {0: b"again"})


def damaged_head(path: Path) -> None:
    overwrite(path, 100, b"\xee")


def damaged_tail(path: Path) -> None:
    overwrite(path, footer_at(path) + 100, b"\xee")


@pytest.mark.parametrize("damage", [damaged_head, damaged_tail])
def test_a_damaged_footer_is_repaired_first(tmp_path, damage):
    path = tmp_path / "disk.vhd"
    make(path)
    damage(path)
    error = refused(VhdInPlaceCommit, path, RefusedError, "image-needs-recovery")
    assert error.hint == f"Bring it to rest first: vhdtool recover {path}"


def other_copy(path: Path) -> None:
    set_footer(path, 24, b"\0\0\0\7", copies="head")


def both_checksums(path: Path) -> None:
    set_footer(path, 64, b"\0\0\0\7", seal=False)


def header_checksum(path: Path) -> None:
    change(path, 512, 1024, HEADER_CHECKSUM, HEADER_CHECKSUM, b"\0\0\0\7", seal=False)


@pytest.mark.parametrize("damage", [other_copy, both_checksums, header_checksum])
def test_contradictions_are_refused(tmp_path, damage):
    path = tmp_path / "disk.vhd"
    make(path)
    damage(path)
    refused(VhdInPlaceCommit, path, RefusedError, "image-damaged")


def test_the_disk_of_a_saved_machine_is_refused(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    set_footer(path, SAVED, b"\1")
    refused(VhdInPlaceCommit, path, RefusedError, "vhd-saved-state")


def test_a_table_that_is_far_too_large_is_refused(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    set_header(path, ENTRIES, b"\x7f\xff\xff\xff")
    refused(VhdInPlaceCommit, path, RefusedError, "vhd-bat-too-large")


def test_a_block_over_another_is_refused(tmp_path):
    """The other one is not touched by the change, so reading what is changed does not meet it."""
    path = tmp_path / "disk.vhd"
    make(path)
    set_entry(path, 1, entry(path, 0) + 8)
    before = path.read_bytes()
    with changed(path, {10: b"x"}) as overlay:
        steps = VhdInPlaceCommit(overlay, Target("in-place"))
        with pytest.raises(DamagedError, match="block 1 lies in the place of another block"):
            steps.prepare(SILENT)
    assert path.read_bytes() == before


def test_no_room_is_told_before_anything_is_written(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    error = refused(VhdInPlaceCommit, path, OutputError, "no-room", Full(5 * MIB))
    assert error.exit_code == 7
    commit(VhdInPlaceCommit, path, CHANGES, Full(3 * STORED + 4096))


def test_a_file_that_would_be_too_large_for_the_format_is_refused(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    footer = stored(path, 0, 512)
    with path.open("r+b") as file:  # a hole of nearly 2 TiB before the footer
        file.truncate(0xFFFFFFFF * 512 - STORED)
        file.seek(0, 2)
        file.write(footer)
    before = path.stat()
    with changed(path, CHANGES) as overlay:
        steps = VhdInPlaceCommit(overlay, Target("in-place"), Full(1 << 50))
        with pytest.raises(OutputError) as caught:
            steps.prepare(SILENT)
        steps.abandon()
    assert caught.value.code == "vhd-too-large"
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_fixed_images_are_not_for_it(tmp_path):
    path = tmp_path / "disk.vhd"
    write_vhd(path, virtual_size=MIB, unique_id=UUID(int=4), timestamp=EPOCH, kind="fixed")
    with changed(path, {0: b"x"}) as overlay, pytest.raises(ValueError, match="no dynamic VHD"):
        VhdInPlaceCommit(overlay, Target("in-place"))


def test_finishing_needs_a_preparation(tmp_path):
    path = tmp_path / "disk.vhd"
    make(path)
    with changed(path, LATER) as overlay, pytest.raises(ValueError, match="prepared"):
        VhdInPlaceCommit(overlay, Target("in-place")).finish(SILENT)
