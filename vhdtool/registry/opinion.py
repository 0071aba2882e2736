"""An edited hive read by parsers that are not ours, against what the operations on it say.

python-registry is asked first, dissect.regf for what python-registry is known to answer wrongly. What nobody can
confirm stops the commit, unless the user is content with our own reading; what somebody contradicts stops it always.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vhdtool.bytesource import ByteSource
from vhdtool.errors import OpinionError
from vhdtool.registry.expected_hive import ExpectedKey, ExpectedValue, expected_hive, spelled
from vhdtool.registry.foreign_hive import (
    DISSECT_REGF,
    PYTHON_REGISTRY,
    ForeignHive,
    HiveReaderError,
    guarded,
    mapped,
    open_hive,
    reader_version,
)
from vhdtool.registry.operation import RegistryOperation
from vhdtool.registry.reader_faults import FAULTS, Question, fault_of
from vhdtool.registry.value_data import type_name

UNCONFIRMED_KEPT = 16
_READERS = (PYTHON_REGISTRY, DISSECT_REGF)
_MINOR_VERSION = 24  # its place in the base block ("Base block")
_HINT = "Nothing was written. Please report this, with the history of the hive."


@dataclass(frozen=True, slots=True)
class HiveLeftOut:
    """Questions that a reader was not asked, because of a known fault of it."""

    fault: str
    summary: str
    questions: int


@dataclass(frozen=True, slots=True)
class HiveReaderVerdict:
    """What one foreign reader confirmed, in keys and values."""

    reader: str
    version: str
    confirmed: int
    left_out: tuple[HiveLeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class HiveVerdict:
    """Who confirmed an edited hive. Each key and value that was to be set or deleted is one question.

    ``unconfirmed``: what nobody could be asked for, each with the faults that forbade it; the first few.
    """

    path: str
    readers: tuple[HiveReaderVerdict, ...]
    questions: int
    confirmed: int
    unconfirmed: tuple[str, ...] = ()


def confirm_hive(
    source: ByteSource, operations: Sequence[RegistryOperation], *, path: str, single_opinion: bool = False
) -> HiveVerdict:
    """Have an edited hive read by foreign readers: what was set is there, what was deleted is not.

    ``source`` is the hive's file as it shall be, clean; ``path`` is its name in the guest, for errors. A later
    operation on the same key or value overrides an earlier one.

    Raises:
        OpinionError: ``second-opinion-hive`` where a reader reads something else or can't read the hive;
            ``unconfirmed`` where no reader can be asked, unless ``single_opinion``.
        MissingSupportError: ``python-registry-missing``, ``dissect-regf-missing``.
        OutputError: ``spool-full``.
    """
    expected = expected_hive(operations)
    try:
        with mapped(source) as whole:
            inquiry = _Inquiry(whole, path, single=single_opinion)
            for key in expected.keys:
                inquiry.ask_key(key)
            for value in expected.values:
                inquiry.ask_value(value)
            return inquiry.verdict()
    except HiveReaderError as error:
        raise _contradicted(path, PYTHON_REGISTRY, str(error)) from error


@dataclass(slots=True)
class _Reader:
    name: str
    hive: ForeignHive | None = None
    confirmed: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


class _Inquiry:
    """Readers asked in their order, each for what those before it can't be asked for."""

    def __init__(self, whole: mmap.mmap, path: str, *, single: bool) -> None:
        self._whole = whole
        self._path = path
        self._single = single
        self._minor = int.from_bytes(whole[_MINOR_VERSION : _MINOR_VERSION + 4], "little")
        self._readers = [_Reader(name) for name in _READERS]
        self._questions = 0
        self._unconfirmed: list[str] = []
        self._unconfirmed_count = 0

    def ask_key(self, key: ExpectedKey) -> None:
        """Ask whether a key is there, or not."""
        what = f"the key {spelled(key.path)}"
        self._ask(what, Question((*key.path, *key.values, *key.subkeys), self._minor), lambda hive: _key(hive, key))

    def ask_value(self, value: ExpectedValue) -> None:
        """Ask whether a value is there with its type and data, or not."""
        what = f"the value {value.name or '(default)'!r} of the key {spelled(value.key)}"
        question = Question((*value.key, value.name), self._minor, value.type, value.data)
        self._ask(what, question, lambda hive: _value(hive, value))

    def _ask(self, what: str, question: Question, answer: Callable[[ForeignHive], Iterator[str]]) -> None:
        self._questions += 1
        faults: list[str] = []
        for reader in self._readers:
            fault = fault_of(reader.name, question)
            if fault is not None:
                reader.left_out[fault.name] = reader.left_out.get(fault.name, 0) + 1
                faults.append(f"{reader.name}: {fault.name}")
                continue
            try:
                with guarded():
                    wrong = next(answer(self._opened(reader)), None)
            except HiveReaderError as error:
                wrong = f"can't be read: {error}"
            if wrong is not None:
                raise _contradicted(self._path, reader.name, f"{what} {wrong}")
            reader.confirmed += 1
            return
        self._unconfirmed_count += 1
        if len(self._unconfirmed) < UNCONFIRMED_KEPT:
            self._unconfirmed.append(f"{what} ({'; '.join(faults)})")

    def _opened(self, reader: _Reader) -> ForeignHive:
        if reader.hive is None:
            reader.hive = open_hive(reader.name, self._whole)
            if not reader.hive.clean:
                raise _contradicted(self._path, reader.name, "the hive is not clean")
        return reader.hive

    def verdict(self) -> HiveVerdict:
        if self._unconfirmed and not self._single:
            raise OpinionError(
                "unconfirmed",
                f"no foreign reader can confirm {self._unconfirmed_count} changes of the hive, the first is "
                f"{self._unconfirmed[0]}",
                path=self._path,
                hint="Nothing was written. With --single-opinion this program's own reading is enough where no other "
                "reader can be asked.",
            )
        if all(reader.hive is None for reader in self._readers):
            self._opened(self._readers[0])  # it must be a hive at least
        asked = [reader for reader in self._readers if reader.hive is not None or reader.left_out]
        return HiveVerdict(
            path=self._path,
            readers=tuple(map(_reader_verdict, asked)),
            questions=self._questions,
            confirmed=self._questions - self._unconfirmed_count,
            unconfirmed=tuple(self._unconfirmed),
        )


def _reader_verdict(reader: _Reader) -> HiveReaderVerdict:
    summaries = {fault.name: fault.summary for fault in FAULTS}
    left_out = (HiveLeftOut(name, summaries[name], count) for name, count in sorted(reader.left_out.items()))
    return HiveReaderVerdict(reader.name, reader_version(reader.name), reader.confirmed, tuple(left_out))


def _key(hive: ForeignHive, expected: ExpectedKey) -> Iterator[str]:
    """What is wrong with a key, and with the list that it stands in."""
    found = hive.key(expected.path)
    if found is None and expected.present:
        yield "is not there"
    if found is not None and not expected.present:
        yield "is still there"
    for path in dict.fromkeys((expected.path[:-1], expected.path)):
        key = hive.key(path)
        listed = sum(map(len, hive.subkeys(path).values()))
        if key is not None and key.subkey_count != listed:
            yield f"stands where {spelled(path)} lists {listed} subkeys of {key.subkey_count}"
    if found is not None and expected.renewed:
        if not _same_names(hive.values(expected.path), expected.values):
            yield "was made anew, and has other values than those that were written"
        if not _same_names(hive.subkeys(expected.path), expected.subkeys):
            yield "was made anew, and has other subkeys than those that were made"


def _same_names(found: Mapping[str | None, Sequence[object]], wanted: frozenset[str]) -> bool:
    return found.keys() == wanted and all(len(entries) == 1 for entries in found.values())


def _value(hive: ForeignHive, expected: ExpectedValue) -> Iterator[str]:
    """What is wrong with a value."""
    found = hive.value(expected.key, expected.name)
    if found is None:
        if expected.type is not None:
            yield "is not there"
        return
    if expected.type is None:
        yield "is still there"
        return
    if found.type != expected.type:
        yield f"is {type_name(found.type)}, not {type_name(expected.type)}"
    if found.data != expected.data:
        yield f"has other data than were written ({len(found.data)} bytes, {len(expected.data)} were written)"


def _contradicted(path: str, reader: str, what: str) -> OpinionError:
    return OpinionError(
        "second-opinion-hive", f"the changed hive is not confirmed by {reader}: {what}", path=path, hint=_HINT
    )
