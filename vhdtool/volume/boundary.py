"""The one place where calls into foreign parsers are made safe.

The dissect libraries read well-formed input well. On damaged input they raise whatever their own code runs into
(struct errors, index errors, end-of-file errors, recursion), and some of their walks end only when the data lets
them. So every call into them happens inside :func:`foreign_parser`, on a stream that counts what it reads.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vhdtool.disk.device import BlockDevice, DeviceStream
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError

HINT = "Run chkdsk (or fsck) in the guest, or take a fresh copy of the image, and try again."


@contextmanager
def foreign_parser(code: str, what: str, path: str | None = None) -> Iterator[None]:
    """Turn whatever a foreign parser raises into :class:`DamagedError` ``code``; our own errors pass.

    ``what`` says what was being read ("the FAT file system"); ``path`` is the guest path where there is one.
    """
    _listen()
    token = _inside.set(True)
    try:
        yield
    except VhdtoolError:
        raise
    except NotImplementedError as error:
        raise UnsupportedError(
            "feature-unsupported", f"{what} uses something that its reader does not know: {error}", path=path
        ) from error
    # A foreign parser on hostile input may raise anything: struct.error, IndexError, KeyError, EOFError, its own
    # error types, RecursionError, MemoryError. All of them mean the same here, and none of them may leave.
    except Exception as error:
        text = str(error) or type(error).__name__
        raise DamagedError(code, f"{what} can't be read: {text[:200]}", path=path, hint=HINT) from error
    finally:
        _inside.reset(token)


class _Complaints(logging.Handler):
    """Takes what dissect logs. It logs damage that it skips over, and what it skips would be missing without a word."""

    def emit(self, record: logging.LogRecord) -> None:
        """Inside the boundary, an error message is an error."""
        if _inside.get() and record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage())


_inside: ContextVar[bool] = ContextVar("inside a foreign parser", default=False)
_complaints = _Complaints()


def _listen() -> None:
    logger = logging.getLogger("dissect")
    if _complaints not in logger.handlers:
        logger.addHandler(_complaints)


class MeteredStream(DeviceStream):
    """A device as a stream for a foreign parser, with an allowance: a walk that never ends runs dry.

    ``allow`` fills the allowance before each operation. Raises :class:`DamagedError` ``endless-structure``.
    """

    READS = 50_000

    def __init__(self, device: BlockDevice, *, path: str | None = None) -> None:
        super().__init__(device)
        self.sector_size = device.logical_sector_size
        self._path = path
        self._bytes_left = 0
        self._reads_left = 0
        self.allow(0)

    def allow(self, data: int) -> None:
        """Allow one operation that returns ``data`` bytes of content, with ample metadata beside them."""
        self._bytes_left = 64 * 1024 * 1024 + 4 * data
        self._reads_left = self.READS + data // 512

    def _spend(self, amount: int) -> None:
        self._bytes_left -= amount
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            raise DamagedError(
                "endless-structure",
                "the volume's structures lead in circles",
                path=self._path,
                offset=self._position,
                hint=HINT,
            )

    def read(self, size: int = -1) -> bytes:
        """As :meth:`DeviceStream.read`, taken from the allowance."""
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        self._spend(wanted)
        return super().read(wanted)

    def readinto(self, buffer: object) -> int:
        """As :meth:`DeviceStream.readinto`, taken from the allowance."""
        self._spend(memoryview(buffer).nbytes)  # type: ignore[arg-type]  # RawIOBase passes any writable buffer
        return super().readinto(buffer)


class StreamDevice:
    """A stream that a foreign parser made (a logical volume) as a device."""

    def __init__(self, stream: io.RawIOBase, size: int, source: MeteredStream, *, code: str, what: str) -> None:
        self._stream = stream
        self._size = size
        self._source = source
        self._code = code
        self._what = what
        self.logical_sector_size = source.sector_size

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`vhdtool.disk.device.BlockDevice.read_at`."""
        length = min(length, self._size - offset)
        if offset < 0 or length <= 0:
            return b""
        with foreign_parser(self._code, self._what):
            self._source.allow(length)
            self._stream.seek(offset)
            return self._stream.read(length) or b""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As :meth:`vhdtool.disk.device.BlockDevice.read_into`."""
        data = self.read_at(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)
