"""Which parts of a file of the host hold data, where its file system has holes and says so."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from vhdtool.errors import InputError


def host_ranges(path: str) -> Iterator[tuple[int, int]]:
    """Ranges ``(offset, length)`` of a file, in order and apart, outside which it reads as zeros.

    One range, the whole file, where the host does not tell. Raises :class:`InputError` ``cannot-open``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise InputError("cannot-open", f"can't open the file: {error.strerror}", path=path) from error
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        position = 0
        while position < size:
            start, end = _next_range(descriptor, position, size)
            if start < end:
                yield start, end - start
            position = end
    finally:
        os.close(descriptor)


def _next_range(descriptor: int, position: int, size: int) -> tuple[int, int]:
    if not hasattr(os, "SEEK_DATA"):
        return position, size
    try:
        start = os.lseek(descriptor, position, os.SEEK_DATA)
        return start, min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size, size
        return position, size
