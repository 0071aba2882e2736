"""The layouts of cabinet files, and the numbers that bound them.

Source: Microsoft, "MS-CAB: Cabinet File Format", section 2 (CFHEADER, CFFOLDER, CFFILE, CFDATA); the sizes a data
block may have are those of the cabinet library of Windows.
"""

from __future__ import annotations

from construct import Bytes, Int8ul, Int16ul, Int32ul, Struct

HEADER = Struct(
    "signature" / Bytes(4),
    "reserved1" / Int32ul,
    "size" / Int32ul,
    "reserved2" / Int32ul,
    "files_offset" / Int32ul,
    "reserved3" / Int32ul,
    "version_minor" / Int8ul,
    "version_major" / Int8ul,
    "folder_count" / Int16ul,
    "file_count" / Int16ul,
    "flags" / Int16ul,
    "set_id" / Int16ul,
    "number_in_set" / Int16ul,
)
RESERVE_SIZES = Struct("header" / Int16ul, "folder" / Int8ul, "block" / Int8ul)
FOLDER = Struct("data_offset" / Int32ul, "block_count" / Int16ul, "compression" / Int16ul)
FILE = Struct(
    "size" / Int32ul,
    "offset" / Int32ul,
    "folder" / Int16ul,
    "date" / Int16ul,
    "time" / Int16ul,
    "attributes" / Int16ul,
)
BLOCK = Struct("checksum" / Int32ul, "packed_size" / Int16ul, "unpacked_size" / Int16ul)
SIGNATURE_RESERVE = Struct(
    "mark" / Int32ul, "offset" / Int32ul, "size" / Int32ul, "unused" / Int32ul, "covered" / Int32ul
)
"""The header's reserve in a cabinet that is signed, or was made with room for a signature."""

MAGIC = b"MSCF"
PREVIOUS_FLAG, NEXT_FLAG, RESERVE_FLAG = 0x0001, 0x0002, 0x0004
FROM_PREVIOUS, TO_NEXT, PREVIOUS_AND_NEXT = 0xFFFD, 0xFFFE, 0xFFFF
"""In a file's ``folder``: it began in the part before, goes on in the next, or both."""
FROM_BEFORE, TO_AFTER = (FROM_PREVIOUS, PREVIOUS_AND_NEXT), (TO_NEXT, PREVIOUS_AND_NEXT)
NAME_IS_UTF8 = 0x0080
"""In a file's ``attributes``."""
LONGEST_NAME = 256
"""Longest name, in bytes with the zero that ends it."""
LARGEST_UNPACKED_BLOCK = 32768
LARGEST_PACKED_BLOCK = 32768 + 6144
MOST_BLOCKS = 0xFFFF

METHOD_MASK = 0x000F
STORED, MSZIP, QUANTUM, LZX = 0, 1, 2, 3
QUANTUM_WINDOWS = range(10, 22)
LZX_WINDOWS = range(15, 22)
"""Sizes of the window, as powers of two, that the method knows."""


def window_of(compression: int) -> int:
    """Return the window of Quantum and LZX, as a power of two."""
    return compression >> 8 & 0x1F


def compression_name(compression: int) -> str:
    """Return how the method is called in reports: ``stored``, ``MSZIP``, ``Quantum:18``, ``LZX:21``."""
    method = compression & METHOD_MASK
    if method in {QUANTUM, LZX}:
        return f"{'LZX' if method == LZX else 'Quantum'}:{window_of(compression)}"
    return {STORED: "stored", MSZIP: "MSZIP"}.get(method, f"unknown ({compression:#06x})")


def compression_is_known(compression: int) -> bool:
    """Whether the method is one of the four, with a window it knows."""
    method = compression & METHOD_MASK
    windows = {QUANTUM: QUANTUM_WINDOWS, LZX: LZX_WINDOWS}.get(method)
    return method in {STORED, MSZIP} or (windows is not None and window_of(compression) in windows)
