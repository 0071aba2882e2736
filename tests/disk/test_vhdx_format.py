from __future__ import annotations

import pytest

from vhdtool.disk import vhdx_format as fmt


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (fmt.HEADER, 4096),  # 2.2.2: the checksum covers 4 KiB
        (fmt.REGION_TABLE_HEADER, 16),
        (fmt.REGION_ENTRY, 32),
        (fmt.LOG_ENTRY_HEADER, 64),
        (fmt.LOG_DATA_DESCRIPTOR, 32),
        (fmt.LOG_ZERO_DESCRIPTOR, 32),
        (fmt.LOG_DATA_SECTOR, 4096),
        (fmt.LOG_SECTOR_START, 4096),
        (fmt.BAT_ENTRY, 8),
        (fmt.METADATA_TABLE_HEADER, 32),
        (fmt.METADATA_ENTRY, 32),
        (fmt.PARENT_LOCATOR_HEADER, 20),
        (fmt.PARENT_LOCATOR_ENTRY, 12),
    ],
)
def test_structures_have_the_size_of_the_specification(layout: object, size: int) -> None:
    assert layout.sizeof() == size  # type: ignore[attr-defined]


# 2.4, 2.5: chunk ratio = 2^23 * sector size / block size
@pytest.mark.parametrize(
    ("sector", "block_mib", "ratio"), [(512, 32, 128), (512, 2, 2048), (512, 1, 4096), (4096, 2, 16384), (512, 256, 16)]
)
def test_chunk_ratio(sector: int, block_mib: int, ratio: int) -> None:
    assert fmt.chunk_ratio(sector, block_mib << 20) == ratio


@pytest.mark.parametrize(
    ("blocks", "has_parent", "entries"),
    [
        *[(1, False, 1), (128, False, 128), (129, False, 130), (256, False, 257), (257, False, 259)],
        *[(1, True, 129), (128, True, 129), (129, True, 258)],
    ],
)
def test_bat_entry_count(blocks: int, *, has_parent: bool, entries: int) -> None:
    assert fmt.bat_entry_count(blocks, 128, has_parent=has_parent) == entries


def test_sealing_makes_the_checksum_right_and_any_bit_breaks_it() -> None:
    structure = fmt.sealed(b"head" + bytes(4) + bytes(range(256)))
    assert fmt.checksum_is_right(structure)
    for place in (0, 4, 8, len(structure) - 1):
        broken = bytearray(structure)
        broken[place] ^= 0x10
        assert not fmt.checksum_is_right(bytes(broken))
