"""Cabinets: what is in one, read within limits that hold before anything is unpacked.

A cabinet may be a set of several files, and may have a signature after its end. Its files lie one after another in
folders, each compressed as one stream (stored, MSZIP, Quantum, LZX), cut into blocks of at most 32 KiB.

Source: MS-CAB, and how genuine ones are built; limits are this program's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from vhdtool.bytesource import ByteSource, BytesSource
from vhdtool.errors import DamagedError, InputError, NotFoundError, Problem, RefusedError
from vhdtool.package.cabinet_blocks import Folder, FolderPiece
from vhdtool.package.cabinet_folder import IN_MEMORY, UnpackedFolder, unpack_folder
from vhdtool.package.cabinet_format import (
    FROM_BEFORE,
    LARGEST_UNPACKED_BLOCK,
    TO_AFTER,
    TO_NEXT,
    compression_name,
)
from vhdtool.package.cabinet_part import CabinetPart, PartFile, damaged, read_part

MAX_MEMBERS = 100_000
"""Most files in a set; one cabinet can't hold more than 65,535."""
MAX_UNPACKED = 4 << 30
"""Most bytes of all files together; the largest update packages unpack to about half."""
MAX_RATIO = 100
"""Most bytes unpacked for one packed, counted from :data:`RATIO_COUNTS_FROM` on; update packages stay below 12."""
RATIO_COUNTS_FROM = 64 << 20
MAX_AS_BYTES = 512 << 20
"""Longest file that is returned as bytes; a longer one is read through :meth:`Cabinet.open_member`."""
MAX_PARTS = 100
MAX_NOTED = 20
"""Most problems of one kind that are noted."""
_CACHED = 2 * IN_MEMORY
_UNSAFE = re.compile(r"[\x00-\x1f:]")


@dataclass(frozen=True, slots=True)
class CabinetMember:
    r"""A file in a cabinet.

    ``name`` as the cabinet has it, folders divided by ``\``. ``size`` in bytes, unpacked; ``folder`` counts from 0;
    ``offset`` in bytes of the unpacked folder. ``modified`` is local time of wherever the cabinet was made, None where
    it is no date. ``attributes`` are those of DOS (1 read-only, 2 hidden, 4 system, 0x20 archive, 0x80 name is UTF-8).
    """

    name: str
    size: int
    folder: int
    compression: str
    modified: datetime | None
    attributes: int
    offset: int

    @property
    def key(self) -> str:
        r"""The name as Windows compares names: one case, ``\`` between folders."""
        return member_key(self.name)

    @property
    def is_safe(self) -> bool:
        """Whether the name stays within the folder that it is unpacked into."""
        return not any(part in {"", ".", ".."} or _UNSAFE.search(part) for part in self._split())

    @property
    def parts(self) -> tuple[str, ...]:
        """The name's folders and the file's own name.

        Raises:
            RefusedError: ``cabinet-unsafe-name``: it leads out of the folder that it is unpacked into.
        """
        if not self.is_safe:
            raise RefusedError(
                "cabinet-unsafe-name",
                f"the name {self.name!r} leads out of the folder that it would be unpacked into",
                hint="Do not use this cabinet: no tool for cabinets makes such names.",
            )
        return self._split()

    def _split(self) -> tuple[str, ...]:
        return tuple(self.name.replace("/", "\\").split("\\"))


class Cabinet:
    """A cabinet or set of cabinets, to be opened with :meth:`open`.

    ``size``, ``source``, ``reserve`` and ``signature_range`` (offset and size of the appended signature as the header
    says, not checked against the file; None without one) are those of the first file of a set; ``parts`` are the paths
    and contents of all its files.
    """

    def __init__(self, parts: Sequence[CabinetPart], problems: Sequence[Problem]) -> None:
        first = parts[0]
        self.path = first.path
        self.source = first.source
        self.size = first.source.size
        self.parts = tuple((part.path, part.source) for part in parts)
        self.reserve = first.reserve
        self.signature_range = first.signature_range
        self.previous_name = first.previous_name
        self.next_name = parts[-1].next_name
        self._folders, self.members = _merged(parts)
        self._entries: dict[str, list[CabinetMember]] = {}
        for member in self.members:
            self._entries.setdefault(member.key, []).append(member)
        self._unpacked: dict[int, UnpackedFolder] = {}
        _refuse_large(self.members, self._folders, sum(part.source.size for part in parts), self.path)
        self.problems = (*problems, *self._name_problems())

    @classmethod
    def open(cls, source: ByteSource, *, path: str, next_parts: Sequence[tuple[str, ByteSource]] = ()) -> Cabinet:
        """Read a cabinet's tables. ``next_parts``: path and content of the further files of its set, in order.

        Raises:
            UnsupportedError: ``not-a-cabinet``; ``cabinet-version-unknown``.
            DamagedError: ``cabinet-damaged``.
            InputError: ``cabinet-part-wrong``: a file of ``next_parts`` is not the next of this set.
            RefusedError: ``cabinet-too-large``: a limit of this module would be exceeded.
        """
        if len(next_parts) >= MAX_PARTS:
            raise _too_large("the set has too many parts", path, MAX_PARTS, len(next_parts) + 1)
        parts = [read_part(source, path)]
        parts += [read_part(content, name) for name, content in next_parts]
        for before, part in pairwise(parts):
            goes_on = before.next_name is not None and part.previous_name is not None
            if not goes_on or (part.set_id, part.number) != (before.set_id, before.number + 1):
                raise InputError(
                    "cabinet-part-wrong",
                    f"not the part that follows {before.path}",
                    path=part.path,
                    expected=f"set {before.set_id}, part {before.number + 1}",
                    found=f"set {part.set_id}, part {part.number}",
                    hint=f"The next part is called {before.next_name or 'nothing: the set is complete'}.",
                )
        problems = [problem for part in parts for problem in part.problems]
        for name, what in ((parts[0].previous_name, "before"), (parts[-1].next_name, "after")):
            if name is not None:
                text = f"the cabinet is part of a set, and {name}, the part {what}, is not here"
                problems.append(Problem("cabinet-part-missing", text, path))
        return cls(parts, problems)

    def find_all(self, name: str) -> tuple[CabinetMember, ...]:
        """Return the files of a name, whatever its case: none, one, or more in a cabinet that is not to be used."""
        return tuple(self._entries.get(member_key(name), ()))

    def find(self, name: str) -> CabinetMember | None:
        """Return the file of a name, whatever its case; None where there is none.

        Raises:
            DamagedError: ``cabinet-name-twice``: there is more than one.
        """
        found = self.find_all(name)
        if len(found) > 1:
            raise DamagedError(
                "cabinet-name-twice",
                f"{name} is in the cabinet {len(found)} times",
                path=self.path,
                hint="Do not use this cabinet: which of them counts differs from tool to tool.",
            )
        return found[0] if found else None

    def member(self, name: str) -> CabinetMember:
        """Return the file of a name, whatever its case.

        Raises:
            NotFoundError: ``cabinet-no-such-file``.
            DamagedError: ``cabinet-name-twice``.
        """
        found = self.find(name)
        if found is None:
            raise NotFoundError("cabinet-no-such-file", f"{name} is not in the cabinet", path=self.path)
        return found

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises as :meth:`member` and :meth:`read_all` do.
        """
        member = self.member(name)
        return self._bytes(member, _need([member]))

    def open_member(self, member: CabinetMember) -> ByteSource:
        """Return a file's content to be read at any place; what is long lies in a temporary file meanwhile.

        Raises as :meth:`read_all` does, but for the limit on a file's length.
        """
        if member.size == 0:
            return BytesSource(b"")
        return _MemberSource(self._folder(member, _need([member])), member)

    def read_all(self, names: Collection[str] | None = None) -> Iterator[tuple[CabinetMember, bytes]]:
        """Yield the files, or those of ``names``, with their content, in the order they lie in the folders.

        Every folder is decoded once. Where one is damaged, the files before the damage are yielded first.

        Raises:
            DamagedError: ``cabinet-damaged``; ``cabinet-checksum``; ``cabinet-part-missing``: the file lies in a part
                of the set that is not here.
            UnsupportedError: ``cabinet-compression-unknown``.
            RefusedError: ``cabinet-too-large``: a file is longer than :data:`MAX_AS_BYTES`.
            MissingSupportError: ``libmspack-missing``.
            OutputError: ``cannot-unpack``: there is no room for temporary files.
            NotFoundError: ``cabinet-no-such-file``: one of ``names``.
        """
        members = self.members if names is None else [self.member(name) for name in dict.fromkeys(names)]
        folders: dict[int, list[CabinetMember]] = {}
        for member in members:
            folders.setdefault(member.folder, []).append(member)
        for _, inside in sorted(folders.items()):
            need = _need(inside)
            for member in sorted(inside, key=lambda one: one.offset):
                yield member, self._bytes(member, need)

    def _bytes(self, member: CabinetMember, need: int) -> bytes:
        if member.size > MAX_AS_BYTES:
            raise _too_large(f"{member.name} is too long", self.path, MAX_AS_BYTES, member.size)
        if member.size == 0:
            return b""
        return self._folder(member, need).read_at(member.offset, member.size)

    def _folder(self, member: CabinetMember, need: int) -> UnpackedFolder:
        """The folder of a member, decoded at least to the member's end."""
        end = member.offset + member.size
        unpacked = self._unpacked.get(member.folder)
        if unpacked is None or (unpacked.size < end and unpacked.error is None):
            whole = _need([one for one in self.members if one.folder == member.folder])
            # a short folder is decoded whole; a long one as far as is asked, and at the second question whole
            until = whole if whole <= IN_MEMORY or unpacked is not None else need
            self._unpacked.pop(member.folder, None)
            unpacked = unpack_folder(self._folders[member.folder], until)
            while self._unpacked and sum(one.size for one in self._unpacked.values()) + unpacked.size > _CACHED:
                del self._unpacked[next(iter(self._unpacked))]
            self._unpacked[member.folder] = unpacked
        if unpacked.size >= end:
            return unpacked
        if unpacked.error is None:
            raise damaged(f"{member.name} is cut off", self.path, None, f"{end} bytes", f"{unpacked.size} bytes")
        cause = unpacked.error
        raise DamagedError(
            cause.code,
            f"{member.name} can't be unpacked: {cause.message}",
            path=cause.path,
            offset=cause.offset,
            expected=cause.expected,
            found=cause.found,
            hint=cause.hint,
        ) from cause

    def _name_problems(self) -> Iterator[Problem]:
        unsafe = [member.name for member in self.members if not member.is_safe]
        for name in unsafe[:MAX_NOTED]:
            yield Problem("cabinet-unsafe-name", f"the name {name!r} leads out of the cabinet's folder", self.path)
        twice = [entries[0].name for entries in self._entries.values() if len(entries) > 1]
        for name in twice[:MAX_NOTED]:
            yield Problem("cabinet-name-twice", f"{name!r} is in the cabinet more than once", self.path)


class _MemberSource:
    """A :class:`ByteSource` over one file of a folder."""

    def __init__(self, folder: UnpackedFolder, member: CabinetMember) -> None:
        self._folder = folder
        self._offset = member.offset
        self.size = member.size

    def read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        return self._folder.read_at(self._offset + offset, max(min(length, self.size - offset), 0))


def member_key(name: str) -> str:
    r"""Return a name as Windows compares names: one case, ``\`` between folders, no dots and spaces at their ends."""
    return "\\".join(part.rstrip(". ") for part in name.replace("/", "\\").upper().split("\\"))


def _need(members: Sequence[CabinetMember]) -> int:
    return max((member.offset + member.size for member in members if member.size), default=0)


def _merged(parts: Sequence[CabinetPart]) -> tuple[tuple[Folder, ...], tuple[CabinetMember, ...]]:
    """Put the folders and files of all parts together; what continues in the next part is listed in both."""
    pieces: list[list[FolderPiece]] = []
    goes_on: set[int] = set()
    began_before: set[int] = set()
    entries: list[tuple[int, PartFile]] = []
    open_entries: dict[tuple[str, int, int], None] = {}  # the files that the part before continues in this one
    for part in parts:
        from_before = any(file.folder in FROM_BEFORE for file in part.files)
        continues = from_before and len(pieces) - 1 in goes_on
        first = len(pieces) - 1 if continues else len(pieces)
        for number, folder in enumerate(part.folders):
            if number == 0 and continues:
                if folder.compression != pieces[first][0].folder.compression:
                    raise damaged("a folder changes its compression between the parts of a set", part.path)
                pieces[first].append(FolderPiece(part, folder))
            else:
                pieces.append([FolderPiece(part, folder)])
        if continues:
            goes_on.discard(first)
        elif from_before:
            began_before.add(first)
        last = len(pieces) - 1
        continued: dict[tuple[str, int, int], None] = {}
        for file in part.files:
            mark = (file.name, file.offset, file.size)
            if file.folder in TO_AFTER:
                continued[mark] = None
                goes_on.add(last)
            if file.folder in FROM_BEFORE and continues and mark in open_entries:
                continue
            place = first if file.folder in FROM_BEFORE else last if file.folder == TO_NEXT else first + file.folder
            entries.append((place, file))
        open_entries = continued
    folders = tuple(
        Folder(tuple(inside), number in goes_on, number in began_before) for number, inside in enumerate(pieces)
    )
    members = tuple(_member(folders[place], place, file, parts[0].path) for place, file in entries)
    return folders, members


def _member(folder: Folder, number: int, file: PartFile, path: str) -> CabinetMember:
    incomplete = folder.goes_on or folder.began_before
    if file.size and file.offset + file.size > folder.largest_size and not incomplete:
        raise damaged(
            f"{file.name} is longer than its folder",
            path,
            file.entry_offset,
            f"at most {folder.largest_size} bytes",
            file.offset + file.size,
        )
    return CabinetMember(
        name=file.name,
        size=file.size,
        folder=number,
        compression=compression_name(folder.compression),
        modified=file.modified,
        attributes=file.attributes,
        offset=file.offset,
    )


def _refuse_large(members: Sequence[CabinetMember], folders: Sequence[Folder], packed_size: int, path: str) -> None:
    if len(members) > MAX_MEMBERS:
        raise _too_large("the cabinet has too many files", path, MAX_MEMBERS, len(members))
    total = sum(member.size for member in members)
    if total > MAX_UNPACKED:
        raise _too_large("the files are too long together", path, f"{MAX_UNPACKED} bytes", total)
    ends = [0] * len(folders)
    for member in members:
        ends[member.folder] = max(ends[member.folder], member.offset + member.size)
    unpacked = max(total, sum(ends))  # files may share bytes, and leave some out
    if unpacked > MAX_UNPACKED:
        raise _too_large("the folders are too long together", path, f"{MAX_UNPACKED} bytes", unpacked)
    if unpacked > RATIO_COUNTS_FROM and unpacked > packed_size * MAX_RATIO:
        times = f"{unpacked // max(packed_size, 1)} times"
        raise _too_large("the files are improbably longer unpacked than packed", path, f"{MAX_RATIO} times", times)
    blocks = sum(piece.folder.block_count for folder in folders for piece in folder.pieces)
    most = len(folders) + 2 * MAX_UNPACKED // LARGEST_UNPACKED_BLOCK
    if blocks > most:
        raise _too_large("the folders have too many blocks together", path, most, blocks)


def _too_large(message: str, path: str, limit: object, found: object) -> RefusedError:
    return RefusedError(
        "cabinet-too-large",
        message,
        path=path,
        expected=f"at most {limit}",
        found=found,
        hint="No update package is like this. If this one is genuine, unpack it with another tool.",
    )
