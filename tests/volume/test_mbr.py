from __future__ import annotations

from tests.volume.memory import MemoryDevice, mbr, mbr_entry
from vhdtool.volume.mbr import BOOT_RECORD, MAX_LOGICAL, read_mbr, read_partitions


def test_the_record_is_one_sector() -> None:
    assert BOOT_RECORD.sizeof() == 512


def disk(*records: tuple[int, bytes], sectors: int = 4096) -> MemoryDevice:
    data = bytearray(sectors * 512)
    for sector, record in records:
        data[sector * 512 : sector * 512 + 512] = record
    return MemoryDevice(data)


def test_no_signature_is_no_mbr() -> None:
    assert read_mbr(MemoryDevice(bytes(512))) is None
    assert read_mbr(MemoryDevice(b"x")) is None


def test_primary_and_logical_partitions() -> None:
    device = disk(
        (0, mbr(mbr_entry(7, 128, 100, 0x80), mbr_entry(0x0F, 1000, 3000))),
        (1000, mbr(mbr_entry(7, 8, 50), mbr_entry(5, 200, 300))),
        (1200, mbr(mbr_entry(0x83, 16, 60))),
    )
    found = read_mbr(device)
    assert found is not None
    assert found.disk_signature == 0xCAFEBABE
    partitions, problems = read_partitions(device, found, 512)
    assert problems == []
    assert [(part.first_sector, part.sectors, part.type, part.active) for part in partitions] == [
        (128, 100, 7, True),
        (1008, 50, 7, False),
        (1216, 60, 0x83, False),
    ]


def test_a_chain_in_a_circle_ends_with_a_problem() -> None:
    device = disk(
        (0, mbr(mbr_entry(5, 1000, 3000))),
        (1000, mbr(mbr_entry(7, 8, 50), mbr_entry(5, 200, 300))),
        (1200, mbr(mbr_entry(7, 8, 50), mbr_entry(5, 200, 300))),
    )
    found = read_mbr(device)
    assert found is not None
    partitions, problems = read_partitions(device, found, 512)
    assert len(partitions) == 2
    assert [problem.code for problem in problems] == ["extended-chain-damaged"]


def test_a_chain_without_an_end_is_cut() -> None:
    records = [(1000 + at, mbr(mbr_entry(7, 1, 1), mbr_entry(5, at + 1, 1))) for at in range(400)]
    device = disk((0, mbr(mbr_entry(5, 1000, 3000))), *records)
    found = read_mbr(device)
    assert found is not None
    partitions, problems = read_partitions(device, found, 512)
    assert len(partitions) == MAX_LOGICAL
    assert len(problems) == 1


def test_a_chain_that_leaves_the_disk() -> None:
    device = disk((0, mbr(mbr_entry(5, 0xFFFFFFF0, 3000))))
    found = read_mbr(device)
    assert found is not None
    partitions, problems = read_partitions(device, found, 512)
    assert partitions == []
    assert "leaves the disk" in problems[0].message


def test_boot_code_is_no_plausible_table() -> None:
    record = bytearray(mbr(mbr_entry(7, 128, 100, 0x80)))
    record[446] = 0x13
    found = read_mbr(MemoryDevice(record))
    assert found is not None
    assert not found.plausible
