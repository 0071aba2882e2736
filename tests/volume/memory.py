"""A disk in memory that counts what is read of it, and partition tables made by the letter of their specifications."""

from __future__ import annotations

import struct
import uuid
import zlib

BASIC_DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MSR = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
DISK_ID = "11111111-2222-3333-4444-555555555555"


class MemoryDevice:
    def __init__(self, data: bytes | bytearray, sector_size: int = 512) -> None:
        self.data = bytearray(data)
        self.logical_sector_size = sector_size
        self.bytes_read = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        found = bytes(self.data[offset : offset + length])
        self.bytes_read += len(found)
        return found

    def read_into(self, offset: int, buffer: memoryview) -> int:
        found = self.read_at(offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)


def mbr_entry(kind: int, first: int, sectors: int, status: int = 0) -> bytes:
    return struct.pack("<B3xB3xII", status, kind, first, sectors)


def mbr(*entries: bytes, signature: int = 0xCAFEBABE) -> bytes:
    return (bytes(440) + struct.pack("<IH", signature, 0) + b"".join(entries)).ljust(510, b"\0") + b"\x55\xaa"


def gpt_disk(
    partitions: list[tuple[str, int, int, str]], *, sectors: int = 2048, sector_size: int = 512
) -> MemoryDevice:
    """``partitions``: type GUID, first and last sector, name. 128 entries, both copies."""
    data = bytearray(sectors * sector_size)
    data[:512] = mbr(mbr_entry(0xEE, 1, sectors - 1))
    entries = b"".join(
        uuid.UUID(kind).bytes_le
        + uuid.uuid5(uuid.NAMESPACE_OID, name).bytes_le
        + struct.pack("<QQQ", first, last, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for kind, first, last, name in partitions
    ).ljust(128 * 128, b"\0")
    entry_sectors = len(entries) // sector_size
    for lba, other, at in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - entry_sectors)):
        fields = struct.pack("<QQQQ", lba, other, 34, sectors - 34) + uuid.UUID(DISK_ID).bytes_le
        fields += struct.pack("<QIII", at, 128, 128, zlib.crc32(entries))
        blank = b"EFI PART" + struct.pack("<IIII", 0x10000, 92, 0, 0) + fields
        header = blank[:16] + struct.pack("<I", zlib.crc32(blank)) + blank[20:]
        data[lba * sector_size : lba * sector_size + 92] = header
        data[at * sector_size : at * sector_size + len(entries)] = entries
    return MemoryDevice(data, sector_size)


def ntfs_boot() -> bytes:
    return b"\xeb\x52\x90NTFS    ".ljust(510, b"\0") + b"\x55\xaa"
