"""Small VHD files for the tests: written by the independent writer of tests/fuzz, then damaged at will."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.vhd_images import DYNAMIC, VhdLayer, complement, write_vhd
from vhdtool.disk import vhd
from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.disk.device import FileDevice

KIB, MIB = 1 << 10, 1 << 20
PER_BLOCK = 4096  # sectors of a block of 2 MiB
WHOLE = frozenset(range(PER_BLOCK))
HEADER_AT, TABLE_AT = 512, 1536

# offsets in the footer and the dynamic header, from the tables of the specification
DATA_OFFSET, TIMESTAMP, CREATOR, VERSION, CURRENT_SIZE, GEOMETRY, TYPE, CHECKSUM, UNIQUE_ID, SAVED = (
    16, 24, 28, 12, 48, 56, 60, 64, 68, 84,
)  # fmt: skip
TABLE_OFFSET, HEADER_VERSION, ENTRIES, BLOCK_SIZE, HEADER_CHECKSUM, PARENT_ID, PARENT_TIME = 16, 24, 28, 32, 36, 40, 56


def make(path: Path, number: int = 1, **wanted: Any) -> VhdLayer:
    """A dynamic image of 8 MiB in four blocks, blocks 0 and 2 stored, unless the test wants another."""
    settings: dict[str, Any] = {"virtual_size": 8 * MIB, "blocks": {0: WHOLE, 2: WHOLE}, "kind": DYNAMIC}
    layer = VhdLayer(number, **(settings | wanted))
    write_vhd(path, layer)
    return layer


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def stored(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def footer_at(path: Path) -> int:
    return path.stat().st_size - 512


def set_footer(path: Path, offset: int, data: bytes, *, seal: bool = True, copies: str = "both") -> None:
    """Change a field of the footer and its copy, with the checksum made right unless the test wants it wrong."""
    places = {"both": (0, footer_at(path)), "head": (0,), "tail": (footer_at(path),)}[copies]
    for place in places:
        change(path, place, 512, CHECKSUM, offset, data, seal=seal)


def set_header(path: Path, offset: int, data: bytes, *, seal: bool = True) -> None:
    change(path, HEADER_AT, 1024, HEADER_CHECKSUM, offset, data, seal=seal)


def change(path: Path, place: int, size: int, checksum: int, offset: int, data: bytes, *, seal: bool) -> None:  # noqa: PLR0917
    old = bytearray(stored(path, place, size))
    old[offset : offset + len(data)] = data
    if seal:
        old[checksum : checksum + 4] = bytes(4)
        old[checksum : checksum + 4] = struct.pack(">I", complement(bytes(old)))
    overwrite(path, place, bytes(old))


def set_entry(path: Path, block: int, sector: int) -> None:
    overwrite(path, TABLE_AT + block * 4, struct.pack(">I", sector))


def entry(path: Path, block: int) -> int:
    return int(struct.unpack(">I", stored(path, TABLE_AT + block * 4, 4))[0])


@contextmanager
def opened(path: Path) -> Iterator[vhd.VhdLayer]:
    file = FileDevice(path)
    try:
        yield vhd.open_vhd(file)
    finally:
        file.close()


def codes(disk: VirtualDisk) -> list[str]:
    return [problem.code for problem in disk.info.problems]


def read_disk(path: Path, check: Callable[[VirtualDisk], None] = lambda _: None) -> bytes:
    with open_disk(path) as disk:
        check(disk)
        return disk.read_at(0, disk.size)
