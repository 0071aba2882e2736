"""The foreign readers of hives, behind one face: python-registry and dissect.regf.

Keys are found by walking their lists, not by either library's look-up: that of dissect.regf misses names that are
not ASCII. Both read from a mapped copy, so what they don't look at costs no memory.
"""

from __future__ import annotations

import importlib
import mmap
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol, TypeVar

from vhdtool.bytesource import ByteSource
from vhdtool.errors import MissingSupportError, OutputError, VhdtoolError
from vhdtool.registry.expected_hive import Path, folded, spelled
from vhdtool.registry.names import fold

PYTHON_REGISTRY = "python-registry"
DISSECT_REGF = "dissect.regf"
PIECE = 1 << 20
REASON_LENGTH = 200


class HiveReaderError(Exception):
    """A foreign reader did not open a hive, or did not read a key or value; the text is what it said."""


class ForeignValue(Protocol):
    """A value as another program reads it."""

    @property
    def type(self) -> int:
        """The number of its type."""

    @property
    def data(self) -> bytes:
        """Its bytes as stored."""


class ForeignKey(Protocol):
    """A key as another program reads it. Names that it can't decode are ``None``."""

    @property
    def subkey_count(self) -> int:
        """How many subkeys the key itself says that it has."""

    def subkeys(self) -> list[tuple[str | None, ForeignKey]]:
        """Its subkeys with their names."""

    def values(self) -> list[tuple[str | None, ForeignValue]]:
        """Its values with their names, ``""`` for the default value."""


class ForeignHive:
    """A hive opened by another program; every method raises :class:`HiveReaderError` where that can't read it.

    ``clean``: whether that program holds it to be written to its end.
    """

    def __init__(self, root: Callable[[], ForeignKey], *, clean: bool) -> None:
        self.clean = clean
        self._root = root
        self._subkeys: dict[Path, dict[str | None, list[ForeignKey]]] = {}
        self._values: dict[Path, dict[str | None, list[ForeignValue]]] = {}

    def key(self, path: Path) -> ForeignKey | None:
        """Return the key at a path, ``None`` where there is none."""
        if not path:
            with guarded():
                return self._root()
        found = self.subkeys(path[:-1]).get(fold(path[-1]), [])
        if len(found) > 1:
            raise HiveReaderError(f"the key {spelled(path)} is there {len(found)} times")
        return found[0] if found else None

    def subkeys(self, path: Path) -> dict[str | None, list[ForeignKey]]:
        """Return the subkeys of a key by their folded names; none, where there is no such key."""
        place = folded(path)
        if place not in self._subkeys:
            key = self.key(path)
            with guarded():
                self._subkeys[place] = _by_name([] if key is None else key.subkeys())
        return self._subkeys[place]

    def values(self, path: Path) -> dict[str | None, list[ForeignValue]]:
        """Return the values of a key by their folded names; none, where there is no such key."""
        place = folded(path)
        if place not in self._values:
            key = self.key(path)
            with guarded():
                self._values[place] = _by_name([] if key is None else key.values())
        return self._values[place]

    def value(self, path: Path, name: str) -> ForeignValue | None:
        """Return a value of a key, ``None`` where there is no such key or value."""
        found = self.values(path).get(fold(name), [])
        if len(found) > 1:
            raise HiveReaderError(f"the value {name!r} of {spelled(path)} is there {len(found)} times")
        return found[0] if found else None


_Entry = TypeVar("_Entry")


def _by_name(entries: Iterable[tuple[str | None, _Entry]]) -> dict[str | None, list[_Entry]]:
    found: dict[str | None, list[_Entry]] = {}
    for name, entry in entries:
        found.setdefault(None if name is None else fold(name), []).append(entry)
    return found


@contextmanager
def guarded() -> Iterator[None]:
    """Turn what a foreign reader raises into :class:`HiveReaderError`; our own errors pass."""
    try:
        yield
    except (HiveReaderError, VhdtoolError):
        raise
    # A foreign parser on a damaged hive may raise anything: struct.error, IndexError, UnicodeDecodeError, its own
    # error types, RecursionError. All mean that it can't read, and none may leave.
    except Exception as error:
        text = str(error) or type(error).__name__
        raise HiveReaderError(text[:REASON_LENGTH]) from error


@contextmanager
def mapped(source: ByteSource) -> Iterator[mmap.mmap]:
    """Copy a source into an unnamed temporary file, and map that.

    Raises :class:`OutputError` ``spool-full`` where the host has no room; :class:`HiveReaderError` for an empty source.
    """
    if source.size == 0:
        raise HiveReaderError("the hive is empty")
    with tempfile.TemporaryFile(prefix="vhdtool-", buffering=0) as file:
        try:
            for start in range(0, source.size, PIECE):
                piece = memoryview(source.read_at(start, PIECE))
                while piece:
                    piece = piece[file.write(piece) :]
        except OSError as error:
            raise OutputError(
                "spool-full",
                f"can't write a temporary copy of the hive: {error.strerror}",
                hint="Make room where this host keeps temporary files (TMPDIR).",
            ) from error
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            yield whole


def open_hive(reader: str, whole: mmap.mmap) -> ForeignHive:
    """Open a hive with the reader of that name.

    Raises :class:`HiveReaderError` where it refuses; :class:`MissingSupportError` ``python-registry-missing``,
    ``dissect-regf-missing``.
    """
    return _open_python_registry(whole) if reader == PYTHON_REGISTRY else _open_dissect_regf(whole)


def reader_version(reader: str) -> str:
    """Return the installed version of a reader. Raises :class:`MissingSupportError` as :func:`open_hive`."""
    if reader == PYTHON_REGISTRY:
        _python_registry()
        return str(getattr(sys.modules["Registry"], "_version_", "unknown"))
    from importlib import metadata  # noqa: PLC0415  # 20 ms that only this reader needs

    try:
        return metadata.version(DISSECT_REGF)
    except metadata.PackageNotFoundError as error:
        raise _dissect_regf_missing() from error


def _python_registry() -> ModuleType:
    try:
        return importlib.import_module("Registry.Registry")
    except ImportError as error:
        raise MissingSupportError(
            "python-registry-missing",
            "python-registry can't be loaded",
            hint="Install it: pip install python-registry",
        ) from error


def _dissect_regf() -> ModuleType:
    try:
        return importlib.import_module("dissect.regf.regf")
    except ImportError as error:
        raise _dissect_regf_missing() from error


def _dissect_regf_missing() -> MissingSupportError:
    return MissingSupportError(
        "dissect-regf-missing", "dissect.regf can't be loaded", hint="Install it: pip install dissect.regf"
    )


class _Whole:
    """What python-registry takes for a file: it wants all bytes at once, and is content with a map of them."""

    def __init__(self, whole: mmap.mmap) -> None:
        self._whole = whole

    def read(self) -> mmap.mmap:
        return self._whole


def _open_python_registry(whole: mmap.mmap) -> ForeignHive:
    library = _python_registry()
    with guarded():
        hive = library.Registry(_Whole(whole))
        clean = not any(hive._regf.recovery_required())
    return ForeignHive(lambda: _RegistryKey(hive.root()), clean=clean)


class _RegistryKey:
    def __init__(self, key: Any) -> None:
        self._key = key

    @property
    def subkey_count(self) -> int:
        return int(self._key.subkeys_number())

    def subkeys(self) -> list[tuple[str | None, ForeignKey]]:
        return [(_decoded(key.name), _RegistryKey(key)) for key in self._key.subkeys()]

    def values(self) -> list[tuple[str | None, ForeignValue]]:
        found = [_RegistryValue(value) for value in self._key.values()]
        return [(value.decoded_name, value) for value in found]


def _decoded(name: Callable[[], str]) -> str | None:
    """A name, where the reader can decode it: of a neighbour that it can't, nothing is asked."""
    try:
        return str(name())
    except UnicodeDecodeError:
        return None


class _RegistryValue:
    def __init__(self, value: Any) -> None:
        self._record = value._vkrecord

    @property
    def decoded_name(self) -> str | None:
        return _decoded(self._record.name)

    @property
    def type(self) -> int:
        return int(self._record.data_type())

    @property
    def data(self) -> bytes:
        """Cut to the length that it tells: of data in the value itself it returns whole fields (see ``AVOIDED``)."""
        with guarded():
            return bytes(self._record.raw_data()[: self._record.data_length()])


def _open_dissect_regf(whole: mmap.mmap) -> ForeignHive:
    library = _dissect_regf()
    with guarded():
        hive = library.RegistryHive(whole)
    return ForeignHive(lambda: _RegfKey(hive.root()), clean=not hive.in_transaction)


class _RegfKey:
    def __init__(self, key: Any) -> None:
        self._key = key

    @property
    def subkey_count(self) -> int:
        return int(self._key.cell.SubKeyCounts[0])

    def subkeys(self) -> list[tuple[str | None, ForeignKey]]:
        return [(key.name, _RegfKey(key)) for key in self._key.subkeys()]

    def values(self) -> list[tuple[str | None, ForeignValue]]:
        found = list(self._key.values())
        return [(value.name if value.cell.NameLength else "", _RegfValue(value)) for value in found]


class _RegfValue:
    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def type(self) -> int:
        return int(self._value.type)

    @property
    def data(self) -> bytes:
        with guarded():
            return bytes(self._value.data)
