"""Structures of a registry hive (regf) and of its transaction logs, each declared once with construct.

Source: the regf format specification (msuhanov/regf), whose section names stand above the structures. All integers
are little-endian. Offsets inside a hive count from the first hbin, which begins at file offset 4096.
"""

from __future__ import annotations

from construct import Bytes, Int8ul, Int16ul, Int32sl, Int32ul, Int64ul, Struct

BASE_BLOCK_SIZE = 4096
PAGE_SIZE = 4096
SECTOR_SIZE = 512
NIL = 0xFFFFFFFF
"""An offset that points nowhere."""

# "Base block": the first sector; the rest of the 4096 bytes has no meaning on the disk
BASE_BLOCK_SIGNATURE = b"regf"
MAJOR_VERSION = 1
OLDEST_MINOR_VERSION = 2  # hives of 1.1 (Windows NT 3.1) have other cells
NEWEST_MINOR_VERSION = 6
WRITTEN_MINOR_VERSIONS = (3, 4, 5)  # 2 has other rules, and 6 layers of keys that belong to several hives
FILE_TYPE_PRIMARY = 0
FILE_TYPES_OLD_LOG = (1, 2)  # 2 up to Windows 2000
FILE_TYPE_NEW_LOG = 6
BASE_BLOCK = Struct(
    "signature" / Bytes(4),
    "primary_sequence" / Int32ul,
    "secondary_sequence" / Int32ul,
    "last_written" / Int64ul,
    "major" / Int32ul,
    "minor" / Int32ul,
    "file_type" / Int32ul,
    "file_format" / Int32ul,
    "root_cell" / Int32ul,
    "hbins_size" / Int32ul,
    "clustering" / Int32ul,
    "file_name" / Bytes(64),
    "guids" / Bytes(32),
    "flags" / Int32ul,
    "reserved" / Bytes(360),
    "checksum" / Int32ul,
)
FLAG_TRANSACTIONS = 1  # the only bit of the flags that log entries carry

# "Hive bin"
HBIN_SIGNATURE = b"hbin"
HBIN = Struct(
    "signature" / Bytes(4),
    "offset" / Int32ul,
    "size" / Int32ul,
    "reserved" / Int64ul,
    "timestamp" / Int64ul,
    "spare" / Int32ul,
)

# "Cell": negative sizes are allocated
CELL = Struct("size" / Int32sl)
CELL_ALIGNMENT = 8
CELL_ROUNDED = 16384  # larger cells are a power of two (Project Zero, CVE-2022-37988; measured in 1.3 hives)
HBINS_LIMIT = 0x7FFFF000  # most bytes of hbins: bit 31 of an offset marks what lives in memory only

# "Key node"
KEY_SIGNATURE = b"nk"
KEY_HIVE_EXIT = 0x02  # another hive is mounted here
KEY_HIVE_ENTRY = 0x04  # the root of its hive
KEY_NO_DELETE = 0x08
KEY_SYMLINK = 0x10
KEY_COMPRESSED_NAME = 0x20
KEY_PREDEFINED_HANDLE = 0x40  # the number of values is a handle, not a number
KEY_CELL_LIMIT = 0x45C  # most bytes of a key's cell (ReactOS, cmcheck.c)
KEY_DEPTH_LIMIT = 512  # levels of keys
KEY_NAME_LIMIT = 255  # UTF-16 code units (Windows, "Registry element size limits")
KEY_NODE = Struct(
    "signature" / Bytes(2),
    "flags" / Int16ul,
    "last_written" / Int64ul,
    "access_bits" / Int8ul,
    "layer_bits" / Int8ul,
    "spare" / Int16ul,
    "parent" / Int32ul,
    "subkey_count" / Int32ul,
    "volatile_subkey_count" / Int32ul,
    "subkey_list" / Int32ul,
    "volatile_subkey_list" / Int32ul,
    "value_count" / Int32ul,
    "value_list" / Int32ul,
    "security" / Int32ul,
    "class_name" / Int32ul,
    "max_name_length" / Int16ul,
    "user_flags" / Int8ul,
    "debug" / Int8ul,
    "max_class_length" / Int32ul,
    "max_value_name_length" / Int32ul,
    "max_value_data_length" / Int32ul,
    "work_var" / Int32ul,
    "name_length" / Int16ul,
    "class_length" / Int16ul,
)

# "Index leaf", "Fast leaf", "Hash leaf", "Index root"
INDEX_LEAF = b"li"
FAST_LEAF = b"lf"
HASH_LEAF = b"lh"
INDEX_ROOT = b"ri"
LEAF_LIMITS = {INDEX_LEAF: 1012, FAST_LEAF: 507, HASH_LEAF: 1012}
"""Most keys of a leaf that we write (ReactOS cmindex.c; Project Zero); readers take more."""
HASH_LEAF_MINOR_VERSION = 5  # new lists are hash leaves from here on
SUBKEY_LIST = Struct("signature" / Bytes(2), "count" / Int16ul)
INDEX_ELEMENT = Struct("cell" / Int32ul)  # li: a key; ri: a leaf
FAST_ELEMENT = Struct("cell" / Int32ul, "hint" / Bytes(4))
HASH_ELEMENT = Struct("cell" / Int32ul, "hash" / Int32ul)

# "Key values list", "Key value"
VALUE_ELEMENT = Struct("cell" / Int32ul)
VALUE_SIGNATURE = b"vk"
VALUE_COMPRESSED_NAME = 0x01
VALUE_TOMBSTONE = 0x02  # of a layered key: the value is deleted here
VALUE_NAME_LIMIT = 32766  # bytes: 16,383 characters (Windows, "Registry element size limits")
DATA_INLINE = 0x80000000
KEY_VALUE = Struct(
    "signature" / Bytes(2),
    "name_length" / Int16ul,
    "data_size" / Int32ul,
    "data_offset" / Int32ul,
    "type" / Int32ul,
    "flags" / Int16ul,
    "spare" / Int16ul,
)

# "Key security"
SECURITY_SIGNATURE = b"sk"
KEY_SECURITY = Struct(
    "signature" / Bytes(2),
    "reserved" / Int16ul,
    "next" / Int32ul,
    "previous" / Int32ul,
    "references" / Int32ul,
    "descriptor_size" / Int32ul,
)

# "Big data": from minor version 4 on
BIG_DATA_SIGNATURE = b"db"
BIG_DATA_MINOR_VERSION: int = 4
BIG_DATA_SEGMENT = 16344
BIG_DATA = Struct("signature" / Bytes(2), "count" / Int16ul, "list" / Int32ul)
BIG_DATA_SEGMENTS = 0xFFFF  # most segments of a value
SEGMENT_ELEMENT = Struct("cell" / Int32ul)

# "Format of transaction log files", old format: a bit for each sector of the hbins, then the sectors
DIRTY_VECTOR_SIGNATURE = b"DIRT"
DIRTY_VECTOR = Struct("signature" / Bytes(4))

# "Format of transaction log files", new format: entries of pages
LOG_ENTRY_SIGNATURE = b"HvLE"
LOG_ENTRY = Struct(
    "signature" / Bytes(4),
    "size" / Int32ul,
    "flags" / Int32ul,
    "sequence" / Int32ul,
    "hbins_size" / Int32ul,
    "page_count" / Int32ul,
    "hash_1" / Int64ul,
    "hash_2" / Int64ul,
)
LOG_ENTRY_HASHED = 32  # bytes of the entry's head that the second hash covers
DIRTY_PAGE = Struct("offset" / Int32ul, "size" / Int32ul)
LOG_WORK_LIMIT = 64 << 20  # ours: most bytes of log entries that one open verifies and keeps
