from __future__ import annotations

import struct

import pytest

from tests.data_files import data_file
from tests.fs.test_ntfs import VOLUME
from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.ntfs_records import DATA, FILE_NAME, ROOT_RECORD, Attribute, Mft


@pytest.fixture
def mft() -> Mft:
    return Mft(MemoryDevice(VOLUME))


def test_geometry(mft: Mft) -> None:
    assert (mft.geometry.cluster_size, mft.geometry.record_size) == (4096, 1024)
    assert mft.geometry.clusters == struct.unpack_from("<Q", VOLUME, 40)[0] * 512 // 4096


def test_opening_reads_the_boot_sector_and_one_record_only() -> None:
    device = MemoryDevice(VOLUME)
    Mft(device)
    assert device.bytes_read <= 4096


def test_the_root(mft: Mft) -> None:
    root = mft.record(ROOT_RECORD)
    assert root.is_directory
    assert root.find(FILE_NAME)
    assert root.find(DATA) == ()
    assert root.stream(DATA) is None
    assert mft.record(ROOT_RECORD) is root


@pytest.mark.parametrize("segment", [1 << 40, 100_000])
def test_records_beyond_the_table(mft: Mft, segment: int) -> None:
    with pytest.raises(DamagedError):
        mft.record(segment)


def pieces(*parts: tuple[int, int]) -> list[Attribute]:
    return [
        Attribute(DATA, "", 0, None, 5 * 4096 if lowest == 0 else 0, 5 * 4096, lowest, 0, ((10 + lowest, count),))
        for lowest, count in parts
    ]


def test_run_lists_in_pieces_are_joined(mft: Mft) -> None:
    stream = mft.open(pieces((0, 2), (2, 3)), "/f")
    assert stream.read_at(0, 5 * 4096) == VOLUME[40960 : 40960 + 2 * 4096] + VOLUME[49152 : 49152 + 3 * 4096]


@pytest.mark.parametrize("parts", [[(0, 2), (3, 2)], [(0, 2), (1, 4)], [(1, 5)]])
def test_pieces_that_do_not_join(mft: Mft, parts: list[tuple[int, int]]) -> None:
    with pytest.raises(DamagedError):
        mft.open(pieces(*parts), "/f")


def test_a_resident_attribute_has_one_piece(mft: Mft) -> None:
    with pytest.raises(DamagedError):
        mft.open([Attribute(DATA, "", 0, b"x", 1)] * 2, "/f")


def test_long_values_are_refused(mft: Mft) -> None:
    with pytest.raises(DamagedError):
        mft.record(0).value(DATA, limit=100)


def test_a_boot_sector_with_clusters_of_two_mebibytes() -> None:
    data = data_file("ntfs/fox-it__dissect.ntfs/boot_2m.bin.gz").read_bytes()
    with pytest.raises(DamagedError):  # there is no volume behind it, but its sizes are understood
        Mft(MemoryDevice(data))


def test_every_byte_of_a_record_may_lie(mft: Mft) -> None:
    """One record, each 16-bit word of it set to values that hurt: damage or an answer, and nothing else."""
    at = struct.unpack_from("<Q", VOLUME, 48)[0] * 4096 + 5 * 1024
    for offset in range(0, 512, 2):
        for value in (0, 0xFFFF, 0x8000):
            volume = bytearray(VOLUME)
            struct.pack_into("<H", volume, at + offset, value)
            try:
                record = Mft(MemoryDevice(volume)).record(ROOT_RECORD)
                for attribute in record.attributes:
                    record.value(attribute.type, attribute.name)
            except DamagedError:
                continue
