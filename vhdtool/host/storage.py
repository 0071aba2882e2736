"""The tree of keys in a ``.vmcx`` or ``.vmrs``: every checksum is held, the replay log applied in memory.

dissect.hypervisor reads these files too, but looks at no checksum and leaves the replay log out: it takes an old state
for the new one, and damage for content. In the tests it is the judge of what whole files say.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import construct

from vhdtool.bytesource import ByteSource, BytesSource, read_exactly
from vhdtool.disk.patched_source import Patch, PatchedSource
from vhdtool.errors import DamagedError, InputError, UnsupportedError
from vhdtool.host.config_tree import ConfigNode
from vhdtool.host.storage_format import (
    ALIGNMENT_LIMIT,
    ARRAY,
    BOOLEAN,
    DOUBLE,
    FILE_KIND,
    FILE_POINTER,
    FIXED_SIZES,
    FREE,
    HEADER,
    HEADER_OFFSETS,
    IN_FILE,
    INTEGER,
    KEY,
    KEY_TABLE,
    KEY_TABLE_KIND,
    KEY_TABLE_SIGNATURE,
    LOG_ENTRY,
    LOG_HEADER,
    LOG_SIGNATURE,
    NODE,
    OBJECT_ENTRY,
    OBJECT_TABLE,
    OBJECT_TABLE_KIND,
    OBJECT_TABLE_OFFSET,
    OBJECT_TABLE_SIGNATURE,
    SIGNATURE,
    STRING,
    UNSIGNED,
    VERSION,
)
from vhdtool.layout import offset_of, packed

MAX_LOG = 16 << 20
"""Longest replay log that is applied, and most bytes that its entries change; Hyper-V's have some 30 KiB."""
MAX_LOG_ENTRIES = 2048
"""Entries of a replay log; Hyper-V makes room for 145."""
MAX_OBJECTS = 1 << 20
"""Objects of one file: the memory of a saved machine takes one a mebibyte."""
MAX_KEYS = 500_000
"""Keys of one file, free ones too; a configuration has some 500, a saved machine one a mebibyte of memory."""
MAX_KEY_TABLE = 1 << 20
"""Length of one table of keys; Hyper-V's have 4 KiB."""
MAX_KEY_TABLES = 64 << 20
"""Length of all of them."""
MAX_DEPTH = 32
"""Levels of keys; genuine ones have 8."""
MAX_FILE_VALUE = 1 << 20
"""Longest text that is fetched from a file object; longer ones, and all binary ones, stay where they are."""
MAX_FILE_VALUES = 16 << 20
"""Bytes that are fetched so from one file."""

_HINT = "Copy the file again from the host, while the machine is off."
_KEY = packed(KEY)
_OBJECT = packed(OBJECT_ENTRY)
_LOG_ENTRY = packed(LOG_ENTRY)
_NUMBERS = {
    INTEGER: struct.Struct("<q"),
    UNSIGNED: struct.Struct("<Q"),
    DOUBLE: struct.Struct("<d"),
    BOOLEAN: struct.Struct("<I"),
}


@dataclass(frozen=True, slots=True)
class Unfetched:
    """A value that was left in the file: ``size`` bytes at ``offset``."""

    offset: int
    size: int


@dataclass(slots=True)
class _Key:
    kind: int
    name: str
    parent: tuple[int, int]
    value: ConfigNode | str | int | float | bool | bytes | Unfetched


def read_storage(source: ByteSource, *, path: str) -> ConfigNode:
    """Read a file and return its root. Where a name stands twice in one node, the later one counts.

    Raises:
        DamagedError: ``vm-config-damaged``, ``truncated``.
        UnsupportedError: ``vm-config-version-unsupported``.
        InputError: ``vm-config-too-large``: it exceeds a limit of this module.
    """
    return _Reader(source, path).read()


class _Reader:
    def __init__(self, source: ByteSource, path: str) -> None:
        self._source = source
        self._path = path
        self._files: dict[int, int] = {}
        self._fetched = 0
        self._count = 0
        self._objects_seen = 0

    def read(self) -> ConfigNode:
        header = self._header()
        self._source = self._replayed(header)
        tables: dict[int, tuple[int, int, bytes]] = {}
        for offset, size in self._key_tables():
            data = self._read(offset, size, "a table of keys")
            index, sequence = self._key_table(data, offset)
            known = tables.get(index)
            if known is None or _is_later(sequence, known[0]):
                tables[index] = (sequence, offset, data)
        keys: dict[tuple[int, int], _Key] = {}
        for index, (_, offset, data) in sorted(tables.items()):
            for place, key in self._keys(data, offset):
                keys[index, place] = key
        return self._tree(keys)

    def _header(self) -> construct.Container:
        found: construct.Container | None = None
        signed = False
        for offset in HEADER_OFFSETS:
            data = self._source.read_at(offset, HEADER.sizeof())
            if len(data) < HEADER.sizeof():
                continue
            header = HEADER.parse(data)
            signed = signed or header.signature == SIGNATURE
            if header.signature != SIGNATURE or header.checksum != checksum(data, HEADER):
                continue
            if found is None or _is_later(header.sequence, found.sequence):
                found = header
        if found is None:
            raise self._damaged("neither of the two headers is whole" if signed else "no header is there", 0)
        if found.version != VERSION:
            raise UnsupportedError(
                "vm-config-version-unsupported",
                "the file has a version that is not known",
                path=self._path,
                expected=f"{VERSION:#x}",
                found=f"{found.version:#x}",
                hint="Start or import the machine once on a newer host: that brings its files to the current version.",
            )
        if not 0 < found.alignment <= ALIGNMENT_LIMIT:
            raise self._damaged("the alignment is impossible", 0, found.alignment)
        return found

    def _replayed(self, header: construct.Container) -> ByteSource:
        """Lay the entries of the replay log over the file: changes that were logged and not carried out."""
        start = header.log_offset
        data = self._read(start, LOG_HEADER.sizeof(), "the header of the replay log")
        log = LOG_HEADER.parse(data)
        if log.signature != LOG_SIGNATURE or log.checksum != checksum(data, LOG_HEADER):
            raise self._damaged("the header of the replay log is damaged", start)
        if log.entry_count == 0:
            return self._source
        if header.log_size > MAX_LOG:
            raise self._too_large("the replay log is too long", start, MAX_LOG, header.log_size)
        if log.entry_count > MAX_LOG_ENTRIES:
            raise self._too_large("the replay log has too many entries", start, MAX_LOG_ENTRIES, log.entry_count)
        if LOG_HEADER.sizeof() + log.entry_count * _LOG_ENTRY.size > header.log_size:
            raise self._damaged("the replay log has more entries than room", start, log.entry_count)
        entries = self._read(
            start + LOG_HEADER.sizeof(), log.entry_count * _LOG_ENTRY.size, "the entries of the replay log"
        )
        patches: list[tuple[int, bytes]] = []
        for at in range(0, len(entries), _LOG_ENTRY.size):
            patches.append(self._logged(entries[at : at + _LOG_ENTRY.size], header, start + LOG_HEADER.sizeof() + at))
            if sum(len(changed) for _, changed in patches) > MAX_LOG:
                raise self._too_large("the replay log changes too much", start, MAX_LOG, "more")
        end = max(self._source.size, *(offset + len(changed) for offset, changed in patches))
        laid = [Patch(offset, BytesSource(changed)) for offset, changed in _painted(patches)]
        return PatchedSource(self._source, end, laid)

    def _logged(self, raw: bytes, header: construct.Container, place: int) -> tuple[int, bytes]:
        offset, size, data_offset, check, data_check = _LOG_ENTRY.unpack(raw)
        if check != checksum(raw, LOG_ENTRY):
            raise self._damaged("an entry of the replay log is damaged", place)
        if size == 0 or data_offset + size > header.log_size or offset + size > self._source.size + MAX_LOG:
            raise self._damaged("an entry of the replay log lies outside of the file", place)
        data = self._read(header.log_offset + data_offset, size, "the data of the replay log")
        if zlib.crc32(data) != data_check:
            raise self._damaged("the data of an entry of the replay log is damaged", header.log_offset + data_offset)
        return offset, data

    def _key_tables(self) -> list[tuple[int, int]]:
        """The places and sizes of the tables of keys; notes the file objects on the way."""
        found: list[tuple[int, int]] = []
        waiting, seen, total = [(OBJECT_TABLE_OFFSET, ALIGNMENT_LIMIT)], {OBJECT_TABLE_OFFSET}, 0
        while waiting:
            table, room = waiting.pop()
            for kind, offset, size in self._objects(table, room):
                if kind == FILE_KIND:
                    self._files[offset] = size
                    continue
                if offset in seen:
                    raise self._damaged("two objects lie at the same place", table, hex(offset))
                seen.add(offset)
                if kind == OBJECT_TABLE_KIND:
                    waiting.append((offset, size))
                    continue
                total += size
                if size > MAX_KEY_TABLE or total > MAX_KEY_TABLES:
                    raise self._too_large("the tables of keys are too long", offset, MAX_KEY_TABLE, size)
                found.append((offset, size))
        return found

    def _objects(self, table: int, room: int) -> Iterator[tuple[int, int, int]]:
        """Yield kind, place and size of the objects in a table, those that are of concern here."""
        head = OBJECT_TABLE.parse(self._read(table, OBJECT_TABLE.sizeof(), "a table of objects"))
        if head.signature != OBJECT_TABLE_SIGNATURE:
            raise self._damaged("a table of objects has no signature", table)
        length = head.entry_count * _OBJECT.size
        if OBJECT_TABLE.sizeof() + length > room:
            raise self._damaged("a table of objects has more entries than room", table, head.entry_count)
        self._objects_seen += head.entry_count
        if self._objects_seen > MAX_OBJECTS:
            raise self._too_large("there are too many objects", table, MAX_OBJECTS, "more")
        data = self._read(table + OBJECT_TABLE.sizeof(), length, "a table of objects")
        for at, (kind, check, offset, size, _) in enumerate(_OBJECT.iter_unpack(data)):
            if kind == 0 and check == _EMPTY_CHECKSUM:
                continue  # as most are
            raw = data[at * _OBJECT.size : (at + 1) * _OBJECT.size]
            if any(raw) and check != checksum(raw, OBJECT_ENTRY):
                place = table + OBJECT_TABLE.sizeof() + at * _OBJECT.size
                raise self._damaged("an entry of a table of objects is damaged", place)
            if kind in {OBJECT_TABLE_KIND, KEY_TABLE_KIND, FILE_KIND}:
                yield kind, offset, size

    def _key_table(self, data: bytes, offset: int) -> tuple[int, int]:
        if len(data) < KEY_TABLE.sizeof():
            raise self._damaged("a table of keys is too short", offset, len(data))
        head = KEY_TABLE.parse(data)
        if head.signature != KEY_TABLE_SIGNATURE or head.checksum != checksum(data[: KEY_TABLE.sizeof()], KEY_TABLE):
            raise self._damaged("the header of a table of keys is damaged", offset)
        if head.index == 0:
            raise self._damaged("a table of keys has the number of the root", offset, 0)
        return head.index, head.sequence

    def _keys(self, data: bytes, table: int) -> Iterator[tuple[int, _Key]]:
        place = KEY_TABLE.sizeof()
        while place + _KEY.size < len(data):
            kind, flags, size, *rest = _KEY.unpack_from(data, place)
            if size == 0 and not any(data[place:]):
                break  # what is left was never used
            if size < _KEY.size or place + size > len(data):
                raise self._damaged("a key is longer than its table", table + place, size)
            self._count += 1
            if self._count > MAX_KEYS:
                raise self._too_large("there are too many keys", table + place, MAX_KEYS, "more")
            if kind != FREE:
                yield place, self._key(data[place : place + size], (kind, flags, *rest), table + place)
            elif _was_key(data[place : place + size], rest[2]):
                raise self._damaged("a key is damaged: it is marked as free", table + place)
            place += size

    def _key(self, raw: bytes, head: tuple[int, ...], place: int) -> _Key:
        kind, flags, parent_table, parent_offset, check, _, name_size = head
        start = _KEY.size + name_size
        if name_size == 0 or start > len(raw):
            raise self._damaged("the name of a key is longer than the key", place, name_size)
        length = self._value_length(raw, start, kind, flags, place)
        if start + length > len(raw):
            raise self._damaged("the value of a key is longer than the key", place, length)
        if check != checksum(raw[: start + length], KEY):
            raise self._damaged("a key is damaged", place)
        try:
            name = raw[_KEY.size : start - 1].decode("utf-8")
            value = self._value(raw[start : start + length], kind, flags, place)
        except UnicodeDecodeError as error:
            raise self._damaged("a key holds text that is none", place) from error
        return _Key(kind, name, (parent_table, parent_offset), value)

    def _value_length(self, raw: bytes, start: int, kind: int, flags: int, place: int) -> int:
        if kind in {STRING, ARRAY}:
            if flags & IN_FILE:
                return int(FILE_POINTER.sizeof())
            if start + 4 > len(raw):
                raise self._damaged("the value of a key is cut off", place)
            return 4 + int.from_bytes(raw[start : start + 4], "little")
        length = FIXED_SIZES.get(kind)
        if length is None or flags & IN_FILE:
            raise self._damaged("a key is of a kind that is not known", place, f"{kind}, flags {flags:#x}")
        return length

    def _value(
        self, data: bytes, kind: int, flags: int, place: int
    ) -> ConfigNode | str | int | float | bool | bytes | Unfetched:
        if kind == NODE:
            return {}
        if kind in {STRING, ARRAY}:
            found = self._in_file(data, kind, place) if flags & IN_FILE else data[4:]
            return found.decode("utf-16-le") if kind == STRING and isinstance(found, bytes) else found
        number = _NUMBERS[kind].unpack(data)[0]
        return bool(number) if kind == BOOLEAN else number

    def _in_file(self, data: bytes, kind: int, place: int) -> bytes | Unfetched:
        pointer = FILE_POINTER.parse(data)
        if pointer.size > self._files.get(pointer.offset, -1):
            raise self._damaged("a key names an object that is not there", place, hex(pointer.offset))
        if kind == ARRAY or pointer.size > MAX_FILE_VALUE:
            return Unfetched(pointer.offset, pointer.size)
        self._fetched += pointer.size
        if self._fetched > MAX_FILE_VALUES:
            raise self._too_large("the texts are too long", place, MAX_FILE_VALUES, "more")
        return self._read(pointer.offset, pointer.size, "the text of a key")

    def _tree(self, keys: dict[tuple[int, int], _Key]) -> ConfigNode:
        root: ConfigNode = {}
        depths: dict[tuple[int, int], int] = {}
        for place, key in keys.items():
            if key.parent[0] == 0:
                depths[place] = 1
                root[key.name] = key.value
                continue
            parent = keys.get(key.parent)
            if parent is None or not isinstance(parent.value, dict):
                raise self._damaged(f"the key {key.name[:40]!r} has no parent", 0)
            parent.value[key.name] = key.value
        for place in keys:
            self._depth(place, keys, depths)
        return root

    def _depth(
        self, place: tuple[int, int], keys: dict[tuple[int, int], _Key], depths: dict[tuple[int, int], int]
    ) -> None:
        """Follow a key to the root, once each: a chain that comes back to itself never gets there."""
        way = []
        while place not in depths:
            way.append(place)
            if len(way) > MAX_DEPTH:
                raise self._damaged("the keys are nested too deep, or in a circle", 0)
            place = keys[place].parent
        depth = depths[place]
        for one in reversed(way):
            depth += 1
            depths[one] = depth
        if depth > MAX_DEPTH:
            raise self._damaged("the keys are nested too deep", 0, depth)

    def _read(self, offset: int, size: int, what: str) -> bytes:
        return read_exactly(self._source, offset, size, path=self._path, what=what)

    def _damaged(self, message: str, offset: int, found: object = None) -> DamagedError:
        return DamagedError("vm-config-damaged", message, path=self._path, offset=offset, found=found, hint=_HINT)

    def _too_large(self, message: str, offset: int, limit: object, found: object) -> InputError:
        return InputError(
            "vm-config-too-large",
            message,
            path=self._path,
            offset=offset,
            expected=f"at most {limit}",
            found=found,
            hint=_HINT,
        )


_EMPTY_CHECKSUM = zlib.crc32(bytes(_OBJECT.size))
"""What an empty entry of a table of objects has: that of nothing but zeros."""


def checksum(data: bytes, layout: construct.Struct) -> int:
    """The CRC-32 of a structure of ``layout``, and of what follows it in ``data``, with its checksum field zero."""
    at = offset_of(layout, "checksum")
    return zlib.crc32(data[at + 4 :], zlib.crc32(b"\0\0\0\0", zlib.crc32(data[:at])))


def _was_key(raw: bytes, check: int) -> bool:
    """Tell whether a free key is one whose kind was damaged: its checksum is right with another kind.

    Those that Hyper-V freed have none.
    """
    if check == 0:
        return False
    start = _KEY.size + raw[_KEY.size - 1]
    for kind in (*FIXED_SIZES, STRING, ARRAY):
        length = FIXED_SIZES.get(kind, 4 + int.from_bytes(raw[start : start + 4], "little"))
        if checksum(bytes([kind]) + raw[1 : start + length], KEY) == check:
            return True
    return False


def _is_later(one: int, other: int) -> bool:
    """Compare sequence numbers of 16 bits, which start again at 0."""
    return 0 < (one - other) & 0xFFFF < 0x8000


def _painted(patches: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Cut patches so that none lies over another; what comes later in the log wins."""
    laid: list[tuple[int, bytes]] = []
    for offset, data in patches:
        end = offset + len(data)
        kept = []
        for start, old in laid:
            if start < offset:
                kept.append((start, old[: offset - start]))
            if start + len(old) > end:
                kept.append((max(start, end), old[max(0, end - start) :]))
        laid = [*kept, (offset, data)]
    return laid
