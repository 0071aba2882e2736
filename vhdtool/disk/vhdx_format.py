"""VHDX structures, identifiers and limits, each named after its section of MS-VHDX (v20240423).

All integers are little-endian; GUIDs are stored in their mixed-endian form (``uuid.UUID.bytes_le``). The three
structures with a checksum (header, region table, log entry) keep it, a CRC-32C with its own field zeroed, at byte 4.
"""

from __future__ import annotations

from enum import IntEnum
from uuid import UUID

from construct import Bytes, Int16ul, Int32ul, Int64ul, Padding, Struct

from vhdtool.disk.crc32c import crc32c
from vhdtool.layout import packed

KIB = 1 << 10
MIB = 1 << 20
TIB = 1 << 40

# 2.2 header section: fixed places in the first MiB of the file
FILE_IDENTIFIER_OFFSET = 0
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
HEADER_SECTION_SIZE = MIB
HEADER_SIZE = 4 * KIB  # the part of the 64 KiB slot that the checksum covers
REGION_TABLE_SIZE = 64 * KIB
CHECKSUM_OFFSET = 4
CHECKSUM = Struct("checksum" / Int32ul)

# 2.2.1 file type identifier
FILE_SIGNATURE = b"vhdxfile"
FILE_IDENTIFIER = Struct("signature" / Bytes(8), "creator" / Bytes(512))

# 2.2.2 headers
HEADER_SIGNATURE = b"head"
VERSION = 1
LOG_VERSION = 0
HEADER = Struct(
    "signature" / Bytes(4),
    "checksum" / Int32ul,
    "sequence_number" / Int64ul,
    "file_write_guid" / Bytes(16),
    "data_write_guid" / Bytes(16),
    "log_guid" / Bytes(16),
    "log_version" / Int16ul,
    "version" / Int16ul,
    "log_length" / Int32ul,
    "log_offset" / Int64ul,
    "reserved" / Bytes(4016),
)

# 2.2.3 region tables
REGION_SIGNATURE = b"regi"
REGION_ENTRY_LIMIT = 2047
REGION_TABLE_HEADER = Struct(
    "signature" / Bytes(4),
    "checksum" / Int32ul,
    "entry_count" / Int32ul,
    "reserved" / Int32ul,
)
REGION_ENTRY = Struct("guid" / Bytes(16), "file_offset" / Int64ul, "length" / Int32ul, "flags" / Int32ul)
REGION_REQUIRED = 1
BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
REGION_NAMES = {BAT_REGION: "bat", METADATA_REGION: "metadata"}

# 2.3 log
LOG_SECTOR_SIZE = 4 * KIB
LOG_LENGTH_LIMIT = 1 << 30  # ours: OpenVMM refuses more as well, Hyper-V makes 1 MiB
LOG_WORK_LIMIT = 64 * MIB  # ours: most bytes of entries that one open verifies, so also the most that it keeps
LOG_DESCRIPTOR_LIMIT = 1 << 18  # ours: most descriptors that one open verifies
LOG_ENTRY_SIGNATURE = b"loge"
LOG_DATA_DESCRIPTOR_SIGNATURE = b"desc"
LOG_ZERO_DESCRIPTOR_SIGNATURE = b"zero"
LOG_DATA_SECTOR_SIGNATURE = b"data"
LOG_ENTRY_HEADER = Struct(
    "signature" / Bytes(4),
    "checksum" / Int32ul,
    "entry_length" / Int32ul,
    "tail" / Int32ul,
    "sequence_number" / Int64ul,
    "descriptor_count" / Int32ul,
    "reserved" / Int32ul,
    "log_guid" / Bytes(16),
    "flushed_file_offset" / Int64ul,
    "last_file_offset" / Int64ul,
)
LOG_DATA_DESCRIPTOR = Struct(
    "signature" / Bytes(4),
    "trailing_bytes" / Bytes(4),
    "leading_bytes" / Bytes(8),
    "file_offset" / Int64ul,
    "sequence_number" / Int64ul,
)
LOG_ZERO_DESCRIPTOR = Struct(
    "signature" / Bytes(4),
    "reserved" / Int32ul,
    "zero_length" / Int64ul,
    "file_offset" / Int64ul,
    "sequence_number" / Int64ul,
)
LOG_DATA_SECTOR = Struct(
    "signature" / Bytes(4),
    "sequence_high" / Int32ul,
    "data" / Bytes(4084),
    "sequence_low" / Int32ul,
)
LOG_SECTOR_START = Struct("signature" / Bytes(4), Padding(LOG_SECTOR_SIZE - 4))

# 2.4, 2.5 blocks and the BAT
BLOCK_SIZE_MIN = MIB
BLOCK_SIZE_MAX = 256 * MIB
BITMAP_BLOCK_SIZE = MIB
SECTORS_PER_CHUNK = 1 << 23
VIRTUAL_SIZE_MAX = 64 * TIB
BAT_ENTRY = Struct("value" / Int64ul)
BAT_ENTRY_SIZE: int = BAT_ENTRY.sizeof()
BAT_STATE_MASK = 0x7
BAT_RESERVED_MASK = 0xFFFF8
BAT_OFFSET_SHIFT = 20  # FileOffsetMB stands in bits 20 to 63: masking the low bits gives the offset in bytes
BAT_OFFSET_MASK = ~((1 << BAT_OFFSET_SHIFT) - 1)


class BlockState(IntEnum):
    """2.5.1.1, 2.5.1.2: state of a payload block; sector bitmap blocks know NOT_PRESENT and FULLY_PRESENT only."""

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7


# 2.6 metadata
METADATA_SIGNATURE = b"metadata"
METADATA_ENTRY_LIMIT = 2047
METADATA_TABLE_SIZE = 64 * KIB
METADATA_ITEM_LIMIT = MIB
METADATA_TABLE_HEADER = Struct(
    "signature" / Bytes(8),
    "reserved" / Int16ul,
    "entry_count" / Int16ul,
    "reserved2" / Bytes(20),
)
METADATA_ENTRY = Struct(
    "item_id" / Bytes(16), "offset" / Int32ul, "length" / Int32ul, "flags" / Int32ul, "reserved" / Int32ul
)
METADATA_IS_USER = 1
METADATA_IS_VIRTUAL_DISK = 2
METADATA_IS_REQUIRED = 4
FILE_PARAMETERS_ITEM = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE_ITEM = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID_ITEM = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE_ITEM = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE_ITEM = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR_ITEM = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
METADATA_NAMES = {
    FILE_PARAMETERS_ITEM: "file-parameters",
    VIRTUAL_DISK_SIZE_ITEM: "virtual-disk-size",
    VIRTUAL_DISK_ID_ITEM: "virtual-disk-id",
    LOGICAL_SECTOR_SIZE_ITEM: "logical-sector-size",
    PHYSICAL_SECTOR_SIZE_ITEM: "physical-sector-size",
    PARENT_LOCATOR_ITEM: "parent-locator",
}

# 2.6.2.1 to 2.6.2.5 known items
FILE_PARAMETERS = Struct("block_size" / Int32ul, "flags" / Int32ul)
LEAVE_BLOCKS_ALLOCATED = 1
HAS_PARENT = 2
VIRTUAL_DISK_SIZE = Struct("virtual_disk_size" / Int64ul)
VIRTUAL_DISK_ID = Struct("virtual_disk_id" / Bytes(16))
SECTOR_SIZE = Struct("sector_size" / Int32ul)

# 2.6.2.6 parent locator
PARENT_LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
PARENT_LOCATOR_HEADER = Struct("locator_type" / Bytes(16), "reserved" / Int16ul, "key_value_count" / Int16ul)
PARENT_LOCATOR_ENTRY = Struct(
    "key_offset" / Int32ul, "value_offset" / Int32ul, "key_length" / Int16ul, "value_length" / Int16ul
)

NO_GUID = UUID(int=0)
RESTORE_HINT = "The image is damaged: restore it from a copy, or copy it again from where it came from."

_CHECKSUM = packed(CHECKSUM)


def guid_of(stored: bytes) -> UUID:
    """Return a GUID from its 16 stored bytes."""
    return UUID(bytes_le=stored)


def checksum_of(structure: bytes) -> int:
    """Return the CRC-32C of a header, region table or log entry as if its own checksum field held zeros."""
    value = crc32c(structure[:CHECKSUM_OFFSET] + bytes(4))
    return crc32c(structure[CHECKSUM_OFFSET + 4 :], value)


def checksum_is_right(structure: bytes) -> bool:
    """Tell whether the stored checksum of a header, region table or log entry is the one of its bytes."""
    (stored,) = _CHECKSUM.unpack_from(structure, CHECKSUM_OFFSET)
    return bool(stored == checksum_of(structure))


def sealed(structure: bytes) -> bytes:
    """Return a header, region table or log entry with its checksum made right."""
    checksum = _CHECKSUM.pack(checksum_of(structure))
    return structure[:CHECKSUM_OFFSET] + checksum + structure[CHECKSUM_OFFSET + 4 :]


def chunk_ratio(logical_sector_size: int, block_size: int) -> int:
    """2.4: payload blocks per sector bitmap block."""
    return SECTORS_PER_CHUNK * logical_sector_size // block_size


def bat_entry_count(payload_blocks: int, ratio: int, *, has_parent: bool) -> int:
    """2.5: entries that the BAT must hold, those of the sector bitmap blocks between them included."""
    if has_parent:
        return -(-payload_blocks // ratio) * (ratio + 1)
    return payload_blocks + (payload_blocks - 1) // ratio
