"""HyperVStorage, the container of ``.vmcx`` and ``.vmrs``: its structures.

The format is not published as a specification. The fields and limits are those of Microsoft's OpenVMM
(support/hvs_file, "HyperV Storage File Format") and of dissect.hypervisor (descriptor/c_hyperv). Where these call a
field unknown, what it is was measured on files of Hyper-V 9.0: where the data of a replay log's entry lies (the old
entries that stay in the log name data whose CRC-32 is the one they state), and what each checksum
covers. All integers are little-endian, all structures packed, all offsets count from the start of the file.
"""

from __future__ import annotations

from construct import Int8ul, Int16ul, Int32ul, Int64ul, Struct

HEADER_OFFSETS = (0, 0x1000)
"""Two copies; the writer alternates between them, and the valid one with the higher sequence number counts."""
OBJECT_TABLE_OFFSET = 0x2000

SIGNATURE = 0x01282014
VERSION = 0x0400
"""4.0; no file of another version is known to the readers named above."""
HEADER = Struct(
    "signature" / Int32ul,
    "checksum" / Int32ul,
    "sequence" / Int16ul,
    "version" / Int32ul,
    "data_version" / Int32ul,
    "flags" / Int32ul,
    "alignment" / Int32ul,
    "log_offset" / Int64ul,
    "log_size" / Int64ul,
    "log_header_size" / Int32ul,
)
ALIGNMENT_LIMIT = 0x10000

LOG_SIGNATURE = 0x01110003
LOG_HEADER = Struct(
    "signature" / Int32ul,
    "checksum" / Int32ul,
    "entry_count" / Int32ul,
    "unknown1" / Int8ul,
    "entry_limit" / Int32ul,
    "unknown2" / Int64ul,
    "unknown3" / Int64ul,
    "unknown4" / Int8ul,
)
LOG_ENTRY = Struct(
    "file_offset" / Int64ul,
    "size" / Int32ul,
    "data_offset" / Int64ul,  # from the start of the log
    "checksum" / Int32ul,
    "data_checksum" / Int32ul,
)

OBJECT_TABLE_SIGNATURE = 0x01110001
OBJECT_TABLE = Struct("signature" / Int32ul, "entry_count" / Int32ul)
OBJECT_ENTRY = Struct(
    "kind" / Int8ul,
    "checksum" / Int32ul,
    "offset" / Int64ul,
    "size" / Int32ul,
    "flags" / Int8ul,
)
OBJECT_TABLE_KIND = 1
KEY_TABLE_KIND = 2
FILE_KIND = 3

KEY_TABLE_SIGNATURE = 2
KEY_TABLE = Struct("signature" / Int16ul, "index" / Int16ul, "sequence" / Int16ul, "checksum" / Int32ul)
KEY = Struct(
    "kind" / Int8ul,
    "flags" / Int8ul,
    "size" / Int32ul,
    "parent_table" / Int16ul,
    "parent_offset" / Int32ul,
    "checksum" / Int32ul,
    "insertion" / Int32ul,
    "name_size" / Int8ul,  # in bytes, with the NUL that ends the name
)
FREE, INTEGER, UNSIGNED, DOUBLE, STRING, ARRAY, BOOLEAN, NODE = 1, 3, 4, 5, 6, 7, 8, 9
FIXED_SIZES = {INTEGER: 8, UNSIGNED: 8, DOUBLE: 8, BOOLEAN: 4, NODE: 12}
IN_FILE = 0x01
"""Flag of a key whose value lies in a file object: all of 2048 bytes and more."""
FILE_POINTER = Struct("size" / Int32ul, "offset" / Int64ul)
