"""Reading and writing at a place of an opened file, on hosts with and without calls for it.

``write_part`` is for :mod:`vhdtool.disk.host_store` and the spool of :mod:`vhdtool.disk.overlay` alone.
"""

from __future__ import annotations

import os

if hasattr(os, "preadv"):

    def read_part(descriptor: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``, or a part of it; return the bytes read, 0 at the file's end."""
        return os.preadv(descriptor, [buffer], offset)

    def write_part(descriptor: int, data: memoryview, offset: int) -> int:
        """Write ``data`` at ``offset``, or a part of it; return the bytes written."""
        return os.pwrite(descriptor, data, offset)

else:  # Windows: one at a time uses a descriptor, so seek and read do

    def read_part(descriptor: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``, or a part of it; return the bytes read, 0 at the file's end."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write_part(descriptor: int, data: memoryview, offset: int) -> int:
        """Write ``data`` at ``offset``, or a part of it; return the bytes written."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)
