"""The foreign readers of containers, behind one face: pyvhdi and dissect.hypervisor.

They get the files of a chain from us, one by one: finding parents is not what they are asked for. Both are imported
where they are first needed; of dissect.hypervisor only the module of the format, because its package imports every
format that it knows (100 ms).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self, TypeVar

from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.device import FileDevice
from vhdtool.disk.source_file import SourceFile, SourceStream
from vhdtool.errors import MissingSupportError

PYVHDI = "pyvhdi"
DISSECT = "dissect.hypervisor"
REASON_LENGTH = 500
_BITMAP_ALIGNMENT = 8  # sectors: from these on, dissect finds the bits of a sector bitmap
_PACKAGE = "dissect.hypervisor"
_Result = TypeVar("_Result")


class ReaderError(Exception):
    """A foreign reader did not open a chain, or did not read a range; the text is what it said."""


class ForeignReader(Protocol):
    """A chain of files opened by another program."""

    @property
    def size(self) -> int:
        """What it says of the disk's length, in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``. Raises :class:`ReaderError`."""

    def close(self) -> None:
        """Close what it opened."""


def open_reader(reader: str, disk: VirtualDisk) -> ForeignReader:
    """Open the files of a disk with the reader of that name.

    Raises :class:`ReaderError` where it refuses; :class:`MissingSupportError` ``pyvhdi-missing``,
    ``dissect-hypervisor-missing``.
    """
    return _Pyvhdi(disk) if reader == PYVHDI else _Dissect(disk)


def reader_version(reader: str) -> str:
    """Return the installed version of a reader. Raises :class:`MissingSupportError` as :func:`open_reader`."""
    if reader == PYVHDI:
        return str(_pyvhdi().get_version())
    from importlib import metadata  # noqa: PLC0415  # 20 ms that only this reader needs

    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise _dissect_missing() from error


class _Pyvhdi:
    """Files that pyvhdi opens itself, by their path, unless they are none yet."""

    def __init__(self, disk: VirtualDisk) -> None:
        pyvhdi = _pyvhdi()
        self._block = _smallest_block(disk)
        self._opened: list[Any] = []
        self._streams: list[SourceStream] = []
        try:
            for file in disk.files:
                self._guarded(self._open, pyvhdi.file(), file)
            for child, parent in pairwise(self._opened):
                self._guarded(child.set_parent, parent)
        except BaseException:
            self.close()
            raise

    def _open(self, reader: Any, file: FileDevice) -> None:
        path = file.host_path if isinstance(file, SourceFile) else file.path
        if path is None:
            stream = SourceStream(file)
            self._streams.append(stream)
            reader.open_file_object(stream)
        else:
            reader.open(path)
        self._opened.append(reader)

    @property
    def size(self) -> int:
        return self._guarded(self._media_size)

    def _media_size(self) -> int:
        return int(self._opened[0].get_media_size())

    def read(self, offset: int, length: int) -> bytes:
        """Read block by block: see ``AVOIDED`` of its faults."""
        parts = [
            _whole(bytes(self._guarded(self._opened[0].read_buffer_at_offset, stop - start, start)), stop - start)
            for start, stop in _in_blocks(offset, length, self._block)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _guarded(self, call: Callable[..., _Result], *arguments: Any) -> _Result:
        try:
            return call(*arguments)
        except (OSError, ValueError, MemoryError, RuntimeError) as error:  # what pyvhdi raises, whatever the cause
            _raise_ours(self._streams)
            raise ReaderError(_first_sentence(error)) from error

    def close(self) -> None:
        for reader in self._opened:
            reader.close()
        self._opened.clear()


class _ChainPath(type(Path())):  # type: ignore[misc]  # the class of this host's paths, known at run time only
    """A path that opens one file of a chain and leads to its parent, whatever the locators say.

    dissect.hypervisor takes a differencing VHDX as a path only, and looks for the parent in the path's folder.
    """

    chain: Sequence[FileDevice]
    streams: list[SourceStream]

    @classmethod
    def of(cls, chain: Sequence[FileDevice], streams: list[SourceStream]) -> Self:
        path = cls(chain[0].path)
        path.chain, path.streams = chain, streams
        return path

    @property
    def parent(self) -> _ChainPath:
        """The folder: what is looked up in it is the parent."""
        return self

    def joinpath(self, *_: object) -> _ChainPath:
        if len(self.chain) < 2:
            raise FileNotFoundError("the chain has no further file")
        return _ChainPath.of(self.chain[1:], self.streams)

    def exists(self, **_: object) -> bool:
        return True

    def open(self, *_: object, **__: object) -> SourceStream:
        stream = SourceStream(self.chain[0])
        self.streams.append(stream)
        return stream


class _Dissect:
    """Files that are given to dissect.hypervisor as file objects."""

    def __init__(self, disk: VirtualDisk) -> None:
        self._streams: list[SourceStream] = []
        self._sector = disk.logical_sector_size
        self._block = _smallest_block(disk)
        self._disk: Any
        self._sectors: Any
        module = _dissect_module(disk.info.format)
        with self._guarded():
            if disk.info.format == "vhdx":
                self._disk = self._sectors = module.VHDX(_ChainPath.of(disk.files, self._streams))
            else:
                self._streams.append(SourceStream(disk.files[0]))
                self._disk = module.VHD(self._streams[0])
                self._sectors = self._disk.disk

    @property
    def size(self) -> int:
        return int(self._disk.size)

    def read(self, offset: int, length: int) -> bytes:
        """Read in pieces that start at every eighth sector and stay in one block: see ``AVOIDED`` of its faults."""
        unit = _BITMAP_ALIGNMENT * self._sector
        parts: list[bytes] = []
        for first, stop in _in_blocks(offset, length, self._block):
            start = first - first % unit
            count = -(-(stop - start) // self._sector)
            with self._guarded():
                data = self._sectors.read_sectors(start // self._sector, count)
            parts.append(_whole(data, count * self._sector)[first - start : stop - start])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        # A foreign parser on a damaged container may raise anything: struct.error, EOFError, KeyError, its own
        # error types, RecursionError. All mean that it can't read, and none may leave.
        except Exception as error:
            _raise_ours(self._streams)
            raise ReaderError(_first_sentence(error) or type(error).__name__) from error
        _raise_ours(self._streams)

    def close(self) -> None:
        """Do nothing: the files are ours."""


def _dissect_module(name: str) -> ModuleType:
    """Import ``dissect.hypervisor.disk.NAME`` without what the package's own start imports.

    A package that is not imported yet is stood in for while the module loads. Afterwards nothing of that is left in
    the table of modules, so that whoever imports the package later gets it whole.
    """
    if _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.disk.{name}")
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        raise _dissect_missing()
    stand_in = ModuleType(_PACKAGE)
    stand_in.__path__ = list(spec.submodule_search_locations or ())
    stand_in.__spec__ = spec
    sys.modules[_PACKAGE] = stand_in
    try:
        return importlib.import_module(f"{_PACKAGE}.disk.{name}")
    finally:
        for module in [each for each in sys.modules if each == _PACKAGE or each.startswith(f"{_PACKAGE}.")]:
            del sys.modules[module]


def _dissect_missing() -> MissingSupportError:
    return MissingSupportError(
        "dissect-hypervisor-missing",
        "dissect.hypervisor can't be loaded",
        hint="Install it: pip install dissect.hypervisor",
    )


def _pyvhdi() -> Any:
    try:
        import pyvhdi  # noqa: PLC0415  # a compiled module that only a comparison needs
    except ImportError as error:
        raise MissingSupportError(
            "pyvhdi-missing", "pyvhdi can't be loaded", hint="Install it: pip install libvhdi-python"
        ) from error
    return pyvhdi


def _smallest_block(disk: VirtualDisk) -> int | None:
    """Block sizes are powers of two: who stays in the smallest crosses none."""
    return min((layer.info.block_size for layer in disk.layers if layer.info.block_size is not None), default=None)


def _in_blocks(offset: int, length: int, block: int | None) -> Iterator[tuple[int, int]]:
    """Cut a range, start and end, where blocks end."""
    end = offset + length
    while offset < end:
        stop = end if block is None else min(end, (offset // block + 1) * block)
        yield offset, stop
        offset = stop


def _whole(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise ReaderError(f"it returned {len(data)} bytes of {length}")
    return data


def _raise_ours(streams: Sequence[SourceStream]) -> None:
    """Raise our own error, where reading the file was what failed."""
    for stream in streams:
        if stream.error is not None:
            raise stream.error


def _first_sentence(error: Exception) -> str:
    """The cause, which libvhdi tells first, then its whole call stack."""
    return str(error).strip().partition("\n")[0][:REASON_LENGTH]
