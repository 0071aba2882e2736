"""Clearing up after an interrupted change; every state that a power cut leaves is in tests/crash."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.commits import folder_state
from tests.disk.in_place import flushed, stopped
from tests.disk.vhd_files import (
    MIB,
    TABLE_AT,
    TABLE_OFFSET,
    UNIQUE_ID,
    codes,
    footer_at,
    make,
    overwrite,
    set_header,
    stored,
)
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit_vhd import VhdInPlaceCommit
from vhdtool.disk.create_vhd import write_vhd
from vhdtool.disk.recover_vhd import recover_vhd
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.disk.vhd_move import MovedBlocks, MoveRecord, encode_record, record_length
from vhdtool.errors import DamagedError, VhdtoolError

COMMITTED = 3  # flushes before: of the first footer, the record, blocks and table


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    path = folder / "disk.vhd"
    make(path)
    return path


def content(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.read_at(0, disk.size)


def test_a_whole_image_is_left_alone(image):
    before = folder_state(image.parent)
    assert recover_vhd(str(image)) is None
    assert folder_state(image.parent) == before


def test_other_files_are_left_alone(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"raw" * 512)
    assert recover_vhd(str(path)) is None
    fixed = tmp_path / "fixed.vhd"
    write_vhd(fixed, virtual_size=MIB, unique_id=UUID(int=3), timestamp=EPOCH, kind="fixed")
    before = folder_state(tmp_path)
    assert recover_vhd(str(fixed)) is None
    assert folder_state(tmp_path) == before


@pytest.mark.parametrize(
    ("steps", "action", "says"),
    [
        (1, "rolled-back", "undone"),
        (2, "rolled-back", "undone"),
        (COMMITTED, "finished", "is finished"),
        (4, "finished", "is finished"),
        (5, "finished", "no longer needs"),
        (6, "finished", "no longer needs"),
    ],
)
def test_what_was_interrupted_is_told_and_cleared_up(image, steps, action, says):
    old, size = content(image), image.stat().st_size
    stopped(VhdInPlaceCommit, image, flushed(steps))
    with open_disk(image) as disk:
        assert codes(disk) == ["vhd-commit-unfinished"]
    seen = content(image)
    assert (seen == old) is (action == "rolled-back")
    recovered = recover_vhd(str(image))
    assert recovered is not None
    assert (recovered.path, recovered.action) == (str(image), action)
    assert says in recovered.notes[0]
    assert recovered.bytes_written > 0
    assert content(image) == seen
    assert image.stat().st_size == size + (0 if seen == old else 2 * (2 * MIB + 512))
    with open_disk(image) as disk:
        assert codes(disk) == []


def test_room_that_was_asked_for_is_given_back(image):
    before = folder_state(image.parent)
    stopped(VhdInPlaceCommit, image, flushed(0))  # the first footer alone
    assert folder_state(image.parent) != before
    recovered = recover_vhd(str(image))
    assert recovered is not None
    assert recovered.action == "rolled-back"
    assert folder_state(image.parent) == before


def test_unused_room_that_is_not_ours_stays(image):
    """Some other program's: no whole number of blocks, or something is written in it."""
    footer = stored(image, 0, 512)
    overwrite(image, image.stat().st_size + 4096, footer)
    before = folder_state(image.parent)
    assert recover_vhd(str(image)) is None
    assert folder_state(image.parent) == before


def test_a_damaged_copy_at_the_start_is_restored(image):
    before = folder_state(image.parent)
    overwrite(image, 0, b"\xee" * 512)
    recovered = recover_vhd(str(image))
    assert recovered is not None
    assert (recovered.action, recovered.bytes_written) == ("repaired", 512)
    assert "at the start" in recovered.notes[0]
    assert folder_state(image.parent) == before


def test_a_damaged_footer_at_the_end_is_restored(image):
    before = folder_state(image.parent)
    overwrite(image, footer_at(image) + 20, b"\xee" * 40)
    recovered = recover_vhd(str(image))
    assert recovered is not None
    assert "at the end" in recovered.notes[0]
    assert folder_state(image.parent) == before


def test_a_footer_that_is_cut_off_is_appended(image):
    whole = image.read_bytes()
    image.write_bytes(whole[:-512])
    assert recover_vhd(str(image)) is not None
    assert image.read_bytes() == whole


def test_a_damaged_footer_and_an_interrupted_change(image):
    stopped(VhdInPlaceCommit, image, flushed(COMMITTED))
    seen = content(image)
    overwrite(image, 0, b"\xee" * 512)
    recovered = recover_vhd(str(image))
    assert recovered is not None
    assert recovered.action == "finished"
    assert len(recovered.notes) == 2
    assert content(image) == seen
    assert recover_vhd(str(image)) is None


def forged(path: Path, *, home: int, home_table: int = TABLE_AT, place_off: int = 0) -> None:
    """Behind the disk's blocks: a copy of block 0, a table that names it, and a sealed record of somebody else's."""
    data = path.read_bytes()
    copy_at = len(data) - 512
    copy = data[4 * 512 : 4 * 512 + 2 * MIB + 512]
    table_at = copy_at + len(copy)
    blocks = MovedBlocks()
    blocks.add(0, home, copy_at + place_off)
    record = MoveRecord(
        unique_id=UUID(bytes=data[UNIQUE_ID : UNIQUE_ID + 16]),
        file_size=table_at + 512 + record_length(1) + 512,
        old_end=copy_at,
        new_end=copy_at,
        header_offset=512,
        home_table=home_table,
        moved_table=table_at,
        table_size=16,
        blocks=blocks,
    )
    entries = ((copy_at // 512).to_bytes(4, "big") + data[TABLE_AT + 4 : TABLE_AT + 16]).ljust(512, b"\xff")
    path.write_bytes(data[:-512] + copy + entries + encode_record(record) + data[-512:])
    set_header(path, TABLE_OFFSET, table_at.to_bytes(8, "big"))


def test_an_honest_record_of_that_make_is_followed(image):
    before = content(image)
    forged(image, home=4 * 512)
    recovered = recover_vhd(str(image))
    assert recovered is not None
    assert recovered.action == "finished"
    assert content(image) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"home": 4 * 512 + 2 * MIB + 512},  # block 2
        {"home": 3 * 512},  # the table at home
        {"home": 512},  # the header
        {"home": 4 * 512, "home_table": 4 * 512 + 2 * MIB + 4608},  # a table over block 2
        {"home": 4 * 512, "home_table": 1024},  # and over the header
        {"home": 4 * 512, "home_table": 5 * 512},  # a table over the block's own home
    ],
)
def test_a_record_never_makes_it_write_over_what_is_in_use(image, wrong):
    """A guest could write a record into its own disk, and a copy of the image could end there."""
    forged(image, **wrong)
    before = folder_state(image.parent)
    with pytest.raises(DamagedError) as caught:
        recover_vhd(str(image))
    assert caught.value.code == "vhd-block-overlap"
    assert folder_state(image.parent) == before


def test_a_record_that_does_not_know_the_table_is_none(image):
    forged(image, home=4 * 512, place_off=512)
    before = folder_state(image.parent)
    with open_disk(image) as disk:
        assert codes(disk) == []
    assert recover_vhd(str(image)) is None
    assert folder_state(image.parent) == before


def test_flipped_bytes_never_do_harm_unseen(image):
    """Structures and record with errors: an error of ours, or a disk that reads as before."""
    stopped(VhdInPlaceCommit, image, flushed(COMMITTED))
    whole, seen = image.read_bytes(), content(image)
    source = random.Random(9)
    places = [*range(100), *range(512, 600), *range(len(whole) - 2048, len(whole) - 400)]
    for _ in range(150):
        data = bytearray(whole)
        data[source.choice(places)] ^= 1 << source.randrange(8)
        image.write_bytes(data)
        try:
            before = content(image)
            recover_vhd(str(image))
        except VhdtoolError:
            continue
        assert content(image) == before
        assert before == seen or len(before) != len(seen)
