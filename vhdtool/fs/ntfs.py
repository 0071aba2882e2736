"""NTFS, read-only: names by the volume's own rules, links inside the volume, compressed and sparse files.

MFT records, attributes and run lists come from dissect.ntfs; names are looked up by :mod:`vhdtool.fs.ntfs_index`,
because dissect's path lookup misses names in directories with non-ASCII ones (it sorts by ``str.upper``).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import construct as c

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import DamagedError, NotFoundError, UnsupportedError, VhdtoolError
from vhdtool.fs.base import Extent, FileStat
from vhdtool.fs.ntfs_index import DOS_NAMESPACE, Directory, IndexEntry, UpCase, file_names, filetime
from vhdtool.fs.ntfs_records import (
    ATTRIBUTE_LIST,
    COMPRESSED,
    DATA,
    ENCRYPTED,
    FIRST_USER_RECORD,
    REPARSE_POINT,
    ROOT_RECORD,
    SPARSE,
    STANDARD_INFORMATION,
    UPCASE_RECORD,
    VOLUME_INFORMATION,
    VOLUME_NAME,
    VOLUME_RECORD,
    Mft,
    Record,
    Stream,
)
from vhdtool.fs.ntfs_stream import ResidentStream
from vhdtool.fs.paths import MAX_LINKS, join_path, split_path
from vhdtool.fs.reparse import MAX_SIZE, WOF, LinkTarget, Reparse, check_plain, link_target, parse_reparse
from vhdtool.fs.runs import damaged
from vhdtool.fs.wof import WOF_STREAM, WofFile, wof_algorithm

STANDARD_FACTS = c.Struct(
    "created" / c.Int64ul,
    "modified" / c.Int64ul,
    "changed" / c.Int64ul,
    "accessed" / c.Int64ul,
    "attributes" / c.Int32ul,
)
VOLUME_FACTS = c.Struct(c.Padding(8), "major" / c.Int8ul, "minor" / c.Int8ul, "flags" / c.Int16ul)

ATTRIBUTE_REPARSE = 0x400  # FILE_ATTRIBUTE_REPARSE_POINT, in the directory's copy too
ATTRIBUTE_SPARSE, ATTRIBUTE_COMPRESSED, ATTRIBUTE_ENCRYPTED = 0x200, 0x800, 0x4000
IS_DIRECTORY = 0x10000000  # in the directory's copy: the file has an index of names
CACHED_DIRECTORIES = 32


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to: the names as the volume spells them, and the record."""

    parts: tuple[str, ...]
    record: Record

    @property
    def path(self) -> str:
        """The path as the volume spells it."""
        return join_path(self.parts)


class NtfsFile:
    """An opened file: plain, resident, sparse or LZNT1-compressed."""

    def __init__(self, path: str, stream: Stream) -> None:
        self.path = path
        self._stream = stream

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._stream.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        try:
            return self._stream.read_at(offset, length)
        except DamagedError as error:
            error.path = self.path
            raise

    def extents(self) -> Sequence[Extent]:
        """Where the bytes lie on the volume; empty for resident and compressed files."""
        return self._stream.extents()


class NtfsFilesystem:
    """One NTFS volume. Nothing is read before it is needed, but the boot sector and record 0."""

    kind = "ntfs"

    def __init__(self, device: BlockDevice) -> None:
        self.mft = Mft(device)
        self._upcase: UpCase | None = None
        self._directories: OrderedDict[int, Directory] = OrderedDict()

    @property
    def label(self) -> str | None:
        """The volume's name; ``None`` where it has none."""
        value = self.mft.record(VOLUME_RECORD).value(VOLUME_NAME)
        return value.decode("utf-16-le", "replace") if value else None

    @property
    def volume_flags(self) -> int:
        """The flags of $VOLUME_INFORMATION: 0x0001 is the dirty bit.

        Raises :class:`DamagedError` where the volume record does not have them.
        """
        return int(self._volume_facts().flags)

    @property
    def version(self) -> tuple[int, int]:
        """The version of NTFS: 3.1 since Windows XP, 3.0 of Windows 2000, 1.2 of NT 4.

        Raises :class:`DamagedError` where the volume record does not have it.
        """
        facts = self._volume_facts()
        return int(facts.major), int(facts.minor)

    def _volume_facts(self) -> Any:
        value = self.mft.record(VOLUME_RECORD).value(VOLUME_INFORMATION)
        if value is None or len(value) < VOLUME_FACTS.sizeof():
            raise damaged("the volume record has no flags", "$Volume")
        return VOLUME_FACTS.parse(value)

    def stat(self, path: str) -> FileStat | None:
        """Facts of what ``path`` names, itself and not what it links to; ``None`` when there is nothing.

        Sizes and times come from the MFT record.
        """
        place = self._resolve(path, follow_last=False)
        if place is None:
            return None
        record = place.record
        name = place.parts[-1] if place.parts else ""
        facts = self.standard_facts(record)
        reparse = self.reparse_of(place)
        target = self._link_text(reparse, place.path)
        pieces = record.find(DATA)
        linked = reparse is not None and reparse.is_link
        return FileStat(
            name=name,
            kind="symlink" if linked else "directory" if record.is_directory else "file",
            size=pieces[0].size if pieces else 0,
            record=record.segment,
            modified=filetime(facts[0]),
            storage=self._storage(reparse, pieces[0].flags if pieces else 0, place.path),
            link_target=target,
        )

    def list(self, path: str) -> Sequence[FileStat]:
        """The directory's entries, sorted as NTFS sorts them, each under its long name.

        Sizes and times are the directory's own copy, which Windows brings up to date when a file is closed, except
        for the file system's own files, of which it keeps none; :meth:`stat` has those of the file.
        Raises :class:`NotFoundError` (``no-such-file``, ``not-a-directory``).
        """
        place = self._resolve(path, follow_last=True)
        if place is None:
            raise NotFoundError("no-such-file", "no such directory", path=path)
        if not place.record.is_directory:
            raise NotFoundError("not-a-directory", "this is no directory", path=place.path)
        return [
            self._listed(entry, place)
            for entry in self._directory(place.record).entries()
            if entry.namespace != DOS_NAMESPACE and entry.name != "."
        ]

    def open(self, path: str) -> NtfsFile | WofFile:
        """Open a file; links are followed inside this volume.

        Raises :class:`NotFoundError` (``no-such-file``, ``is-a-directory``), :class:`UnsupportedError`
        (``file-encrypted``, ``reparse-point``, ``wof-algorithm``, ``link-leaves-volume``).
        """
        place = self._resolve(path, follow_last=True)
        if place is None:
            raise NotFoundError("no-such-file", "no such file", path=path)
        record = place.record
        if record.is_directory:
            raise NotFoundError("is-a-directory", "this is a directory", path=place.path)
        reparse = self.reparse_of(place)
        pieces = record.find(DATA)
        if pieces and pieces[0].flags & ENCRYPTED:
            raise UnsupportedError(
                "file-encrypted",
                "the file is encrypted (EFS)",
                path=place.path,
                hint="Only its owner's key, in the running guest, decrypts it.",
            )
        if reparse is not None and reparse.tag == WOF:
            algorithm = wof_algorithm(reparse.data, place.path)
            stored = record.stream(DATA, WOF_STREAM)
            if stored is None:
                raise damaged("the file's compressed stream is missing", place.path, expected=WOF_STREAM)
            return WofFile(place.path, stored, pieces[0].size if pieces else 0, algorithm)
        if reparse is not None:
            check_plain(reparse.tag, self.standard_facts(record)[1], place.path)
        stream = self.mft.open(pieces, place.path) if pieces else ResidentStream(b"")
        return NtfsFile(place.path, stream)

    def candidates(self, place: Place, name: str) -> Sequence[Place]:
        """What a directory holds under ``name``, without regard to case; several only in odd (POSIX) directories.

        Links are not followed. Empty too where ``place`` is no directory.
        """
        entries = self._directory(place.record).find_all(name) if place.record.is_directory else ()
        return [Place((*place.parts, entry.name), self._entered(entry, place)) for entry in entries]

    @property
    def root(self) -> Place:
        """The root directory."""
        return Place((), self.mft.record(ROOT_RECORD))

    def _resolve(self, path: str, *, follow_last: bool) -> Place | None:
        """Walk ``path`` from the root; ``None`` where a name is not there."""
        pending = deque(split_path(path))
        trail = [self.root]
        links = 0
        while pending:
            part = pending.popleft()
            here = trail[-1]
            if part == "..":
                del trail[1 if len(trail) == 1 else -1 :]
                continue
            entry = self._directory(here.record).find(part) if here.record.is_directory else None
            if entry is None:
                return None
            place = Place((*here.parts, entry.name), self._entered(entry, here))
            target = self._followed(place) if pending or follow_last else None
            if target is None:
                trail.append(place)
                continue
            links += 1
            if links > MAX_LINKS:
                raise DamagedError("too-many-links", "the links of this path lead in a circle", path=path)
            if target.absolute:
                del trail[1:]
            pending.extendleft(reversed(split_path(target.inside or "")))
        return trail[-1]

    def _entered(self, entry: IndexEntry, here: Place) -> Record:
        """The record that a directory entry leads to, if it knows itself by that name."""
        record = self.mft.record(entry.segment, entry.sequence)
        # With an attribute list the name may be in another record: not looked for, it would cost a read each.
        spread = any(attribute.type == ATTRIBUTE_LIST for attribute in record.attributes)
        if not spread and (here.record.segment, entry.units) not in file_names(record):
            raise damaged("a directory entry leads to a file of another name", join_path((*here.parts, entry.name)))
        return record

    def _followed(self, place: Place) -> LinkTarget | None:
        """Where a link leads on; ``None`` for what is no link."""
        reparse = self.reparse_of(place)
        if reparse is None or not reparse.is_link:
            return None
        target = link_target(reparse, place.path)
        if target is None or target.inside is None:
            raise UnsupportedError(
                "link-leaves-volume",
                "the link leads to another volume",
                path=place.path,
                found=target.text if target else f"tag {reparse.tag:#010x}",
            )
        return target

    def _directory(self, record: Record) -> Directory:
        known = self._directories.get(record.segment)
        if known is None:
            known = self._directories[record.segment] = Directory(
                record, self._upcase_table(), self.mft.geometry.cluster_size
            )
            if len(self._directories) > CACHED_DIRECTORIES:
                self._directories.popitem(last=False)
        else:
            self._directories.move_to_end(record.segment)
        return known

    def _upcase_table(self) -> UpCase:
        if self._upcase is None:
            stream = self.mft.record(UPCASE_RECORD).stream()
            if stream is None:
                raise damaged("the upper-case table is missing", "$UpCase")
            self._upcase = UpCase(stream)
        return self._upcase

    def _listed(self, entry: IndexEntry, place: Place) -> FileStat:
        name = entry.name
        directory = bool(entry.attributes & IS_DIRECTORY)
        kind, target, reparse = ("directory" if directory else "file"), None, None
        if entry.attributes & ATTRIBUTE_REPARSE:
            reparse = Reparse(entry.reparse_tag, b"")
            if reparse.is_link:
                kind = "symlink"
                target = self._listed_target(entry, place)
        return FileStat(
            name=name,
            kind=kind,
            size=0 if directory else self._listed_size(entry),
            record=entry.segment,
            modified=entry.modified,
            storage=_listed_storage(entry.attributes, reparse),
            link_target=target,
        )

    def _listed_size(self, entry: IndexEntry) -> int:
        if entry.segment >= FIRST_USER_RECORD:
            return entry.size
        try:
            pieces = self.mft.record(entry.segment, entry.sequence).find(DATA)
        except VhdtoolError:
            return entry.size  # reading the file tells what is wrong with its record
        return pieces[0].size if pieces else 0

    def _listed_target(self, entry: IndexEntry, place: Place) -> str | None:
        try:
            linked = Place((*place.parts, entry.name), self.mft.record(entry.segment, entry.sequence))
            return self._link_text(self.reparse_of(linked), linked.path)
        except VhdtoolError:
            return None  # a damaged link is still an entry of this directory; stat() tells what is wrong with it

    def standard_facts(self, record: Record) -> tuple[int, int]:
        """When it was modified (FILETIME) and the file attributes; zeros where the record does not say."""
        value = record.value(STANDARD_INFORMATION)
        if value is None or len(value) < STANDARD_FACTS.sizeof():
            return 0, 0
        facts = STANDARD_FACTS.parse(value)
        return facts.modified, facts.attributes

    def reparse_of(self, place: Place) -> Reparse | None:
        """The reparse point of a file or directory; ``None`` where it has none."""
        value = place.record.value(REPARSE_POINT, limit=MAX_SIZE)
        return None if value is None else parse_reparse(value, place.path)

    def _link_text(self, reparse: Reparse | None, path: str) -> str | None:
        target = link_target(reparse, path) if reparse is not None and reparse.is_link else None
        return target.text if target is not None else None

    def _storage(self, reparse: Reparse | None, flags: int, path: str) -> str | None:
        if reparse is not None and not reparse.is_link:
            if reparse.tag != WOF:
                return f"reparse-{reparse.tag:#010x}"
            try:
                return wof_algorithm(reparse.data, path).name
            except UnsupportedError:
                return f"reparse-{WOF:#010x}"
        if flags & ENCRYPTED:
            return "encrypted"
        if flags & COMPRESSED:
            return "compressed"
        return "sparse" if flags & SPARSE else None


def _listed_storage(attributes: int, reparse: Reparse | None) -> str | None:
    if reparse is not None and not reparse.is_link:
        return f"reparse-{reparse.tag:#010x}"
    if attributes & ATTRIBUTE_ENCRYPTED:
        return "encrypted"
    if attributes & ATTRIBUTE_COMPRESSED and not attributes & IS_DIRECTORY:
        return "compressed"
    return "sparse" if attributes & ATTRIBUTE_SPARSE else None
