"""Counts what an NTFS volume uses, straight from its bytes and by no library: every cluster, record, name and link.

Deliberately plain and apart from the code under test: structures are read with ``struct``, the whole volume lies in
memory. Layout: Linux kernel, fs/ntfs3/ntfs.h.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FILE_NAME, DATA, INDEX_ROOT, INDEX_ALLOCATION, BITMAP = 0x30, 0x80, 0x90, 0xA0, 0xB0
I30 = "$I30".encode("utf-16-le")


@dataclass
class Attribute:
    kind: int
    name: bytes
    flags: int
    value: bytes = b""
    resident: bool = True
    first_vcn: int = 0
    size: int = 0
    allocated: int = 0
    initialized: int = 0
    runs: list[tuple[int | None, int]] = field(default_factory=list)


@dataclass
class FileRecord:
    number: int
    sequence: int
    links: int
    flags: int
    base: int
    attributes: list[Attribute]


@dataclass(frozen=True)
class Link:
    """One name of one file in one directory."""

    folder: int
    number: int
    sequence: int
    name: bytes
    space: int


class Ledger:
    """A volume's books."""

    def __init__(self, path: Path) -> None:
        self.volume = path.read_bytes()
        self.sector = struct.unpack_from("<H", self.volume, 11)[0]
        per_cluster = self.volume[13]
        self.cluster = self.sector * (per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster))
        self.clusters = struct.unpack_from("<Q", self.volume, 40)[0] * self.sector // self.cluster
        self.record_size = self._size(struct.unpack_from("<b", self.volume, 64)[0])
        start = struct.unpack_from("<Q", self.volume, 48)[0] * self.cluster
        first = self._record(0, self.volume[start : start + self.record_size])
        assert first is not None
        self.records: dict[int, FileRecord] = {}
        self.table = self.content([one for one in first.attributes if one.kind == DATA and not one.name])
        for number in range(len(self.table) // self.record_size):
            record = self._record(number, self.table[number * self.record_size :][: self.record_size])
            if record is not None and record.flags & 1:
                self.records[number] = record

    def _size(self, told: int) -> int:
        return told * self.cluster if told > 0 else 1 << -told

    def attributes(self, number: int, kind: int, name: bytes = b"") -> list[Attribute]:
        """All pieces of an attribute, from the base record and its extensions, in order."""
        found = [
            one
            for record in self.records.values()
            if number == (record.base or record.number)
            for one in record.attributes
            if one.kind == kind and one.name == name
        ]
        return sorted(found, key=lambda one: one.first_vcn)

    def check(self) -> None:
        """Raise :class:`AssertionError` for what does not add up."""
        self._check_clusters()
        self._check_records()
        self._check_links()
        self._check_index_bitmaps()

    def _check_clusters(self) -> None:
        used: Counter[int] = Counter()
        for record in self.records.values():
            for one in record.attributes:
                assert one.initialized <= one.size <= max(one.allocated, one.size), record.number
                for first, count in one.runs:
                    if first is not None:
                        assert 0 <= first < first + count <= self.clusters, record.number
                        used.update(range(first, first + count))
        twice = [cluster for cluster, times in used.items() if times > 1]
        assert not twice, f"clusters that two attributes have: {twice[:5]}"
        bitmap = self.content(self.attributes(6, DATA))
        marked = {cluster for cluster in set_bits(bitmap) if cluster < self.clusters}
        assert not used.keys() - marked, f"in use but free by $Bitmap: {sorted(used.keys() - marked)[:5]}"
        lost = marked - used.keys()
        backup_boot = {self.clusters - 1, self.clusters}
        assert not lost - backup_boot, f"taken by $Bitmap but not in use: {sorted(lost)[:5]}"

    def _check_records(self) -> None:
        bitmap = set(set_bits(self.content(self.attributes(0, BITMAP))))
        in_use = set(self.records)
        assert not in_use - bitmap, f"records in use but free by the bitmap: {sorted(in_use - bitmap)[:5]}"
        lost = {number for number in bitmap - in_use if number >= 24}
        assert not lost, f"records taken by the bitmap but not in use: {sorted(lost)[:5]}"
        for record in self.records.values():
            if record.base:
                assert record.base in self.records, f"record {record.number} extends a free one"

    def _check_links(self) -> None:
        told = Counter(self._links_by_files())
        listed = Counter(self._links_by_folders())
        assert not listed - told, f"entries that lead to no such file: {list(listed - told)[:3]}"
        assert not told - listed, f"names that no directory lists: {list(told - listed)[:3]}"
        for number, record in self.records.items():
            if not record.base and number >= 24:
                names = sum(link.number == number for link in told)
                assert names == record.links, f"record {number} has {names} names and says {record.links}"

    def _links_by_files(self) -> Iterator[Link]:
        for number, record in self.records.items():
            if record.base:
                continue
            for one in self.attributes(number, FILE_NAME):
                yield self._link(one.value, number, record.sequence)

    def _links_by_folders(self) -> Iterator[Link]:
        for number in self.records:
            for key, reference in self._entries_of(number):
                link = self._link(key, reference & (1 << 48) - 1, reference >> 48)
                assert link.folder == number, f"directory {number} lists a name of {link.folder}"
                yield link

    def entries_in_use(self) -> set[tuple[int, str, int]]:
        """Directory, name and file of each entry that a look-up can reach."""
        return {
            (link.folder, link.name.decode("utf-16-le", "surrogatepass"), link.number)
            for link in self._links_by_folders()
        }

    def paths_left_over(self) -> set[str]:
        """Paths that index blocks still hold which are free by their directory's bitmap."""
        folders = {number: self._path_of(number) for number in self.records if self.attributes(number, INDEX_ROOT, I30)}
        return {f"{folders[number]}/{name}" for number in folders for name in self._names_left_over(number)}

    def _path_of(self, number: int) -> str:
        names: list[str] = []
        while number != 5 and number in self.records:
            value = self.attributes(number, FILE_NAME)[0].value
            names.append(value[66 : 66 + 2 * value[64]].decode("utf-16-le", "surrogatepass"))
            number = struct.unpack_from("<Q", value)[0] & (1 << 48) - 1
        return "".join(f"/{name}" for name in reversed(names))

    def _names_left_over(self, number: int) -> Iterator[str]:
        (root,) = self.attributes(number, INDEX_ROOT, I30)
        size = struct.unpack_from("<I", root.value, 8)[0]
        in_use = set(set_bits(self.content(self.attributes(number, BITMAP, I30))))
        allocation = self.content(self.attributes(number, INDEX_ALLOCATION, I30))
        for block in range(len(allocation) // size):
            data = allocation[block * size : (block + 1) * size]
            if block not in in_use and data[:4] == b"INDX":
                for entry, _ in entries(fixed(data, self.sector)[24:]):
                    if entry is not None:
                        yield entry[1][66 : 66 + 2 * entry[1][64]].decode("utf-16-le", "surrogatepass")

    def _check_index_bitmaps(self) -> None:
        for number in self.records:
            roots = self.attributes(number, INDEX_ROOT, I30)
            if roots:
                size = struct.unpack_from("<I", roots[0].value, 8)[0]
                unit = self.cluster if size >= self.cluster else 512
                reached = {below * unit // size for below in self._blocks_of(number)}
                marked = set(set_bits(self.content(self.attributes(number, BITMAP, I30))))
                assert reached == marked, f"directory {number} uses blocks {reached} and marks {marked}"

    def keys_of(self, number: int) -> list[bytes]:
        """The $FILE_NAME values that a directory keeps."""
        return [key for key, _ in self._entries_of(number)]

    def _blocks_of(self, number: int) -> set[int]:
        """Where the index blocks are that a look-up can reach, in the units of the index."""
        seen: set[int] = set()
        for _ in self._entries_of(number, seen):
            pass
        return seen

    def _entries_of(self, number: int, seen: set[int] | None = None) -> Iterator[tuple[bytes, int]]:
        seen = set() if seen is None else seen
        roots = self.attributes(number, INDEX_ROOT, I30)
        if not roots:
            return
        block_size = struct.unpack_from("<I", roots[0].value, 8)[0]
        allocation = self.content(self.attributes(number, INDEX_ALLOCATION, I30))
        unit = self.cluster if block_size >= self.cluster else 512
        pending = [roots[0].value[16:]]
        while pending:
            for entry, below in entries(pending.pop()):
                if entry is not None:
                    yield entry[1], entry[0]
                if below is not None:
                    assert below not in seen, f"directory {number} has index block {below} twice"
                    seen.add(below)
                    block = fixed(allocation[below * unit : below * unit + block_size], self.sector)
                    assert block[:4] == b"INDX"
                    pending.append(block[24:])

    @staticmethod
    def _link(value: bytes, number: int, sequence: int) -> Link:
        folder = struct.unpack_from("<Q", value)[0] & (1 << 48) - 1
        return Link(folder, number, sequence, value[66 : 66 + 2 * value[64]], value[65])

    def content(self, pieces: list[Attribute]) -> bytes:
        """The bytes of an attribute, of its pieces in order; compressed ones as they are stored."""
        if not pieces:
            return b""
        if pieces[0].resident:
            return pieces[0].value
        content = bytearray()
        for piece in pieces:
            for first, count in piece.runs:
                length = count * self.cluster
                content += bytes(length) if first is None else self.volume[first * self.cluster :][:length]
        return bytes(content[: pieces[0].size])

    def _record(self, number: int, data: bytes) -> FileRecord | None:
        if data[:4] != b"FILE":
            return None
        data = fixed(data, self.sector)
        sequence, links, place, flags = struct.unpack_from("<4H", data, 16)
        base = struct.unpack_from("<Q", data, 32)[0] & (1 << 48) - 1
        used = struct.unpack_from("<I", data, 24)[0]
        assert used <= len(data), number
        found = []
        instances = set()
        while flags & 1:
            kind, length = struct.unpack_from("<II", data, place)
            if kind == 0xFFFFFFFF:
                break
            assert length >= 24
            assert place + length <= used, number
            one, instance = attribute(data[place : place + length])
            assert instance not in instances, f"record {number}: an attribute number twice"
            instances.add(instance)
            assert instance < struct.unpack_from("<H", data, 40)[0], f"record {number}: the next number is taken"
            found.append(one)
            place += length
        return FileRecord(number, sequence, links, flags, base, found)


def attribute(data: bytes) -> tuple[Attribute, int]:
    kind, _, resident, name_length, name_at, flags, instance = struct.unpack_from("<IIBBHHH", data)
    name = data[name_at : name_at + 2 * name_length]
    if not resident:
        size, at = struct.unpack_from("<IH", data, 16)
        return Attribute(kind, name, flags, value=data[at : at + size], size=size, initialized=size), instance
    first, _, runs_at = struct.unpack_from("<QQH", data, 16)
    allocated, size, initialized = struct.unpack_from("<QQQ", data, 40) if not first else (0, 0, 0)
    runs: list[tuple[int | None, int]] = []
    place, cluster = runs_at, 0
    while place < len(data) and data[place]:
        low, high = data[place] & 15, data[place] >> 4
        count = int.from_bytes(data[place + 1 : place + 1 + low], "little")
        moved = int.from_bytes(data[place + 1 + low : place + 1 + low + high], "little", signed=True)
        cluster += moved
        runs.append((cluster if high else None, count))
        place += 1 + low + high
    return Attribute(kind, name, flags, b"", False, first, size, allocated, initialized, runs), instance


def entries(node: bytes) -> Iterator[tuple[tuple[int, bytes] | None, int | None]]:
    """Reference and key of each entry of an index node, and the block below it."""
    place, end = struct.unpack_from("<II", node)
    while place < end:
        reference, length, key_length, flags = struct.unpack_from("<QHHH", node, place)
        assert length >= 16
        below = struct.unpack_from("<Q", node, place + length - 8)[0] if flags & 1 else None
        yield (None if flags & 2 else (reference, node[place + 16 : place + 16 + key_length])), below
        if flags & 2:
            return
        place += length


def fixed(data: bytes, sector: int) -> bytes:
    """Undo the fixups; each sector has to end with the check number."""
    at, count = struct.unpack_from("<HH", data, 4)
    made = bytearray(data)
    step = len(data) // (count - 1)
    assert step in (512, sector)
    for index in range(1, count):
        end = index * step
        assert made[end - 2 : end] == data[at : at + 2], "a torn record"
        made[end - 2 : end] = data[at + 2 * index : at + 2 * index + 2]
    return bytes(made)


def set_bits(data: bytes) -> Iterator[int]:
    for place, byte in enumerate(data):
        for bit in range(8):
            if byte >> bit & 1:
                yield place * 8 + bit
