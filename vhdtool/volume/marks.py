"""What a volume is, told by its first bytes: file system, encryption, container. Nothing here is parsed further.

One read of 4 KiB for most volumes, a second small one where the first says nothing (Btrfs keeps its mark at 64 KiB).
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import construct as c

from vhdtool.disk.device import BlockDevice

HEAD_SIZE = 4096

# Microsoft FAT specification, "BPB structure", FAT12/16 and FAT32 parts.
FAT_BOOT_SECTOR = c.Struct(
    "jump" / c.Bytes(3),
    "oem" / c.Bytes(8),
    "bytes_per_sector" / c.Int16ul,
    "sectors_per_cluster" / c.Int8ul,
    "reserved_sectors" / c.Int16ul,
    "fats" / c.Int8ul,
    "root_entries" / c.Int16ul,
    "sectors16" / c.Int16ul,
    "media" / c.Int8ul,
    "fat_sectors16" / c.Int16ul,
    c.Padding(8),
    "sectors32" / c.Int32ul,
    "tail" / c.Bytes(54),
)
FAT16_TAIL = c.Struct(c.Padding(2), "signature" / c.Int8ul, "serial" / c.Int32ul, "label" / c.Bytes(11))
FAT32_TAIL = c.Struct(
    "fat_sectors32" / c.Int32ul,
    c.Padding(26),
    "signature" / c.Int8ul,
    "serial" / c.Int32ul,
    "label" / c.Bytes(11),
)
# libyal, "BitLocker Drive Encryption (BDE) format", sections on the volume headers.
FVE_BOOT_SECTOR = c.Struct(
    c.Padding(3),
    "oem" / c.Bytes(8),
    c.Padding(149),
    "fixed_guid" / c.Bytes(16),
    c.Padding(248),
    "to_go_guid" / c.Bytes(16),
)
BITLOCKER_GUIDS = frozenset(
    {
        UUID("4967d63b-2e29-4ad8-8399-f6a339e3d001").bytes_le,  # BitLocker
        UUID("92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8").bytes_le,  # BitLocker, used space only
    }
)
# Linux kernel, fs/ext4/ext4.h (struct ext4_super_block), at byte 1024 of the volume.
EXT_SUPERBLOCK = c.Struct(c.Padding(1024 + 0x38), "magic" / c.Bytes(2), c.Padding(0x3E), "label" / c.Bytes(16))
# Linux kernel, fs/xfs/libxfs/xfs_format.h (struct xfs_dsb).
XFS_SUPERBLOCK = c.Struct("magic" / c.Bytes(4), c.Padding(104), "label" / c.Bytes(12))
# Linux kernel, include/uapi/linux/btrfs_tree.h (struct btrfs_super_block), at byte 65536 of the volume.
BTRFS_SUPERBLOCK = c.Struct(c.Padding(64), "magic" / c.Bytes(8), c.Padding(227), "label" / c.Bytes(256))
BTRFS_SUPERBLOCK_OFFSET = 65536
# Linux kernel, include/linux/swap.h (union swap_header), page of 4 KiB.
SWAP_HEADER = c.Struct(c.Padding(1024 + 28), "label" / c.Bytes(16), c.Padding(3018), "magic" / c.Bytes(10))
# LVM2, lib/label/label.h (struct label_header): in one of the first four 512-byte sectors.
LVM_LABEL = c.Struct("id" / c.Bytes(8), "sector" / c.Int64ul, c.Padding(8), "type" / c.Bytes(8))
LVM_LABEL_SECTORS = 4


@dataclass(frozen=True, slots=True)
class Marks:
    """What the first bytes say. Each field is ``None`` where they say nothing of it."""

    filesystem: str | None = None
    label: str | None = None
    encryption: str | None = None
    container: str | None = None

    @property
    def found(self) -> bool:
        """Whether anything at all was recognised."""
        return bool(self.filesystem or self.encryption or self.container)


def read_marks(device: BlockDevice) -> Marks:
    """Recognise what lies on ``device`` (a partition, or a disk without a partition table)."""
    head = device.read_at(0, HEAD_SIZE)
    if len(head) < 512:
        return Marks()
    head = head.ljust(HEAD_SIZE, b"\0")
    return (
        _encryption(head)
        or _microsoft(head)
        or _lvm(head)
        or _linux(head)
        or _btrfs(device.read_at(BTRFS_SUPERBLOCK_OFFSET, BTRFS_SUPERBLOCK.sizeof()))
        or _fat(head)
        or Marks()
    )


def _encryption(head: bytes) -> Marks | None:
    boot = FVE_BOOT_SECTOR.parse(head)
    if boot.oem == b"-FVE-FS-" or (
        boot.oem == b"MSWIN4.1" and (boot.to_go_guid in BITLOCKER_GUIDS or boot.fixed_guid in BITLOCKER_GUIDS)
    ):
        return Marks(encryption="bitlocker")
    if head[:6] in (b"LUKS\xba\xbe", b"SKUL\xba\xbe"):
        return Marks(encryption="luks")
    return None


def _microsoft(head: bytes) -> Marks | None:
    oem = head[3:11]
    if oem == b"NTFS    ":
        return Marks("ntfs")
    if oem == b"EXFAT   ":
        return Marks("exfat")
    if oem == b"ReFS\0\0\0\0":
        return Marks("refs")
    return None


def _lvm(head: bytes) -> Marks | None:
    for sector in range(LVM_LABEL_SECTORS):
        label = LVM_LABEL.parse(head[sector * 512 :])
        if label.id == b"LABELONE" and label.type == b"LVM2 001":
            return Marks(container="lvm-pv")
    return None


def _linux(head: bytes) -> Marks | None:
    xfs = XFS_SUPERBLOCK.parse(head)
    if xfs.magic == b"XFSB":
        return Marks("xfs", _text(xfs.label))
    swap = SWAP_HEADER.parse(head)
    if swap.magic in (b"SWAPSPACE2", b"SWAP-SPACE"):
        return Marks("swap", _text(swap.label))
    ext = EXT_SUPERBLOCK.parse(head)
    if ext.magic == b"\x53\xef":
        return Marks("ext", _text(ext.label))
    return None


def _btrfs(data: bytes) -> Marks | None:
    if len(data) < BTRFS_SUPERBLOCK.sizeof():
        return None
    superblock = BTRFS_SUPERBLOCK.parse(data)
    return Marks("btrfs", _text(superblock.label)) if superblock.magic == b"_BHRfS_M" else None


def _fat(head: bytes) -> Marks | None:
    boot = FAT_BOOT_SECTOR.parse(head)
    sectors = boot.sectors16 or boot.sectors32
    plausible = (
        head[510:512] == b"\x55\xaa"
        and (boot.jump[0] == 0xE9 or (boot.jump[0] == 0xEB and boot.jump[2] == 0x90))
        and boot.bytes_per_sector in (512, 1024, 2048, 4096)
        and boot.sectors_per_cluster in (1, 2, 4, 8, 16, 32, 64, 128)
        and boot.reserved_sectors > 0
        and boot.fats in (1, 2)
        and (boot.media == 0xF0 or boot.media >= 0xF8)
        and sectors > 0
    )
    if not plausible:
        return None
    wide = FAT32_TAIL.parse(boot.tail)
    fat_sectors = boot.fat_sectors16 or wide.fat_sectors32
    root_sectors = -(-boot.root_entries * 32 // boot.bytes_per_sector)
    data_sectors = sectors - boot.reserved_sectors - boot.fats * fat_sectors - root_sectors
    if fat_sectors == 0 or data_sectors <= 0:
        return None
    # The count of clusters alone decides the type (FAT specification, "FAT type determination").
    clusters = data_sectors // boot.sectors_per_cluster
    if clusters >= 65525:
        return Marks("fat32", _fat_label(wide.signature, wide.label))
    narrow = FAT16_TAIL.parse(boot.tail)
    return Marks("fat12" if clusters < 4085 else "fat16", _fat_label(narrow.signature, narrow.label))


def _fat_label(signature: int, label: bytes) -> str | None:
    text = label.decode("ascii", "replace").strip() if signature == 0x29 else ""
    return text if text and text != "NO NAME" else None


def _text(field: bytes) -> str | None:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace") or None
