"""Which part of a VHD file each block has: two blocks must not share a byte.

Blocks of an image all take the same room, so cut into buckets of that size the file has at most one block that starts
in a bucket, and a block can only lie over its neighbours. The last block may be shorter, and is kept by itself.
"""

from __future__ import annotations

from array import array

_PAGE_BUCKETS = 64
PAGE_LIMIT = 1 << 16  # pages kept, 40 MiB at most: four times what the largest file with blocks of 2 MiB has
_EMPTY = array("Q", bytes(8 * _PAGE_BUCKETS))


class VhdBlockSpace:
    """The places of the blocks met so far, eight bytes for each. Places and sizes are in bytes.

    Past :data:`PAGE_LIMIT`, which only a large image of tiny blocks can reach, further blocks are not noted.
    ``stored_size`` is the room of a block with its bitmap; the last block may take less, ``last_size``.
    """

    def __init__(self, stored_size: int, last_block: int, last_size: int) -> None:
        self._stored_size = stored_size
        self._last_block = last_block
        self._last_size = last_size
        self._last_place: int | None = None
        self._pages: dict[int, array[int]] = {}

    def claim(self, block: int, place: int) -> int | None:
        """Note that a block lies at ``place``; return the number of a block that lies there already, if one does."""
        bucket = place // self._stored_size
        end = place + self._size(block)
        for near in (bucket - 1, bucket, bucket + 1):
            known = self._pages.get(near // _PAGE_BUCKETS, _EMPTY)[near % _PAGE_BUCKETS]
            if known:
                other, other_place = (known >> 32) - 1, (known & 0xFFFFFFFF) * 512
                if other != block and place < other_place + self._stored_size and other_place < end:
                    return other
        last = self._last_place
        if last is not None and block != self._last_block and place < last + self._last_size and last < end:
            return self._last_block
        if block == self._last_block:
            self._last_place = place
        else:
            self._note(bucket, (block + 1) << 32 | place // 512)
        return None

    def _note(self, bucket: int, value: int) -> None:
        page = self._pages.get(bucket // _PAGE_BUCKETS)
        if page is None:
            if len(self._pages) >= PAGE_LIMIT:
                return
            page = self._pages[bucket // _PAGE_BUCKETS] = _EMPTY[:]
        page[bucket % _PAGE_BUCKETS] = value

    def _size(self, block: int) -> int:
        return self._last_size if block == self._last_block else self._stored_size
