"""Files held as another program holds them."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def byte_lock(path: Path, kind: int, place: int) -> Iterator[None]:
    """Hold an open file description lock on one byte, as QEMU does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # struct flock of 64-bit Linux, laid out by the C rules of struct's native mode
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", kind, os.SEEK_SET, place, 1, 0))
        yield
    finally:
        os.close(descriptor)
