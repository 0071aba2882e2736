"""Fields of NTFS: boot sector, MFT records with their attributes and runs, index nodes. Found by their signatures."""

from __future__ import annotations

from collections.abc import Iterator

from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Padding, Struct

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field

BOOT = Struct(
    "jump" / Bytes(3), "oem" / Bytes(8), "bytes_per_sector" / Int16ul, "sectors_per_cluster" / Int8ul,
    "reserved" / Int16ul, Padding(5), "media" / Int8ul, Padding(18), "total_sectors" / Int64ul, "mft" / Int64ul,
    "mft_mirror" / Int64ul, "record_size" / Int8ul, Padding(3), "index_size" / Int8ul, Padding(3), "serial" / Int64ul,
)  # fmt: skip

RECORD = Struct(
    "signature" / Bytes(4), "fixup_offset" / Int16ul, "fixup_count" / Int16ul, "lsn" / Int64ul, "sequence" / Int16ul,
    "links" / Int16ul, "attributes" / Int16ul, "flags" / Int16ul, "used" / Int32ul, "allocated" / Int32ul,
    "base" / Int64ul, "next_id" / Int16ul, Padding(2), "number" / Int32ul,
)  # fmt: skip

ATTRIBUTE = Struct(
    "type" / Int32ul, "length" / Int32ul, "non_resident" / Int8ul, "name_length" / Int8ul, "name_offset" / Int16ul,
    "flags" / Int16ul, "id" / Int16ul,
)  # fmt: skip

RESIDENT = Struct("value_length" / Int32ul, "value_offset" / Int16ul, "indexed" / Int8ul)

NON_RESIDENT = Struct(
    "first_vcn" / Int64ul, "last_vcn" / Int64ul, "runs_offset" / Int16ul, "compression" / Int16ul, Padding(4),
    "allocated" / Int64ul, "size" / Int64ul, "initialized" / Int64ul,
)  # fmt: skip

INDEX_ROOT = Struct("type" / Int32ul, "collation" / Int32ul, "block_size" / Int32ul, "clusters" / Int8ul)
INDEX_BLOCK = Struct(
    "signature" / Bytes(4), "fixup_offset" / Int16ul, "fixup_count" / Int16ul, "lsn" / Int64ul, "vcn" / Int64ul
)
INDEX_HEADER = Struct("entries" / Int32ul, "used" / Int32ul, "allocated" / Int32ul, "flags" / Int8ul)
INDEX_ENTRY = Struct("record" / Int64ul, "length" / Int16ul, "key_length" / Int16ul, "flags" / Int16ul)


def ntfs_fields(file: str, base: Base, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of everything NTFS between ``start`` and ``end`` of the file."""
    data = base.read(start, (base.size if end is None else end) - start)
    for at in range(0, len(data) - 511, 512):
        mark = data[at : at + 4]
        if data[at + 3 : at + 11] == b"NTFS    ":
            yield from fields_of(BOOT, file, start + at, "ntfs-boot")
        elif mark == b"FILE":
            yield from _record(file, data, start, at)
        elif mark == b"INDX":
            place = (start + at) // 1024
            yield from fields_of(INDEX_BLOCK, file, start + at, "ntfs-indx", others={"vcn": (0, 1, place)})
            yield from _index(file, data, start, at + 24, "ntfs-indx")


def _record(file: str, data: bytes, start: int, at: int) -> Iterator[Field]:
    record = RECORD.parse(data[at : at + 48])
    number = record.number
    yield from fields_of(
        RECORD, file, start + at, "ntfs-record",
        loops={"base": (number | record.sequence << 48,)}, others={"base": (5 | 5 << 48, number + 1)},
    )  # fmt: skip
    place = at + record.attributes
    for _ in range(32):
        if place + 24 > len(data) or data[place : place + 4] == b"\xff\xff\xff\xff":
            return
        head = ATTRIBUTE.parse(data[place : place + 16])
        if not 24 <= head.length <= 4096:
            return
        group = f"ntfs-attribute-{head.type:#x}"
        yield from fields_of(ATTRIBUTE, file, start + place, group, others={"type": (0x20, 0x80, 0x90, 0xA0, 0xC0)})
        if head.non_resident:
            yield from fields_of(NON_RESIDENT, file, start + place + 16, group)
            runs = place + NON_RESIDENT.parse(data[place + 16 : place + 64]).runs_offset
            for step in range(min(12, max(0, place + head.length - runs))):
                yield Field(file, start + runs + step, 1, "ntfs-runs", f"byte {step}")
        else:
            yield from fields_of(RESIDENT, file, start + place + 16, group)
            value = place + RESIDENT.parse(data[place + 16 : place + 24]).value_offset
            if head.type == 0x90:
                yield from fields_of(INDEX_ROOT, file, start + value, "ntfs-index-root")
                yield from _index(file, data, start, value + 16, "ntfs-index-root")
            elif head.type == 0x30:
                loops = (number | record.sequence << 48,)
                yield Field(file, start + value, 8, "ntfs-file-name", "parent", loops=loops, others=(5 | 5 << 48,))
                yield Field(file, start + value + 64, 1, "ntfs-file-name", "name_length")
        place += head.length


def _index(file: str, data: bytes, start: int, at: int, group: str) -> Iterator[Field]:
    if at + 16 > len(data):
        return
    head = INDEX_HEADER.parse(data[at : at + 16])
    yield from fields_of(INDEX_HEADER, file, start + at, f"{group}-header")
    place = at + head.entries
    for _ in range(64):
        if place + 16 > len(data):
            return
        entry = INDEX_ENTRY.parse(data[place : place + 16])
        if not 16 <= entry.length <= 4096:
            return
        others = {"record": (5 | 5 << 48, 0, 2)}
        yield from fields_of(INDEX_ENTRY, file, start + place, "ntfs-index-entry", others=others)
        if entry.flags & 1:
            yield Field(
                file, start + place + entry.length - 8, 8, "ntfs-index-child", "vcn", loops=(0, 1, 4, 8), others=(2,)
            )
        if entry.flags & 2:
            return
        place += entry.length
