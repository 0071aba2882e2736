"""Sector bitmaps of a differencing VHDX: which sectors of a block are in the file (MS-VHDX 2.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# A disk of 4 KiB sectors has 8 bitmap bytes for 256 KiB; 512 bytes are 2 MiB of a disk of 512-byte sectors. Shifts of
# integers of this size cost tens of nanoseconds, so a bitmap of alternating bits does not get slow.
_PIECE_SIZE = 512


def runs_of(bitmap: bytes, first: int, count: int) -> Iterator[tuple[bool, int]]:
    """Cut ``count`` bits from bit ``first`` into runs ``(present, length)``, least significant bit of a byte first."""
    present: bool | None = None
    length = 0
    bit, end = first, first + count
    while bit < end:
        start = bit >> 3
        stop = min(bit + _PIECE_SIZE * 8, end)
        piece = int.from_bytes(bitmap[start : (stop + 7) >> 3], "little") >> (bit & 7)
        left = stop - bit
        while left:
            here = bool(piece & 1)
            changed = ~piece if here else piece
            same = min(left, (changed & -changed).bit_length() - 1) if changed else left
            if here is present:
                length += same
            else:
                if present is not None:
                    yield present, length
                present, length = here, same
            piece >>= same
            left -= same
        bit = stop
    if present is not None:
        yield present, length


def bitmap_of(sectors: Iterable[int], count: int) -> bytes:
    """Return a bitmap of ``count`` bits (a multiple of 8) in which the named ones are set."""
    bits = bytearray(count // 8)
    for sector in sectors:
        bits[sector >> 3] |= 1 << (sector & 7)
    return bytes(bits)
