from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.disk.vhd_move import MovedBlocks
from vhdtool.disk.vhdx_log_writer import LogPlace
from vhdtool.disk.vhdx_move import MoveRecord, encode_record, find_record, record_length

MIB = 1 << 20
DISK = UUID(int=5)


def record(**wanted: object) -> MoveRecord:
    blocks = MovedBlocks()
    blocks.add(3, 4 * MIB, 9 * MIB)
    blocks.add(7, 8 * MIB, 8 * MIB)
    plain = MoveRecord(
        disk_id=DISK, data_write_guid=UUID(int=6), file_size=11 * MIB, old_size=8 * MIB, log=LogPlace(MIB, MIB),
        blocks=blocks,
    )  # fmt: skip
    return replace(plain, **wanted)  # type: ignore[arg-type]


def file_with(one: MoveRecord, size: int | None = None) -> BytesSource:
    data = bytearray(size or one.file_size)
    data[one.offset : one.file_size] = encode_record(one)
    return BytesSource(data)


def test_found_as_written() -> None:
    one = record()
    assert one.folds
    assert len(encode_record(one)) == record_length(2) == 8192
    found = find_record(file_with(one), DISK)
    assert found is not None
    assert list(found.blocks) == [(3, 4 * MIB, 9 * MIB), (7, 8 * MIB, 8 * MIB)]
    assert replace(found, blocks=one.blocks) == one


def test_an_image_without_an_identity() -> None:
    assert find_record(file_with(record(disk_id=UUID(int=0))), None) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"old_size": 9 * MIB + 512},
        {"old_size": 12 * MIB},
        {"log": LogPlace(0, MIB)},
        {"log": LogPlace(MIB, 0)},
        {"log": LogPlace(MIB + 4096, MIB)},
        {"log": LogPlace(8 * MIB, MIB)},
    ],
)
def test_what_can_not_be_is_no_record(wrong: dict[str, object]) -> None:
    assert find_record(file_with(record(**wrong)), DISK) is None


@pytest.mark.parametrize(
    "places", [[(3, 0, 9)], [(3, 4, 11)], [(7, 4, 9), (3, 5, 8)], [(3, 4, 9), (3, 5, 8)], [(3, 4, 7)]]
)
def test_blocks_that_can_not_be(places: list[tuple[int, int, int]]) -> None:
    blocks = MovedBlocks()
    for number, home, place in places:
        blocks.add(number, home * MIB, place * MIB)
    assert find_record(file_with(record(blocks=blocks)), DISK) is None


def test_another_disk_or_another_length() -> None:
    assert find_record(file_with(record()), UUID(int=9)) is None
    assert find_record(file_with(record(), size=12 * MIB), DISK) is None
    assert find_record(BytesSource(b"short"), DISK) is None
    assert find_record(BytesSource(bytes(2 * MIB)), DISK) is None
