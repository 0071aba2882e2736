"""The clean inputs that are mutated: built here byte by byte, or unpacked from ``seeds``.

``seeds`` holds three small volumes with about 140 files each, made once (names, sizes and contents are patterns):
``ntfs.img`` by ``mkntfs -F -Q -T -s 512 -c 1024`` (ntfs-3g 2022.10.3) filled by ``wimlib-imagex apply`` (1.13.5),
``fat.img`` by ``mkfs.fat -F 12`` (dosfstools 4.2) filled by ``mcopy -s``, ``ext.img`` by ``mke2fs -t ext4 -d``
(e2fsprogs 1.47.0).
"""

from __future__ import annotations

import lzma
import shutil
import struct
import zlib
from pathlib import Path
from uuid import UUID

from tests.data_files import data_dir, data_file
from tests.fuzz import vhd_images, vhdx_images
from tests.fuzz.vhdx_images import FULL, MIB, NOT_PRESENT, PARTIAL, UNDEFINED, UNMAPPED, ZERO, LogWrite
from vhdtool.volume.gpt import GPT_ENTRY, GPT_HEADER, SIGNATURE
from vhdtool.volume.mbr import BOOT_RECORD, BOOT_SIGNATURE

SEEDS = Path(__file__).with_name("seeds")
BASIC_DATA = UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


def seed(name: str) -> bytes:
    """One of the committed small volumes."""
    return lzma.decompress((SEEDS / f"{name}.img.xz").read_bytes())


def ntfs_features() -> bytes:
    """The volume of ``tests/fs``: compressed, sparse, WOF-compressed and linked files, attribute lists."""
    return lzma.decompress((Path(__file__).parents[1] / "fs" / "features.ntfs.xz").read_bytes())


def has_real(name: str) -> bool:
    """Whether a real file of the collection is here."""
    folder = data_dir()
    return folder is not None and (folder / name).is_file()


def real(name: str, target: Path) -> None:
    """Copy a real file of the collection."""
    shutil.copyfile(data_file(name), target)
    target.chmod(0o644)


def mbr_disk() -> bytes:
    """Two primary partitions and an extended one with a chain of three logical ones, each the start of a FAT."""
    disk = bytearray(4 << 20)
    fat = seed("fat")[:4096]

    def record(lba: int, entries: list[tuple[int, int, int, int]]) -> None:
        rows = [
            {"status": status, "type": kind, "first_sector": first, "sectors": sectors}
            for status, kind, first, sectors in (entries + [(0, 0, 0, 0)] * 4)[:4]
        ]
        made = BOOT_RECORD.build(
            {"disk_signature": 0x1234ABCD if not lba else 0, "entries": rows, "signature": BOOT_SIGNATURE}
        )
        disk[lba * 512 : lba * 512 + 512] = made

    record(0, [(0x80, 7, 64, 1000), (0, 0x0C, 1100, 900), (0, 0x0F, 2048, 6000)])
    record(2048, [(0, 7, 64, 500), (0, 5, 1000, 1000)])
    record(3048, [(0, 0x83, 64, 500), (0, 5, 2000, 1000)])
    record(4048, [(0, 0x82, 64, 500)])
    for lba in (64, 1100, 2112, 3112, 4112):
        disk[lba * 512 : lba * 512 + len(fat)] = fat
    return bytes(disk)


def gpt_disk(sector: int = 512, volume: bytes = b"", size: int = 8 << 20) -> bytes:
    """An ESP and a data partition (``volume``, or the start of an NTFS) with both copies of the table."""
    disk = bytearray(size)
    last = size // sector - 1
    array_sectors = -(-128 * 128 // sector)
    data = volume or seed("ntfs")[:8192]
    first = (1 << 20) // sector
    rows = [
        (ESP, 1, first // 2, first // 2 + 64, "EFI system partition"),
        (BASIC_DATA, 2, first, last - array_sectors - 1, "Basic data partition"),
    ]
    array = bytearray(128 * 128)
    for number, (kind, own, start, end, name) in enumerate(rows):
        array[number * 128 : number * 128 + 128] = GPT_ENTRY.build(
            {
                "type_guid": kind.bytes_le,
                "unique_guid": UUID(int=own).bytes_le,
                "first_lba": start,
                "last_lba": end,
                "attributes": 0,
                "name": name.encode("utf-16-le").ljust(72, b"\0"),
            }
        )
    for lba, other, entries in ((1, last, 2), (last, 1, last - array_sectors)):
        fields = {
            "signature": SIGNATURE, "revision": 0x10000, "header_size": GPT_HEADER.sizeof(), "header_crc": 0,
            "my_lba": lba, "alternate_lba": other, "first_usable_lba": 2 + array_sectors,
            "last_usable_lba": last - array_sectors - 1, "disk_guid": UUID(int=99).bytes_le, "entries_lba": entries,
            "entry_count": 128, "entry_size": 128, "entries_crc": zlib.crc32(array),
        }  # fmt: skip
        fields["header_crc"] = zlib.crc32(GPT_HEADER.build(fields))
        disk[lba * sector : lba * sector + GPT_HEADER.sizeof()] = GPT_HEADER.build(fields)
        disk[entries * sector : entries * sector + len(array)] = array
    protective = {"status": 0, "type": 0xEE, "first_sector": 1, "sectors": last}
    nothing = {"status": 0, "type": 0, "first_sector": 0, "sectors": 0}
    disk[:512] = BOOT_RECORD.build(
        {"disk_signature": 0, "entries": [protective, nothing, nothing, nothing], "signature": BOOT_SIGNATURE}
    )
    disk[first * sector : first * sector + len(data)] = data
    fat = seed("fat")[:4096]
    disk[(first // 2) * sector : (first // 2) * sector + len(fat)] = fat
    return bytes(disk)


# --- containers ----------------------------------------------------------------------------------------------------


def _all_states(number: int = 1) -> vhdx_images.Layer:
    states = {0: FULL, 1: FULL, 2: ZERO, 3: UNMAPPED, 4: UNDEFINED, 5: NOT_PRESENT, 6: FULL}
    return vhdx_images.Layer(number, 7 * MIB - 4096, states, anchors=frozenset({3}))


def vhdx_dynamic(folder: Path) -> None:
    vhdx_images.write_vhdx(folder / "top.vhdx", _all_states())


def vhdx_fixed(folder: Path) -> None:
    layer = vhdx_images.Layer(1, 3 * MIB, dict.fromkeys(range(3), FULL), fixed=True)
    vhdx_images.write_vhdx(folder / "top.vhdx", layer)


def vhdx_log(folder: Path) -> None:
    """A pending log of three entries that lies around the end of the log area; data and zero descriptors."""
    layer = _all_states()
    path = folder / "top.vhdx"
    written = vhdx_images.write_vhdx(path, layer)
    entries = []
    for number in range(3):
        order = list(written.blocks.values())[number:] + list(written.blocks.values())[:number]
        bat = b"".join(struct.pack("<Q", place | 6) for place in order).ljust(4096, b"\0")
        junk = LogWrite(vhdx_images.BAT_AT + 4096 * (number + 2), bytes([number + 1]) * 4096)
        zeros = LogWrite(vhdx_images.BAT_AT + 4096 * 16, zeros=4096 * 8)
        entries.append([LogWrite(vhdx_images.BAT_AT, bat), junk, zeros][: number + 1])
    vhdx_images.write_log(path, layer, entries, start=253 * 4096)


def vhdx_chain(folder: Path, sector_size: int = 512) -> None:
    """Three files: a base, a child with sector bitmaps and a grandchild with all states."""
    size = 5 * MIB
    base = vhdx_images.Layer(1, size, {0: FULL, 1: FULL, 3: FULL, 4: ZERO}, sector_size=sector_size)
    some = frozenset([*range(20), 33, *range(100, 130), MIB // sector_size - 1])
    middle = vhdx_images.Layer(
        2, size, {0: PARTIAL, 1: ZERO, 2: FULL}, {0: some},
        sector_size=sector_size, parent=base, parent_path="base.vhdx",
    )  # fmt: skip
    top = vhdx_images.Layer(
        3, size, {0: PARTIAL, 2: PARTIAL, 3: UNMAPPED, 4: FULL},
        {0: frozenset(range(10, 50)), 2: frozenset({0, 7, 8, 255})},
        sector_size=sector_size, parent=middle, parent_path="middle.vhdx",
    )  # fmt: skip
    for name, layer in (("base", base), ("middle", middle), ("top", top)):
        vhdx_images.write_vhdx(folder / f"{name}.vhdx", layer)


def vhd_fixed(folder: Path) -> None:
    vhd_images.write_vhd(folder / "top.vhd", vhd_images.VhdLayer(1, 3 * MIB, kind=vhd_images.FIXED))


def _vhd_base() -> vhd_images.VhdLayer:
    whole = frozenset(range(1024))
    return vhd_images.VhdLayer(1, 5 * MIB, {0: whole, 1: whole, 4: whole, 9: whole}, 512 << 10)


def vhd_dynamic(folder: Path) -> None:
    vhd_images.write_vhd(folder / "top.vhd", _vhd_base())


def vhd_chain(folder: Path) -> None:
    base = _vhd_base()
    some = frozenset([*range(20), 33, *range(100, 130), 1023])
    middle = vhd_images.VhdLayer(
        2, 5 * MIB, {0: some, 2: frozenset(range(1024))}, 512 << 10, vhd_images.DIFFERENCING, base, "base.vhd"
    )
    top = vhd_images.VhdLayer(
        3, 5 * MIB, {0: frozenset(range(10, 50)), 9: some}, 512 << 10, vhd_images.DIFFERENCING, middle, "middle.vhd"
    )
    for name, layer in (("base", base), ("middle", middle), ("top", top)):
        vhd_images.write_vhd(folder / f"{name}.vhd", layer)
