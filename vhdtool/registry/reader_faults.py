"""Known faults of foreign readers of hives, each a predicate: which reader, on which name, type or data.

A test reproduces each in the installed reader, so a fault that its authors repair is noticed and goes from this list.
Met in python-registry 1.3.1 and dissect.regf 3.14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vhdtool.registry.expected_hive import Path
from vhdtool.registry.foreign_hive import DISSECT_REGF, PYTHON_REGISTRY
from vhdtool.registry.names import fold
from vhdtool.registry.value_data import REG_DWORD, REG_DWORD_BIG_ENDIAN, REG_MULTI_SZ, REG_QWORD

INLINE_SIZE = 4  # bytes that are kept in the value itself
SEGMENT_SIZE = 16344  # more than that is big data, from minor version 4 on
FIRST_BIG_DATA_VERSION = 4
_TYPE_MASK = 0xFFF  # what python-registry keeps of a type
_FILETIME = 0x10
_CP1252 = frozenset(bytes(range(0x80, 0xA0)).decode("cp1252", "ignore"))


@dataclass(frozen=True, slots=True)
class Question:
    """What a reader is asked for: names only, or a value with its type and data, in a hive of a minor version."""

    names: Path
    minor: int
    type: int | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class HiveFault:
    """The reader answers wrongly, or not at all, where ``applies``."""

    name: str
    reader: str
    summary: str
    applies: Callable[[Question], bool]


@dataclass(frozen=True, slots=True)
class AvoidedFault:
    """A fault that no answer suffers from, because of how :mod:`vhdtool.registry.foreign_hive` asks."""

    name: str
    reader: str
    summary: str


def _spellings(question: Question) -> Iterable[str]:
    for name in question.names:
        yield name
        yield fold(name)


def _cp1252_name(question: Question) -> bool:
    return any(
        "\x80" <= character <= "\x9f" or character in _CP1252 for name in _spellings(question) for character in name
    )


def _lone_surrogate(question: Question) -> bool:
    for name in question.names:
        try:
            name.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            return True
    return False


def _utf8_name(question: Question) -> bool:
    """A name of one byte a character that happens to be UTF-8 as well."""
    for name in _spellings(question):
        try:
            if not name.isascii() and name.encode("latin-1").decode() != name:
                return True
        except UnicodeError:
            continue
    return False


def _multi_sz_inline(question: Question) -> bool:
    return question.type == REG_MULTI_SZ and 0 < len(question.data) <= INLINE_SIZE


def _number_size(question: Question) -> bool:
    """It reads a number's own size, from the place where it lies when it has that size."""
    size = len(question.data)
    if question.type == REG_QWORD:
        return not INLINE_SIZE < size <= 8
    return question.type == REG_DWORD and size > INLINE_SIZE


def _big_endian(question: Question) -> bool:
    return question.type == REG_DWORD_BIG_ENDIAN


def _masked_type(question: Question) -> bool:
    return question.type is not None and question.type > _TYPE_MASK


def _filetime_inline(question: Question) -> bool:
    return question.type is not None and question.type & _TYPE_MASK == _FILETIME and len(question.data) <= INLINE_SIZE


def _flat_as_big(question: Question) -> bool:
    big = len(question.data) > SEGMENT_SIZE and question.type is not None
    return big and question.minor < FIRST_BIG_DATA_VERSION and question.data[:2] == b"db"


def _big_data_version(question: Question) -> bool:
    big = len(question.data) > SEGMENT_SIZE and question.type is not None
    return big and question.minor == FIRST_BIG_DATA_VERSION


FAULTS: tuple[HiveFault, ...] = (
    HiveFault("name-cp1252", PYTHON_REGISTRY, "It reads names in code page 1252, not Latin-1.", _cp1252_name),
    HiveFault("name-surrogate", PYTHON_REGISTRY, "It can't read a name with a lone surrogate.", _lone_surrogate),
    HiveFault(
        "multi-sz-inline", PYTHON_REGISTRY, "It takes a REG_MULTI_SZ of up to 4 bytes for empty.", _multi_sz_inline
    ),
    HiveFault("number-size", PYTHON_REGISTRY, "It reads numbers only in the size of their type.", _number_size),
    HiveFault("big-endian", PYTHON_REGISTRY, "It reads a REG_DWORD_BIG_ENDIAN from the wrong place.", _big_endian),
    HiveFault("type-masked", PYTHON_REGISTRY, "It knows only the last 12 bits of a type.", _masked_type),
    HiveFault("filetime-inline", PYTHON_REGISTRY, "It reads short times from the wrong place.", _filetime_inline),
    HiveFault(
        "flat-as-big-data",
        PYTHON_REGISTRY,
        "In a hive before version 1.4 it takes long data that starts with db for a list of segments.",
        _flat_as_big,
    ),
    HiveFault("name-utf8", DISSECT_REGF, "It reads a Latin-1 name as UTF-8 where it can.", _utf8_name),
    HiveFault("name-unpaired", DISSECT_REGF, "It can't read a name with a lone surrogate.", _lone_surrogate),
    HiveFault("big-data-version", DISSECT_REGF, "It knows no big data in a hive of version 1.4.", _big_data_version),
)

AVOIDED: tuple[AvoidedFault, ...] = (
    AvoidedFault(
        "inline-tail", PYTHON_REGISTRY, "Of short data it returns the whole field, with what lay there before."
    ),
    AvoidedFault("lookup-non-ascii", DISSECT_REGF, "Its look-up by name misses names that are not ASCII."),
)


def fault_of(reader: str, question: Question) -> HiveFault | None:
    """Return a known fault that keeps ``reader`` from answering, where there is one."""
    return next((fault for fault in FAULTS if fault.reader == reader and fault.applies(question)), None)
