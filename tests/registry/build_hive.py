"""Builds registry hives for tests: keys and values by path, any kind of list, any version; the same bytes each time.

Written from the public description of the format (msuhanov/regf) and not from vhdtool's declarations, so that a test
does not compare the reader with itself. Foreign readers judge its output in tests/oracle/test_registry.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

NIL = 0xFFFFFFFF
PAGE = 4096
SEGMENT = 16344
WRITTEN = 0x01D0_0000_0000_0000
SZ, EXPAND_SZ, BINARY, DWORD, DWORD_BIG_ENDIAN, LINK, MULTI_SZ, QWORD = 1, 2, 3, 4, 5, 6, 7, 11


@dataclass(frozen=True)
class Typed:
    """Data of any type, as it is stored."""

    type: int
    raw: bytes


Data = int | str | bytes | tuple[str, ...] | Typed
Keys = Mapping[str, Mapping[str, Data]]


@dataclass
class Node:
    """A key of the tree; ``cell`` once it is written."""

    name: str
    values: Mapping[str, Data] = field(default_factory=dict)
    subkeys: dict[str, Node] = field(default_factory=dict)
    path: str = ""


def build_hive(
    keys: Keys,
    *,
    lists: str = "lh",
    leaf: int = 507,
    minor: int = 5,
    classes: Mapping[str, str] | None = None,
    written: Mapping[str, int] | None = None,
    root: str = "ROOT",
    file_name: str = "",
    sequences: tuple[int, int] = (1, 1),
) -> bytes:
    r"""Return a hive with these values, by the path of their key; keys between are made as needed.

    ``int`` is a REG_DWORD (REG_QWORD where it needs to be), ``str`` a REG_SZ, ``bytes`` a REG_BINARY, a tuple a
    REG_MULTI_SZ. ``lists``: signature of the leaves; ``leaf``: most keys in one, with more an ``ri`` is made.
    ``classes`` and ``written`` (FILETIME) are by path; ``minor`` below 4 has no big data.
    """
    top = Node(root)
    for path, values in keys.items():
        node = top
        for part in filter(None, path.split("\\")):
            below = f"{node.path}\\{part}" if node.path else part
            node = node.subkeys.setdefault(part.upper(), Node(part, path=below))
        node.values = values
    image = _Image(lists.encode(), leaf, minor, dict(classes or {}), dict(written or {}))
    return image.finished(top, file_name, sequences)


class _Image:
    def __init__(self, lists: bytes, leaf: int, minor: int, classes: dict[str, str], written: dict[str, int]) -> None:
        self.lists, self.leaf, self.minor = lists, leaf, minor
        self.classes, self.written = classes, written
        self.bins = bytearray()
        self.at = self.end = 0

    def finished(self, top: Node, file_name: str, sequences: tuple[int, int]) -> bytes:
        self.security = self.cell(bytes(20) + _DESCRIPTOR)
        self.put(
            self.security,
            struct.pack("<2sHIIII", b"sk", 0, self.security, self.security, count(top), len(_DESCRIPTOR)),
        )
        root = self.key(top, NIL, 0x0C)
        self.close_bin()
        head = struct.pack(
            "<4sIIQIIIIIII64s",
            *(b"regf", *sequences, WRITTEN, 1, self.minor, 0, 1, root, len(self.bins), 1),
            file_name[-31:].encode("utf-16-le"),
        )
        return sealed(head.ljust(PAGE, b"\0")) + bytes(self.bins)

    def cell(self, data: bytes) -> int:
        size = -(-(len(data) + 4) // 8) * 8
        if self.at + size > self.end:
            self.close_bin()
            start, length = len(self.bins), -(-(size + 32) // PAGE) * PAGE
            self.bins += struct.pack("<4sIIQQI", b"hbin", start, length, 0, WRITTEN if start == 0 else 0, 0)
            self.bins += bytes(length - 32)
            self.at, self.end = start + 32, start + length
        at = self.at
        struct.pack_into("<i", self.bins, at, -size)
        self.put(at, data)
        self.at += size
        return at

    def put(self, at: int, data: bytes) -> None:
        self.bins[at + 4 : at + 4 + len(data)] = data

    def close_bin(self) -> None:
        if self.at < self.end:
            struct.pack_into("<i", self.bins, self.at, self.end - self.at)

    def key(self, node: Node, parent: int, flags: int) -> int:
        name, latin = stored_name(node.name)
        at = self.cell(bytes(76 + len(name)))
        children = sorted(node.subkeys.values(), key=lambda child: upcased(child.name))
        subkeys = []
        for child in children:  # a loop, not a comprehension: one frame a level is enough for 512 levels
            subkeys.append((child.name, self.key(child, at, 0)))  # noqa: PERF401
        values = [self.value(value, data) for value, data in node.values.items()]
        class_name = self.classes.get(node.path, "").encode("utf-16-le")
        lengths = (
            max((len(utf16(child.name)) for child in children), default=0),
            max((len(utf16(child_class)) for child_class in self.child_classes(children)), default=0),
            max((len(utf16(value)) for value in node.values), default=0),
            max((len(raw_data(data)[1]) for data in node.values.values()), default=0),
        )
        record = struct.pack(
            "<2sHQIIIIIIIIIIIIIIIHH",
            *(b"nk", flags | (0x20 if latin else 0), self.written.get(node.path, WRITTEN), 0, parent),
            *(len(subkeys), 0, self.subkey_list(subkeys), NIL),
            *(len(values), self.cell(struct.pack(f"<{len(values)}I", *values)) if values else NIL),
            *(self.security, self.cell(class_name) if class_name else NIL),
            *(*lengths, 0, len(name), len(class_name)),
        )
        self.put(at, record + name)
        return at

    def child_classes(self, children: Sequence[Node]) -> list[str]:
        return [self.classes[child.path] for child in children if child.path in self.classes]

    def subkey_list(self, subkeys: Sequence[tuple[str, int]]) -> int:
        if not subkeys:
            return NIL
        leaves = [self.one_leaf(subkeys[at : at + self.leaf]) for at in range(0, len(subkeys), self.leaf)]
        if len(leaves) == 1:
            return leaves[0]
        return self.cell(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))

    def one_leaf(self, subkeys: Sequence[tuple[str, int]]) -> int:
        data = struct.pack("<2sH", self.lists, len(subkeys))
        for name, cell in subkeys:
            data += struct.pack("<I", cell)
            if self.lists == b"lh":
                data += struct.pack("<I", name_hash(name))
            elif self.lists == b"lf":
                hint = [ord(letter) for letter in name[:4]]
                data += bytes(4) if max(hint) > 0xFF else bytes(hint).ljust(4, b"\0")
        return self.cell(data)

    def value(self, name: str, data: Data) -> int:
        kind, raw = raw_data(data)
        stored, latin = stored_name(name)
        size, place = len(raw), NIL
        if size <= 4:
            size, place = size | 0x80000000, int.from_bytes(raw.ljust(4, b"\0"), "little")
        elif size > SEGMENT and self.minor >= 4:
            # the last segment has a cell of full length as well: Windows does it, and hivex relies on it
            pieces = [self.cell(raw[at : at + SEGMENT].ljust(SEGMENT + 4, b"\0")) for at in range(0, size, SEGMENT)]
            table = self.cell(struct.pack(f"<{len(pieces)}I", *pieces))
            place = self.cell(struct.pack("<2sHI4x", b"db", len(pieces), table))
        else:
            place = self.cell(raw)
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(stored), size, place, kind, latin and 1, 0) + stored)


def raw_data(data: Data) -> tuple[int, bytes]:
    """Type and bytes of what a test wrote down."""
    match data:
        case Typed(kind, raw):
            return kind, raw
        case int():
            return (DWORD, struct.pack("<I", data)) if data < 1 << 32 else (QWORD, struct.pack("<Q", data))
        case str():
            return SZ, utf16(data) + b"\0\0"
        case bytes():
            return BINARY, data
        case _:
            return MULTI_SZ, b"".join(utf16(text) + b"\0\0" for text in data) + b"\0\0"


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def stored_name(name: str) -> tuple[bytes, int]:
    """The stored name, and 1 where it is stored as Latin-1."""
    try:
        return name.encode("latin-1"), int(bool(name))
    except UnicodeEncodeError:
        return utf16(name), 0


def upcased(name: str) -> tuple[int, ...]:
    """Upper-cased UTF-16 code units. Python knows a few pairs that Windows does not: tests stay away from those."""
    units = struct.unpack(f"<{len(utf16(name)) // 2}H", utf16(name))
    return tuple(upper_unit(unit) for unit in units)


def upper_unit(unit: int) -> int:
    upper = chr(unit).upper()
    return ord(upper) if len(upper) == 1 and not 0xD800 <= unit < 0xE000 else unit


def name_hash(name: str) -> int:
    total = 0
    for unit in upcased(name):
        total = (total * 37 + unit) % (1 << 32)
    return total


def count(top: Node) -> int:
    """The number of keys."""
    found, waiting = 0, [top]
    while waiting:
        waiting += waiting.pop().subkeys.values()
        found += 1
    return found


def sealed(head: bytes, **fields: int) -> bytes:
    """A hive or log with fields of its base block changed (see ``_FIELDS``) and the checksum made right."""
    changed = bytearray(head)
    for name, value in fields.items():
        place, form = _FIELDS[name]
        struct.pack_into(form, changed, place, value)
    total = 0
    for (word,) in struct.iter_unpack("<I", changed[:508]):
        total ^= word
    struct.pack_into("<I", changed, 508, {0: 1, NIL: NIL - 1}.get(total, total))
    return bytes(changed)


def hbins_size(hive: bytes) -> int:
    return int(struct.unpack_from("<I", hive, 40)[0])


_FIELDS = {
    "primary": (4, "<I"),
    "secondary": (8, "<I"),
    "written": (12, "<Q"),
    "major": (20, "<I"),
    "minor": (24, "<I"),
    "type": (28, "<I"),
    "root": (36, "<I"),
    "hbins": (40, "<I"),
    "flags": (144, "<I"),
}
# owner and group SYSTEM, no access list: everybody may do everything
_DESCRIPTOR = struct.pack("<BBHIIII", 1, 0, 0x8000, 20, 32, 0, 0) + bytes.fromhex("010100000000000512000000") * 2
