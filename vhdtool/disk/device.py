"""The seam between the bytes of a virtual disk and everything that reads them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from vhdtool.disk.positioned_io import read_part
from vhdtool.errors import DamagedError, InputError, Problem


class Origin(Enum):
    """Where the bytes of a virtual range come from, seen from one file of a chain."""

    DATA = "data"  # stored in this file, at ``file_offset``
    ZERO = "zero"  # reads as zeros, whatever a parent holds
    PARENT = "parent"  # not in this file: the parent's bytes; zeros where there is no parent


@dataclass(frozen=True, slots=True)
class Run:
    """``length`` bytes of the virtual disk from ``offset`` with one origin; ``file_offset`` is set for DATA only."""

    offset: int
    length: int
    origin: Origin
    file_offset: int = 0


class BlockDevice(Protocol):
    """A virtual disk (or a slice of one) as a flat run of bytes. Any alignment is allowed."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def logical_sector_size(self) -> int:
        """512 or 4096."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the device ends."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``, zeros for holes; return the bytes filled: fewer only at the device's end."""


class WritableDevice(BlockDevice, Protocol):
    """A device whose bytes can be set: an overlay or a part of one, never a file of the host."""

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``. Raises :class:`ValueError` outside the device."""


class ParentKind(Enum):
    """How a parent locator entry names the parent."""

    RELATIVE = "relative_path"
    VOLUME = "volume_path"
    ABSOLUTE = "absolute_win32_path"
    NAME = "parent_name"  # VHD: the Unicode name field of the dynamic header


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """One way the child names its parent; ``path`` as written (with backslashes)."""

    kind: ParentKind
    path: str


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """Facts of one image file. Sizes in bytes; GUIDs lower case without braces.

    ``identity`` is what a child's linkage must name: a VHDX's DataWriteGuid, a VHD's unique id; ``None`` for raw.
    ``linkage`` is what this file, as a child, says of its parent (VHDX: parent_linkage and parent_linkage2).
    """

    path: str
    format: str  # "vhdx" | "vhd" | "raw"
    type: str  # "fixed" | "dynamic" | "differencing"
    virtual_size: int
    logical_sector_size: int
    physical_sector_size: int
    block_size: int | None
    file_size: int
    identity: str | None
    linkage: tuple[str, ...]
    locators: tuple[ParentLocator, ...]
    log: str | None  # VHDX: "clean" | "replayed"; others "replayed" while a journal of ours is pending, else None
    creator: str | None
    problems: tuple[Problem, ...]


class Layer(Protocol):
    """One opened image file: it says where its bytes are, and the chain puts the files together."""

    @property
    def info(self) -> LayerInfo:
        """The file's facts."""

    def resolve(self, offset: int, length: int) -> Iterator[Run]:
        """Cut ``length`` bytes from ``offset`` (inside the disk) into runs, in order, without gaps.

        Raises :class:`DamagedError` where the structures that say so are damaged.
        """

    def read_stored(self, file_offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with stored bytes of a DATA run (a replayed log laid over the file where there is one)."""

    def close(self) -> None:
        """Release the file."""


def cut_off(path: str, offset: int, wanted: int, got: int) -> DamagedError:
    """Make the error for a file that ends before ``wanted`` bytes from ``offset``."""
    return DamagedError(
        "truncated",
        "the file ends before data that it should hold",
        path=path,
        offset=offset,
        expected=f"{wanted} bytes",
        found=f"{got} bytes",
        hint="The copy is incomplete: copy the image again from where it came from.",
    )


class FileDevice:
    """A file of the host, opened read-only, read with pread.

    ``bytes_read`` counts what was asked of the operating system: the figure that ``docs/performance.md`` bounds.
    """

    logical_sector_size = 512

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.bytes_read = 0
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._fd = os.open(self.path, flags)
        except OSError as error:
            raise InputError(
                "cannot-open",
                f"can't open the file: {error.strerror}",
                path=self.path,
                hint="Check the name and that this user may read it.",
            ) from error
        try:
            self._size = os.lseek(self._fd, 0, os.SEEK_END)
            if Path(self.path).is_dir():
                raise InputError("is-a-directory", "this is a directory", path=self.path, expected="an image file")
        except OSError as error:
            os.close(self._fd)
            raise InputError("cannot-open", f"can't read the file: {error.strerror}", path=self.path) from error
        except InputError:
            os.close(self._fd)
            raise

    @property
    def size(self) -> int:
        """Length in bytes when the file was opened."""
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes filled, fewer only at the end of the file."""
        done = 0
        wanted = len(buffer)
        while done < wanted:
            try:
                got = self._pread(buffer[done:], offset + done)
            except OSError as error:
                raise InputError(
                    "read-failed", f"reading failed: {error.strerror}", path=self.path, offset=offset + done
                ) from error
            if got == 0:
                break
            done += got
        self.bytes_read += done
        return done

    def _pread(self, buffer: memoryview, offset: int) -> int:
        return read_part(self._fd, buffer, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        if offset >= self._size or length <= 0:
            return b""
        buffer = bytearray(min(length, self._size - offset))
        got = self.read_into(offset, memoryview(buffer))
        return bytes(buffer) if got == len(buffer) else bytes(buffer[:got])

    def read_exactly_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of ``buffer`` or raise :class:`DamagedError` ``truncated``."""
        got = self.read_into(offset, buffer)
        if got != len(buffer):
            raise cut_off(self.path, offset, len(buffer), got)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Slice:
    """A part of a device as a device of its own: a partition."""

    def __init__(self, device: BlockDevice, offset: int, size: int) -> None:
        self._device = device
        self.offset = offset
        self._size = max(0, min(size, device.size - offset))

    @property
    def size(self) -> int:
        """Length in bytes, cut at the end of the device."""
        return self._size

    @property
    def logical_sector_size(self) -> int:
        """That of the device."""
        return self._device.logical_sector_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As :meth:`BlockDevice.read_into`, from the start of the slice."""
        if offset >= self._size:
            return 0
        return self._device.read_into(self.offset + offset, buffer[: self._size - offset])

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`BlockDevice.read_at`, from the start of the slice."""
        if offset >= self._size:
            return b""
        return self._device.read_at(self.offset + offset, min(length, self._size - offset))


class WritableSlice(Slice):
    """A part of a writable device as a device of its own: a partition of an overlay."""

    def __init__(self, device: WritableDevice, offset: int, size: int) -> None:
        super().__init__(device, offset, size)
        self._writable = device

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """As :meth:`WritableDevice.write_at`, from the start of the slice."""
        view = memoryview(data).cast("B")
        if offset < 0 or offset + len(view) > self.size:
            raise ValueError("the range lies outside the slice")
        self._writable.write_at(self.offset + offset, view)


class DeviceStream(io.RawIOBase):
    """A device as a seekable binary file, for libraries that want one (dissect, pefile)."""

    def __init__(self, device: BlockDevice) -> None:
        super().__init__()
        self._device = device
        self._position = 0
        self.size = device.size  # dissect asks for it

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; a place beyond the end is allowed and reads nothing."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._device.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        """Read into ``buffer``; fewer bytes only at the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # RawIOBase passes any writable buffer
        got = self._device.read_into(self._position, view)
        self._position += got
        return got

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or all that is left."""
        if size is None or size < 0:
            size = max(0, self._device.size - self._position)
        data = self._device.read_at(self._position, size)
        self._position += len(data)
        return data
