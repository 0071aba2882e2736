"""Fields and checksums of a VHD: both footers, dynamic header, parent locators, BAT, sector bitmaps."""

from __future__ import annotations

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field, Seal
from tests.fuzz.seals import complement_seal
from vhdtool.disk import vhd_format as f
from vhdtool.layout import offset_of

HEADER_AT = 512
BAT_FIELDS = 400


def vhd_fields(file: str, base: Base) -> list[Field]:
    """The fields of every structure of a whole VHD of any type."""
    found: list[Field] = []
    sizes = (0, 512, 1 << 20, base.size, 1 << 41)
    for at in _footers(base):
        found += fields_of(
            f.FOOTER, file, at, "vhd-footer",
            loops={"data_offset": (0, at)}, others={"data_offset": (512, 1536, base.size), "current_size": sizes,
            "original_size": sizes, "disk_type": (0, 2, 3, 4, 5)},
        )  # fmt: skip
    if not _dynamic(base):
        return found
    header = f.HEADER.parse(base.read(HEADER_AT, f.HEADER.sizeof()))
    found += fields_of(
        f.HEADER, file, HEADER_AT, "vhd-header",
        loops={"table_offset": (0, 512)}, others={"table_offset": (1024, 2048, base.size, base.size - 512),
        "block_size": (512, 4096, 1 << 21, 1 << 28, 1 << 31), "table_entries": (1 << 20,)},
    )  # fmt: skip
    name = HEADER_AT + offset_of(f.HEADER, "parent_name")
    found += [Field(file, name + step, 2, "vhd-parent-name", f"unit {step // 2}", "big") for step in range(0, 40, 2)]
    for number in range(f.LOCATOR_COUNT):
        place = HEADER_AT + offset_of(f.HEADER, "locators") + number * f.LOCATOR.sizeof()
        found += fields_of(
            f.LOCATOR, file, place, "vhd-locator",
            loops={"data_offset": (0, place)},
            others={"data_offset": (512, base.size), "data_length": (1 << 16, 1 << 31)},
        )  # fmt: skip
        entry = f.LOCATOR.parse(base.read(place, f.LOCATOR.sizeof()))
        for step in range(0, min(entry.data_length, 80), 2):
            found.append(Field(file, entry.data_offset + step, 2, "vhd-locator-text", f"unit {step // 2}"))
    table = base.read(header.table_offset, min(header.table_entries, BAT_FIELDS) * 4)
    values = [int.from_bytes(table[at : at + 4], "big") for at in range(0, len(table) - 3, 4)]
    used = tuple(value for value in values if value != f.BAT_HOLE)
    for number, value in enumerate(values):
        found += fields_of(
            f.BAT_ENTRY, file, header.table_offset + number * 4, "vhd-bat",
            loops={"sector": (0, 1, header.table_offset // 512)},
            others={"sector": (*used, f.BAT_HOLE, base.size // 512, *(entry + 1 for entry in used))},
        )  # fmt: skip
        if value != f.BAT_HOLE:
            found += [Field(file, value * 512 + step, 1, "vhd-bitmap", f"byte {step}") for step in range(0, 128, 4)]
    return found


def vhd_seals(file: str, base: Base) -> list[Seal]:
    """The checksums of the footers and of the dynamic header."""
    at_footer, at_header = offset_of(f.FOOTER, "checksum"), offset_of(f.HEADER, "checksum")
    seals = [complement_seal(file, at, f.FOOTER_SIZE, at + at_footer, "footer") for at in _footers(base)]
    if _dynamic(base):
        seals.append(complement_seal(file, HEADER_AT, f.HEADER_SIZE, HEADER_AT + at_header, "dynamic header"))
    return seals


def _dynamic(base: Base) -> bool:
    return base.read(HEADER_AT, 8) == f.HEADER_COOKIE


def _footers(base: Base) -> list[int]:
    return [at for at in (0, base.size - f.FOOTER_SIZE) if base.read(at, 8) == f.FOOTER_COOKIE]
