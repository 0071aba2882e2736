"""One index under our own rules: blocks, bitmap, and the order of its keys by their collation, from end to end."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vhdtool.errors import Problem, VhdtoolError
from vhdtool.fs.ntfs_check_record import Fold
from vhdtool.fs.ntfs_check_volume import CheckedFile, CheckedVolume
from vhdtool.fs.ntfs_index import (
    COLLATION_FILE_NAME,
    FILE_NAME_KEY,
    HAS_CHILD,
    INDEX_BLOCK_HEADER,
    INDEX_ENTRY,
    INDEX_HEADER,
    INDEX_ROOT_HEADER,
    IS_END,
    MAX_BITMAP,
    VCN,
)
from vhdtool.fs.ntfs_layout import code_units, undo_fixups, utf16
from vhdtool.fs.ntfs_records import BITMAP, FILE_NAME, INDEX_ALLOCATION, INDEX_ROOT
from vhdtool.layout import offset_of, packed

NAMES = "$I30"
COLLATION_ULONG, COLLATION_SECURITY_HASH, COLLATION_ULONGS = 0x10, 0x12, 0x13
IS_NODE = 1  # flag of an index header: its entries have blocks below them

_ENTRY, _KEY, _HEADER = packed(INDEX_ENTRY), packed(FILE_NAME_KEY), packed(INDEX_HEADER)
_BLOCK, _ROOT, _VCN = packed(INDEX_BLOCK_HEADER), packed(INDEX_ROOT_HEADER), packed(VCN)

_NAME_LENGTH = offset_of(FILE_NAME_KEY, "name_length")
_NO_COLLATION = -1

Order = tuple[int, ...]
"""What keys are compared by."""


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """One entry of an index. ``reference`` leads to a file in an index of names; ``key`` is as stored."""

    reference: int
    key: bytes

    @property
    def name(self) -> bytes:
        """The name of a key of an index of names, UTF-16."""
        return self.key[_KEY.size :]


@dataclass(frozen=True, slots=True)
class _Node:
    entries: tuple[CheckedEntry, ...]
    orders: tuple[Order | None, ...]
    children: tuple[int, ...]  # one more than entries, or none at all


@dataclass(slots=True)
class CheckedIndex:
    """An index that was read from end to end, and what is wrong with it."""

    entries: list[CheckedEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _names: dict[tuple[int, bytes], CheckedEntry] = field(default_factory=dict)

    def by_name(self) -> Mapping[tuple[int, bytes], CheckedEntry]:
        """The entries of an index of names by what they lead to and how they spell it."""
        if len(self._names) != len(self.entries):
            self._names = {(entry.reference, entry.name): entry for entry in self.entries}
        return self._names


class BlockCache:
    """Blocks decoded before: two states of a directory have most of theirs in common."""

    LIMIT = 4096

    def __init__(self) -> None:
        self._nodes: dict[tuple[bytes, int], _Node] = {}

    def node(self, data: bytes, collation: int, fold: Fold) -> _Node:
        """Decode a block; raises :class:`ValueError` with what is wrong with it."""
        key = (data, collation)
        known = self._nodes.get(key)
        if known is None:
            whole = undo_fixups(data)
            _check_allocated(whole)
            if len(self._nodes) >= self.LIMIT:
                self._nodes.clear()
            known = self._nodes[key] = _decode(whole, _BLOCK.size, collation, fold)
        return known


def check_index(volume: CheckedVolume, file: CheckedFile, name: str, cache: BlockCache) -> CheckedIndex:
    """Read an index whole; bounded by the blocks that its attribute has."""
    walk = _Walk(volume, file, name, cache)
    walk.run()
    return walk.result


def first_key(data: bytes) -> bytes | None:
    """The first key of what may be an index block; ``None`` where it is none or has no key."""
    try:
        node = _decode(undo_fixups(data), _BLOCK.size, _NO_COLLATION, tuple)
    except ValueError:
        return None
    return node.entries[0].key if node.entries else None


class _Walk:
    def __init__(self, volume: CheckedVolume, file: CheckedFile, name: str, cache: BlockCache) -> None:
        self.result = CheckedIndex()
        self._volume, self._file, self._name, self._cache = volume, file, name, cache
        self._what = f"the index {name} of MFT record {file.segment}"
        self._visited: set[int] = set()
        self._previous: Order | None = None

    def _report(self, code: str, text: str) -> None:
        self.result.problems.append(Problem(code, f"{self._what}: {text}"))

    def run(self) -> None:
        try:
            self._read()
        except (ValueError, VhdtoolError) as error:
            self._report("ntfs-index-damaged", str(error))

    def _read(self) -> None:
        pieces = self._file.pieces(INDEX_ROOT, self._name)
        data = pieces[0].value if pieces else None
        if data is None or len(data) < _ROOT.size + _HEADER.size:
            raise ValueError("it has no root")
        indexed, self._collation, self._block_size, per_block = _ROOT.unpack_from(data)
        if (self._name == NAMES) != (indexed == FILE_NAME and self._collation == COLLATION_FILE_NAME):
            raise ValueError(f"it indexes attribute {indexed:#x} by collation {self._collation:#x}")
        cluster = self._volume.cluster_size
        if self._block_size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            raise ValueError(f"its blocks are said to have {self._block_size} bytes")
        self._unit = cluster if cluster <= self._block_size else 512
        if per_block != self._block_size // self._unit:
            self._report("ntfs-index-damaged", f"a block is said to have {per_block} units")
        allocation = self._file.pieces(INDEX_ALLOCATION, self._name)
        self._stream = self._volume.stream(allocation, self._what) if allocation else None
        root = _decode(data, _ROOT.size, self._collation, self._volume.fold)
        if root.children and self._stream is None:
            raise ValueError("its root leads to blocks, and it has none")
        self._in_order(root)
        self._check_bitmap()

    def _in_order(self, root: _Node) -> None:
        stack = [_steps(root)]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
            elif isinstance(step, int):
                node = self._block(step)
                if node is not None:
                    stack.append(_steps(node))
            else:
                self._entry(*step)

    def _entry(self, entry: CheckedEntry, order: Order | None) -> None:
        self.result.entries.append(entry)
        if order is not None and self._previous is not None and order <= self._previous:
            shown = f"'{utf16(entry.name)}'" if self._name == NAMES else f"key {entry.key[:16].hex()}"
            if order == self._previous:
                self._report("ntfs-index-order", f"it has {shown} twice")
            else:
                self._report("ntfs-index-order", f"{shown} stands behind what should come after it")
        self._previous = order

    def _block(self, vcn: int) -> _Node | None:
        offset = vcn * self._unit
        if self._stream is None or offset + self._block_size > self._stream.size:
            self._report("ntfs-index-damaged", f"a way leads to block {vcn}, beyond its end")
            return None
        if vcn in self._visited:
            self._report("ntfs-index-damaged", f"two ways lead to its block {vcn}")
            return None
        self._visited.add(vcn)
        try:
            data = self._stream.read_at(offset, self._block_size)
            signature, _, _, _, told = _BLOCK.unpack_from(data)
            if signature != b"INDX" or told != vcn:
                raise ValueError(f"it begins with {signature!r} and says that it is block {told}")
            return self._cache.node(data, self._collation, self._volume.fold)
        except (ValueError, VhdtoolError) as error:
            self._report("ntfs-index-damaged", f"block {vcn}: {error}")
            return None

    def _check_bitmap(self) -> None:
        """Blocks that the tree leads to are in use; blocks in use are led to."""
        step = max(1, self._block_size // self._unit)
        reached = 0
        for vcn in self._visited:
            reached |= 1 << (vcn // step)
        pieces = self._file.pieces(BITMAP, self._name)
        marked = 0
        if pieces:
            stream = self._volume.stream(pieces, self._what)
            if stream.size > MAX_BITMAP:
                raise ValueError(f"its bitmap has {stream.size} bytes")
            marked = int.from_bytes(stream.read_at(0, stream.size), "little")
        for number in _bits(reached & ~marked):
            self._report("ntfs-index-bitmap", f"block {number * step} is in use, and its bitmap says that it is free")
        for number in _bits(marked & ~reached):
            self._report("ntfs-index-bitmap", f"block {number * step} is marked as used, and nothing leads to it")


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _steps(node: _Node) -> Iterator[int | tuple[CheckedEntry, Order | None]]:
    """Children and entries of a node in the order of their keys."""
    for at, entry in enumerate(node.entries):
        if node.children:
            yield node.children[at]
        yield entry, node.orders[at]
    if node.children:
        yield node.children[-1]


def _check_allocated(data: bytes) -> None:
    allocated = _HEADER.unpack_from(data, _BLOCK.size)[2]
    if allocated + _BLOCK.size != len(data):
        raise ValueError(f"it says that it has room for {allocated} bytes")


def _decode(data: bytes, at: int, collation: int, fold: Fold) -> _Node:
    """Decode the entries behind the index header at ``at``."""
    first, used, allocated, flags = _HEADER.unpack_from(data, at)
    offset, end = at + first, at + used
    if first < _HEADER.size or first % 8 or used % 8 or used > allocated or end > len(data):
        raise ValueError(f"its header says that bytes {first} to {used} of {allocated} are used")
    entries: list[CheckedEntry] = []
    children: list[int] = []
    while True:
        if offset + _ENTRY.size > end:
            raise ValueError("it has no end entry")
        low, high, sequence, length, key_length, entry_flags = _ENTRY.unpack_from(data, offset)
        has_child = entry_flags & HAS_CHILD
        if entry_flags & ~(HAS_CHILD | IS_END):
            raise ValueError(f"an entry has flags {entry_flags:#x}")
        if length % 8 or length < _ENTRY.size + (_VCN.size if has_child else 0) or offset + length > end:
            raise ValueError(f"an entry has an impossible length of {length}")
        if bool(has_child) != bool(flags & IS_NODE):
            raise ValueError("an entry leads to a block where none may be, or does not where one must be")
        if has_child:
            children.append(_VCN.unpack_from(data, offset + length - _VCN.size)[0])
        if entry_flags & IS_END:
            if offset + length != end:
                raise ValueError("it goes on behind its end entry")
            break
        if _ENTRY.size + key_length + (_VCN.size if has_child else 0) > length:
            raise ValueError("a key leaves its entry")
        key = data[offset + _ENTRY.size : offset + _ENTRY.size + key_length]
        entries.append(CheckedEntry(low | high << 32 | sequence << 48, key))
        offset += length
    orders = tuple([_order(entry.key, collation, fold) for entry in entries])
    return _Node(tuple(entries), orders, tuple(children))


def _order(key: bytes, collation: int, fold: Fold) -> Order | None:
    """What a key is compared by; ``None`` for a collation that is not known (SIDs).

    Linux kernel, fs/ntfs3/index.c (cmp_fnames, cmp_uint, cmp_sdh, cmp_uints).
    """
    if collation == COLLATION_FILE_NAME:
        if len(key) < _KEY.size or len(key) != _KEY.size + 2 * key[_NAME_LENGTH]:
            raise ValueError("a name leaves its entry")
        units = code_units(key[_KEY.size :])
        return (*fold(units), -1, *units)  # by the upper-cased name, then as it is spelled
    if len(key) % 4 or collation not in (COLLATION_ULONG, COLLATION_SECURITY_HASH, COLLATION_ULONGS):
        return None
    return struct.unpack(f"<{len(key) // 4}I", key)
