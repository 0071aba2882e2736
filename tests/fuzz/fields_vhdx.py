"""Fields and checksums of a VHDX: headers, region tables, metadata, BAT, bitmaps, parent locator, log entries."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field, Seal
from tests.fuzz.seals import crc32c_seal
from vhdtool.disk import vhdx_format as f

MIB = 1 << 20
BAT_FIELDS = 600


def vhdx_fields(file: str, base: Base) -> list[Field]:
    """The fields of every structure of a whole VHDX."""
    found = list(fields_of(f.FILE_IDENTIFIER, file, f.FILE_IDENTIFIER_OFFSET, "vhdx-identifier"))
    for at in f.HEADER_OFFSETS:
        found += fields_of(
            f.HEADER, file, at, "vhdx-header",
            loops={"log_offset": (0, at, 64 << 10)}, others={"log_offset": (MIB, 2 * MIB, 3 * MIB, base.size)},
        )  # fmt: skip
    regions: dict[bytes, tuple[int, int]] = {}
    for at in f.REGION_TABLE_OFFSETS:
        found += fields_of(f.REGION_TABLE_HEADER, file, at, "vhdx-region-table")
        head = f.REGION_TABLE_HEADER.parse(base.read(at, f.REGION_TABLE_HEADER.sizeof()))
        place = at + f.REGION_TABLE_HEADER.sizeof()
        for _ in range(min(head.entry_count, 16)):
            entry = f.REGION_ENTRY.parse(base.read(place, f.REGION_ENTRY.sizeof()))
            regions[entry.guid] = (entry.file_offset, entry.length)
            places = (MIB, 2 * MIB, 3 * MIB, 4 * MIB, base.size)
            found += fields_of(
                f.REGION_ENTRY, file, place, "vhdx-region",
                loops={"file_offset": (0, at)}, others={"file_offset": places},
            )  # fmt: skip
            place += f.REGION_ENTRY.sizeof()
    if f.METADATA_REGION.bytes_le in regions:
        found += _metadata(file, base, regions[f.METADATA_REGION.bytes_le][0])
    if f.BAT_REGION.bytes_le in regions:
        found += _bat(file, base, *regions[f.BAT_REGION.bytes_le])
    for start, length in _log_areas(base):
        for at, _ in _log_entries(base, start, length):
            found += _log_entry(file, base, at, start)
    return found


def vhdx_seals(file: str, base: Base) -> list[Seal]:
    """The checksums of a VHDX: of both headers, both region tables and each log entry."""
    seals = [crc32c_seal(file, at, f.HEADER_SIZE, at + f.CHECKSUM_OFFSET, "header") for at in f.HEADER_OFFSETS]
    seals += [
        crc32c_seal(file, at, f.REGION_TABLE_SIZE, at + f.CHECKSUM_OFFSET, "region table")
        for at in f.REGION_TABLE_OFFSETS
    ]
    for start, area in _log_areas(base):
        for at, length in _log_entries(base, start, area):
            seals.append(crc32c_seal(file, at, length, at + f.CHECKSUM_OFFSET, "log entry", strict=False))
    return seals


def _metadata(file: str, base: Base, start: int) -> Iterator[Field]:
    yield from fields_of(f.METADATA_TABLE_HEADER, file, start, "vhdx-metadata-table")
    head = f.METADATA_TABLE_HEADER.parse(base.read(start, f.METADATA_TABLE_HEADER.sizeof()))
    layouts = {
        f.FILE_PARAMETERS_ITEM.bytes_le: f.FILE_PARAMETERS,
        f.VIRTUAL_DISK_SIZE_ITEM.bytes_le: f.VIRTUAL_DISK_SIZE,
        f.VIRTUAL_DISK_ID_ITEM.bytes_le: f.VIRTUAL_DISK_ID,
        f.LOGICAL_SECTOR_SIZE_ITEM.bytes_le: f.SECTOR_SIZE,
        f.PHYSICAL_SECTOR_SIZE_ITEM.bytes_le: f.SECTOR_SIZE,
    }
    size = f.METADATA_ENTRY.sizeof()
    for number in range(min(head.entry_count, 64)):
        at = start + f.METADATA_TABLE_HEADER.sizeof() + number * size
        entry = f.METADATA_ENTRY.parse(base.read(at, size))
        others = {"offset": (65536, 65536 + 8, 65536 + 64), "length": (4, 8, 16, 1 << 20)}
        yield from fields_of(
            f.METADATA_ENTRY, file, at, "vhdx-metadata", loops={"offset": (0, at - start)}, others=others
        )
        place = start + entry.offset
        if entry.item_id == f.PARENT_LOCATOR_ITEM.bytes_le:
            yield from _locator(file, base, place)
        elif entry.item_id in layouts:
            sizes = (512, 4096, MIB, 2 * MIB, 256 * MIB, 1 << 40)
            layout = layouts[entry.item_id]
            names = [str(item.name) for item in layout.subcons]
            yield from fields_of(layout, file, place, f"vhdx-item-{number}", others=dict.fromkeys(names, sizes))


def _locator(file: str, base: Base, start: int) -> Iterator[Field]:
    yield from fields_of(f.PARENT_LOCATOR_HEADER, file, start, "vhdx-locator")
    head = f.PARENT_LOCATOR_HEADER.parse(base.read(start, f.PARENT_LOCATOR_HEADER.sizeof()))
    for number in range(min(head.key_value_count, 16)):
        at = start + f.PARENT_LOCATOR_HEADER.sizeof() + number * f.PARENT_LOCATOR_ENTRY.sizeof()
        entry = f.PARENT_LOCATOR_ENTRY.parse(base.read(at, f.PARENT_LOCATOR_ENTRY.sizeof()))
        yield from fields_of(
            f.PARENT_LOCATOR_ENTRY, file, at, "vhdx-locator-entry",
            loops={"key_offset": (0,), "value_offset": (0, at - start)},
            others={"key_offset": (entry.value_offset,), "value_offset": (entry.key_offset,)},
        )  # fmt: skip
        for place, length in ((entry.key_offset, entry.key_length), (entry.value_offset, entry.value_length)):
            for step in range(0, min(length, 160), 2):
                yield Field(file, start + place + step, 2, "vhdx-locator-text", f"unit {step // 2}")


def _bat(file: str, base: Base, start: int, length: int) -> Iterator[Field]:
    data = base.read(start, min(length, BAT_FIELDS * 8))
    values = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 7, 8)]
    used = tuple(value for value in values if value & f.BAT_OFFSET_MASK)
    for number, value in enumerate(values):
        if number > 40 and not value:
            continue
        own = (start & f.BAT_OFFSET_MASK) | 6  # a block that is the BAT itself
        loops = (own, own | 1, 6, MIB | 6, (192 << 10) | 6)
        states = tuple(value & ~7 | state for state in range(8))
        yield from fields_of(
            f.BAT_ENTRY,
            file,
            start + number * 8,
            "vhdx-bat",
            loops={"value": loops},
            others={"value": (*used, *states)},
        )
        if value & 7 == 6 and value & f.BAT_OFFSET_MASK:
            place = value & f.BAT_OFFSET_MASK
            for step in range(0, 64, 8):  # the beginning: what matters where the block is a sector bitmap
                yield Field(file, place + step, 1, "vhdx-block", f"byte {step}")


def _log_areas(base: Base) -> list[tuple[int, int]]:
    areas = set()
    for at in f.HEADER_OFFSETS:
        header = f.HEADER.parse(base.read(at, f.HEADER.sizeof()))
        if header.signature == f.HEADER_SIGNATURE and header.log_guid != bytes(16):
            areas.add((header.log_offset, header.log_length))
    return sorted(areas)


def _log_entries(base: Base, start: int, length: int) -> Iterator[tuple[int, int]]:
    at = start
    while at < min(start + length, base.size):
        data = base.read(at, f.LOG_ENTRY_HEADER.sizeof())
        if data[:4] == f.LOG_ENTRY_SIGNATURE:
            size = f.LOG_ENTRY_HEADER.parse(data).entry_length
            if 0 < size <= start + length - at:
                yield at, size
        at += f.LOG_SECTOR_SIZE


def _log_entry(file: str, base: Base, at: int, log: int) -> Iterator[Field]:
    yield from fields_of(
        f.LOG_ENTRY_HEADER, file, at, "vhdx-log-entry",
        loops={"tail": (at - log, 0)}, others={"tail": (4096, 8192, 1 << 20)},
    )  # fmt: skip
    head = f.LOG_ENTRY_HEADER.parse(base.read(at, f.LOG_ENTRY_HEADER.sizeof()))
    size = f.LOG_DATA_DESCRIPTOR.sizeof()
    places = (0, 64 << 10, 192 << 10, log, at, base.size)
    for number in range(min(head.descriptor_count, 126)):
        place = at + f.LOG_ENTRY_HEADER.sizeof() + number * size
        zero = base.read(place, 4) == f.LOG_ZERO_DESCRIPTOR_SIGNATURE
        yield from fields_of(
            f.LOG_ZERO_DESCRIPTOR if zero else f.LOG_DATA_DESCRIPTOR, file, place, "vhdx-log-descriptor",
            loops={"file_offset": places[:5]}, others={"file_offset": places, "zero_length": (4096, 1 << 20, 1 << 40)},
        )  # fmt: skip
    sectors = at + -(-(f.LOG_ENTRY_HEADER.sizeof() + head.descriptor_count * size) // 4096) * 4096
    for place in range(sectors, at + head.entry_length, f.LOG_SECTOR_SIZE):
        yield from fields_of(f.LOG_DATA_SECTOR, file, place, "vhdx-log-sector")
