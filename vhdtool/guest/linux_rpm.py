"""The rpm database of a Linux guest, in its three forms: SQLite, ndb, and Berkeley DB.

What all of them keep is the header of each package (rpm, docs/manual/hregions.md and lib/header.c): an index of tags
and the data behind it, numbers in network byte order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

import construct as c

from vhdtool.errors import DamagedError
from vhdtool.guest.linux_model import LinuxPackage, PackageManager
from vhdtool.guest.linux_packages import by_name
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.layout import packed

FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")

RPM_HEADER = c.Struct("index_count" / c.Int32ub, "data_size" / c.Int32ub)
RPM_INDEX_ENTRY = c.Struct("tag" / c.Int32ub, "type" / c.Int32ub, "offset" / c.Int32ub, "count" / c.Int32ub)
_HEADER = packed(RPM_HEADER)
_ENTRY = packed(RPM_INDEX_ENTRY)
MOST_INDEX = 65536
LARGEST_HEADER = 64 << 20
MOST_STRINGS = 2_000_000

# rpm, include/rpm/rpmtag.h
NAME, VERSION, RELEASE, EPOCH = 1000, 1001, 1002, 1003
OLD_FILE_NAMES, DIRECTORY_INDEXES, BASE_NAMES, DIRECTORY_NAMES = 1027, 1116, 1117, 1118


class HeaderSource(Protocol):
    """One form of the database."""

    path: str

    def headers(self, base_names: Sequence[bytes]) -> Iterator[bytes]:
        """The headers of all packages, or of those alone that have a file of these names, where that is known."""


class RpmDatabase:
    """The packages, whatever form their database has."""

    manager: PackageManager = "rpm"

    def __init__(self, source: HeaderSource) -> None:
        self._source = source

    def owners(self, paths: Sequence[str], thorough: Collection[str] = ()) -> dict[str, LinuxPackage]:
        """As :meth:`vhdtool.guest.linux_packages.PackageDatabase.owners`."""
        wanted = by_name(paths)
        base_names = sorted({name.rpartition("/")[2].encode() for name in wanted})
        found: dict[str, LinuxPackage] = {}
        for blob in self._source.headers(base_names) if base_names else ():
            if not any(b"\0" + name + b"\0" in blob or b"/" + name + b"\0" in blob for name in base_names):
                continue
            header = RpmHeader(blob, self._source.path)
            for name in header.files(base_names):
                for path in wanted.get(name, ()):
                    found.setdefault(path, header.package())
        return found


def find_rpm(tree: LinuxTree) -> RpmDatabase | None:
    """Find the database. Raises what opening its form raises."""
    from vhdtool.guest.linux_rpm_files import BerkeleyDatabase, NdbDatabase  # noqa: PLC0415  # only where there is rpm
    from vhdtool.guest.linux_rpm_sqlite import SqliteDatabase  # noqa: PLC0415

    for folder in FOLDERS:
        if tree.is_file(f"{folder}/rpmdb.sqlite"):
            return RpmDatabase(SqliteDatabase(tree, f"{folder}/rpmdb.sqlite"))
        if tree.is_file(f"{folder}/Packages.db"):
            return RpmDatabase(NdbDatabase(tree.open(f"{folder}/Packages.db"), f"{folder}/Packages.db"))
        if tree.is_file(f"{folder}/Packages"):
            return RpmDatabase(BerkeleyDatabase(tree.open(f"{folder}/Packages"), f"{folder}/Packages"))
    return None


class RpmHeader:
    """The header of one package. Raises :class:`DamagedError` ``rpm-header-damaged``."""

    def __init__(self, blob: bytes, path: str) -> None:
        self._path = path
        if len(blob) < _HEADER.size:
            raise self._damaged("it is cut off")
        count, size = _HEADER.unpack_from(blob)
        start = _HEADER.size + count * _ENTRY.size
        if not 0 < count <= MOST_INDEX or start + size > len(blob):
            raise self._damaged("its index does not fit it")
        self._data = blob[start : start + size]
        self._tags: dict[int, tuple[int, int]] = {}
        for tag, _, offset, number in _ENTRY.iter_unpack(blob[_HEADER.size : start]):
            self._tags.setdefault(tag, (offset, number))

    def package(self) -> LinuxPackage:
        """Name, and version with release, as ``rpm -q`` shows them; with the epoch where there is one."""
        name, version, release = (self._text(tag) for tag in (NAME, VERSION, RELEASE))
        epoch = self._numbers(EPOCH)
        full = f"{version}-{release}" if release else version
        return LinuxPackage(name, f"{epoch[0]}:{full}" if epoch and epoch[0] else full)

    def files(self, base_names: Iterable[bytes]) -> Iterator[str]:
        """The paths of the files that have one of these names."""
        wanted = set(base_names)
        for old in self._strings(OLD_FILE_NAMES):
            if old.rpartition(b"/")[2] in wanted:
                yield old.decode("utf-8", "replace")
        folders = self._strings(DIRECTORY_NAMES)
        indexes = self._numbers(DIRECTORY_INDEXES)
        for name, index in zip(self._strings(BASE_NAMES), indexes, strict=False):
            if name in wanted and index < len(folders):
                yield (folders[index] + name).decode("utf-8", "replace")

    def _text(self, tag: int) -> str:
        if tag not in self._tags:
            return ""
        offset = self._tags[tag][0]
        return self._data[offset : max(offset, self._data.find(b"\0", offset))].decode("utf-8", "replace")

    def _strings(self, tag: int) -> list[bytes]:
        if tag not in self._tags:
            return []
        offset, count = self._tags[tag]
        if count > MOST_STRINGS or offset > len(self._data):
            raise self._damaged("a list is longer than it")
        found = self._data[offset:].split(b"\0", count)[:count]
        if len(found) != count:
            raise self._damaged("a list is longer than it")
        return found

    def _numbers(self, tag: int) -> tuple[int, ...]:
        if tag not in self._tags:
            return ()
        offset, count = self._tags[tag]
        data = self._data[offset : offset + 4 * count]
        if len(data) != 4 * count:
            raise self._damaged("a list is longer than it")
        return tuple(int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))

    def _damaged(self, text: str) -> DamagedError:
        return DamagedError("rpm-header-damaged", f"the header of a package is damaged: {text}", path=self._path)
