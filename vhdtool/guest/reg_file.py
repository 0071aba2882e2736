r"""``.reg`` files, as the registry editor writes them, read into operations on hives.

Two versions: ``Windows Registry Editor Version 5.00`` in UTF-16 (or UTF-8 with a mark), and ``REGEDIT4`` in the
machine's ANSI code page, where ``hex(2)`` and ``hex(7)`` hold ANSI bytes too. Everything in a file counts: a line that
is not understood is an error, where the registry editor passes over it in silence.

Source: Microsoft, "How to add, modify, or delete registry subkeys and values by using a .reg file"; for what that
leaves open, Wine's ``programs/reg/import.c``, whose tests were made on Windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vhdtool.bytesource import ByteSource
from vhdtool.errors import InputError, NotFoundError, UsageError
from vhdtool.guest.control_set import required_control_set
from vhdtool.guest.key_path import KeyPath, parse_key_path
from vhdtool.guest.source import WindowsInstallation
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue
from vhdtool.registry.value_data import REG_BINARY, REG_DWORD, REG_EXPAND_SZ, REG_MULTI_SZ, REG_SZ

VERSION_4 = "REGEDIT4"
VERSION_5 = "Windows Registry Editor Version 5.00"
LARGEST_FILE = 64 << 20
MOST_OPERATIONS = 1_000_000
LONGEST_KEY_NAME = 255
LONGEST_VALUE_NAME = 16_383
DEEPEST_KEY = 512
"""Limits of the registry (Microsoft, "Registry Element Size Limits")."""

SHOWN = 60  # characters of a line that an error shows

_STRINGS = frozenset({REG_SZ, REG_EXPAND_SZ, REG_MULTI_SZ})
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "r": "\r"}
_SPECIAL = re.compile(r'[\\"]')
_HEX = re.compile(r"hex(?:\(([0-9a-fA-F]{1,8})\))?:", re.ASCII)
_BYTE = re.compile(r"[0-9a-fA-F]{1,2}", re.ASCII)
_USUAL_BYTES = re.compile(r"[0-9a-fA-F]{2}(?:,[0-9a-fA-F]{2})*,?", re.ASCII)
_DWORD = re.compile(r"dword:\s*([0-9a-fA-F]{1,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RegFileEntry:
    """What one place of the file asks for. ``line`` counts from 1; ``operation.key`` is ``key.inner``."""

    line: int
    key: KeyPath
    operation: RegistryOperation


def read_reg_file(content: bytes, *, path: str, ansi: str = "cp1252") -> tuple[RegFileEntry, ...]:
    """Read the content of a ``.reg`` file; ``ansi`` is the code page of a file without Unicode.

    Raises :class:`InputError` ``reg-file-version``, ``reg-file-syntax`` and ``reg-file-key``, each with the number of
    the line, and ``reg-file-size``.
    """
    return tuple(_Parser(content, path, ansi).entries())


def read_reg_source(source: ByteSource, *, path: str, ansi: str = "cp1252") -> tuple[RegFileEntry, ...]:
    """As :func:`read_reg_file`, from a file."""
    if source.size > LARGEST_FILE:
        raise InputError(
            "reg-file-size",
            "the .reg file is too large",
            path=path,
            expected=f"at most {LARGEST_FILE} bytes",
            found=source.size,
            hint="Cut it into several.",
        )
    return read_reg_file(source.read_at(0, source.size), path=path, ansi=ansi)


def operations_by_hive(
    installation: WindowsInstallation, entries: Iterable[RegFileEntry]
) -> dict[str, tuple[RegistryOperation, ...]]:
    """Return the operations for each hive, in their order, with ``CurrentControlSet`` followed.

    Raises :class:`NotFoundError` ``no-control-set`` and what opening the SYSTEM hive raises, where it is needed.
    """
    found: dict[str, list[RegistryOperation]] = {}
    number: int | None = None
    for entry in entries:
        operation = entry.operation
        if entry.key.needs_control_set:
            if number is None:
                number = required_control_set(installation.hive("SYSTEM")).number
            operation = _moved(operation, entry.key.in_control_set(number))
        found.setdefault(entry.key.hive or "", []).append(operation)
    return {hive: tuple(operations) for hive, operations in found.items()}


def _moved(operation: RegistryOperation, key: str) -> RegistryOperation:
    match operation:
        case SetValue():
            return SetValue(key, operation.name, operation.type, operation.data)
        case DeleteValue():
            return DeleteValue(key, operation.name)
        case CreateKey():
            return CreateKey(key)
        case DeleteKey():
            return DeleteKey(key)


class _Parser:
    def __init__(self, content: bytes, path: str, ansi: str) -> None:
        self._path = path
        self._ansi = ansi
        self._lines = _decoded(content, path, ansi).split("\n")  # not splitlines: a name may hold other separators
        self._next = 0
        self._unicode = False
        self._count = 0

    def entries(self) -> Iterator[RegFileEntry]:
        self._read_version()
        key: KeyPath | None = None
        deleted = False
        while (line := self._take()) is not None:
            line = line.lstrip()
            number = self._next
            if _is_rest(line):
                continue
            if line.startswith("["):
                key, deleted = self._key(line.rstrip())
                yield self._entry(number, key, DeleteKey(key.inner) if deleted else CreateKey(key.inner))
            elif line[0] in '@"':
                if key is None or deleted:
                    where = "before the first key" if key is None else "below a key that is deleted"
                    raise self._wrong(f"a value stands {where}", number)
                yield self._entry(number, key, self._value(key.inner, line))
            else:
                raise self._wrong("this is no key, no value and no comment", number)

    def _entry(self, line: int, key: KeyPath, operation: RegistryOperation) -> RegFileEntry:
        self._count += 1
        if self._count > MOST_OPERATIONS:
            raise InputError("reg-file-size", f"the file holds more than {MOST_OPERATIONS} entries", path=self._path)
        return RegFileEntry(line, key, operation)

    def _take(self) -> str | None:
        if self._next >= len(self._lines):
            return None
        line = self._lines[self._next]
        self._next += 1
        return line

    def _read_version(self) -> None:
        first = (self._take() or "").strip()
        if first not in {VERSION_4, VERSION_5}:
            raise InputError(
                "reg-file-version",
                "this is no file of the registry editor",
                path=self._path,
                expected=f"line 1: {VERSION_5}",
                found=repr(first[:SHOWN]),
            )
        self._unicode = first == VERSION_5

    def _key(self, line: str) -> tuple[KeyPath, bool]:
        number = self._next
        end = line.rfind("]")
        if end < 0 or not _is_rest(line[end + 1 :]):
            raise self._wrong("a key's line does not end with ]", number)
        written = line[1:end]
        deleted = written.startswith("-")
        try:
            key = parse_key_path(written.removeprefix("-").strip())
        except (UsageError, NotFoundError) as error:
            raise self._wrong_key(error.message, number, error.hint) from error
        parts = key.inner.split("\\")
        if len(parts) > DEEPEST_KEY or any(len(part) > LONGEST_KEY_NAME for part in parts):
            raise self._wrong_key("the key's path is too deep, or a name in it too long", number, None)
        if deleted and not key.inner:
            raise self._wrong_key("the root of a hive can't be deleted", number, None)
        return key, deleted

    def _value(self, key: str, line: str) -> SetValue | DeleteValue:
        number = self._next
        name, rest = ("", line[1:]) if line.startswith("@") else self._quoted(line, number)
        if len(name) > LONGEST_VALUE_NAME:
            raise self._wrong("the value's name is too long", number)
        rest = rest.lstrip()
        if not rest.startswith("="):
            raise self._wrong("= is missing behind the value's name", number)
        data = rest[1:].lstrip()
        if data.startswith("-") and _is_rest(data[1:]):
            return DeleteValue(key, name)
        if data.startswith('"'):
            text, rest = self._quoted(data, number)
            if not _is_rest(rest):
                raise self._wrong("something stands behind the closing quotation mark", number)
            return SetValue(key, name, REG_SZ, _utf16(text + "\0"))
        if found := _DWORD.match(data):
            if not _is_rest(data[found.end() :]):
                raise self._wrong("a dword has at most 8 hexadecimal digits", number)
            return SetValue(key, name, REG_DWORD, int(found[1], 16).to_bytes(4, "little"))
        if found := _HEX.match(data):
            kind = REG_BINARY if found[1] is None else int(found[1], 16)
            return SetValue(key, name, kind, self._text_data(kind, self._bytes(data[found.end() :], number)))
        raise self._wrong("the value's data is of no kind that is known", number)

    def _quoted(self, text: str, number: int) -> tuple[str, str]:
        """Read a string from its opening quotation mark on, over line ends; return it and what follows."""
        parts: list[str] = []
        place = 1
        while True:
            special = _SPECIAL.search(text, place)
            end = len(text) if special is None else special.start()
            parts.append(text[place:end])
            if special is None:
                more = self._take()
                if more is None:
                    raise self._wrong("a string is not closed", number)
                before = self._lines[self._next - 2]
                parts[-1] = parts[-1].removesuffix("\r")
                parts.append("\r\n" if before.endswith("\r") else "\n")
                text, place = more, 0
            elif text[end] == '"':
                return "".join(parts), text[end + 1 :]
            else:
                escaped = _ESCAPES.get(text[end + 1 : end + 2])
                if escaped is None:
                    raise self._wrong(r"a backslash in a string must be written \\", number)
                parts.append(escaped)
                place = end + 2

    def _bytes(self, text: str, number: int) -> bytes:
        data = bytearray()
        while True:
            text = text.partition(";")[0].strip()
            goes_on = text.endswith("\\")
            written = text.removesuffix("\\").rstrip()
            if _USUAL_BYTES.fullmatch(written):
                data += bytes.fromhex(written.replace(",", " "))
            else:
                data += self._odd_bytes(written)
            if not goes_on:
                return bytes(data)
            following = self._take()
            while following is not None and _is_rest(following):
                following = self._take()
            if following is None:
                raise self._wrong(r"the file ends where \ promises more bytes", number)
            text = following

    def _odd_bytes(self, text: str) -> bytes:
        pieces = text.split(",")
        if not pieces[-1].strip():
            pieces.pop()  # a comma before the line's end, or no byte at all
        if not all(_BYTE.fullmatch(piece.strip()) for piece in pieces):
            raise self._wrong("bytes are two hexadecimal digits each, with commas between", self._next)
        return bytes(int(piece, 16) for piece in pieces)

    def _text_data(self, kind: int, data: bytes) -> bytes:
        """Bring the bytes of a string to what the registry holds: UTF-16 with a NUL at the end."""
        if kind not in _STRINGS or not data:
            return data
        if not self._unicode:
            data = _utf16(data.decode(self._ansi, errors="replace"))
        whole = len(data) % 2 == 0
        return data + bytes(2) if whole and data[-2:] != bytes(2) else data

    def _wrong(self, what: str, line: int) -> InputError:
        written = self._lines[line - 1].strip()
        return InputError(
            "reg-file-syntax", f"line {line}: {what}", path=self._path, found=repr(written[:SHOWN]),
            hint="Nothing of the file was carried out: correct the line.",
        )  # fmt: skip

    def _wrong_key(self, what: str, line: int, hint: str | None) -> InputError:
        written = self._lines[line - 1].strip()
        return InputError("reg-file-key", f"line {line}: {what}", path=self._path, found=written[:SHOWN], hint=hint)


def _decoded(content: bytes, path: str, ansi: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif content[1:2] == b"\0":
        encoding = "utf-16-le"
    elif content.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    elif content.lstrip().startswith(VERSION_5.encode()) and _is_utf8(content):
        encoding = "utf-8"  # as hivexregedit and most editors save it; the registry editor would take it for ANSI
    else:
        encoding = ansi
    errors = "surrogatepass" if encoding.startswith("utf-16") else "strict"
    try:
        text = content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise InputError(
            "reg-file-version",
            f"the file is not in {encoding}",
            path=path,
            offset=error.start,
            hint="Save it as UTF-16, as the registry editor does.",
        ) from error
    if "\0" in text:
        raise InputError("reg-file-version", "the file holds NUL characters: it is no text", path=path)
    return text


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_rest(text: str) -> bool:
    """Tell whether nothing but blanks and a comment stand here."""
    rest = text.strip()
    return not rest or rest.startswith(";")


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")
