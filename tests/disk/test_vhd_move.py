"""The record of a commit in a VHD."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from uuid import UUID

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.disk.vhd_move import MAGIC, MovedBlocks, MoveRecord, encode_record, find_record, record_length

OWNER = UUID(int=77)


def record_of(count: int, **wanted: object) -> MoveRecord:
    blocks = MovedBlocks()
    for number in range(count):
        blocks.add(number * 3, 2048 + number * 1024, 1 << 20 | number * 1024)
    end = (1 << 20) + 4096 * max(1, count)
    made = MoveRecord(
        unique_id=OWNER,
        file_size=end + 512 + record_length(count) + 512,
        old_end=1 << 20,
        new_end=1 << 20,
        header_offset=512,
        home_table=1536,
        moved_table=end,
        table_size=512,
        blocks=blocks,
    )
    return replace(made, **wanted)


def laid_out(record: MoveRecord) -> bytes:
    data = bytearray(record.file_size - 512)
    encoded = encode_record(record)
    data[len(data) - len(encoded) :] = encoded
    return bytes(data)


def found_in(data: bytes, owner: UUID = OWNER) -> MoveRecord | None:
    return find_record(BytesSource(data), len(data), owner)


@pytest.mark.parametrize("count", [0, 1, 21, 22, 1000])
def test_it_is_read_as_written(count):
    record = record_of(count)
    found = found_in(laid_out(record))
    assert found is not None
    assert list(found.blocks) == list(record.blocks)
    assert replace(found, blocks=record.blocks) == record
    assert found.offset == record.file_size - 512 - record_length(count)


def test_the_layout_is_what_the_format_says():
    data = encode_record(record_of(1))
    assert len(data) == 1024
    assert data[:24] == bytes(4) + bytes(4) + (2048).to_bytes(8, "big") + (1 << 20).to_bytes(8, "big")
    sector = data[512:]
    assert sector[:24] == MAGIC + bytes((0, 0, 0, 1)) + bytes((0, 0, 0, 1))
    assert sector[24:40] == OWNER.bytes
    unsealed = sector[:96] + bytes(32) + sector[128:]
    assert sector[96:128] == hashlib.sha256(data[:512] + unsealed).digest()


def test_of_another_image_or_place_it_is_none():
    data = laid_out(record_of(3))
    assert found_in(data, UUID(int=1)) is None
    assert found_in(data + bytes(512)) is None
    assert found_in(bytes(512) + data) is None
    assert found_in(b"") is None
    assert found_in(data[-512:]) is None


def test_any_flipped_byte_makes_it_none():
    data = laid_out(record_of(3))
    source = random.Random(1)
    start = len(data) - record_length(3)
    for place in [*range(len(data) - 512, len(data) - 384), *(source.randrange(start, len(data)) for _ in range(100))]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << source.randrange(8)
        assert found_in(bytes(flipped)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"old_end": (1 << 20) + 1},
        {"old_end": 1 << 40},
        {"new_end": 1 << 19},
        {"new_end": (1 << 20) + 100},
        {"moved_table": 1 << 19},
        {"moved_table": 1 << 40},
        {"home_table": 1 << 20},
        {"home_table": 0},
        {"table_size": 1 << 30},
    ],
)
def test_a_sealed_one_that_contradicts_itself_is_none(wrong):
    assert found_in(laid_out(record_of(2, **wrong))) is None


@pytest.mark.parametrize("block", [(6, 0, 1 << 20), (6, 2048, 512), (6, 2049, 1 << 20), (3, 2048, 1 << 20)])
def test_a_sealed_one_with_an_impossible_block_is_none(block):
    record = record_of(2)
    record.blocks.add(*block)
    whole = record_of(3)
    assert found_in(laid_out(replace(whole, blocks=record.blocks))) is None
