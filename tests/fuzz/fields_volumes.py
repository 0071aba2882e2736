"""Fields of the other file systems: FAT (boot sector, chains, directory entries) and ext4 (superblock, extents)."""

from __future__ import annotations

from collections.abc import Iterator

from construct import Bytes, Int8ul, Int16ul, Int32ul, Padding, Struct

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field
from vhdtool.volume.marks import FAT_BOOT_SECTOR

DIRECTORY_ENTRY = Struct(
    "name" / Bytes(11), "attributes" / Int8ul, Padding(8), "cluster_high" / Int16ul, Padding(4),
    "cluster_low" / Int16ul, "size" / Int32ul,
)  # fmt: skip

# Linux kernel, fs/ext4/ext4.h and ext4_extents.h
SUPERBLOCK = Struct(
    "inodes" / Int32ul, "blocks" / Int32ul, Padding(8), "free_inodes" / Int32ul, "first_block" / Int32ul,
    "block_size" / Int32ul, "cluster_size" / Int32ul, "blocks_per_group" / Int32ul, "clusters_per_group" / Int32ul,
    "inodes_per_group" / Int32ul, Padding(12), "magic" / Int16ul, "state" / Int16ul, Padding(16), "revision" / Int32ul,
    Padding(4), "first_inode" / Int32ul, "inode_size" / Int16ul, Padding(2), "compatible" / Int32ul,
    "incompatible" / Int32ul, "read_only_compatible" / Int32ul,
)  # fmt: skip
EXTENT_HEADER = Struct("magic" / Int16ul, "entries" / Int16ul, "most" / Int16ul, "depth" / Int16ul)
EXTENT = Struct("block" / Int32ul, "length" / Int16ul, "start_high" / Int16ul, "start_low" / Int32ul)
EXT_SUPERBLOCK_AT = 1024


def fat_fields(file: str, base: Base) -> Iterator[Field]:
    """A FAT12 or FAT16 volume: boot sector, the first table's bytes, and the entries of all directories."""
    yield from fields_of(FAT_BOOT_SECTOR, file, 0, "fat-boot", others={"bytes_per_sector": (512, 1024, 4096, 0)})
    boot = FAT_BOOT_SECTOR.parse(base.read(0, FAT_BOOT_SECTOR.sizeof()))
    table = boot.reserved_sectors * boot.bytes_per_sector
    data = base.whole()
    used = len(data[table : table + boot.fat_sectors16 * boot.bytes_per_sector].rstrip(b"\0"))
    for step in range(
        0, used - 1, 3
    ):  # two entries of FAT12 in three bytes; the chain of cluster n may lead back to it
        cluster = step * 2 // 3
        yield Field(
            file, table + step, 2, "fat-chain", f"cluster {cluster}", loops=(cluster, cluster & 0xFFF), others=(2, 3)
        )
    root = table + boot.fats * boot.fat_sectors16 * boot.bytes_per_sector
    for at in range(root, len(data) - 31, 32):
        name, attributes = data[at : at + 11], data[at + 11]
        if name[0] in (0, 0xE5) or attributes == 0x0F or attributes & 0xC0:
            continue
        if all(32 <= byte < 127 for byte in name) and attributes & ~0x3F == 0:
            loops = {"cluster_low": (0, 2, int.from_bytes(data[at + 26 : at + 28], "little") - 1)}
            yield from fields_of(
                DIRECTORY_ENTRY, file, at, "fat-entry", loops=loops, others={"attributes": (0x10, 0x08, 0x0F)}
            )


def ext_fields(file: str, base: Base) -> Iterator[Field]:
    """The superblock, the first group's descriptor, and every extent tree in the inode tables."""
    yield from fields_of(
        SUPERBLOCK, file, EXT_SUPERBLOCK_AT, "ext-super",
        others={"block_size": (0, 6, 22, 31, 64), "inode_size": (0, 1, 128, 65535), "inodes_per_group": (1, 8)},
    )  # fmt: skip
    block = 1024 << SUPERBLOCK.parse(base.read(EXT_SUPERBLOCK_AT, SUPERBLOCK.sizeof())).block_size
    group = block if block > 1024 else 2048
    yield from (
        Field(file, group + step, 4, "ext-group", f"word {step // 4}", loops=(0, 1)) for step in range(0, 32, 4)
    )
    data = base.whole()
    at = data.find(b"\x0a\xf3")
    while at >= 0:
        if at % 4 == 0:
            inode = at - 40
            yield Field(file, inode, 2, "ext-inode", "mode", others=(0x41ED, 0x81A4, 0xA1FF))
            yield Field(file, inode + 4, 4, "ext-inode", "size", others=(0x7FFFFFFF, 4096))
            yield Field(file, inode + 32, 4, "ext-inode", "flags", others=(0x80000, 0x10000000, 0x1000))
            yield from fields_of(EXTENT_HEADER, file, at, "ext-extents", others={"depth": (1, 5, 6), "entries": (4, 5)})
            loops = {"start_low": (at // block, inode // block)}
            yield from fields_of(EXTENT, file, at + 12, "ext-extent", loops=loops, others={"start_low": (0, 1)})
        at = data.find(b"\x0a\xf3", at + 2)
