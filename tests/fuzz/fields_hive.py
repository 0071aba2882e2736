"""Fields and checksums of hives (regf) and their logs, found by walking bins and cells, not by following pointers.

Structures after the format description of msuhanov/regf. Pointers are counted from the first bin, at byte 4096.
"""

from __future__ import annotations

from collections.abc import Iterator

from construct import Bytes, Int16ul, Int32sl, Int32ul, Int64ul, Padding, Struct

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field, Seal
from tests.fuzz.seals import base_block_seal, log_entry_seal

BASE_BLOCK = Struct(
    "signature" / Bytes(4), "sequence1" / Int32ul, "sequence2" / Int32ul, "written" / Int64ul, "major" / Int32ul,
    "minor" / Int32ul, "type" / Int32ul, "format" / Int32ul, "root" / Int32ul, "bins_size" / Int32ul,
    "cluster" / Int32ul, "name" / Bytes(64), Padding(32), "flags" / Int32ul, Padding(360), "checksum" / Int32ul,
)  # fmt: skip
BIN = Struct("signature" / Bytes(4), "offset" / Int32ul, "size" / Int32ul, Padding(8), "written" / Int64ul, Padding(4))
CELL = Struct("size" / Int32sl)
NK = Struct(
    "signature" / Bytes(2), "flags" / Int16ul, "written" / Int64ul, "access" / Int32ul, "parent" / Int32ul,
    "subkey_count" / Int32ul, "volatile_count" / Int32ul, "subkeys" / Int32ul, "volatile_subkeys" / Int32ul,
    "value_count" / Int32ul, "values" / Int32ul, "security" / Int32ul, "class_name" / Int32ul, "longest_name" / Int32ul,
    "longest_class" / Int32ul, "longest_value_name" / Int32ul, "longest_data" / Int32ul, Padding(4),
    "name_length" / Int16ul, "class_length" / Int16ul,
)  # fmt: skip
VK = Struct(
    "signature" / Bytes(2), "name_length" / Int16ul, "size" / Int32ul, "data" / Int32ul, "type" / Int32ul,
    "flags" / Int16ul, Padding(2),
)  # fmt: skip
SK = Struct(
    "signature" / Bytes(2), Padding(2), "next" / Int32ul, "previous" / Int32ul, "references" / Int32ul,
    "length" / Int32ul,
)  # fmt: skip
DB = Struct("signature" / Bytes(2), "segments" / Int16ul, "list" / Int32ul)
LIST = Struct("signature" / Bytes(2), "count" / Int16ul)
LOG_ENTRY = Struct(
    "signature" / Bytes(4), "size" / Int32ul, "flags" / Int32ul, "sequence" / Int32ul, "bins_size" / Int32ul,
    "pages" / Int32ul, "hash1" / Int64ul, "hash2" / Int64ul,
)  # fmt: skip
START = 4096
NIL = 0xFFFFFFFF
MOST_CELLS = 6000  # of a large hive the cells of its beginning and of its end
POINTERS = {
    NK: ("parent", "subkeys", "values", "security", "class_name", "volatile_subkeys"),
    VK: ("data",), SK: ("next", "previous"), DB: ("list",),
}  # fmt: skip


def hive_fields(file: str, base: Base) -> list[Field]:
    """The base block, and of each bin its header and the fields of each allocated cell."""
    cells = list(_cells(base))
    if len(cells) > MOST_CELLS:
        cells = cells[: MOST_CELLS // 2] + cells[-MOST_CELLS // 2 :]
    places: dict[bytes, list[int]] = {}
    for at, _, mark in cells:
        places.setdefault(mark, []).append(at - START)
    sizes = (4096, 8192, base.size, base.size - START)
    found = list(
        fields_of(
            BASE_BLOCK,
            file,
            0,
            "hive-base",
            loops={"root": (0, 0xFFFFF000)},
            others={"root": tuple(places.get(b"vk", [])[:4]), "bins_size": sizes},
        )
    )
    for at in _bins(base):
        found += fields_of(BIN, file, at, "hive-bin", loops={"offset": (0,)}, others={"size": (4096, 8192, 32)})
    for at, size, mark in cells:
        found += _cell(file, base, (at, size, mark), places)
    return found


def hive_seals(file: str, base: Base) -> list[Seal]:
    """The base block's checksum; of a new-style log the hashes of each entry before that of its base block."""
    seals = []
    for at, length in _log_entries(base):
        seals.append(log_entry_seal(file, at, length))
    return [*seals, base_block_seal(file, "base block")]


def log_fields(file: str, base: Base) -> list[Field]:
    """A log's base block; of a new-style log the entries and their page references, of an old one the bitmap."""
    found = list(fields_of(BASE_BLOCK, file, 0, "log-base", others={"bins_size": (4096, 8192, 1 << 31)}))
    if base.read(512, 4) == b"DIRT":
        found.append(Field(file, 512, 4, "log-dirt", "signature"))
        found += [Field(file, 516 + step, 1, "log-dirt", f"bitmap {step}") for step in range(64)]
    for at, length in _log_entries(base):
        found += fields_of(LOG_ENTRY, file, at, "log-entry", others={"size": (512, length * 2), "pages": (1 << 16, 1)})
        pages = LOG_ENTRY.parse(base.read(at, LOG_ENTRY.sizeof())).pages
        for number in range(min(pages, 64)):
            place = at + LOG_ENTRY.sizeof() + number * 8
            found.append(Field(file, place, 4, "log-page", "offset", loops=(0, NIL), others=(4096, 1 << 31)))
            found.append(Field(file, place + 4, 4, "log-page", "size", others=(512, 4096, 1 << 31)))
        data = at + LOG_ENTRY.sizeof() + pages * 8
        found += [Field(file, place, 4, "log-data", "bytes") for place in range(data, at + length - 4, 64)]
    return found


def _bins(base: Base) -> Iterator[int]:
    at = START
    while at + 32 <= base.size:
        head = BIN.parse(base.read(at, 32))
        if head.signature != b"hbin" or head.size < 4096 or head.size % 4096:
            at += 4096
            continue
        yield at
        at += head.size


def _cells(base: Base) -> Iterator[tuple[int, int, bytes]]:
    """Place, size and signature of each allocated cell."""
    for start in _bins(base):
        size = BIN.parse(base.read(start, 32)).size
        data = base.read(start, size)
        at = 32
        while at + 4 <= len(data):
            length = abs(int.from_bytes(data[at : at + 4], "little", signed=True))
            if length < 8 or length % 8:
                break
            if data[at + 3] & 0x80:
                yield start + at, length, data[at + 4 : at + 6]
            at += length


def _cell(file: str, base: Base, cell: tuple[int, int, bytes], places: dict[bytes, list[int]]) -> Iterator[Field]:
    at, size, mark = cell
    own = at - START
    roots = tuple((places.get(b"nk") or [32])[:3])
    yield Field(file, at, 4, "hive-cell", "size", others=(8, 0xFFFFFFF8, (-size - 8) & NIL, (8 - size) & NIL))
    keys, values = places.get(b"nk", [32]), places.get(b"vk", [32])
    others = tuple(pool[own // 8 % len(pool)] for pool in (keys, values))
    layouts = {b"nk": NK, b"vk": VK, b"sk": SK, b"db": DB}
    if mark in layouts:
        layout = layouts[mark]
        pointers = POINTERS[layout]
        yield from fields_of(
            layout, file, at + 4, f"hive-{mark.decode()}",
            loops=dict.fromkeys(pointers, (own, *roots)), others=dict.fromkeys(pointers, others),
        )  # fmt: skip
        if mark in (b"nk", b"vk"):
            start = at + 4 + layout.sizeof()
            for step in range(min(16, at + size - start)):
                yield Field(file, start + step, 1, f"hive-{mark.decode()}-name", f"byte {step}")
        if mark == b"nk":
            yield from _value_list(file, base, at, places)
    elif mark in (b"lf", b"lh", b"li", b"ri"):
        yield from fields_of(LIST, file, at + 4, "hive-list", others={"signature": (0x666C, 0x686C, 0x696C, 0x6972)})
        width = 4 if mark in (b"li", b"ri") else 8
        count = LIST.parse(base.read(at + 4, 4)).count
        for number in range(min(count, 24)):
            place = at + 8 + number * width
            yield Field(file, place, 4, f"hive-{mark.decode()}-entry", "pointer", loops=(own, *roots), others=others)
            if width == 8:
                yield Field(file, place + 4, 4, f"hive-{mark.decode()}-entry", "hash")


def _value_list(file: str, base: Base, at: int, places: dict[bytes, list[int]]) -> Iterator[Field]:
    key = NK.parse(base.read(at + 4, NK.sizeof()))
    if key["values"] == NIL or key["values"] + START + 4 > base.size:
        return
    for number in range(min(key.value_count, 12)):
        place = START + key["values"] + 4 + number * 4
        loops = (key["values"], at - START)
        yield Field(file, place, 4, "hive-value-list", "pointer", loops=loops, others=tuple(places.get(b"vk", ())[:4]))


def _log_entries(base: Base) -> Iterator[tuple[int, int]]:
    at = 512
    while at + LOG_ENTRY.sizeof() <= base.size:
        head = LOG_ENTRY.parse(base.read(at, LOG_ENTRY.sizeof()))
        if head.signature != b"HvLE" or head.size < LOG_ENTRY.sizeof() or at + head.size > base.size:
            return
        yield at, head.size
        at += head.size
