"""What a child says of its parent, changed without changing the child's disk: before and after its parent is.

A VHDX child names the DataWriteGuid of its parent, which changes with the parent. So the coming one is stored in the
child first, as ``parent_linkage2``: the child fits the parent before and after (MS-VHDX 2.6.2.6.3, note 12). The
parent locator is metadata, so it is changed through the child's log. A VHD child names an id that its parent keeps,
and the time at which the parent was last written to; that time stands in one sector of the child.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final
from uuid import UUID

from vhdtool.disk import vhd_format, vhdx_format
from vhdtool.disk.chain import open_disk
from vhdtool.disk.child_image import parent_time
from vhdtool.disk.device import Layer
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_locator import LINKAGE_KEYS, encode_parent_locator
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.disk.vhdx_log_writer import write_logged
from vhdtool.disk.vhdx_region import region_of
from vhdtool.errors import RefusedError
from vhdtool.layout import offset_of, packed

_FIRST, _SECOND = LINKAGE_KEYS
_ENTRY: Final = packed(vhdx_format.METADATA_ENTRY)
_TABLE_HEADER: Final = packed(vhdx_format.METADATA_TABLE_HEADER)
_TIME: Final = offset_of(vhd_format.HEADER, "parent_timestamp")
_SECTOR = vhdx_format.LOG_SECTOR_SIZE
_ALIGNMENT = 8


def announce_parent(child: VhdxLayer, coming: UUID, store: HostStore) -> int:
    """Store the DataWriteGuid that the parent will have in its child; return the bytes written to the host.

    Raises :class:`RefusedError` ``linkage-no-room``, and as :func:`vhdtool.disk.vhdx_log_writer.write_logged`.
    """
    return _store_entries(child, {**_without_second(child), _SECOND: f"{{{coming}}}"}, store)


def settle_linkage(path: str, parent: str, store: HostStore) -> int:
    """Make the child at ``path`` name its parent, the file ``parent``, as it is now; return the bytes written.

    Nothing is written where it does already. Raises as :func:`announce_parent`, and what opening the chain raises.
    """
    with open_disk(path, parent=parent) as disk:
        child, below = disk.layers[0], disk.layers[1]
        if isinstance(child, VhdxLayer):
            wanted = {**_without_second(child), _FIRST: f"{{{below.info.identity}}}"}
            named = child.info.linkage
            if named == (below.info.identity,):
                return 0
            return _store_entries(child, wanted, store)
        return _store_time(child, below.info.path, store)


def _without_second(child: VhdxLayer) -> dict[str, str]:
    return {key: value for key, value in child.parent_entries.items() if key != _SECOND}


def _store_entries(child: VhdxLayer, entries: Mapping[str, str], store: HostStore) -> int:
    """Put a new parent locator into a gap between the metadata items, where the old one may lie, and name it."""
    region = region_of(child.regions, vhdx_format.METADATA_REGION, path=child.info.path)
    data = encode_parent_locator(entries)
    place = _gap(child, region.offset, region.length, len(data))
    index = next(
        number
        for number, item in enumerate(child.metadata_items)
        if item.item_id == vhdx_format.PARENT_LOCATOR_ITEM and not item.is_user
    )
    entry = region.offset + _TABLE_HEADER.size + index * _ENTRY.size
    stored = bytearray(_ENTRY.size)
    child.read_stored(entry, memoryview(stored))
    item_id, _, _, flags, reserved = _ENTRY.unpack(stored)
    renamed = _ENTRY.pack(item_id, place - region.offset, len(data), flags, reserved)
    writes = _sectors(child, {place: data, entry: renamed})
    return write_logged(child.info.path, writes, store)


def _gap(child: VhdxLayer, start: int, length: int, needed: int) -> int:
    """The first place in the metadata region that no other item lies in."""
    taken = [(start, start + vhdx_format.METADATA_TABLE_SIZE), (start + length, start + length)]
    for item in child.metadata_items:
        is_locator = item.item_id == vhdx_format.PARENT_LOCATOR_ITEM and not item.is_user
        if item.length and not is_locator:
            taken.append((item.offset, item.offset + item.length))
    for (_, stop), (following, _) in pairwise(sorted(taken)):
        place = -(-stop // _ALIGNMENT) * _ALIGNMENT
        if place + needed <= following:
            return place
    raise RefusedError(
        "linkage-no-room",
        "the metadata of the child have no room for what it has to say of its parent",
        path=child.info.path,
        offset=start,
        expected=f"{needed} bytes in one piece",
        hint="Convert the child to an image of its own: vhdtool disk convert CHILD OUTPUT.vhdx",
    )


def _sectors(child: VhdxLayer, pieces: Mapping[int, bytes]) -> list[DataWrite]:
    """The sectors that the pieces, by place in the file, touch, as they will be."""
    sectors: dict[int, bytearray] = {}
    for place, data in pieces.items():
        for number in range(place // _SECTOR, (place + len(data) - 1) // _SECTOR + 1):
            at = number * _SECTOR
            if at not in sectors:
                sectors[at] = bytearray(_SECTOR)
                child.read_stored(at, memoryview(sectors[at]))
            first, last = max(place, at), min(place + len(data), at + _SECTOR)
            sectors[at][first - at : last - at] = data[first - place : last - place]
    return [DataWrite(at, bytes(sector)) for at, sector in sorted(sectors.items())]


def _store_time(child: Layer, parent: str, store: HostStore) -> int:
    """Time and checksum stand in one sector, so the header is right before and after."""
    header = child.header if isinstance(child, VhdLayer) else None
    if header is None or not header.checksum_right or header.offset % vhd_format.SECTOR_SIZE:
        return 0  # a header that is not trusted is not made to look so
    time = parent_time(parent)
    if time == header.parent_timestamp:
        return 0
    seconds = 0 if time is None else int((time - vhd_format.EPOCH).total_seconds())
    file = store.open(child.info.path)
    try:
        stored = bytearray(file.read_at(header.offset, vhd_format.HEADER_SIZE))
        stored[_TIME : _TIME + 4] = seconds.to_bytes(4, "big")
        sealed = vhd_format.sealed(bytes(stored), vhd_format.HEADER_CHECKSUM_OFFSET)
        file.write_at(header.offset, sealed[: vhd_format.SECTOR_SIZE])
        file.flush()
    finally:
        file.close()
    return vhd_format.SECTOR_SIZE
