"""rpm's database in its two older forms: ndb (SUSE) and the hash of Berkeley DB (up to RHEL 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import construct as c

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError
from vhdtool.layout import offset_of, packed

LARGEST_HEADER = 64 << 20
MOST_BYTES = 1 << 30
"""Of all headers that are read."""

# rpm, lib/backend/ndb/rpmpkg.c
NDB_HEADER = c.Struct("magic" / c.Bytes(4), "version" / c.Int32ul, "generation" / c.Int32ul, "slot_pages" / c.Int32ul)
NDB_SLOT = c.Struct("magic" / c.Bytes(4), "package" / c.Int32ul, "block" / c.Int32ul, "blocks" / c.Int32ul)
NDB_BLOB = c.Struct("magic" / c.Bytes(4), "package" / c.Int32ul, "generation" / c.Int32ul, "length" / c.Int32ul)
NDB_PAGE = 4096
NDB_BLOCK = 16
MOST_SLOT_PAGES = 4096

# Berkeley DB 5, src/dbinc/db_page.h (DBMETA, PAGE, HOFFPAGE)
BDB_META = c.Struct(
    c.Padding(12), "magic" / c.Bytes(4), "version" / c.Bytes(4), "page_size" / c.Bytes(4), c.Padding(1),
    "type" / c.Int8ul, c.Padding(6), "last_page" / c.Bytes(4),
)  # fmt: skip
HASH_MAGIC = 0x00061561
HASH_META_TYPE = 8
HASH_PAGES = frozenset({2, 13})  # P_HASH_UNSORTED, P_HASH
OVERFLOW_PAGE = 7  # P_OVERFLOW
KEY_DATA, OFF_PAGE = 1, 3  # H_KEYDATA, H_OFFPAGE
# Numbers are bytes here: their order is that of the machine that wrote them.
BDB_PAGE = c.Struct(
    c.Padding(16), "next" / c.Bytes(4), "entries" / c.Bytes(2), "free" / c.Bytes(2), c.Padding(1), "type" / c.Bytes(1)
)
BDB_OFF_PAGE = c.Struct(c.Padding(4), "first" / c.Bytes(4), "length" / c.Bytes(4))
PAGE_HEADER = BDB_PAGE.sizeof()

_BDB_PAGE, _BDB_OFF_PAGE = packed(BDB_PAGE), packed(BDB_OFF_PAGE)
_NDB_HEADER, _NDB_SLOT, _NDB_BLOB = packed(NDB_HEADER), packed(NDB_SLOT), packed(NDB_BLOB)


class NdbDatabase:
    """``Packages.db``: slots, each with the place of a header."""

    def __init__(self, file: ByteSource, path: str) -> None:
        self.path = path
        self._file = file

    def headers(self, base_names: Sequence[bytes]) -> Iterator[bytes]:
        """As :meth:`vhdtool.guest.linux_rpm.HeaderSource.headers`: of all packages, for it has no index of files.

        Raises :class:`DamagedError` ``rpm-database-damaged``.
        """
        data = self._file.read_at(0, _NDB_HEADER.size)
        if len(data) < _NDB_HEADER.size or data[:4] != b"RpmP":
            raise _damaged("this is no ndb database", self.path, 0)
        _, version, _, pages = _NDB_HEADER.unpack(data)
        if version != 0 or not 0 < pages <= MOST_SLOT_PAGES:
            raise _damaged("its header makes no sense", self.path, 4)
        slots = self._file.read_at(0, pages * NDB_PAGE)
        left = MOST_BYTES
        for at in range(2 * _NDB_SLOT.size, len(slots) - _NDB_SLOT.size + 1, _NDB_SLOT.size):
            magic, package, block, _ = _NDB_SLOT.unpack_from(slots, at)
            if magic != b"Slot":
                raise _damaged("a slot has no mark", self.path, at)
            if not package or not block:
                continue
            blob = self._blob(package, block * NDB_BLOCK)
            left -= len(blob)
            if left < 0:
                raise _damaged("its headers are larger than it can hold", self.path, at)
            yield blob

    def _blob(self, package: int, offset: int) -> bytes:
        head = self._file.read_at(offset, _NDB_BLOB.size)
        if len(head) < _NDB_BLOB.size:
            raise _damaged("a header lies beyond the end", self.path, offset)
        magic, owner, _, length = _NDB_BLOB.unpack(head)
        if magic != b"BlbS" or owner != package or length > min(LARGEST_HEADER, self._file.size):
            raise _damaged("a header is not where its slot says", self.path, offset)
        blob = self._file.read_at(offset + _NDB_BLOB.size, length)
        if len(blob) < length:
            raise _damaged("a header is cut off", self.path, offset)
        return blob


class BerkeleyDatabase:
    """``Packages``: a hash whose pages are walked in a row; the headers lie in chains of pages."""

    def __init__(self, file: ByteSource, path: str) -> None:
        self.path = path
        self._file = file
        data = file.read_at(0, BDB_META.sizeof())
        if len(data) < BDB_META.sizeof():
            raise _damaged("it is cut off", path, 0)
        meta = BDB_META.parse(data)
        if int.from_bytes(meta.magic, "little") == HASH_MAGIC:
            self._order = "little"
        elif int.from_bytes(meta.magic, "big") == HASH_MAGIC:
            self._order = "big"
        else:
            raise _damaged("this is no Berkeley DB hash", path, 12)
        self._page_size = self._number(meta.page_size)
        self._pages = self._number(meta.last_page) + 1
        size = self._page_size
        if meta.type != HASH_META_TYPE or size not in {1 << bits for bits in range(9, 17)}:
            raise _damaged("its first page makes no sense", path, 20)
        self._pages = min(self._pages, file.size // size)

    def headers(self, base_names: Sequence[bytes]) -> Iterator[bytes]:
        """As :meth:`vhdtool.guest.linux_rpm.HeaderSource.headers`: of all packages, for it has no index of files.

        Raises :class:`DamagedError` ``rpm-database-damaged``.
        """
        left = MOST_BYTES
        for number in range(1, self._pages):
            kind = self._file.read_at(number * self._page_size + offset_of(BDB_PAGE, "type"), 1)
            if not kind or kind[0] not in HASH_PAGES:
                continue
            page = self._page(number)
            for blob in self._entries(page, number):
                left -= len(blob)
                if left < 0:
                    raise _damaged("its headers are larger than it can hold", self.path, number * self._page_size)
                yield blob

    def _entries(self, page: bytes, number: int) -> Iterator[bytes]:
        """The values of a page: each second entry, the first of a pair being its key."""
        _, count, _, _ = self._fields(page)
        if PAGE_HEADER + 2 * count > len(page):
            raise _damaged("a page has more entries than room", self.path, number * self._page_size)
        places = [self._number(page[at : at + 2]) for at in range(PAGE_HEADER, PAGE_HEADER + 2 * count, 2)]
        for index in range(1, count, 2):
            place = places[index]
            entry = page[place : places[index - 1]]  # entries grow from the end of the page
            if not entry:
                raise _damaged("an entry lies outside its page", self.path, number * self._page_size)
            if entry[0] == OFF_PAGE and len(entry) >= _BDB_OFF_PAGE.size:
                first, length = _BDB_OFF_PAGE.unpack_from(entry)
                yield self._chain(self._number(first), self._number(length))
            elif entry[0] == KEY_DATA:
                yield entry[1:]

    def _chain(self, first: int, length: int) -> bytes:
        if length > min(LARGEST_HEADER, self._file.size):
            raise _damaged("a header is longer than the file", self.path, first * self._page_size)
        found = bytearray()
        number = first
        while len(found) < length:
            if not 0 < number < self._pages:
                raise _damaged("a header is cut off", self.path, number * self._page_size)
            page = self._page(number)
            follows, _, used, kind = self._fields(page)  # "free" of an overflow page: how much of it is used
            if kind != OVERFLOW_PAGE or not 0 < used <= self._page_size - PAGE_HEADER:
                raise _damaged("a page of a header is of another kind", self.path, number * self._page_size)
            found += page[PAGE_HEADER : PAGE_HEADER + used]
            number = follows
        return bytes(found[:length])

    def _page(self, number: int) -> bytes:
        data = self._file.read_at(number * self._page_size, self._page_size)
        if len(data) < self._page_size:
            raise _damaged("a page is cut off", self.path, number * self._page_size)
        return data

    def _fields(self, page: bytes) -> tuple[int, int, int, int]:
        """Next page, count of entries, free bytes, type."""
        follows, entries, free, kind = (self._number(field) for field in _BDB_PAGE.unpack_from(page))
        return follows, entries, free, kind

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self._order == "little" else "big")


def _damaged(text: str, path: str, offset: int) -> DamagedError:
    return DamagedError(
        "rpm-database-damaged", f"the package database can't be read: {text}", path=path, offset=offset,
        hint="Rebuild it in the guest: rpm --rebuilddb",
    )  # fmt: skip
