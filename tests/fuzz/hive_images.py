"""Hives written a second time after the public format description: any names, any kind of list, any damage.

Only what reading needs: one security record, cells one after the other in as many bins as they need.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

NIL = 0xFFFFFFFF
SEGMENT = 16344
UPCASE = struct.Struct("<65536H")


@dataclass
class KeyModel:
    """A key as it is to be read. ``values``: name -> (type, data)."""

    name: str
    values: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    subkeys: list[KeyModel] = field(default_factory=list)
    class_name: str | None = None
    written: int = 0x01D0_0000_0000_0000


class HiveImage:
    """Lays out cells. ``kind``: the leaves' signature; ``leaf``: most entries of a leaf before an ``ri`` is made.

    ``upcase`` maps a UTF-16 code unit: names are sorted and hashed with it.
    """

    def __init__(self, upcase: Callable[[int], int], *, kind: bytes = b"lh", leaf: int = 507, minor: int = 5) -> None:
        self._upcase = upcase
        self._kind = kind
        self._leaf = leaf
        self._minor = minor
        self.bins = bytearray()
        self._place = self._end = 0

    def cell(self, data: bytes) -> int:
        """Allocate a cell; return its offset from the first bin."""
        size = -(-(len(data) + 4) // 8) * 8
        if self._place + size > self._end:
            self._close_bin()
            length = -(-(size + 32) // 4096) * 4096
            start = len(self.bins)
            self.bins += struct.pack("<4sII8xQ4x", b"hbin", start, length, 0).ljust(length, b"\0")
            self._place, self._end = start + 32, start + length
        at = self._place
        struct.pack_into("<i", self.bins, at, -size)
        self.bins[at + 4 : at + 4 + len(data)] = data
        self._place += size
        return at

    def _close_bin(self) -> None:
        if self._place < self._end:
            struct.pack_into("<i", self.bins, self._place, self._end - self._place)

    def units(self, name: str) -> list[int]:
        raw = name.encode("utf-16-le", "surrogatepass")
        return [self._upcase(unit) for unit in struct.unpack(f"<{len(raw) // 2}H", raw)]

    def name_hash(self, name: str) -> int:
        total = 0
        for unit in self.units(name):
            total = (total * 37 + unit) & 0xFFFFFFFF
        return total

    def key(self, model: KeyModel, parent: int = NIL, *, root: bool = False) -> int:
        """Write a key with all below it; return its cell."""
        name, compressed = stored_name(model.name)
        at = self.cell(bytes(76 + len(name)))
        children = sorted(((self.units(child.name), self.key(child, at), child) for child in model.subkeys), key=first)
        subkeys = self.subkey_list([(cell, child.name) for _, cell, child in children])
        values = [self.value(value_name, kind, data) for value_name, (kind, data) in model.values.items()]
        value_list = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else NIL
        class_raw = (model.class_name or "").encode("utf-16-le")
        class_cell = self.cell(class_raw) if class_raw else NIL
        flags = (0x20 if compressed else 0) | (0x0C if root else 0)
        self.bins[at + 4 : at + 4 + 76 + len(name)] = nk(
            name,
            flags,
            parent=parent,
            subkeys=(len(children), subkeys),
            values=(len(values), value_list),
            class_=(class_cell, len(class_raw)),
            written=model.written,
        )
        return at

    def subkey_list(self, entries: Sequence[tuple[int, str]]) -> int:
        """A leaf, or an ``ri`` over leaves."""
        if not entries:
            return NIL
        leaves = [self._one_leaf(entries[at : at + self._leaf]) for at in range(0, len(entries), self._leaf)]
        if len(leaves) == 1:
            return leaves[0]
        return self.cell(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))

    def _one_leaf(self, entries: Sequence[tuple[int, str]]) -> int:
        data = struct.pack("<2sH", self._kind, len(entries))
        for cell, name in entries:
            data += struct.pack("<I", cell)
            if self._kind == b"lh":
                data += struct.pack("<I", self.name_hash(name))
            elif self._kind == b"lf":
                raw = name.encode("utf-16-le", "surrogatepass")
                units = struct.unpack(f"<{len(raw) // 2}H", raw)[:4]
                data += bytes(unit if unit <= 0xFF else 0 for unit in units).ljust(4, b"\0")
        return self.cell(data)

    def value(self, name: str, kind: int, data: bytes) -> int:
        """Inline, in a cell, or in segments where the version has them."""
        raw, compressed = stored_name(name)
        if len(data) <= 4:
            size, place = len(data) | 0x80000000, int.from_bytes(data.ljust(4, b"\0"), "little")
        elif len(data) > SEGMENT and self._minor >= 4:
            pieces = [self.cell(data[at : at + SEGMENT]) for at in range(0, len(data), SEGMENT)]
            table = self.cell(struct.pack(f"<{len(pieces)}I", *pieces))
            size, place = len(data), self.cell(struct.pack("<2sHI4x", b"db", len(pieces), table))
        else:
            size, place = len(data), self.cell(data)
        return self.cell(vk(raw, size, place, kind, compressed=compressed))

    def finish(self, root: int, *, sequences: tuple[int, int] = (1, 1)) -> bytes:
        """The hive file."""
        self._close_bin()
        self._place = self._end = 0
        head = struct.pack(
            "<4sIIQIIIIIII", b"regf", *sequences, 0x01D0_0000_0000_0000, 1, self._minor, 0, 1, root, len(self.bins), 1
        )
        head = head.ljust(508, b"\0")
        total = 0
        for (word,) in struct.iter_unpack("<I", head):
            total ^= word
        total = {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)
        return (head + struct.pack("<I", total)).ljust(4096, b"\0") + bytes(self.bins)


def first(row: tuple[list[int], int, KeyModel]) -> list[int]:
    return row[0]


def stored_name(name: str) -> tuple[bytes, bool]:
    """Latin-1 where every unit fits, else UTF-16."""
    try:
        return name.encode("latin-1"), True
    except UnicodeEncodeError:
        return name.encode("utf-16-le", "surrogatepass"), False


def nk(
    name: bytes,
    flags: int = 0x20,
    *,
    parent: int = NIL,
    subkeys: tuple[int, int] = (0, NIL),
    values: tuple[int, int] = (0, NIL),
    class_: tuple[int, int] = (NIL, 0),
    written: int = 0,
) -> bytes:
    """The data of a key's cell. Lists are given as (count, cell), the class as (cell, length)."""
    head = struct.pack("<2sHQII", b"nk", flags, written, 0, parent)
    lists = struct.pack("<IIIIII", subkeys[0], 0, subkeys[1], NIL, *values)
    rest = struct.pack("<IIIIIIIHH", NIL, class_[0], 0, 0, 0, 0, 0, len(name), class_[1])
    return head + lists + rest + name


def vk(name: bytes, size: int, place: int, kind: int, *, compressed: bool = True) -> bytes:
    """The data of a value's cell."""
    return struct.pack("<2sHIIIHH", b"vk", len(name), size, place, kind, int(compressed and bool(name)), 0) + name


def walk(model: KeyModel, path: str = "") -> Mapping[str, KeyModel]:
    """Every key of a model by its path."""
    found = {path: model}
    for child in model.subkeys:
        found.update(walk(child, f"{path}\\{child.name}" if path else child.name))
    return found
