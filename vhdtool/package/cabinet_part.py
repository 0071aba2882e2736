"""One cabinet file's header and tables, checked before anything else looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from construct import Struct

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import field_names, packed
from vhdtool.package.cabinet_format import (
    FILE,
    FOLDER,
    FROM_BEFORE,
    FROM_PREVIOUS,
    HEADER,
    LONGEST_NAME,
    MAGIC,
    NAME_IS_UTF8,
    NEXT_FLAG,
    PREVIOUS_FLAG,
    RESERVE_FLAG,
    RESERVE_SIZES,
    SIGNATURE_RESERVE,
    TO_AFTER,
)

_READ = 1 << 16
_OTHER_FORMATS = {
    b"MZ": ("a program", "A self-extracting package: unpack it with its own /x option and name the .cab."),
    b"MSWIM": (
        "a Windows image",
        "Update packages in this format are not read: name an .msu or .cab of an older kind.",
    ),
    b"PSTREAM": ("a store of patches", "It belongs to an update package with deltas, which is not read."),
    b"ISc(": ("an InstallShield cabinet", "Only Microsoft's cabinets are read."),
    b"PK": ("a ZIP archive", "Unpack it and name the .cab or .msu in it."),
}


@dataclass(frozen=True, slots=True)
class PartFolder:
    """A row of the folder table. ``data_offset`` in bytes of the file."""

    data_offset: int
    block_count: int
    compression: int


@dataclass(frozen=True, slots=True)
class PartFile:
    """A row of the file table. ``offset`` in bytes of its unpacked folder; ``entry_offset`` in bytes of the file."""

    name: str
    size: int
    offset: int
    folder: int
    attributes: int
    modified: datetime | None
    entry_offset: int


@dataclass(frozen=True, slots=True)
class CabinetPart:
    """One cabinet file, the only one of its set as a rule.

    ``size`` is what the header says; a signature follows after it. ``signature_range``: offset and size as the
    reserve says, not checked. ``previous_name`` and ``next_name``: the files the set goes on in.
    """

    path: str
    source: ByteSource
    size: int
    set_id: int
    number: int
    previous_name: str | None
    next_name: str | None
    reserve: bytes
    block_reserve: int
    signature_range: tuple[int, int] | None
    folders: tuple[PartFolder, ...]
    files: tuple[PartFile, ...]
    tables_end: int
    problems: tuple[Problem, ...]


def read_part(source: ByteSource, path: str) -> CabinetPart:
    """Read a cabinet file's header and tables.

    Raises:
        UnsupportedError: ``not-a-cabinet``; ``cabinet-version-unknown``.
        DamagedError: ``cabinet-damaged``: the header or a table breaks the format's rules, or is cut off.
    """
    start = source.read_at(0, min(source.size, HEADER.sizeof()))
    if not start.startswith(MAGIC):
        what, hint = next(
            (told for magic, told in _OTHER_FORMATS.items() if start.startswith(magic)),
            ("none", "Name a .cab or .msu file."),
        )
        raise UnsupportedError(
            "not-a-cabinet",
            "not a cabinet" if what == "none" else f"not a cabinet but {what}",
            path=path,
            offset=0,
            expected="MSCF",
            found=start[:4].hex() or "nothing",
            hint=hint,
        )
    cursor = _Cursor(source, path)
    header = cursor.row(HEADER, "the header")
    if (header["version_major"], header["version_minor"]) != (1, 3):
        raise UnsupportedError(
            "cabinet-version-unknown",
            "the cabinet is of an unknown version of the format",
            path=path,
            offset=24,
            expected="1.3",
            found=f"{header['version_major']}.{header['version_minor']}",
            hint="The file is damaged, or was made by something else than a tool for cabinets.",
        )
    if not header["folder_count"] or not header["file_count"]:
        what = "folders" if not header["folder_count"] else "files"
        raise damaged(f"the cabinet says that it has no {what}", path, 26)
    sizes = {"header": 0, "folder": 0, "block": 0}
    if header["flags"] & RESERVE_FLAG:
        sizes = cursor.row(RESERVE_SIZES, "the header")
    reserve = cursor.take(sizes["header"], "the header's reserve")
    names = [
        cursor.text("the name of another part", empty=index % 2 == 1) if header["flags"] & flag else None
        for index, flag in enumerate((PREVIOUS_FLAG, PREVIOUS_FLAG, NEXT_FLAG, NEXT_FLAG))
    ]
    folders = tuple(_folders(cursor, header["folder_count"], sizes["folder"]))
    if cursor.offset != header["files_offset"]:
        # readers differ in which of the two they follow: a file can show another face to each
        raise damaged(
            "the file table is not where the header says", path, 16, hex(cursor.offset), hex(header["files_offset"])
        )
    files = tuple(_files(cursor, header["file_count"], len(folders)))
    for file in files:
        if (file.folder in FROM_BEFORE and names[0] is None) or (file.folder in TO_AFTER and names[2] is None):
            raise damaged("a file goes on in another part, and the cabinet names none", path, file.entry_offset)
    return CabinetPart(
        path=path,
        source=source,
        size=header["size"],
        set_id=header["set_id"],
        number=header["number_in_set"],
        previous_name=names[0],
        next_name=names[2],
        reserve=reserve,
        block_reserve=sizes["block"],
        signature_range=_signature_range(reserve),
        folders=folders,
        files=files,
        tables_end=cursor.offset,
        problems=tuple(_problems(header["size"], source.size, _signature_range(reserve), path)),
    )


def damaged(
    message: str, path: str, offset: int | None = None, expected: object = None, found: object = None
) -> DamagedError:
    """Make the error for a cabinet that breaks the rules of the format."""
    return DamagedError(
        "cabinet-damaged",
        message,
        path=path,
        offset=offset,
        expected=expected,
        found=found,
        hint="The file is damaged or cut off: copy it again from where it came from.",
    )


class _Cursor:
    """Reads the tables in order, a page at a time."""

    def __init__(self, source: ByteSource, path: str) -> None:
        self._source = source
        self.path = path
        self.offset = 0
        self._buffer = b""
        self._buffer_offset = 0

    def take(self, length: int, what: str) -> bytes:
        data = self.peek(length)
        if len(data) < length:
            raise damaged(f"{what} is cut off", self.path, self.offset, f"{length} bytes", f"{len(data)} bytes")
        self.offset += length
        return data

    def peek(self, length: int) -> bytes:
        start = self.offset - self._buffer_offset
        if start + length > len(self._buffer):
            self._buffer = self._source.read_at(self.offset, max(length, _READ))
            self._buffer_offset, start = self.offset, 0
        return self._buffer[start : start + length]

    def row(self, layout: Struct, what: str) -> dict[str, Any]:
        plain = packed(layout)
        return dict(zip(field_names(layout), plain.unpack(self.take(plain.size, what)), strict=True))

    def text(self, what: str, *, empty: bool = False) -> str:
        return self.name(what, empty=empty).decode("latin-1")

    def name(self, what: str, *, empty: bool = False) -> bytes:
        name, end, _ = self.peek(LONGEST_NAME).partition(b"\0")
        if not end or not (name or empty):
            fault = "has no end" if name else "is empty"
            raise damaged(f"{what} {fault}", self.path, self.offset, f"at most {LONGEST_NAME} bytes")
        self.offset += len(name) + 1
        return name


def _folders(cursor: _Cursor, count: int, reserve: int) -> Iterator[PartFolder]:
    plain = packed(FOLDER)
    for _ in range(count):
        row = cursor.take(plain.size + reserve, "the folder table")
        yield PartFolder(*plain.unpack(row[: plain.size]))


def _files(cursor: _Cursor, count: int, folder_count: int) -> Iterator[PartFile]:
    plain = packed(FILE)
    for _ in range(count):
        entry = cursor.offset
        size, offset, folder, date, time, attributes = plain.unpack(cursor.take(plain.size, "the file table"))
        if folder >= folder_count and folder < FROM_PREVIOUS:
            raise damaged("a file is in no folder", cursor.path, entry, f"below {folder_count}", folder)
        raw = cursor.name("a file's name")
        name = raw.decode("utf-8", "replace") if attributes & NAME_IS_UTF8 else raw.decode("latin-1")
        yield PartFile(name, size, offset, folder, attributes, _dos_time(date, time), entry)


def _dos_time(date: int, time: int) -> datetime | None:
    try:
        return datetime(  # local time of wherever the cabinet was made
            (date >> 9) + 1980, date >> 5 & 0xF, date & 0x1F, time >> 11, time >> 5 & 0x3F, (time & 0x1F) * 2
        )
    except ValueError:
        return None


def _signature_range(reserve: bytes) -> tuple[int, int] | None:
    plain = packed(SIGNATURE_RESERVE)
    if len(reserve) != plain.size:
        return None
    row = dict(zip(field_names(SIGNATURE_RESERVE), plain.unpack(reserve), strict=True))
    return (row["offset"], row["size"]) if row["size"] else None


def _problems(size: int, file_size: int, signature: tuple[int, int] | None, path: str) -> Iterator[Problem]:
    if size > file_size:
        text = f"the cabinet is cut off: it says {size} bytes, the file has {file_size}"
        yield Problem("cabinet-cut-off", text, path, file_size)
    elif size < file_size and (signature is None or signature[0] != size or sum(signature) != file_size):
        yield Problem(
            "cabinet-extra-bytes", f"{file_size - size} bytes after the cabinet belong to nothing", path, size
        )
