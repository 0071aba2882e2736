"""Fields and checksums of partition tables: MBR, extended boot records, GPT; of a fixed image or a raw disk."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field, Seal
from tests.fuzz.seals import crc32_seal
from vhdtool.layout import offset_of
from vhdtool.volume.gpt import GPT_ENTRY, GPT_HEADER, SIGNATURE
from vhdtool.volume.mbr import BOOT_RECORD, PARTITION_ENTRY


def mbr_fields(file: str, base: Base, start: int = 0) -> Iterator[Field]:
    """The boot record, and each extended boot record that its chain leads to."""
    sectors = base.size // 512
    table = offset_of(BOOT_RECORD, "entries")
    seen: set[int] = set()
    pending = [(0, 0)]
    while pending:
        here, extended = pending.pop()
        if here in seen:
            continue
        seen.add(here)
        at = start + here * 512
        for number in range(4):
            place = at + table + number * PARTITION_ENTRY.sizeof()
            entry = PARTITION_ENTRY.parse(base.read(place, PARTITION_ENTRY.sizeof()))
            yield from fields_of(
                PARTITION_ENTRY, file, place, "mbr" if not here else "ebr",
                loops={"first_sector": (0, here, here - extended)},
                others={"first_sector": (1, 63, sectors - 1, sectors), "type": (5, 15, 0xEE, 7), "sectors": (sectors,)},
            )  # fmt: skip
            if entry.type in (5, 0x0F) and entry.sectors:
                pending.append((extended + entry.first_sector, extended or entry.first_sector))
        yield Field(file, at + 510, 2, "mbr" if not here else "ebr", "signature")
    yield Field(file, start + 440, 4, "mbr", "disk_signature")


def gpt_fields(file: str, base: Base, start: int = 0, sector: int = 512) -> Iterator[Field]:
    """Both headers and the used entries of both arrays."""
    for at in _headers(base, start, sector):
        lba = (at - start) // sector
        places = (1, 2, 34, lba, base.size // sector - 1)
        loops = {"my_lba": (0,), "alternate_lba": (lba,), "entries_lba": (lba, 0)}
        others = {"my_lba": places, "alternate_lba": places, "entries_lba": places, "entry_size": (8, 16, 120, 256)}
        yield from fields_of(GPT_HEADER, file, at, "gpt-header", loops=loops, others=others)
        header = GPT_HEADER.parse(base.read(at, GPT_HEADER.sizeof()))
        for number in range(6):
            place = start + header.entries_lba * sector + number * header.entry_size
            yield from fields_of(
                GPT_ENTRY, file, place, "gpt-entry",
                loops={"first_lba": (0, 1, 2)},
                others={"first_lba": (2048, 34), "last_lba": (2048, places[-1], 1 << 40)},
            )  # fmt: skip


def gpt_seals(file: str, base: Base, start: int = 0, sector: int = 512) -> list[Seal]:
    """The array's CRC of each header, then the header's own."""
    arrays, headers = [], []
    for at in _headers(base, start, sector):
        header = GPT_HEADER.parse(base.read(at, GPT_HEADER.sizeof()))
        length = header.entry_count * header.entry_size
        array = start + header.entries_lba * sector
        arrays.append(crc32_seal(file, array, length, at + offset_of(GPT_HEADER, "entries_crc"), "GPT entries"))
        headers.append(crc32_seal(file, at, header.header_size, at + offset_of(GPT_HEADER, "header_crc"), "GPT header"))
    return arrays + headers


def _headers(base: Base, start: int, sector: int) -> list[int]:
    places = (start + sector, (base.size - start) // sector * sector - sector + start)
    return [at for at in places if base.read(at, 8) == SIGNATURE]
