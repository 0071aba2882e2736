"""An image is written to by one program at a time: the lock for it, and the refusal where another has it.

Four means, each for what the others don't see:

- ``flock`` keeps two of us apart.
- The byte locks of QEMU (block/file-posix.c, ``RAW_LOCK_PERM_BASE`` and ``RAW_LOCK_SHARED_BASE``): a read lock on byte
  100 + n says "I use permission n", on 200 + n "I let nobody else have it". We take all of them and share nothing, so
  QEMU refuses the image while we write; any lock of somebody else refuses us.
- A read lease (fcntl(2), ``F_SETLEASE``) is granted only while nobody has the file open for writing, loop devices and
  processes of containers included. It is given back at once: kept, it would stop our own opening for writing. Only
  the file's owner and root can have one.
- ``/proc`` names who it is, and is all there is where no lease can be had.

All are bound to one open file description: closing another descriptor of the same file, as reading it does all the
time, must not lose them, as it would lose POSIX locks. Windows needs none of it: a disk that Hyper-V has attached
can't be opened for writing there.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Final, Literal, Self

import construct

from vhdtool.disk.open_files import Holders, network_file_system, writers_of
from vhdtool.disk.open_layer import refuse_no_file
from vhdtool.errors import InputError, RefusedError
from vhdtool.layout import packed

if sys.platform != "win32":
    import fcntl

Mode = Literal["write", "keep"]

QEMU_USES: Final = 100
QEMU_KEEPS: Final = 200
QEMU_PERMISSIONS: Final = 4  # consistent read, write, write unchanged, resize
QEMU_WRITES: Final = (1, 2, 3)

FLOCK = construct.Struct(  # fcntl(2), struct flock of 64-bit Linux
    "type" / construct.Int16sn,
    "whence" / construct.Int16sn,
    "_gap" / construct.Padding(4),
    "start" / construct.Int64sn,
    "length" / construct.Int64sn,
    "pid" / construct.Int32sn,
    "_end" / construct.Padding(4),
)
_FLOCK = packed(FLOCK)
_FLOCK_HOLDS = sys.maxsize > 1 << 32

_FAR_BEHIND = 1 << 62
_BUSY = frozenset([errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK])


class WriteLock:
    """A lock on an image file; a context manager. ``notes``: what could not be known, for the receipt."""

    def __init__(self, path: str, descriptor: int, notes: tuple[str, ...]) -> None:
        self.path = path
        self.notes = notes
        self._fd = descriptor

    def __enter__(self) -> Self:
        """Give the lock itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()

    def release(self) -> None:
        """Release it; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_for_writing(path: str) -> WriteLock:
    """Lock an image file to write to it: nobody else may use it.

    Raises :class:`RefusedError` ``image-in-use`` where another process has it open for writing or holds a lock on it;
    descriptors for reading, ours and others', don't matter. :class:`InputError` ``cannot-open``, ``not-a-disk``.
    """
    return _lock(path, "write")


def lock_unchanged(path: str) -> WriteLock:
    """Lock an image file so that nobody writes to it while it is read; others may read it, and lock it in this way.

    Raises as :func:`lock_for_writing`.
    """
    return _lock(path, "keep")


def _lock(path: str, mode: Mode) -> WriteLock:
    refuse_no_file(path)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise InputError(
            "cannot-open",
            f"can't open the file: {error.strerror}",
            path=path,
            hint="Check the name and that this user may read it.",
        ) from error
    try:
        return WriteLock(path, descriptor, tuple(_take(path, descriptor, mode)))
    except BaseException:
        os.close(descriptor)
        raise


def _take(path: str, descriptor: int, mode: Mode) -> Iterator[str]:
    """Take every lock that this system has; give a note for each that it has not."""
    if sys.platform == "win32":
        _lock_on_windows(path, descriptor)
        return
    network = network_file_system(path)
    if network is None:  # there flock may become a lock of the whole file, and meet our own byte locks
        yield from _flock(path, descriptor, mode)
    if sys.platform != "linux":
        yield "This system does not tell whether another program has the image open for writing."
        return
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        _refuse_claimed_device(path)
    yield from _lock_as_qemu(path, descriptor, mode)
    if network is not None:
        yield f"The image lies on a network file system ({network}): what other machines do with it can't be seen."
    yield from _refuse_writers(path, descriptor)


def _flock(path: str, descriptor: int, mode: Mode) -> Iterator[str]:
    kind = fcntl.LOCK_EX if mode == "write" else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            raise _in_use(path, "another program has locked the image") from error
        yield f"The image's file system has no locks ({error.strerror}): don't change the image twice at once."


def _lock_as_qemu(path: str, descriptor: int, mode: Mode) -> Iterator[str]:
    """Say by QEMU's bytes what we do, then see whether somebody else's say otherwise: in that order, as QEMU does."""
    everything = range(QEMU_PERMISSIONS)
    uses, keeps = (everything, everything) if mode == "write" else ((0,), QEMU_WRITES)
    try:
        if not _FLOCK_HOLDS:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        for place in (*(QEMU_USES + bit for bit in uses), *(QEMU_KEEPS + bit for bit in keeps)):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _byte_lock(fcntl.F_RDLCK, place, 1))
        used = [(QEMU_KEEPS, 1), *((QEMU_USES + bit, 1) for bit in keeps)]
        asked = [(0, 0)] if mode == "write" else used  # (0, 0), the whole file: whoever locks any byte uses the image
        taken = any(_somebody_locks(descriptor, place, length) for place, length in asked)
    except OSError as error:
        if error.errno in _BUSY:
            raise _in_use(path, "another program has locked the image") from error
        yield f"The image's file system has no byte locks ({error.strerror}): QEMU does not see that it is written to."
        return
    if taken:
        raise _in_use(path, "another program, as QEMU does, has locked the image")


def _byte_lock(kind: int, place: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, place, length, 0)


def _somebody_locks(descriptor: int, place: int, length: int) -> bool:
    asked = _byte_lock(fcntl.F_WRLCK, place, length)
    kind: int = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


def _refuse_writers(path: str, descriptor: int) -> Iterator[str]:
    try:
        # a broken lease would send SIGIO, which ends a process; this one is ignored unless somebody handles it
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        holders = _holders(path)
        if error.errno == errno.EAGAIN or (holders and holders.names):
            raise _in_use(path, "another program has the image open for writing") from error
        hidden = "" if holders and holders.complete else ", and the files of other users' processes can't be seen"
        yield f"The kernel gives no lease on the image{hidden}: a program that writes to it may go unnoticed."


def _refuse_claimed_device(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(path, "the block device is mounted, or a part of another device") from error


def _lock_on_windows(path: str, descriptor: int) -> None:
    """Lock a byte far behind the end: there locks are for reading and writing too, and this one must hinder neither."""
    if sys.platform != "win32":
        return
    import msvcrt  # noqa: PLC0415

    os.lseek(descriptor, _FAR_BEHIND, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise _in_use(path, "another program has locked the image") from error


def _in_use(path: str, what: str) -> RefusedError:
    holders = _holders(path)
    return RefusedError(
        "image-in-use",
        what,
        path=path,
        found=", ".join(holders.names) if holders and holders.names else None,
        hint="Stop the virtual machine or the program that uses the image, and try again.",
    )


def _holders(path: str) -> Holders | None:
    try:
        return writers_of(path)
    except OSError:
        return None
