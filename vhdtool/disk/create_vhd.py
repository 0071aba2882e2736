"""Write new VHD images: fixed, dynamic and differencing, block by block.

The bytes depend on the arguments alone: identity and time are given, none is drawn. Places in the file, in this
order: copy of the footer, dynamic header, BAT, parent locators, blocks in the order asked for, footer. What holds
zeros is not written: the file has holes where the host's file system has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.new_file import new_file, put
from vhdtool.disk.vhd_footer import Footer, encode_footer
from vhdtool.disk.vhd_header import DynamicHeader, LocatorEntry, encode_header
from vhdtool.errors import UsageError

Kind = Literal["fixed", "dynamic", "differencing"]
_TYPES = {
    "fixed": fmt.DiskType.FIXED,
    "dynamic": fmt.DiskType.DYNAMIC,
    "differencing": fmt.DiskType.DIFFERENCING,
}
_NO_PARENT = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is in the file. ``data``, or what it returns, fills it from its start; zeros follow.

    ``bitmap`` has one bit for each sector, most significant first; ``None`` sets all of them.
    """

    data: bytes | Callable[[], bytes] = b""
    bitmap: bytes | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """What a differencing image says of its parent: identity, time of its last change, and ways to it.

    ``relative`` becomes a W2ru locator, ``absolute`` a W2ku one, ``url`` a MacX one; ``name`` at most 255 UTF-16
    units.
    """

    unique_id: UUID
    timestamp: datetime | None = None
    name: str = ""
    relative: str | None = None
    absolute: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things came to lie, in bytes of the file; ``blocks`` by number, their bitmaps first."""

    file_size: int
    header_offset: int | None = None
    bat_offset: int | None = None
    blocks: Mapping[int, int] = field(default_factory=dict)


def write_vhd(
    path: str | os.PathLike[str],
    *,
    virtual_size: int,
    unique_id: UUID,
    timestamp: datetime,
    kind: Kind = "dynamic",
    block_size: int = fmt.BLOCK_SIZE_DEFAULT,
    blocks: Mapping[int, Block] | None = None,
    order: Sequence[int] | None = None,
    parent: Parent | None = None,
    creator: bytes = b"win ",
    short_footer: bool = False,
) -> Layout:
    """Write a new image to ``path`` and return where its parts lie.

    Args:
        path: the new file.
        virtual_size: size of the disk in bytes, a multiple of 512, up to 2040 GiB.
        unique_id: the identity that a child will name.
        timestamp: the time in the footer.
        kind: a fixed image holds every block, ``blocks`` or not.
        block_size: a power of 2, at least 512; Hyper-V and the specification use 2 MiB.
        blocks: blocks by number; a fixed image knows no bitmaps.
        order: numbers of blocks that lie first in the file, in this order; the others follow by number.
        parent: of a differencing image.
        creator: the four bytes by which QEMU chooses its rule for the size; ``win`` makes it take the current size,
            as all others do.
        short_footer: end with the 511-byte footer of images made before Virtual PC 2004.

    Raises:
        UsageError: ``vhd-create-invalid`` for arguments that no VHD can have.
        RefusedError: ``file-exists``.
        OutputError: ``cannot-write``.
    """
    wanted = dict(blocks or {})
    _check(virtual_size, block_size, kind, wanted, parent)
    fixed = kind == "fixed"
    footer = encode_footer(
        Footer(
            features=fmt.FEATURES_RESERVED,
            format_version=fmt.FORMAT_VERSION,
            data_offset=fmt.NO_OFFSET if fixed else fmt.FOOTER_SIZE,
            timestamp=timestamp,
            creator_application=creator,
            creator_version=0x000A0000,
            creator_host=b"Wi2k",
            original_size=virtual_size,
            current_size=virtual_size,
            geometry=geometry_of(virtual_size),
            disk_type=_TYPES[kind],
            unique_id=unique_id,
            saved_state=False,
        )
    )
    last = footer[: fmt.SHORT_FOOTER_SIZE] if short_footer else footer
    with new_file(path) as file:
        if fixed:
            file.truncate(virtual_size)
            for number, block in wanted.items():
                put(file, number * block_size, _data_of(block, block_size))
            put(file, virtual_size, last)
            return Layout(virtual_size + len(last))
        count = -(-virtual_size // block_size)
        header_offset, bat_offset = fmt.FOOTER_SIZE, fmt.FOOTER_SIZE + fmt.HEADER_SIZE
        offset = bat_offset + _sectors(count * fmt.BAT_ENTRY.sizeof())
        texts = _locator_texts(parent, offset)
        offset += sum(_sectors(len(text)) for _, text in texts)
        bitmap_size = fmt.bitmap_size(block_size)
        places: dict[int, int] = {}
        first = [number for number in order or () if number in wanted]
        for number in [*first, *sorted(wanted.keys() - set(first))]:
            places[number] = offset
            offset += bitmap_size + block_size
        put(file, 0, footer)
        put(file, header_offset, encode_header(_header(bat_offset, count, block_size, parent, texts)))
        put(file, bat_offset, b"\xff" * _sectors(count * fmt.BAT_ENTRY.sizeof()))
        for entry, text in texts:
            put(file, entry.data_offset, text)
        for number, place in places.items():
            block = wanted[number]
            entry_bytes = fmt.BAT_ENTRY.build({"sector": place // fmt.SECTOR_SIZE})
            put(file, bat_offset + number * fmt.BAT_ENTRY.sizeof(), entry_bytes)
            bits = b"\xff" * max(1, block_size // fmt.SECTOR_SIZE // 8) if block.bitmap is None else block.bitmap
            put(file, place, bits)
            put(file, place + bitmap_size, _data_of(block, block_size))
        put(file, offset, last)
    return Layout(offset + len(last), header_offset, bat_offset, places)


def geometry_of(virtual_size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, by the appendix "CHS Calculation" of the specification."""
    sectors = min(virtual_size // fmt.SECTOR_SIZE, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        tracks = sectors // per_track
    else:
        per_track = 17
        tracks = sectors // per_track
        heads = max(4, (tracks + 1023) // 1024)
        if tracks >= heads * 1024 or heads > 16:
            per_track, heads = 31, 16
            tracks = sectors // per_track
        if tracks >= heads * 1024:
            per_track, heads = 63, 16
            tracks = sectors // per_track
    return tracks // heads, heads, per_track


def _check(virtual_size: int, block_size: int, kind: Kind, blocks: Mapping[int, Block], parent: Parent | None) -> None:
    rules = {
        "a virtual size is a multiple of 512, up to 2040 GiB": 0 < virtual_size <= fmt.VIRTUAL_SIZE_MAX
        and virtual_size % fmt.SECTOR_SIZE == 0,
        "a block size is a power of 2, at least 512": block_size >= fmt.BLOCK_SIZE_MIN
        and block_size & (block_size - 1) == 0,
        "a parent belongs to a differencing image, and only there": (parent is not None) == (kind == "differencing"),
        "the disk does not have all these blocks": all(0 <= n * block_size < virtual_size for n in blocks),
    }
    for rule, kept in rules.items():
        if not kept:
            raise UsageError("vhd-create-invalid", rule)


def _header(
    bat_offset: int, count: int, block_size: int, parent: Parent | None, texts: Sequence[tuple[LocatorEntry, bytes]]
) -> DynamicHeader:
    return DynamicHeader(
        offset=fmt.FOOTER_SIZE,
        data_offset=fmt.NO_OFFSET,
        table_offset=bat_offset,
        version=fmt.HEADER_VERSION,
        table_entries=count,
        block_size=block_size,
        parent_id=parent.unique_id if parent is not None else _NO_PARENT,
        parent_timestamp=parent.timestamp if parent is not None else None,
        parent_name=parent.name.encode("utf-16-be")[:510] if parent is not None else b"",
        locators=tuple(entry for entry, _ in texts),
        checksum_right=True,
    )


def _locator_texts(parent: Parent | None, offset: int) -> list[tuple[LocatorEntry, bytes]]:
    if parent is None:
        return []
    found = []
    for code, text, encoding in (
        (fmt.LOCATOR_RELATIVE, parent.relative, "utf-16-le"),
        (fmt.LOCATOR_ABSOLUTE, parent.absolute, "utf-16-le"),
        (fmt.LOCATOR_FILE_URL, parent.url, "utf-8"),
    ):
        if text is not None:
            data = text.encode(encoding)
            found.append((LocatorEntry(code, _sectors(len(data)), len(data), offset), data))
            offset += _sectors(len(data))
    return found


def _sectors(length: int) -> int:
    return -(-length // fmt.SECTOR_SIZE) * fmt.SECTOR_SIZE


def _data_of(block: Block, block_size: int) -> bytes:
    data = block.data if isinstance(block.data, bytes) else block.data()
    if len(data) > block_size:
        raise UsageError("vhd-create-invalid", f"a block of {block_size} bytes can't hold {len(data)} bytes")
    return data
