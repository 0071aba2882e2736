from __future__ import annotations

import struct

import pytest

from tests.registry.build_hive import WRITTEN, build_hive, sealed
from vhdtool.registry.base_block import base_block_checksum, parse_base_block, recovered_base_block

HIVE = build_hive({"": {"x": 1}}, sequences=(7, 7), minor=3)


def test_fields() -> None:
    block = parse_base_block(HIVE[:512])
    assert block is not None
    assert (block.primary_sequence, block.secondary_sequence, block.last_written) == (7, 7, WRITTEN)
    assert (block.major, block.minor, block.file_type) == (1, 3, 0)
    assert block.hbins_size == len(HIVE) - 4096
    assert HIVE[4096 + block.root_cell + 4 :][:2] == b"nk"
    assert block.valid
    assert block.clean


def test_sequence_numbers_that_differ_are_not_clean() -> None:
    block = parse_base_block(sealed(HIVE, primary=8)[:512])
    assert block is not None
    assert block.valid
    assert not block.clean


@pytest.mark.parametrize("place", [4, 8, 12, 40, 100, 504, 508, 511])
def test_a_flipped_bit_is_not_valid(place: int) -> None:
    changed = bytearray(HIVE[:512])
    changed[place] ^= 0x10
    block = parse_base_block(bytes(changed))
    assert block is not None
    assert not block.valid
    assert not block.clean


@pytest.mark.parametrize("sector", [b"", b"regf", HIVE[:511], bytes(512), b"REGF" + HIVE[4:512]])
def test_what_is_no_base_block(sector: bytes) -> None:
    assert parse_base_block(sector) is None


def test_the_two_checksums_that_are_never_stored() -> None:
    """Regf specification: -1 becomes -2, 0 becomes 1."""
    assert base_block_checksum(bytes(512)) == 1
    assert base_block_checksum(struct.pack("<I", 0xFFFFFFFF) + bytes(508)) == 0xFFFFFFFE
    assert base_block_checksum(struct.pack("<I", 0x12345678) + bytes(508)) == 0x12345678
    assert base_block_checksum(bytes(508) + b"\xff" * 4) == 1


def test_a_damaged_block_does_not_say_a_version_that_never_was() -> None:
    changed = bytearray(HIVE[:512])
    changed[25] = 0x40
    block = parse_base_block(bytes(changed))
    assert block is not None
    assert block.minor_version is None
    changed[25] = 0
    changed[4] ^= 1
    block = parse_base_block(bytes(changed))
    assert block is not None
    assert block.minor_version == 3


def test_after_recovery_the_block_is_that_of_a_clean_primary() -> None:
    block = parse_base_block(sealed(HIVE, type=6, primary=9, secondary=8)[:512])
    assert block is not None
    made = recovered_base_block(block, 12, 0x9000, 0xFFFFFFFF)
    assert made.clean
    assert (made.primary_sequence, made.hbins_size, made.file_type) == (12, 0x9000, 0)
    assert struct.unpack_from("<I", made.sector, 144) == (1,)  # only the lowest bit of an entry's flags counts
    assert made.sector == sealed(sealed(HIVE, primary=12, secondary=12, hbins=0x9000, flags=1))[:512]
