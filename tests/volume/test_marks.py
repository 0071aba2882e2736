from __future__ import annotations

import uuid

import pytest

from tests.data_files import data_file
from tests.volume.memory import MemoryDevice, ntfs_boot
from vhdtool.disk.device import FileDevice
from vhdtool.volume.marks import EXT_SUPERBLOCK, FVE_BOOT_SECTOR, SWAP_HEADER, Marks, read_marks


def put(*pieces: tuple[int, bytes], size: int = 128 * 1024) -> Marks:
    data = bytearray(size)
    for offset, piece in pieces:
        data[offset : offset + len(piece)] = piece
    return read_marks(MemoryDevice(data))


def test_layouts_end_where_their_last_field_should() -> None:
    assert FVE_BOOT_SECTOR.sizeof() == 424 + 16
    assert EXT_SUPERBLOCK.sizeof() == 1024 + 0x78 + 16
    assert SWAP_HEADER.sizeof() == 4096


TO_GO = uuid.UUID("4967d63b-2e29-4ad8-8399-f6a339e3d001").bytes_le


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, ntfs_boot())], Marks("ntfs")),
        ([(3, b"-FVE-FS-")], Marks(encryption="bitlocker")),
        ([(3, b"MSWIN4.1"), (424, TO_GO)], Marks(encryption="bitlocker")),
        ([(0, b"LUKS\xba\xbe\x00\x02")], Marks(encryption="luks")),
        ([(3, b"ReFS\0\0\0\0"), (16, b"FSRS")], Marks("refs")),
        ([(3, b"EXFAT   ")], Marks("exfat")),
        ([(512, b"LABELONE"), (512 + 24, b"LVM2 001")], Marks(container="lvm-pv")),
        ([(0, b"XFSB"), (108, b"disk\0")], Marks("xfs", "disk")),
        ([(1080, b"\x53\xef"), (1024 + 0x78, b"root\0")], Marks("ext", "root")),
        ([(65536 + 64, b"_BHRfS_M"), (65536 + 299, b"pool\0")], Marks("btrfs", "pool")),
        ([(4086, b"SWAPSPACE2")], Marks("swap")),
        ([], Marks()),
    ],
)
def test_marks(pieces: list[tuple[int, bytes]], expected: Marks) -> None:
    assert put(*pieces) == expected


def test_encryption_wins_over_the_file_system_it_pretends_to_be() -> None:
    assert put((3, b"-FVE-FS-"), (1080, b"\x53\xef")).filesystem is None


def test_short_and_empty_devices_say_nothing() -> None:
    assert read_marks(MemoryDevice(b"")) == Marks()
    assert not read_marks(MemoryDevice(b"NTFS" * 10)).found


@pytest.mark.parametrize("name", ["aes-xts_128", "suspended", "decrypted"])
def test_real_bitlocker_volumes(name: str) -> None:
    path = data_file(f"bitlocker/fox-it__dissect.fve/{name}.bin.gz")
    assert read_marks(FileDevice(path)) == Marks(encryption="bitlocker")
