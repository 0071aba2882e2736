"""The bytes of NTFS's protected structures: boot sector, MFT records, attribute headers, run lists, fixups.

Layouts as in the Linux kernel, fs/ntfs3/ntfs.h (struct NTFS_BOOT, MFT_REC, ATTRIB, ATTR_LIST_ENTRY); those of
directories are in :mod:`vhdtool.fs.ntfs_index`. What is decoded here is for the checks before and after a write, which
must see each byte; reading goes through :mod:`vhdtool.fs.ntfs_records`.
"""

from __future__ import annotations

import struct

import construct as c

from vhdtool.fs.runs import Run
from vhdtool.layout import field_names, packed

BOOT_SECTOR = c.Struct(
    c.Padding(3),
    "oem" / c.Bytes(8),
    "bytes_per_sector" / c.Int16ul,
    "sectors_per_cluster" / c.Int8ul,
    c.Padding(26),
    "sectors" / c.Int64ul,
    "mft_cluster" / c.Int64ul,
    "mirror_cluster" / c.Int64ul,
    "record_size" / c.Int8sl,
    c.Padding(3),
    "index_size" / c.Int8sl,
    c.Padding(3),
)
RECORD_HEADER = c.Struct(
    "signature" / c.Bytes(4),
    "fixup_offset" / c.Int16ul,
    "fixup_count" / c.Int16ul,
    "lsn" / c.Int64ul,
    "sequence" / c.Int16ul,
    "links" / c.Int16ul,
    "attributes" / c.Int16ul,
    "flags" / c.Int16ul,
    "used" / c.Int32ul,
    "allocated" / c.Int32ul,
    "base" / c.Int64ul,
    "next_id" / c.Int16ul,
    c.Padding(2),
    "number" / c.Int32ul,
)
ATTRIBUTE_HEADER = c.Struct(
    "type" / c.Int32ul,
    "length" / c.Int32ul,
    "non_resident" / c.Int8ul,
    "name_length" / c.Int8ul,
    "name_offset" / c.Int16ul,
    "flags" / c.Int16ul,
    "id" / c.Int16ul,
)
RESIDENT_FORM = c.Struct(
    "length" / c.Int32ul,
    "offset" / c.Int16ul,
    "indexed" / c.Int8ul,
    c.Padding(1),
)
NON_RESIDENT_FORM = c.Struct(
    "lowest_vcn" / c.Int64ul,
    "highest_vcn" / c.Int64sl,
    "runs_offset" / c.Int16ul,
    "unit" / c.Int8ul,
    c.Padding(5),
    "allocated" / c.Int64sl,
    "size" / c.Int64sl,
    "initialized" / c.Int64sl,
)
COMPRESSED_SIZE = c.Struct("clusters_bytes" / c.Int64sl)  # behind the form of a compressed or sparse attribute
LIST_ENTRY = c.Struct(
    "type" / c.Int32ul,
    "length" / c.Int16ul,
    "name_length" / c.Int8ul,
    "name_offset" / c.Int8ul,
    "lowest_vcn" / c.Int64ul,
    "reference" / c.Int64ul,
    "id" / c.Int16ul,
)
FIXUP_HEADER = c.Struct("signature" / c.Bytes(4), "offset" / c.Int16ul, "count" / c.Int16ul)

IN_USE, IS_DIRECTORY = 1, 2  # flags of a record
STRIDE = 512  # bytes that one fixup protects, whatever the sector size
END_MARK = 0xFFFFFFFF

_FIXUP, _RECORD = packed(FIXUP_HEADER), packed(RECORD_HEADER)
_USED = field_names(RECORD_HEADER).index("used")


def undo_fixups(data: bytes) -> bytes:
    """Return a protected structure with the last two bytes of each 512 put back.

    Raises :class:`ValueError`, with what is wrong, where a sector's end does not carry the sequence number (the
    structure was written in part) or the array lies elsewhere than it can.
    """
    if len(data) < STRIDE or len(data) % STRIDE:
        raise ValueError(f"it has {len(data)} bytes")
    _, offset, count = _FIXUP.unpack_from(data)
    if count != len(data) // STRIDE + 1 or offset < _FIXUP.size or offset % 2 or offset + 2 * count > STRIDE - 2:
        raise ValueError(f"its fixups are said to be {count} at byte {offset}")
    mark = data[offset : offset + 2]
    made = bytearray(data)
    for number in range(1, count):
        end = number * STRIDE
        if data[end - 2 : end] != mark:
            raise ValueError(f"its sector {number - 1} was not written with the others")
        made[end - 2 : end] = data[offset + 2 * number : offset + 2 * number + 2]
    return bytes(made)


def same_record(left: bytes, right: bytes) -> bool:
    """Whether two copies of an MFT record say the same: all but the fixups' sequence number and what lies unused."""
    if left == right:
        return True
    try:
        left, right = undo_fixups(left), undo_fixups(right)
    except ValueError:
        return False
    used = int(_RECORD.unpack_from(left)[_USED])
    _, start, count = _FIXUP.unpack_from(left)
    end = start + 2 * count
    return left[:start] == right[:start] and left[end:used] == right[end:used]


def decode_runs(data: bytes, clusters: int) -> tuple[Run, ...]:
    """Return the runs of a list of mapping pairs; ``clusters`` is how many the volume has.

    Raises :class:`ValueError`, with what is wrong, for a list without an end, or a run that leaves the volume.
    """
    runs: list[Run] = []
    at = cluster = 0
    while True:
        if at >= len(data):
            raise ValueError("its run list has no end")
        head = data[at]
        if head == 0:
            return tuple(runs)
        count_size, place_size = head & 15, head >> 4
        end = at + 1 + count_size + place_size
        if not 1 <= count_size <= 8 or place_size > 8 or end > len(data):
            raise ValueError(f"its run list has an impossible byte {head:#04x}")
        count = int.from_bytes(data[at + 1 : at + 1 + count_size], "little", signed=True)
        if count <= 0:
            raise ValueError(f"its run list has a run of {count} clusters")
        if place_size:
            cluster += int.from_bytes(data[at + 1 + count_size : end], "little", signed=True)
            if not 0 <= cluster <= clusters - count:
                raise ValueError(f"its run list leaves the volume: {count} clusters from {cluster}")
            runs.append((cluster, count))
        else:
            runs.append((None, count))
        at = end


def utf16(data: bytes) -> str:
    """Return a name for a message; half a surrogate pair becomes U+FFFD."""
    return data.decode("utf-16-le", "replace")


def code_units(data: bytes) -> tuple[int, ...]:
    """Return the UTF-16 code units of a name."""
    return struct.unpack(f"<{len(data) // 2}H", data)
