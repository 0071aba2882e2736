"""The one door through which image files of the host are made and changed.

Every commit writes, flushes, truncates and renames through a :class:`HostStore`, and through nothing else: so the
crash tests can put a store in its place that records the calls of the shipped code and stops after any of them.

What a caller may count on after a power cut: bytes written before a :meth:`HostFile.flush` that returned are there;
of later writes any part may be there, in any order, down to single 512-byte sectors; a rename or a removal is certain
only after :meth:`HostStore.flush_folder`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol

from vhdtool.disk.positioned_io import read_part, write_part
from vhdtool.errors import InputError, OutputError, RefusedError

COPY_PIECE: Final = 1 << 20
_NO_FOLDER_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # network file systems that don't know it for folders
FICLONE: Final = 0x40049409
"""Linux, include/uapi/linux/fs.h: ``_IOW(0x94, 9, int)``, make this file share all extents of another."""


class HostFile(Protocol):
    """A file opened for reading and writing. Offsets and sizes in bytes."""

    @property
    def path(self) -> str:
        """Its path, as given."""

    @property
    def size(self) -> int:
        """Its length now."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes filled, fewer only at the end of the file."""

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``; the file grows where it ends before."""

    def copy_within(self, source: int, target: int, length: int) -> None:
        """Copy a range of the file to another place in it; the two don't overlap."""

    def clone_from(self, source: str) -> bool:
        """Make this empty file share the extents of the file ``source``; ``False`` where the host can't."""

    def truncate(self, size: int) -> None:
        """Set the length; what is new reads as zeros."""

    def flush(self) -> None:
        """Return when everything written is on stable storage."""

    def close(self) -> None:
        """Close; a second call does nothing."""


class HostStore(Protocol):
    """Files of the host, by path."""

    def open(self, path: str) -> HostFile:
        """Open an existing file for reading and writing. Raises :class:`InputError` ``cannot-open-for-writing``."""

    def create(self, path: str) -> HostFile:
        """Make a new file. Raises :class:`RefusedError` ``file-exists``, :class:`OutputError` ``cannot-write``."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; a file that has it is replaced, in one step."""

    def give_name(self, old: str, new: str) -> None:
        """Give a file another name that no file has. Raises :class:`RefusedError` ``file-exists``."""

    def remove(self, path: str) -> None:
        """Remove a file, where it exists."""

    def copy_facts(self, old: str, new: str) -> None:
        """Give the file ``new`` the mode, and where it can be had the owner and extended attributes, of ``old``.

        Times stay: the file was written just now. What the host does not permit is passed over.
        """

    def flush_folder(self, path: str) -> None:
        """Return when renames and removals in the folder of the file ``path`` are on stable storage."""

    def free_space(self, path: str) -> int | None:
        """Bytes that this user can still write in the folder of ``path``; ``None`` where the host does not say."""


def _cannot_write(error: OSError, path: str, what: str = "write the file") -> OutputError:
    return OutputError(
        "cannot-write",
        f"can't {what}: {error.strerror or error}",
        path=path,
        hint="Check the folder's rights and its free space.",
    )


def _flush(descriptor: int) -> None:
    try:
        import fcntl  # noqa: PLC0415  # absent on Windows
    except ImportError:
        os.fsync(descriptor)
        return
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
        return
    try:
        fcntl.fcntl(descriptor, full)  # macOS: fsync leaves the bytes in the drive's cache
    except OSError:  # a file system that does not know it
        os.fsync(descriptor)


class OsFile:
    """A :class:`HostFile` of the operating system. Only :class:`OsStore` makes one."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._fd = descriptor

    @property
    def descriptor(self) -> int:
        """The file descriptor, for locks."""
        return self._fd

    @property
    def size(self) -> int:
        """Its length now, also of a block device, of which ``fstat`` says 0."""
        return os.lseek(self._fd, 0, os.SEEK_END)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As :meth:`HostFile.read_into`."""
        done = 0
        while done < len(buffer):
            try:
                got = read_part(self._fd, buffer[done:], offset + done)
            except OSError as error:
                raise InputError(
                    "read-failed", f"reading failed: {error.strerror}", path=self.path, offset=offset + done
                ) from error
            if got == 0:
                break
            done += got
        return done

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`HostFile.read_at`."""
        buffer = bytearray(max(0, min(length, self.size - offset)))
        got = self.read_into(offset, memoryview(buffer))
        return bytes(buffer[:got])

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """As :meth:`HostFile.write_at`. Raises :class:`OutputError` ``cannot-write``."""
        view = memoryview(data).cast("B")
        try:
            while view:
                done = write_part(self._fd, view, offset)
                offset += done
                view = view[done:]
        except OSError as error:
            raise _cannot_write(error, self.path) from error

    def copy_within(self, source: int, target: int, length: int) -> None:
        """As :meth:`HostFile.copy_within`, by the kernel where it can (it may share the extents)."""
        while length > 0 and hasattr(os, "copy_file_range"):
            try:
                done = os.copy_file_range(self._fd, self._fd, length, source, target)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                    raise _cannot_write(error, self.path) from error
                break
            if done == 0:
                break
            source, target, length = source + done, target + done, length - done
        buffer = memoryview(bytearray(min(COPY_PIECE, length)))
        while length > 0:
            piece = buffer[: min(len(buffer), length)]
            got = self.read_into(source, piece)
            piece[got:] = bytes(len(piece) - got)
            self.write_at(target, piece)
            source, target, length = source + len(piece), target + len(piece), length - len(piece)

    def clone_from(self, source: str) -> bool:
        """As :meth:`HostFile.clone_from`: ``FICLONE`` on Linux."""
        try:
            import fcntl  # noqa: PLC0415  # absent on Windows
        except ImportError:
            return False
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
        try:
            original = os.open(source, flags)
        except OSError as error:
            raise InputError("cannot-open", f"can't open the file: {error.strerror}", path=source) from error
        try:
            fcntl.ioctl(self._fd, FICLONE, original)
        except OSError:
            return False
        finally:
            os.close(original)
        return True

    def truncate(self, size: int) -> None:
        """As :meth:`HostFile.truncate`. Raises :class:`OutputError` ``cannot-write``."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise _cannot_write(error, self.path, "set the file's length") from error

    def flush(self) -> None:
        """As :meth:`HostFile.flush`. Raises :class:`OutputError` ``cannot-write``."""
        try:
            _flush(self._fd)
        except OSError as error:
            raise _cannot_write(error, self.path, "flush the file") from error

    def close(self) -> None:
        """Close; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsStore:
    """The :class:`HostStore` of the operating system."""

    def open(self, path: str) -> OsFile:
        """As :meth:`HostStore.open`."""
        try:
            return OsFile(path, os.open(path, self._flags()))
        except OSError as error:
            raise InputError(
                "cannot-open-for-writing",
                f"can't open the file for writing: {error.strerror}",
                path=path,
                hint="Check that this user may write it and that it is not marked read-only.",
            ) from error

    def create(self, path: str) -> OsFile:
        """As :meth:`HostStore.create`."""
        try:
            return OsFile(path, os.open(path, self._flags() | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError as error:
            raise _file_exists(path) from error
        except OSError as error:
            raise _cannot_write(error, path, "make the file") from error

    @staticmethod
    def _flags() -> int:
        return os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)

    def rename(self, old: str, new: str) -> None:
        """As :meth:`HostStore.rename`. Raises :class:`OutputError` ``cannot-write``."""
        try:
            Path(old).replace(new)
        except OSError as error:
            raise _cannot_write(error, new, "give the file its name") from error

    def give_name(self, old: str, new: str) -> None:
        """As :meth:`HostStore.give_name`, also for a file that appears meanwhile. Raises also ``cannot-write``."""
        try:
            if os.name == "nt":
                Path(old).rename(new)  # fails where the name is taken, unlike on other systems
                return
            os.link(old, new)
        except FileExistsError as error:
            raise _file_exists(new) from error
        except OSError:  # a file system without hard links
            if os.path.lexists(new):
                raise _file_exists(new) from None
            self.rename(old, new)
            return
        with contextlib.suppress(OutputError):  # the file has its name: that the old one stays as well harms nothing
            self.remove(old)

    def remove(self, path: str) -> None:
        """As :meth:`HostStore.remove`. Raises :class:`OutputError` ``cannot-write``."""
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(error, path, "remove the file") from error

    def copy_facts(self, old: str, new: str) -> None:
        """As :meth:`HostStore.copy_facts`. The owner goes first, because a change of it takes bits from the mode."""
        with contextlib.suppress(OSError):
            facts = Path(old).stat()
            if hasattr(os, "chown"):
                for owner, group in ((-1, facts.st_gid), (facts.st_uid, -1)):
                    with contextlib.suppress(OSError):
                        os.chown(new, owner, group)
            Path(new).chmod(stat.S_IMODE(facts.st_mode))
        if hasattr(os, "listxattr"):
            with contextlib.suppress(OSError):
                for name in os.listxattr(old):
                    with contextlib.suppress(OSError):
                        os.setxattr(new, name, os.getxattr(old, name))

    def flush_folder(self, path: str) -> None:
        """As :meth:`HostStore.flush_folder`; Windows has no such call and writes its metadata in order."""
        if os.name == "nt":
            return
        try:
            descriptor = os.open(Path(path).parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except OSError as error:
            raise _cannot_write(error, path, "open the folder") from error
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_FLUSH:
                raise _cannot_write(error, path, "flush the folder") from error
        finally:
            os.close(descriptor)

    def free_space(self, path: str) -> int | None:
        """As :meth:`HostStore.free_space`."""
        try:
            if hasattr(os, "statvfs"):
                facts = os.statvfs(Path(path).parent)
                return facts.f_bavail * facts.f_frsize
            import shutil  # noqa: PLC0415  # Windows only

            return shutil.disk_usage(Path(path).parent).free
        except OSError:
            return None


def _file_exists(path: str) -> RefusedError:
    return RefusedError(
        "file-exists",
        "the file is there already",
        path=path,
        hint="Remove it first, or name another one: nothing is overwritten.",
    )


OS_STORE: HostStore = OsStore()
