"""Small disks for the command line's tests, composed of the committed fixtures."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.fixtures import fixture_file
from vhdtool.disk.chain import open_disk

MIB = 1 << 20
SECTOR = 512
WINDOWS_OFFSET, WINDOWS_SIZE = 3 * MIB, 12 * MIB
"""Where the Windows volume lies on the fixtures' disks (tests/fixtures/README.md)."""


def windows_volume() -> bytes:
    """The NTFS volume of the synthetic Windows."""
    with open_disk(fixture_file("windows-guest.vhdx")) as disk:
        return disk.read_at(WINDOWS_OFFSET, WINDOWS_SIZE)


def bitlocker_volume(size: int = MIB) -> bytes:
    """The boot sector of a BitLocker volume, as far as anybody looks at it, and zeros."""
    sector = bytearray(SECTOR)
    sector[0:3] = b"\xeb\x58\x90"
    sector[3:11] = b"-FVE-FS-"
    sector[0x0B:0x0D] = struct.pack("<H", SECTOR)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector) + bytes(size - SECTOR)


def mbr_disk(path: Path, partitions: Sequence[bytes]) -> Path:
    """Write a raw disk with up to four primary NTFS partitions, the first at 1 MiB."""
    sector = bytearray(SECTOR)
    place = MIB
    for number, content in enumerate(partitions):
        entry = struct.pack("<B3sB3sII", 0, bytes(3), 7, bytes(3), place // SECTOR, len(content) // SECTOR)
        sector[446 + 16 * number : 462 + 16 * number] = entry
        place += len(content)
    sector[440:444] = b"test"
    sector[510:512] = b"\x55\xaa"
    path.write_bytes(bytes(sector).ljust(MIB, b"\0") + b"".join(partitions) + bytes(MIB))
    return path
