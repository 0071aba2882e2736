"""Bytes that are no file of the host yet, as the file that they will be.

Our own layers open a :class:`SourceFile` as they open a file; libraries that want a file object get a
:class:`SourceStream`.
"""

from __future__ import annotations

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import DeviceStream, FileDevice
from vhdtool.disk.host_store import OsFile
from vhdtool.errors import VhdtoolError


class SourceFile(FileDevice):
    """A :class:`vhdtool.disk.device.FileDevice` over any source. ``path`` is the name that the file has or will have.

    ``host_path`` is where a foreign reader finds these very bytes as a file of the host, ``None`` where there is none
    yet. Closing leaves the source open: who made it closes it.
    """

    def __init__(self, source: ByteSource, path: str) -> None:
        self.path = path
        self.bytes_read = 0
        self._fd = -1
        self._source = source
        self._size = source.size
        self.host_path: str | None = None
        if isinstance(source, FileDevice | OsFile) and not isinstance(source, SourceFile):
            self.host_path = source.path

    def _pread(self, buffer: memoryview, offset: int) -> int:
        data = self._source.read_at(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Do nothing."""


class SourceStream(DeviceStream):
    """A file as a file object for a foreign reader (libbfio asks for ``get_size``, dissect for ``read`` and ``seek``).

    Reading never raises into the foreign reader, which would wrap the error in its own words: what went wrong is
    kept in ``error``, and the reader meets the end of the file.
    """

    def __init__(self, file: FileDevice) -> None:
        super().__init__(file)
        self.error: VhdtoolError | None = None

    def get_size(self) -> int:
        """Length in bytes."""
        return self.size

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or all that is left; nothing more once reading has failed."""
        if self.error is not None:
            return b""
        try:
            return super().read(size)
        except VhdtoolError as error:
            self.error = error
            return b""
