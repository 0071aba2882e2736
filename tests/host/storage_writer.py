"""Writes HyperVStorage files (.vmcx, .vmrs) for tests: after OpenVMM's description, and read by dissect.hypervisor."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PAGE = 0x1000
TABLE_SIZE = PAGE
HEADERS = 2 * PAGE
IN_FILE = 2048
"""From this size on, a value lies in a file object."""


def crc(data: bytes, at: int) -> int:
    """The CRC-32 of a structure whose checksum lies at ``at``."""
    return zlib.crc32(data[:at] + bytes(4) + data[at + 4 :])


def sealed(data: bytes, at: int) -> bytes:
    """The structure with its checksum in place."""
    return data[:at] + struct.pack("<I", crc(data, at)) + data[at + 4 :]


@dataclass
class Writer:
    """A file in the making. ``logged``: changes that stand in the replay log, not yet carried out."""

    sequence: int = 7
    version: int = 0x400
    logged: list[tuple[int, bytes]] = field(default_factory=list)
    tables: list[bytearray] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    pointers: list[tuple[int, int, int]] = field(default_factory=list)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, tree: dict[str, Any], parent: tuple[int, int] = (0, 0), path: str = "") -> None:
        """Add the keys of a tree below a parent (table, offset)."""
        for order, (name, value) in enumerate(tree.items(), 1):
            place = self.key(name, value, parent, order)
            self.places[f"{path}/{name}"] = place
            if isinstance(value, dict):
                self.add(value, place, f"{path}/{name}")

    def key(self, name: str, value: Any, parent: tuple[int, int], order: int) -> tuple[int, int]:
        """Add one key; return where it stands."""
        kind, data = _encoded(value)
        flags = 0
        if kind in {6, 7} and len(data) >= IN_FILE:
            flags = 1
            self.files.append(data)
            data = struct.pack("<IQ", len(data), 0)
        elif kind in {6, 7}:
            data = struct.pack("<I", len(data)) + data
        label = name.encode() + b"\0"
        entry = struct.pack(
            "<BBIHIIIB", kind, flags, 21 + len(label) + len(data), parent[0], parent[1], 0, order, len(label)
        )
        entry += label + data
        if not self.tables or len(self.tables[-1]) + len(entry) + 22 > TABLE_SIZE:
            head = struct.pack("<HHHI", 2, len(self.tables) + 1, 3, 0)
            self.tables.append(bytearray(sealed(head, 6)))
        table = self.tables[-1]
        place = len(table)
        if flags:
            self.pointers.append((len(self.tables) - 1, place, len(self.files) - 1))
        table += sealed(entry, 12)
        return len(self.tables), place

    def finish(self) -> bytes:
        """Lay out the file: headers, table of objects, tables of keys, file objects, replay log."""
        tables_at = 3 * PAGE
        files_at = tables_at + TABLE_SIZE * len(self.tables)
        objects, file_places = [], []
        at = files_at
        for data in self.files:
            size = -(-len(data) // PAGE) * PAGE
            file_places.append(at)
            objects.append((3, at, size))
            at += size
        for table, place, number in self.pointers:
            self._point(self.tables[table], place, file_places[number])
        objects = [(2, tables_at + TABLE_SIZE * n, TABLE_SIZE) for n in range(len(self.tables))] + objects
        log = self._log()
        header = struct.pack("<IIHIIIIQQI", 0x01282014, 0, self.sequence, self.version, 0, 0, PAGE, at, len(log), PAGE)
        older = header[:8] + struct.pack("<H", (self.sequence - 1) & 0xFFFF) + header[10:]
        out = bytearray(sealed(header, 4).ljust(PAGE, b"\0") + sealed(older, 4).ljust(PAGE, b"\0"))
        count = (PAGE - 8) // 18
        entries = b"".join(sealed(struct.pack("<BIQIB", kind, 0, where, size, 1), 1) for kind, where, size in objects)
        entries += sealed(bytes(18), 1) * (count - len(objects))
        out += (struct.pack("<II", 0x01110001, count) + entries).ljust(PAGE, b"\0")
        for table in self.tables:
            rest = TABLE_SIZE - len(table)
            out += table + struct.pack("<BBIHIIIB", 1, 0, rest, 0, 0, 0, 0, 0).ljust(rest, b"\0")
        for data in self.files:
            out += data.ljust(-(-len(data) // PAGE) * PAGE, b"\0")
        return bytes(out + log)

    def _point(self, table: bytearray, place: int, where: int) -> None:
        size = struct.unpack_from("<I", table, place + 2)[0]
        entry = bytes(table[place : place + size - 8]) + struct.pack("<Q", where)
        table[place : place + size] = sealed(entry, 12)

    def _log(self) -> bytes:
        entries, data = b"", b""
        for offset, changed in self.logged:
            entry = struct.pack("<QIQII", offset, len(changed), PAGE + len(data), 0, zlib.crc32(changed))
            entries += sealed(entry, 20)
            data += changed
        head = sealed(struct.pack("<IIIBIQQB", 0x01110003, 0, len(self.logged), 0, 145, 0, 0, 0), 4)
        return (head + entries).ljust(PAGE, b"\0") + data.ljust(-(-len(data) // PAGE + 2) * PAGE, b"\0")


def _encoded(value: Any) -> tuple[int, bytes]:
    if isinstance(value, dict):
        return 9, struct.pack("<QI", 0, len(value) + 1)
    if isinstance(value, bool):
        return 8, struct.pack("<I", value)
    if isinstance(value, int):
        return 3, struct.pack("<q", value)
    if isinstance(value, float):
        return 5, struct.pack("<d", value)
    if isinstance(value, str):
        return 6, value.encode("utf-16-le")
    return 7, bytes(value)


def storage(tree: dict[str, Any], **options: Any) -> bytes:
    """A file with the keys of a tree."""
    writer = Writer(**options)
    writer.add(tree)
    return writer.finish()


def keys(data: bytes, table: int) -> Iterator[tuple[int, int]]:
    """The places and sizes of the keys in a table, as far as they can be walked."""
    place = table + 10
    while place + 21 < min(table + TABLE_SIZE, len(data)):
        size = struct.unpack_from("<I", data, place + 2)[0]
        if size < 21 or place + size > len(data):
            return
        yield place, size
        place += size


def resealed(data: bytes) -> bytes:
    """The same file with every checksum that can be found made right: damage then gets past them."""
    out = bytearray(data)
    for at, size in ((0, 46), (PAGE, 46)):
        out[at : at + size] = sealed(bytes(out[at : at + size]), 4)
    log = struct.unpack_from("<Q", out, 26)[0]
    if log + 34 < len(out):
        out[log : log + 34] = sealed(bytes(out[log : log + 34]), 4)
        for at in range(log + 34, min(log + 34 + 28 * 8, len(out) - 28), 28):
            out[at : at + 28] = sealed(bytes(out[at : at + 28]), 20)
    for at in range(2 * PAGE + 8, 2 * PAGE + 8 + 18 * 12, 18):
        kind, _, where, size, _ = struct.unpack_from("<BIQIB", out, at)
        out[at : at + 18] = sealed(bytes(out[at : at + 18]), 1)
        if kind == 2 and where + 10 < len(out):
            out[where : where + 10] = sealed(bytes(out[where : where + 10]), 6)
            for place, length in list(keys(bytes(out), where)):
                kind, name = out[place], out[place + 20]
                start = place + 21 + name
                whole = {3: 8, 4: 8, 5: 8, 8: 4, 9: 12}.get(kind, 0)
                if kind in {6, 7} and start + 4 <= len(out):
                    whole = 12 if out[place + 1] & 1 else 4 + struct.unpack_from("<I", out, start)[0]
                end = min(start + whole, place + length)
                out[place:end] = sealed(bytes(out[place:end]), 12)
    return bytes(out)
