from __future__ import annotations

import pytest

from tests.volume.memory import BASIC_DATA, DISK_ID, ESP, MSR, MemoryDevice, gpt_disk, mbr, mbr_entry, ntfs_boot
from vhdtool.errors import DamagedError, NotFoundError
from vhdtool.volume.partitions import Volume, read_volumes, refine_roles, volume_device

LDM = "af9b60a0-1431-4f62-bc68-3311714a69ad"
SPACES = "e75caf8f-f680-4cee-afa3-b001e56efc2d"


@pytest.mark.parametrize(("sector_size", "told"), [(512, 512), (4096, 4096), (4096, 512)])
def test_gpt_with_roles_and_marks(sector_size: int, told: int) -> None:
    disk = gpt_disk(
        [(ESP, 40, 99, "EFI"), (MSR, 100, 199, "MSR"), (BASIC_DATA, 200, 999, "C"), (LDM, 1000, 1099, "")],
        sector_size=sector_size,
    )
    disk.logical_sector_size = told
    disk.data[200 * sector_size : 200 * sector_size + 512] = ntfs_boot()
    disk.data[1000 * sector_size : 1000 * sector_size + 512] = ntfs_boot()
    table = read_volumes(disk)
    assert (table.scheme, table.disk_id, table.problems) == ("gpt", DISK_ID, ())
    assert [(v.index, v.role, v.filesystem, v.container, v.name) for v in table.volumes] == [
        (0, "esp", None, None, "EFI"),
        (1, "msr", None, None, "MSR"),
        (2, "data", "ntfs", None, "C"),
        (3, "data", None, "ldm", None),
    ]
    assert volume_device(disk, table.volumes[2]).size == 800 * sector_size


def test_a_protective_mbr_without_a_usable_gpt_is_an_error() -> None:
    disk = gpt_disk([(BASIC_DATA, 200, 999, "C")])
    disk.data[540] ^= 1
    disk.data[2047 * 512 + 40] ^= 1
    with pytest.raises(DamagedError) as caught:
        read_volumes(disk)
    assert caught.value.code == "partition-table-damaged"
    assert caught.value.hint


def test_a_gpt_without_its_protective_mbr() -> None:
    disk = gpt_disk([(BASIC_DATA, 200, 999, "C")])
    disk.data[:512] = bytes(512)
    table = read_volumes(disk)
    assert table.scheme == "gpt"
    assert [problem.code for problem in table.problems] == ["protective-mbr-missing"]


def test_an_mbr_wins_over_an_old_gpt() -> None:
    disk = gpt_disk([(BASIC_DATA, 200, 999, "C")])
    disk.data[:512] = mbr(mbr_entry(7, 128, 500))
    assert read_volumes(disk).scheme == "mbr"


def mbr_disk(*entries: bytes, sectors: int = 20000) -> MemoryDevice:
    return MemoryDevice(mbr(*entries).ljust(sectors * 512, b"\0"))


def test_mbr_with_system_reserved() -> None:
    disk = mbr_disk(mbr_entry(7, 128, 1000, 0x80), mbr_entry(7, 2048, 9000), mbr_entry(0x27, 12000, 500))
    for first in (128, 2048, 12000):
        disk.data[first * 512 : first * 512 + 512] = ntfs_boot()
    table = read_volumes(disk)
    assert (table.scheme, table.disk_id) == ("mbr", "cafebabe")
    assert [(v.role, v.type_id, v.filesystem) for v in table.volumes] == [
        ("boot", "0x07", "ntfs"),
        ("data", "0x07", "ntfs"),
        ("recovery", "0x27", "ntfs"),
    ]


def test_a_single_active_partition_is_no_boot_partition() -> None:
    disk = mbr_disk(mbr_entry(7, 128, 1000, 0x80))
    disk.data[128 * 512 : 129 * 512] = ntfs_boot()
    assert read_volumes(disk).volumes[0].role == "data"


def test_mbr_of_a_raw_copy_with_sectors_of_4096_bytes() -> None:
    disk = mbr_disk(mbr_entry(7, 256, 500))
    disk.data[256 * 4096 : 256 * 4096 + 512] = ntfs_boot()
    assert read_volumes(disk).volumes[0].offset == 256 * 4096


def test_partitions_that_overlap_or_leave_the_disk_are_told() -> None:
    table = read_volumes(mbr_disk(mbr_entry(7, 128, 1000), mbr_entry(7, 600, 100000)))
    assert [problem.code for problem in table.problems] == ["partition-outside-disk", "partitions-overlap"]


def test_a_partition_wholly_outside_reads_nothing() -> None:
    disk = mbr_disk(mbr_entry(7, 0xFFFFFF00, 1000))
    table = read_volumes(disk)
    assert table.volumes[0].filesystem is None
    assert volume_device(disk, table.volumes[0]).size == 0


def test_a_bare_file_system_is_one_volume() -> None:
    # What NTFS keeps where a table would be is boot code.
    boot = bytearray(ntfs_boot())
    boot[446:510] = bytes(range(64))
    table = read_volumes(MemoryDevice(bytes(boot).ljust(8192, b"\0")))
    assert table.scheme == "none"
    assert [(v.offset, v.size, v.filesystem, v.role) for v in table.volumes] == [(0, 8192, "ntfs", "data")]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 4096, 100000])
def test_empty_disks_have_no_volumes(size: int) -> None:
    table = read_volumes(MemoryDevice(bytes(size)))
    assert (table.scheme, table.volumes, table.problems) == ("none", (), ())


def test_an_initialized_disk_without_partitions() -> None:
    table = read_volumes(mbr_disk())
    assert (table.scheme, table.volumes) == ("mbr", ())


def test_a_damaged_physical_volume_is_a_problem_and_not_an_error() -> None:
    disk = mbr_disk(mbr_entry(0x8E, 128, 5000))
    disk.data[129 * 512 : 129 * 512 + 8] = b"LABELONE"
    disk.data[129 * 512 + 24 : 129 * 512 + 32] = b"LVM2 001"
    table = read_volumes(disk)
    assert [v.container for v in table.volumes] == ["lvm-pv"]
    assert [problem.code for problem in table.problems] == ["lvm-damaged"]


def test_a_logical_volume_that_is_not_there() -> None:
    missing = Volume(1, 0, 512, "lvm", "", "group/root", "data")
    with pytest.raises(NotFoundError):
        volume_device(mbr_disk(), missing)


def test_refine_roles_asks_only_where_windows_may_be() -> None:
    disk = gpt_disk([(ESP, 40, 99, "EFI"), (BASIC_DATA, 200, 999, "C"), (SPACES, 1000, 1099, "")])
    disk.data[200 * 512 : 201 * 512] = ntfs_boot()
    asked: list[int] = []

    def has_windows(volume: Volume) -> bool:
        asked.append(volume.index)
        return True

    refined = refine_roles(read_volumes(disk).volumes, has_windows)
    assert [volume.role for volume in refined] == ["esp", "os", "data"]
    assert asked == [1]


def test_impossible_entries_are_a_problem_and_not_an_empty_disk() -> None:
    disk = mbr_disk(mbr_entry(7, 128, 1000, 0x80), mbr_entry(7, 2048, 9000, 0x13))
    table = read_volumes(disk)
    assert (table.scheme, len(table.volumes)) == ("mbr", 2)
    assert [problem.code for problem in table.problems] == ["mbr-implausible"]


def test_a_gpt_that_the_mbr_does_not_lead_to_is_told() -> None:
    disk = gpt_disk([(BASIC_DATA, 200, 999, "C")])
    disk.data[:512] = mbr(mbr_entry(7, 128, 500))
    assert [problem.code for problem in read_volumes(disk).problems] == ["gpt-ignored"]
