"""Portable Executable files: the file version and strings of the string table, from the headers and ``.rsrc`` only.

A guest's ``icsvc.dll`` has half a megabyte and a ``vmicres.dll`` its strings in thirty languages: what is asked for
is a hundred bytes of it. So this follows the one path through the resource tree that leads there, a page at a time.
Libraries for the format want the whole file in memory and walk the whole tree, at a cost that the file chooses.

Layouts and limits: Microsoft, "PE Format" (sections "MS-DOS Stub", "COFF File Header", "Optional Header", "Section
Table", "The .rsrc Section"), and the Win32 structures VS_VERSIONINFO and VS_FIXEDFILEINFO.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from construct import Bytes, Const, Int16ul, Int32ul, Padding, Struct

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.layout import packed

DOS_HEADER = Struct("magic" / Bytes(2), "stub" / Padding(58), "pe_offset" / Int32ul)
COFF_HEADER = Struct(
    "signature" / Bytes(4),
    "machine" / Int16ul,
    "section_count" / Int16ul,
    "times_and_symbols" / Padding(12),
    "optional_header_size" / Int16ul,
    "characteristics" / Int16ul,
)
OPTIONAL_HEADER_32 = Struct("magic" / Int16ul, "fields" / Padding(90), "directory_count" / Int32ul)
OPTIONAL_HEADER_64 = Struct("magic" / Int16ul, "fields" / Padding(106), "directory_count" / Int32ul)
DATA_DIRECTORY = Struct("rva" / Int32ul, "size" / Int32ul)
SECTION_HEADER = Struct(
    "name" / Bytes(8),
    "virtual_size" / Int32ul,
    "rva" / Int32ul,
    "raw_size" / Int32ul,
    "raw_offset" / Int32ul,
    "relocations_and_lines" / Padding(12),
    "characteristics" / Int32ul,
)
RESOURCE_DIRECTORY = Struct(
    "characteristics" / Int32ul,
    "time_and_version" / Padding(8),
    "named_count" / Int16ul,
    "id_count" / Int16ul,
)
RESOURCE_ENTRY = Struct("id" / Int32ul, "offset" / Int32ul)
RESOURCE_DATA = Struct("rva" / Int32ul, "size" / Int32ul, "code_page" / Int32ul, "reserved" / Padding(4))
VERSION_INFO = Struct(
    "length" / Int16ul,
    "value_length" / Int16ul,
    "type" / Int16ul,
    "key" / Const("VS_VERSION_INFO\0".encode("utf-16-le")),
    "align" / Padding(2),
    "signature" / Int32ul,
    "structure_version" / Int32ul,
    "file_version_high" / Int32ul,
    "file_version_low" / Int32ul,
    "product_version_high" / Int32ul,
    "product_version_low" / Int32ul,
)

OPTIONAL_MAGIC_32, OPTIONAL_MAGIC_64 = 0x10B, 0x20B
FIXED_INFO_SIGNATURE = 0xFEEF04BD
RESOURCE_DIRECTORY_INDEX = 2
RT_STRING, RT_VERSION = 6, 16
STRINGS_PER_BLOCK = 16
SUBTREE = 0x80000000
"""In an entry's ``offset``: it leads to a directory. In its ``id``: the id is a name."""

MAX_SECTIONS = 96
"""The loader's own limit (PE Format, "COFF File Header")."""
MAX_ENTRIES = 4096
MAX_DATA = 256 << 10
"""Longest version resource or block of 16 strings that is read, in bytes; genuine ones stay below 10 KiB."""
ENGLISH = 0x0409

_PAGE = 4096
_DOS = packed(DOS_HEADER)
_COFF = packed(COFF_HEADER)
_SECTION = packed(SECTION_HEADER)
_DIRECTORY = packed(RESOURCE_DIRECTORY)
_ENTRY = packed(RESOURCE_ENTRY)
_DATA = packed(RESOURCE_DATA)
_VERSION = packed(VERSION_INFO)
_DATA_DIRECTORY = packed(DATA_DIRECTORY)
_OPTIONAL = {OPTIONAL_MAGIC_32: packed(OPTIONAL_HEADER_32), OPTIONAL_MAGIC_64: packed(OPTIONAL_HEADER_64)}


@dataclass(frozen=True, slots=True)
class PeVersion:
    """The binary versions of VS_FIXEDFILEINFO: major, minor, build, revision, each 0 to 65535."""

    file: tuple[int, int, int, int]
    product: tuple[int, int, int, int]

    def __str__(self) -> str:
        return ".".join(map(str, self.file))


@dataclass(frozen=True, slots=True)
class _Section:
    rva: int
    length: int
    offset: int


class PortableExecutable:
    """One PE file. Nothing is read until something is asked; every page at most once.

    ``path`` names the file in errors. Every method raises :class:`UnsupportedError` ``not-a-pe`` for a file that is
    of another format, and :class:`DamagedError` ``pe-damaged`` where a header or the resource tree breaks its rules.
    """

    def __init__(self, source: ByteSource, path: str) -> None:
        self._source = source
        self._path = path
        self._pages: dict[int, bytes] = {}

    def file_version(self) -> PeVersion | None:
        """The version of the file, or ``None`` where it has no version resource."""
        for language in self._languages(RT_VERSION, None):
            offset, size = self._data(language)
            if size < _VERSION.size:
                raise self._damaged("the version resource is too short", offset, _VERSION.size, size)
            fields = _VERSION.unpack(self._read(offset, _VERSION.size))
            key, signature, file_high, file_low, product_high, product_low = (*fields[3:5], *fields[6:])
            if key != "VS_VERSION_INFO\0".encode("utf-16-le") or signature != FIXED_INFO_SIGNATURE:
                raise self._damaged("the version resource has no fixed part", offset)
            return PeVersion(_quad(file_high, file_low), _quad(product_high, product_low))
        return None

    def string(self, string_id: int, languages: Sequence[int] = (ENGLISH,)) -> str | None:
        """A string of the string table in the first of ``languages`` (LCIDs) that the file has, else in any.

        ``None`` where the file has no such string; an empty string counts as none.
        """
        if not 0 <= string_id <= 0xFFFF:
            return None
        block, index = divmod(string_id, STRINGS_PER_BLOCK)
        found = self._languages(RT_STRING, block + 1)
        order = {language: place for place, language in enumerate(languages)}
        found.sort(key=lambda entry: order.get(entry[0], len(order)))
        for entry in found:
            text = self._string_of_block(entry, index)
            if text:
                return text
        return None

    def _string_of_block(self, entry: tuple[int, int], index: int) -> str:
        offset, size = self._data(entry)
        block = self._read(offset, size)
        place = 0
        for _ in range(index):
            place += 2 + 2 * int.from_bytes(block[place : place + 2], "little")
        if place + 2 > size:
            raise self._damaged("a string lies outside its block", offset, f"at most {size - 2}", place)
        end = place + 2 + 2 * int.from_bytes(block[place : place + 2], "little")
        if end > size:
            raise self._damaged("a string leaves its block", offset + place, f"at most {size}", end)
        return block[place + 2 : end].decode("utf-16-le", errors="replace")

    def _languages(self, kind: int, name: int | None) -> list[tuple[int, int]]:
        """The leaves of one resource: language and offset of the data entry. ``name`` ``None``: whichever is first."""
        if self._resources is None:
            return []
        # the loader takes the first entry of an id too; trying them all would let the file choose the cost
        kinds = next((offset for found, offset in self._entries(0) if found == kind), 0)
        if not kinds & SUBTREE:
            return []
        entries = self._entries(kinds & ~SUBTREE)
        names = next((offset for number, offset in entries if name in {None, number}), 0)
        if not names & SUBTREE:
            return []
        return [leaf for leaf in self._entries(names & ~SUBTREE) if not leaf[1] & SUBTREE]

    def _entries(self, place: int) -> Iterator[tuple[int, int]]:
        """Entries of the resource directory at ``place`` bytes from the start of the resources; named ones too."""
        offset = self._resource_offset(place, _DIRECTORY.size)
        _, named, numbered = _DIRECTORY.unpack(self._read(offset, _DIRECTORY.size))
        count = named + numbered
        if count > MAX_ENTRIES:
            raise self._damaged("a resource directory is too long", offset, f"at most {MAX_ENTRIES} entries", count)
        table = self._resource_offset(place + _DIRECTORY.size, count * _ENTRY.size)
        yield from _ENTRY.iter_unpack(self._read(table, count * _ENTRY.size))

    def _data(self, entry: tuple[int, int]) -> tuple[int, int]:
        """File offset and size of the data that a leaf leads to."""
        offset = self._resource_offset(entry[1], _DATA.size)
        rva, size, _ = _DATA.unpack(self._read(offset, _DATA.size))
        if size > MAX_DATA:
            raise self._damaged("a resource is too long", offset, f"at most {MAX_DATA} bytes", size)
        return self._file_offset(rva, size), size

    def _resource_offset(self, place: int, length: int) -> int:
        start = self._resources
        if start is None:
            raise self._damaged("the file has no resources", 0)
        return self._file_offset(start + place, length)

    def _file_offset(self, rva: int, length: int) -> int:
        for section in self._sections:
            if section.rva <= rva and rva + length <= section.rva + section.length:
                return section.offset + rva - section.rva
        raise self._damaged(f"address {rva:#x} lies in no section of the file", 0)

    @cached_property
    def _headers(self) -> tuple[int | None, tuple[_Section, ...]]:
        magic, pe_offset = _DOS.unpack(self._read(0, _DOS.size)) if self._source.size >= _DOS.size else (b"", 0)
        if magic != b"MZ":
            raise self._not_a_pe(magic)
        if pe_offset + _COFF.size > self._source.size:
            raise self._not_a_pe(magic)
        signature, _, section_count, optional_size, _ = _COFF.unpack(self._read(pe_offset, _COFF.size))
        if signature != b"PE\0\0":
            raise self._not_a_pe(signature)
        if section_count > MAX_SECTIONS:
            raise self._damaged("too many sections", pe_offset, f"at most {MAX_SECTIONS}", section_count)
        optional = pe_offset + _COFF.size
        sections = tuple(self._section(optional + optional_size + at * _SECTION.size) for at in range(section_count))
        return self._resource_rva(optional, optional_size), sections

    def _resource_rva(self, optional: int, optional_size: int) -> int | None:
        magic = int.from_bytes(self._read(optional, 2), "little")
        layout = _OPTIONAL.get(magic)
        if layout is None:
            raise self._damaged("the optional header has an unknown magic", optional, "0x10b or 0x20b", hex(magic))
        if optional_size < layout.size:
            raise self._damaged("the optional header is too short", optional, layout.size, optional_size)
        _, directory_count = layout.unpack(self._read(optional, layout.size))
        entry = layout.size + RESOURCE_DIRECTORY_INDEX * _DATA_DIRECTORY.size
        if directory_count <= RESOURCE_DIRECTORY_INDEX or entry + _DATA_DIRECTORY.size > optional_size:
            return None
        rva, size = _DATA_DIRECTORY.unpack(self._read(optional + entry, _DATA_DIRECTORY.size))
        return rva if rva and size else None

    def _section(self, offset: int) -> _Section:
        _, virtual_size, rva, raw_size, raw_offset, _ = _SECTION.unpack(self._read(offset, _SECTION.size))
        return _Section(rva, min(virtual_size or raw_size, raw_size), raw_offset)

    @property
    def _resources(self) -> int | None:
        return self._headers[0]

    @property
    def _sections(self) -> tuple[_Section, ...]:
        return self._headers[1]

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self._source.size:
            raise self._damaged("the file is cut off", offset, f"{length} bytes", max(self._source.size - offset, 0))
        first, last = offset // _PAGE, (offset + max(length, 1) - 1) // _PAGE
        data = b"".join(self._page(page) for page in range(first, last + 1))
        start = offset - first * _PAGE
        if len(data) < start + length:
            raise self._damaged("the file is cut off", offset, f"{length} bytes", max(len(data) - start, 0))
        return data[start : start + length]

    def _page(self, page: int) -> bytes:
        if page not in self._pages:
            left = self._source.size - page * _PAGE
            self._pages[page] = self._source.read_at(page * _PAGE, min(_PAGE, left))
        return self._pages[page]

    def _damaged(self, message: str, offset: int, expected: object = None, found: object = None) -> DamagedError:
        return DamagedError(
            "pe-damaged",
            f"not a whole program file: {message}",
            path=self._path,
            offset=offset,
            expected=expected,
            found=found,
            hint="The file is broken in the guest: run sfc /scannow there, or install the update again.",
        )

    def _not_a_pe(self, found: bytes) -> UnsupportedError:
        return UnsupportedError(
            "not-a-pe", "not a Portable Executable", path=self._path, offset=0, expected="MZ and PE signatures",
            found=found.hex() or "nothing", hint="Name a .dll, .exe or .sys file of 32- or 64-bit Windows.",
        )  # fmt: skip


def file_version(source: ByteSource, *, path: str) -> PeVersion | None:
    """Return the version of a PE file, ``None`` where it has none. Raises as :class:`PortableExecutable` does."""
    return PortableExecutable(source, path).file_version()


def resource_string(
    source: ByteSource, string_id: int, *, path: str, languages: Sequence[int] = (ENGLISH,)
) -> str | None:
    """Return a string of the string table: see :meth:`PortableExecutable.string`."""
    return PortableExecutable(source, path).string(string_id, languages)


def _quad(high: int, low: int) -> tuple[int, int, int, int]:
    return high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF
