"""Changes single fields of an NTFS volume in memory, by the layout and not by the code under test.

Records and index blocks are opened (their fixups undone) and closed again, so that nothing but the field is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

STANDARD, LIST, FILE_NAME, VOLUME, DATA, ROOT, ALLOCATION, BITMAP, REPARSE = (
    0x10, 0x20, 0x30, 0x70, 0x80, 0x90, 0xA0, 0xB0, 0xC0,
)  # fmt: skip
KEY = 66  # bytes of a name's key before the name


def u16(data: bytes | bytearray, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def u32(data: bytes | bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def u64(data: bytes | bytearray, at: int) -> int:
    return int(struct.unpack_from("<Q", data, at)[0])


def opened(data: bytes) -> bytearray:
    made = bytearray(data)
    at, count = u16(data, 4), u16(data, 6)
    for number in range(1, count):
        made[512 * number - 2 : 512 * number] = data[at + 2 * number : at + 2 * number + 2]
    return made


def closed(data: bytearray) -> bytes:
    at, count = u16(data, 4), u16(data, 6)
    made = bytearray(data)
    for number in range(1, count):
        made[at + 2 * number : at + 2 * number + 2] = data[512 * number - 2 : 512 * number]
        made[512 * number - 2 : 512 * number] = data[at : at + 2]
    return bytes(made)


def attributes(record: bytes | bytearray) -> Iterator[int]:
    """Where the attributes of an opened record are."""
    at = u16(record, 20)
    while u32(record, at) != 0xFFFFFFFF:
        yield at
        at += u32(record, at + 4)


def attribute(record: bytes | bytearray, type_: int, number: int = 0, name: str | None = None) -> int:
    """Where the attribute of this type is, the first or another one, with this name or any."""
    found = []
    for at in attributes(record):
        length, name_at = record[at + 9], at + u16(record, at + 10)
        spelled = bytes(record[name_at : name_at + 2 * length]).decode("utf-16-le")
        if u32(record, at) == type_ and name in (None, spelled):
            found.append(at)
    return found[number]


def value(record: bytes | bytearray, at: int) -> int:
    """Where the value of a resident attribute is."""
    return at + u16(record, at + 20)


def runs(record: bytes | bytearray, at: int) -> list[tuple[int, int]]:
    """The runs of an attribute without sparse ones: first cluster and count."""
    at += u16(record, at + 32)
    found, cluster = [], 0
    while record[at]:
        sizes = record[at] & 15, record[at] >> 4
        count = int.from_bytes(record[at + 1 : at + 1 + sizes[0]], "little")
        cluster += int.from_bytes(record[at + 1 + sizes[0] : at + 1 + sum(sizes)], "little", signed=True)
        if sizes[1]:
            found.append((cluster, count))
        at += 1 + sum(sizes)
    return found


def entries(data: bytes | bytearray, header: int) -> list[int]:
    """Where the entries behind an index header are, the end entry last."""
    at = header + u32(data, header)
    found = [at]
    while not u16(data, at + 12) & 2:
        at += u16(data, at + 8)
        found.append(at)
    return found


class Surgery:
    """A volume in memory whose fields can be set."""

    def __init__(self, volume: bytes) -> None:
        self.data = bytearray(volume)
        self.cluster = u16(volume, 11) * volume[13]
        self.size = 1024
        first = u64(volume, 48) * self.cluster
        table = opened(volume[first : first + self.size])
        self._places = [
            run * self.cluster + at
            for run, count in runs(table, attribute(table, DATA))
            for at in range(0, count * self.cluster, self.size)
        ]

    def place(self, segment: int) -> int:
        """Where a record lies on the volume."""
        return self._places[segment]

    def record(self, segment: int) -> bytearray:
        """A record, opened."""
        at = self.place(segment)
        return opened(bytes(self.data[at : at + self.size]))

    def edit(self, segment: int, change: Callable[[bytearray], None]) -> None:
        """Change an opened record; a mirrored one in both copies."""
        record = self.record(segment)
        change(record)
        self.store(segment, record)

    def store(self, segment: int, record: bytearray) -> None:
        at = self.place(segment)
        whole = closed(record)
        self.data[at : at + self.size] = whole
        if segment < 4:
            mirror = u64(self.data, 56) * self.cluster + segment * self.size
            self.data[mirror : mirror + self.size] = whole

    def blocks(self, segment: int) -> list[int]:
        """Where the index blocks of a directory lie."""
        record = self.record(segment)
        size = u32(record, value(record, attribute(record, ROOT)) + 8)
        return [
            run * self.cluster + at
            for run, count in runs(record, attribute(record, ALLOCATION))
            for at in range(0, count * self.cluster, size)
            if self.data[run * self.cluster + at : run * self.cluster + at + 4] == b"INDX"
        ]

    def edit_block(self, at: int, change: Callable[[bytearray], None], size: int = 4096) -> None:
        """Change an opened index block."""
        block = opened(bytes(self.data[at : at + size]))
        change(block)
        self.data[at : at + size] = closed(block)

    def edit_entry(self, directory: int, name: str, change: Callable[[bytearray, int], None]) -> None:
        """Change the entry of a name in the root or a block of a directory; ``change`` gets the bytes and its place."""
        spelled = name.encode("utf-16-le")

        def find(data: bytearray, header: int) -> int | None:
            for at in entries(data, header)[:-1]:
                if data[at + 16 + KEY : at + 16 + KEY + len(spelled)] == spelled and data[at + 16 + 64] == len(name):
                    return at
            return None

        record = self.record(directory)
        root = value(record, attribute(record, ROOT)) + 16
        at = find(record, root)
        if at is not None:
            change(record, at)
            self.store(directory, record)
            return
        for place in self.blocks(directory):
            block = opened(bytes(self.data[place : place + 4096]))
            at = find(block, 24)
            if at is not None:
                change(block, at)
                self.data[place : place + 4096] = closed(block)
                return
        raise AssertionError(name)

    def rename(self, directory: int, old: str, new: str) -> int:
        """Give a file another ASCII name of the same length, within one block; return its segment."""
        assert len(old) == len(new)
        found: list[int] = []

        def change(data: bytearray, at: int) -> None:
            length = u16(data, at + 8)
            found.append(u32(data, at))
            entry = data[at : at + length]
            entry[16 + KEY : 16 + KEY + 2 * len(new)] = new.encode("utf-16-le")
            del data[at : at + length]
            header = 24 if data[:4] == b"INDX" else value(data, attribute(data, ROOT)) + 16
            places = entries(data, header)
            behind = [one for one in places[:-1] if self._upper(data, one) > new.upper()]
            place = min([*behind, places[-1]])
            data[place:place] = entry

        self.edit_entry(directory, old, change)

        def respell(record: bytearray) -> None:
            at = value(record, attribute(record, FILE_NAME)) + KEY
            record[at : at + 2 * len(new)] = new.encode("utf-16-le")

        self.edit(found[0], respell)
        return found[0]

    @staticmethod
    def _upper(data: bytearray, entry: int) -> str:
        length = data[entry + 16 + 64]
        return bytes(data[entry + 16 + KEY : entry + 16 + KEY + 2 * length]).decode("utf-16-le").upper()

    def make_room(self, segment: int, clusters: list[int]) -> None:
        """Give a file clusters of its own instead of what data it had; its size in the directory stays what it was."""

        def change(record: bytearray) -> None:
            at = attribute(record, DATA)
            end = at + u32(record, at + 4)
            size = len(clusters) * self.cluster
            steps = [cluster - before for cluster, before in zip(clusters, [0, *clusters], strict=False)]
            list_ = b"".join(b"\x21" + struct.pack("<Bh", 1, step) for step in steps) + b"\0"
            list_ = list_.ljust(-(-len(list_) // 8) * 8, b"\0")
            head = struct.pack("<IIBBHHH", DATA, 64 + len(list_), 1, 0, 64, 0, u16(record, at + 14))
            form = struct.pack("<QQHHIQQQ", 0, len(clusters) - 1, 64, 0, 0, size, size, size)
            tail = record[end : u32(record, 24)]
            made = head + form + list_
            used = at + len(made) + len(tail)
            record[at:used] = made + tail
            del record[self.size :]
            record.extend(bytes(self.size - len(record)))
            struct.pack_into("<I", record, 24, used)

        self.edit(segment, change)
        for number in clusters:
            self.flip_bit(6, DATA, number)

    def free_cluster(self, count: int = 1) -> int:
        """The first of ``count`` clusters that $Bitmap says are free."""
        record = self.record(6)
        first, _ = runs(record, attribute(record, DATA))[0]
        bitmap = int.from_bytes(self.data[first * self.cluster : (first + 1) * self.cluster], "little")
        return next(at for at in range(4096) if bitmap >> at & ((1 << count) - 1) == 0)

    def flip_bit(self, segment: int, type_: int, number: int) -> None:
        """Flip one bit of $Bitmap (6, DATA) or of $MFT's own bitmap (0, BITMAP)."""
        record = self.record(segment)
        for first, count in runs(record, attribute(record, type_)):
            if number // 8 < count * self.cluster:
                self.data[first * self.cluster + number // 8] ^= 1 << number % 8
                return
            number -= count * self.cluster * 8
        raise AssertionError(number)


def differing(before: bytes, after: bytes, sector: int = 512) -> list[tuple[int, int]]:
    """The sectors in which two volumes differ, as ranges."""
    return [(at, sector) for at in range(0, len(before), sector) if before[at : at + sector] != after[at : at + sector]]
