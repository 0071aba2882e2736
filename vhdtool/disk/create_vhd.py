"""Write a whole VHD from a description of its blocks: fixed, dynamic and differencing.

The bytes depend on the arguments alone: identity and time are given, none is drawn. :mod:`vhdtool.disk.vhd_writer`
places and encodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.new_file import new_file
from vhdtool.disk.vhd_writer import (
    FixedVhdWriter,
    Kind,
    Parent,
    VhdIdentity,
    VhdWriter,
    check_vhd_shape,
    geometry_of,
)
from vhdtool.errors import UsageError

__all__ = ["Block", "Layout", "Parent", "geometry_of", "write_vhd"]


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is in the file. ``data``, or what it returns, fills it from its start; zeros follow.

    ``bitmap`` has one bit for each sector, most significant first; ``None`` sets all of them.
    """

    data: bytes | Callable[[], bytes] = b""
    bitmap: bytes | None = None


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
    check_vhd_shape(virtual_size, block_size)
    _check(virtual_size, block_size, kind, wanted, parent)
    identity = VhdIdentity(unique_id, timestamp, creator)
    with new_file(path) as file:
        if kind == "fixed":
            fixed = FixedVhdWriter(file, virtual_size, identity)
            for number, block in wanted.items():
                fixed.put(number * block_size, _data_of(block, block_size))
            return Layout(fixed.finish(short_footer=short_footer))
        writer = VhdWriter(file, virtual_size, identity, block_size=block_size, parent=parent)
        places: dict[int, int] = {}
        first = [number for number in order or () if number in wanted]
        for number in [*first, *sorted(wanted.keys() - set(first))]:
            places[number] = writer.allocate(number, wanted[number].bitmap)
            writer.write(places[number] + writer.bitmap_size, _data_of(wanted[number], block_size))
        file_size = writer.finish(short_footer=short_footer)
    return Layout(file_size, writer.header_offset, writer.bat_offset, places)


def _check(virtual_size: int, block_size: int, kind: Kind, blocks: Mapping[int, Block], parent: Parent | None) -> None:
    rules = {
        "a parent belongs to a differencing image, and only there": (parent is not None) == (kind == "differencing"),
        "the disk does not have all these blocks": all(0 <= n * block_size < virtual_size for n in blocks),
    }
    for rule, kept in rules.items():
        if not kept:
            raise UsageError("vhd-create-invalid", rule)


def _data_of(block: Block, block_size: int) -> bytes:
    data = block.data if isinstance(block.data, bytes) else block.data()
    if len(data) > block_size:
        raise UsageError("vhd-create-invalid", f"a block of {block_size} bytes can't hold {len(data)} bytes")
    return data
