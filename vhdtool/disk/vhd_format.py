"""VHD structures and limits, after the "Virtual Hard Disk Image Format Specification" 1.0 (Microsoft, 2006).

All integers are big-endian. Footer and dynamic header each hold a checksum: the one's complement of the sum of their
bytes, taken with the checksum field zeroed. Times count seconds from 2000-01-01 00:00 UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum

from construct import Bytes, Int8ub, Int16ub, Int32ub, Int64ub, Padding, Struct

from vhdtool.layout import offset_of, packed

SECTOR_SIZE = 512
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

# "Hard Disk Footer Format"
FOOTER_COOKIE = b"conectix"
FOOTER_SIZE = 512
SHORT_FOOTER_SIZE = 511  # made before Virtual PC 2004: without the last reserved byte
FOOTER = Struct(
    "cookie" / Bytes(8),
    "features" / Int32ub,
    "format_version" / Int32ub,
    "data_offset" / Int64ub,
    "timestamp" / Int32ub,
    "creator_application" / Bytes(4),
    "creator_version" / Int32ub,
    "creator_host" / Bytes(4),
    "original_size" / Int64ub,
    "current_size" / Int64ub,
    "cylinders" / Int16ub,
    "heads" / Int8ub,
    "sectors_per_track" / Int8ub,
    "disk_type" / Int32ub,
    "checksum" / Int32ub,
    "unique_id" / Bytes(16),
    "saved_state" / Int8ub,
    "reserved" / Padding(427),
)
FEATURES_RESERVED = 2  # "this bit must always be set to 1"
FORMAT_VERSION = 0x00010000
NO_OFFSET = 0xFFFFFFFFFFFFFFFF

# "Dynamic Disk Header Format"
HEADER_COOKIE = b"cxsparse"
HEADER_VERSION = 0x00010000
LOCATOR_COUNT = 8
HEADER = Struct(
    "cookie" / Bytes(8),
    "data_offset" / Int64ub,
    "table_offset" / Int64ub,
    "header_version" / Int32ub,
    "table_entries" / Int32ub,
    "block_size" / Int32ub,
    "checksum" / Int32ub,
    "parent_id" / Bytes(16),
    "parent_timestamp" / Int32ub,
    "reserved" / Padding(4),
    "parent_name" / Bytes(512),
    "locators" / Bytes(24 * LOCATOR_COUNT),
    "reserved2" / Padding(256),
)
HEADER_SIZE = HEADER.sizeof()

# "Parent Locator Entries"
LOCATOR = Struct(
    "platform_code" / Bytes(4),
    "data_space" / Int32ub,
    "data_length" / Int32ub,
    "reserved" / Padding(4),
    "data_offset" / Int64ub,
)
LOCATOR_RELATIVE = b"W2ru"  # UTF-16LE, relative to the child
LOCATOR_ABSOLUTE = b"W2ku"  # UTF-16LE
LOCATOR_FILE_URL = b"MacX"  # UTF-8, RFC 2396
LOCATOR_LENGTH_LIMIT = 64 << 10  # ours: Windows knows no path longer than 32,767 characters

# "Block Allocation Table and Data Blocks"
BAT_ENTRY = Struct("sector" / Int32ub)
BAT_HOLE = 0xFFFFFFFF
BLOCK_SIZE_MIN = SECTOR_SIZE
BLOCK_SIZE_DEFAULT = 2 << 20
VIRTUAL_SIZE_MAX = 2040 << 30  # of dynamic and differencing images; Hyper-V's limit as well

RESTORE_HINT = "The image is damaged: restore it from a copy, or copy it again from where it came from."


class DiskType(IntEnum):
    """The types in use; 0, 1, 5 and 6 are none or deprecated."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


_CHECKSUM = packed(Struct("checksum" / Int32ub))
FOOTER_CHECKSUM_OFFSET = offset_of(FOOTER, "checksum")
HEADER_CHECKSUM_OFFSET = offset_of(HEADER, "checksum")


def checksum_of(structure: bytes, field_offset: int) -> int:
    """Return the one's complement of the sum of all bytes but those of the checksum field."""
    total = sum(structure) - sum(structure[field_offset : field_offset + _CHECKSUM.size])
    return ~total & 0xFFFFFFFF


def sealed(structure: bytes, field_offset: int) -> bytes:
    """Return a footer or dynamic header with its checksum made right."""
    checksum = _CHECKSUM.pack(checksum_of(structure, field_offset))
    return structure[:field_offset] + checksum + structure[field_offset + _CHECKSUM.size :]


def bitmap_size(block_size: int) -> int:
    """Return the bytes that a block's sector bitmap takes before its data: a bit a sector, in whole sectors."""
    bits = block_size // SECTOR_SIZE
    return -(-bits // (8 * SECTOR_SIZE)) * SECTOR_SIZE
