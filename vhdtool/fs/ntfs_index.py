"""Directories of NTFS: names looked up by descent in the ``$I30`` B-tree, as Windows does it.

Names sort by their UTF-16 code units after upper-casing with the volume's own $UpCase table, and by the units
themselves where that leaves two equal. Structures: MS-FSA has the behaviour, the layouts are those of the Linux
kernel's fs/ntfs3/ntfs.h (INDEX_ROOT, INDEX_HDR, INDEX_BUFFER, NTFS_DE, ATTR_FILE_NAME).
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import construct as c

from vhdtool.errors import DamagedError
from vhdtool.fs.boundary import reading
from vhdtool.fs.ntfs_records import BITMAP, FILE_NAME, INDEX_ALLOCATION, INDEX_ROOT, Record
from vhdtool.fs.ntfs_stream import ResidentStream
from vhdtool.fs.runs import RunStream, damaged
from vhdtool.layout import packed

INDEX_HEADER = c.Struct(
    "first_entry" / c.Int32ul,
    "used" / c.Int32ul,
    "allocated" / c.Int32ul,
    "flags" / c.Int8ul,
    c.Padding(3),
)
INDEX_ROOT_HEADER = c.Struct(
    "indexed_type" / c.Int32ul,
    "collation" / c.Int32ul,
    "block_size" / c.Int32ul,
    "block_clusters" / c.Int8ul,
    c.Padding(3),
)
INDEX_BLOCK_HEADER = c.Struct(
    "signature" / c.Bytes(4),
    "fixup_offset" / c.Int16ul,
    "fixup_count" / c.Int16ul,
    "lsn" / c.Int64ul,
    "vcn" / c.Int64ul,
)
INDEX_ENTRY = c.Struct(
    "segment_low" / c.Int32ul,
    "segment_high" / c.Int16ul,
    "sequence" / c.Int16ul,
    "length" / c.Int16ul,
    "key_length" / c.Int16ul,
    "flags" / c.Int16ul,
    c.Padding(2),
)
FILE_NAME_KEY = c.Struct(
    "parent" / c.Int64ul,
    "created" / c.Int64ul,
    "modified" / c.Int64ul,
    "changed" / c.Int64ul,
    "accessed" / c.Int64ul,
    "allocated" / c.Int64ul,
    "size" / c.Int64ul,
    "attributes" / c.Int32ul,
    "reparse_tag" / c.Int32ul,
    "name_length" / c.Int8ul,
    "namespace" / c.Int8ul,
)
VCN = c.Struct("vcn" / c.Int64ul)

_HEADER, _ENTRY, _KEY, _VCN = packed(INDEX_HEADER), packed(INDEX_ENTRY), packed(FILE_NAME_KEY), packed(VCN)
_BLOCK = packed(INDEX_BLOCK_HEADER)

HAS_CHILD, IS_END = 1, 2  # index entry flags
COLLATION_FILE_NAME = 1
DOS_NAMESPACE = 2
UPCASE_SIZE = 65536 * 2
MAX_DEPTH = 32
SEGMENT_MASK = (1 << 48) - 1  # of a file reference; above it is the sequence number
CACHED_BLOCKS = 64
MAX_CHECKED = 256 * 1024  # bytes of an index that is read as a whole before a name is said not to be there
MAX_BITMAP = 1024 * 1024  # bytes

Units = tuple[int, ...]


class UpCase:
    """The volume's $UpCase, read by pages: an ASCII name needs the first 4 KiB of the 128."""

    PAGE = 2048  # code units

    def __init__(self, stream: RunStream | ResidentStream) -> None:
        if stream.size != UPCASE_SIZE:
            raise damaged("the upper-case table has a wrong size", "$UpCase", expected=UPCASE_SIZE, found=stream.size)
        self._stream = stream
        self._pages: dict[int, Units] = {}

    def fold(self, units: Units) -> Units:
        """Return the units in upper case."""
        if not units or max(units) < self.PAGE:
            page = self._page(0)
            return tuple([page[unit] for unit in units])
        return tuple([self._page(unit // self.PAGE)[unit % self.PAGE] for unit in units])

    def _page(self, number: int) -> Units:
        page = self._pages.get(number)
        if page is None:
            data = self._stream.read_at(number * self.PAGE * 2, self.PAGE * 2)
            page = self._pages[number] = struct.unpack(f"<{self.PAGE}H", data)
        return page


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One name in a directory, with the directory's copy of the file's facts. Sizes in bytes."""

    segment: int
    sequence: int
    units: Units
    namespace: int
    size: int
    modified: datetime | None
    attributes: int
    reparse_tag: int
    child: int | None  # VCN of the block with the names before this one

    @property
    def name(self) -> str:
        """The name; half a surrogate pair becomes U+FFFD."""
        return struct.pack(f"<{len(self.units)}H", *self.units).decode("utf-16-le", "replace")


def file_names(record: Record) -> list[tuple[int, Units]]:
    """The names that the base record itself tells: the directory's record, and the name."""
    found = []
    for attribute in record.attributes:
        value = attribute.value
        if attribute.type != FILE_NAME or value is None or len(value) < _KEY.size:
            continue
        parent, *_, length, _ = _KEY.unpack_from(value)
        if _KEY.size + 2 * length <= len(value):
            found.append((parent & SEGMENT_MASK, struct.unpack_from(f"<{length}H", value, _KEY.size)))
    return found


@dataclass(slots=True)
class _Node:
    entries: tuple[IndexEntry, ...]
    last_child: int | None  # VCN of the block with the names after the last one
    keys: tuple[Units, ...] | None = None  # the names in upper case, made when the node is first searched


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Between which names the names of a block must lie, and how deep it lies."""

    low: Units
    high: Units | None
    depth: int


_WHOLE = _Bounds((), None, 0)


class Directory:
    """The ``$I30`` index of one directory record."""

    def __init__(self, record: Record, upcase: UpCase, cluster_size: int) -> None:
        self._what = f"directory index of MFT record {record.segment}"
        self._upcase = upcase
        data = record.value(INDEX_ROOT, "$I30")
        if data is None or len(data) < INDEX_ROOT_HEADER.sizeof() + _HEADER.size:
            raise damaged("the directory has no index", self._what)
        root = INDEX_ROOT_HEADER.parse(data)
        if root.indexed_type != FILE_NAME or root.collation != COLLATION_FILE_NAME:
            raise damaged("the directory's index is of another kind", self._what)
        if root.block_size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            raise damaged("the index block size is impossible", self._what, found=root.block_size)
        self._record = record
        self._block_size: int = root.block_size
        self._vcn_unit = cluster_size if cluster_size <= root.block_size else 512
        self._root = self._node(data, INDEX_ROOT_HEADER.sizeof(), INDEX_ROOT_HEADER.sizeof() + _HEADER.size)
        self._stream = record.stream(INDEX_ALLOCATION, "$I30")
        self._nodes: OrderedDict[int, _Node] = OrderedDict()
        self._checked = self._stream is None  # whether the tree is known to lead to every name

    def find(self, name: str) -> IndexEntry | None:
        """Look ``name`` up, without regard to case; of several (POSIX names) the one spelled alike wins.

        Raises as :meth:`find_all`.
        """
        found = self.find_all(name)
        return found[0] if found else None

    def find_all(self, name: str) -> list[IndexEntry]:
        """Return the entries with this name, without regard to case, the one that is spelled alike first.

        Descends the tree; where the tree contradicts itself, all blocks of the directory are searched instead.
        That a name is not there is believed, in a directory of up to 256 KiB, only when the tree reaches every
        block in use. Raises :class:`DamagedError` where a name is not found and the directory is damaged.
        """
        raw = name.encode("utf-16-le", "surrogatepass")
        units: Units = struct.unpack(f"<{len(raw) // 2}H", raw)
        folded = self._upcase.fold(units)
        try:
            matches = list(self._matches(self._root, folded, _WHOLE))
            if not matches and self._stream is not None and self._stream.size <= MAX_CHECKED:
                self._check_complete()
        except DamagedError as error:
            matches = [entry for entry in self._salvage() if self._upcase.fold(entry.units) == folded]
            if not matches:
                raise error from None
        matches.sort(key=lambda entry: entry.units != units)
        return matches

    def entries(self) -> Iterator[IndexEntry]:
        """Yield all names in the tree's order, those of the DOS namespace among them.

        Raises :class:`DamagedError` where a block can't be read or the tree leads in circles.
        """
        visited: set[int] = set()
        seen: set[tuple[int, Units]] = set()
        stack: list[Iterator[IndexEntry | int]] = [self._in_order(self._root)]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, IndexEntry):
                seen.add(_identity(item))
                yield item
            else:
                if item in visited:
                    raise damaged("the directory's index leads in a circle", self._what)
                visited.add(item)
                stack.append(self._in_order(self._block(item)))
        for vcn in self._blocks_in_use():
            # A block that is counted as used but holds nothing new does no harm.
            if vcn not in visited and any(_identity(entry) not in seen for entry in self._block(vcn).entries):
                raise damaged(f"the directory's index does not lead to its block {vcn}", self._what)

    def _check_complete(self) -> None:
        """Raise where a name may be in the directory and yet not be found: blocks or names out of order, or lost."""
        if self._checked:
            return
        previous: Units = ()
        for entry in self.entries():
            key = self._upcase.fold(entry.units)
            if key < previous:
                raise damaged("the names of the directory's index are out of order", self._what)
            previous = key
        self._checked = True

    def _matches(self, node: _Node, folded: Units, bounds: _Bounds) -> Iterator[IndexEntry]:
        """Yield the names equal to ``folded``; an order that is broken raises."""
        if bounds.depth > MAX_DEPTH:
            raise damaged("the directory's index is too deep", self._what)
        keys = self._keys(node)
        low, high = bounds.low, bounds.high
        if keys and (keys[0] < low or (high is not None and keys[-1] > high)):
            raise damaged("an index block lies at a wrong place of the tree", self._what)
        first, last = bisect_left(keys, folded), bisect_right(keys, folded)
        yield from node.entries[first:last]
        # Equal names may continue in the blocks between them and on both sides.
        for at, entry in enumerate(node.entries[first : last + 1], first):
            if entry.child is not None:
                inside = _Bounds(keys[at - 1] if at else low, keys[at], bounds.depth + 1)
                yield from self._matches(self._block(entry.child), folded, inside)
        if last == len(keys) and node.last_child is not None:
            inside = _Bounds(keys[-1] if keys else low, high, bounds.depth + 1)
            yield from self._matches(self._block(node.last_child), folded, inside)

    def _keys(self, node: _Node) -> tuple[Units, ...]:
        if node.keys is None:
            keys = tuple([self._upcase.fold(entry.units) for entry in node.entries])
            if any(left > right for left, right in pairwise(keys)):
                raise damaged("the names of the directory's index are out of order", self._what)
            node.keys = keys
        return node.keys

    def _salvage(self) -> list[IndexEntry]:
        """Every name of every block in use that can be read, whatever the tree says."""
        found = list(self._root.entries)
        for vcn in self._blocks_in_use():
            try:
                found += self._block(vcn).entries
            except DamagedError:
                continue
        return found

    def _blocks_in_use(self) -> Iterator[int]:
        """The blocks that the index's own bitmap counts as used."""
        if self._stream is None:
            return
        bitmap = self._record.value(BITMAP, "$I30", limit=MAX_BITMAP) or b""
        step = self._block_size // self._vcn_unit
        for number in range(min(self._stream.size // self._block_size, len(bitmap) * 8)):
            if bitmap[number // 8] >> (number % 8) & 1:
                yield number * step

    @staticmethod
    def _in_order(node: _Node) -> Iterator[IndexEntry | int]:
        for entry in node.entries:
            if entry.child is not None:
                yield entry.child
            yield entry
        if node.last_child is not None:
            yield node.last_child

    def _block(self, vcn: int) -> _Node:
        known = self._nodes.get(vcn)
        if known is not None:
            self._nodes.move_to_end(vcn)
            return known
        offset = vcn * self._vcn_unit
        if self._stream is None or offset + self._block_size > self._stream.size:
            raise damaged("the directory's index points beyond its end", self._what, found=f"block {vcn}")
        data = self._stream.read_at(offset, self._block_size)
        header = _BLOCK.unpack_from(data)
        if header[0] != b"INDX" or header[-1] != vcn:
            raise damaged(f"index block {vcn} is damaged", self._what, expected=b"INDX", found=header[0])
        with reading(f"index block {vcn}", self._what):
            from dissect.ntfs.util import apply_fixup  # noqa: PLC0415  # loaded already when a volume is open

            data = apply_fixup(data)
        _, fixup_offset, fixup_count, _, _ = header
        start = (fixup_offset + 2 * fixup_count + 7) // 8 * 8  # the entries begin behind the fixups
        node = self._nodes[vcn] = self._node(data, _BLOCK.size, start)
        if len(self._nodes) > CACHED_BLOCKS:
            self._nodes.popitem(last=False)
        return node

    def _node(self, data: bytes, header_at: int, start: int) -> _Node:
        """Parse a root or block; ``start`` is where its entries may begin."""
        first, used, _, _ = _HEADER.unpack_from(data, header_at)
        offset, end = header_at + first, header_at + used
        # Windows leaves up to 24 bytes free before the first entry; never room for an entry that would go missing.
        if first < _HEADER.size or offset - start >= _ENTRY.size + _KEY.size or end > len(data):
            raise damaged("an index header leaves its block", self._what)
        entries: list[IndexEntry] = []
        while offset + _ENTRY.size <= end:
            low, high, sequence, length, key_length, flags = _ENTRY.unpack_from(data, offset)
            if length < _ENTRY.size + (8 if flags & HAS_CHILD else 0) or offset + length > end:
                raise damaged("an index entry leaves its block", self._what)
            child = _VCN.unpack_from(data, offset + length - _VCN.size)[0] if flags & HAS_CHILD else None
            if flags & IS_END:
                if offset + length != end:
                    raise damaged("an index block goes on behind its end entry", self._what)
                return _Node(tuple(entries), child)
            key = data[offset + _ENTRY.size : offset + min(_ENTRY.size + key_length, length)]
            entries.append(self._entry(key, low | high << 32, sequence, child))
            offset += length
        raise damaged("an index block has no end entry", self._what)

    def _entry(self, key: bytes, segment: int, sequence: int, child: int | None) -> IndexEntry:
        if len(key) < _KEY.size:
            raise damaged("a directory entry is too short", self._what)
        _, _, modified, _, _, _, size, attributes, tag, name_length, namespace = _KEY.unpack_from(key)
        if _KEY.size + 2 * name_length > len(key) or name_length == 0:
            raise damaged("a name leaves its directory entry", self._what)
        units = struct.unpack_from(f"<{name_length}H", key, _KEY.size)
        return IndexEntry(segment, sequence, units, namespace, size, filetime(modified), attributes, tag, child)


def _identity(entry: IndexEntry) -> tuple[int, Units]:
    return entry.segment, entry.units


_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def filetime(ticks: int) -> datetime | None:
    """Return the time of a FILETIME (100 ns since 1601, UTC); ``None`` for 0 and for what no calendar holds."""
    try:
        return _EPOCH + timedelta(microseconds=ticks // 10) if ticks else None
    except OverflowError:
        return None
