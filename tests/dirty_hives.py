"""Makes a dirty hive and its transaction log out of a hive before and after a change.

Written from the public regf specification (msuhanov/regf, "Format of transaction log files") and not from
vhdtool's reader, so that what the reader recovers is not its own word. Marvin32 and its seed as there.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence

PAGE = 4096
BASE_BLOCK = 4096
_SECTOR = 512
_OLD_LOG_TYPE = 1
_NEW_LOG_TYPE = 6
_SEED = 0x82EF4D887A4E55C5
_ENTRY = struct.Struct("<4s5I")  # signature, size, flags, sequence number, size of the bins, number of pages
_WORD = 0xFFFFFFFF


def dirty_hive(before: bytes, after: bytes, *, pages_per_entry: int = 64, padding: int = 0) -> tuple[bytes, bytes]:
    """Return ``before`` marked dirty, and the log (HvLE, since Windows 8.1) that makes ``after`` of it.

    ``padding`` pages that did not change are logged too, to make a long log.
    """
    sequence = struct.unpack_from("<I", before, 8)[0]
    pages = list(changed_pages(before, after))
    unchanged = (page for page in range(_bins_size(after) // PAGE) if page not in set(pages))
    pages += [page for page, _ in zip(unchanged, range(padding), strict=False)]
    log = bytearray(_log_header(before, after, sequence, _NEW_LOG_TYPE))
    groups = [pages[index : index + pages_per_entry] for index in range(0, len(pages), pages_per_entry)]
    for number, group in enumerate(groups):
        log += log_entry(after, sorted(group), sequence + number)
    return _with_sequences(before, sequence + 1, sequence), bytes(log)


def old_dirty_hive(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return ``before`` marked dirty, and the log (DIRT, up to Windows 8) that makes ``after`` of it."""
    sequence = struct.unpack_from("<I", before, 8)[0]
    log = _log_header(before, after, sequence + 1, _OLD_LOG_TYPE)
    log += dirt_vector(after, list(changed_pages(before, after, _SECTOR)))
    return _with_sequences(before, sequence + 1, sequence), log


def dirt_vector(after: bytes, sectors: Sequence[int]) -> bytes:
    """Give what follows the base block of an old log: a bit for each sector of the bins, and those that are set."""
    bitmap = bytearray(_bins_size(after) // _SECTOR // 8)
    for sector in sectors:
        bitmap[sector // 8] |= 1 << sector % 8
    head = b"DIRT" + bitmap
    head = head.ljust(-(-len(head) // _SECTOR) * _SECTOR, b"\0")
    return head + b"".join(after[BASE_BLOCK + n * _SECTOR : BASE_BLOCK + (n + 1) * _SECTOR] for n in sorted(sectors))


def changed_pages(before: bytes, after: bytes, size: int = PAGE) -> Iterator[int]:
    """Give the numbers of the pages of the hive bins that differ."""
    for page in range(_bins_size(after) // size):
        start = BASE_BLOCK + page * size
        if before[start : start + size] != after[start : start + size]:
            yield page


def log_entry(after: bytes, pages: Sequence[int], sequence: int) -> bytes:
    """Give one entry: its header, the references to the pages, the pages, and zeros up to a whole sector."""
    references = b"".join(struct.pack("<II", page * PAGE, PAGE) for page in pages)
    contents = b"".join(after[BASE_BLOCK + page * PAGE : BASE_BLOCK + (page + 1) * PAGE] for page in pages)
    body = references + contents
    size = -(-(_ENTRY.size + 16 + len(body)) // _SECTOR) * _SECTOR
    body = body.ljust(size - _ENTRY.size - 16, b"\0")
    head = _ENTRY.pack(b"HvLE", size, 0, sequence, _bins_size(after), len(pages))
    head += struct.pack("<Q", marvin32(body))
    return head + struct.pack("<Q", marvin32(head)) + body


def marvin32(data: bytes) -> int:
    """Marvin32 with the seed that Windows uses for hive logs."""
    low, high = _SEED & _WORD, _SEED >> 32
    whole = len(data) // 4 * 4
    rest = int.from_bytes(data[whole:] + b"\x80", "little")
    for (value,) in (*struct.iter_unpack("<I", data[:whole]), (rest,), (0,)):
        low = low + value & _WORD
        high ^= low
        low = (_rotated(low, 20) + high) & _WORD
        high = _rotated(high, 9) ^ low
        low = (_rotated(low, 27) + high) & _WORD
        high = _rotated(high, 19)
    return high << 32 | low


def _rotated(value: int, count: int) -> int:
    return (value << count | value >> (32 - count)) & _WORD


def _bins_size(hive: bytes) -> int:
    return int(struct.unpack_from("<I", hive, 40)[0])


def _log_header(before: bytes, after: bytes, sequence: int, kind: int) -> bytes:
    """Give the base block as it is in memory when the log is written: new sizes, and the time of the hive's file."""
    header = bytearray(after[:_SECTOR])
    header[12:20] = before[12:20]
    struct.pack_into("<I", header, 28, kind)
    return _with_sequences(bytes(header), sequence, sequence)


def _with_sequences(data: bytes, primary: int, secondary: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<II", changed, 4, primary, secondary)
    checksum = functools.reduce(lambda left, right: left ^ right, struct.unpack_from("<127I", changed))
    struct.pack_into("<I", changed, 508, {0: 1, _WORD: _WORD - 1}.get(checksum, checksum))
    return bytes(changed)
