"""A file of the host that counts what is written to it, for the receipt."""

from __future__ import annotations

from vhdtool.disk.host_store import HostFile

PIECE = 1 << 20
_PAGE = 4096


class CountedFile:
    """A :class:`vhdtool.disk.host_store.HostFile` over another. ``written`` counts bytes, with copies inside it."""

    def __init__(self, file: HostFile) -> None:
        self._file = file
        self.written = 0

    @property
    def path(self) -> str:
        """Its path, as given."""
        return self._file.path

    @property
    def size(self) -> int:
        """Its length now."""
        return self._file.size

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`HostFile.read_at`."""
        return self._file.read_at(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As :meth:`HostFile.read_into`."""
        return self._file.read_into(offset, buffer)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """As :meth:`HostFile.write_at`."""
        self._file.write_at(offset, data)
        self.written += len(data)

    def write_differing(self, offset: int, data: bytes | bytearray) -> None:
        """Write the pages of 4 KiB, counted from ``offset``, that differ from what is there; runs of them at once."""
        old = self._file.read_at(offset, len(data))
        if old == data:
            return
        start = None
        for page in range(0, len(data), _PAGE):
            if old[page : page + _PAGE] != data[page : page + _PAGE]:
                start = page if start is None else start
            elif start is not None:
                self.write_at(offset + start, data[start:page])
                start = None
        if start is not None:
            self.write_at(offset + start, data[start:])

    def copy_within(self, source: int, target: int, length: int) -> None:
        """As :meth:`HostFile.copy_within`."""
        self._file.copy_within(source, target, length)
        self.written += length

    def clone_from(self, source: str) -> bool:
        """As :meth:`HostFile.clone_from`; shared extents are not written."""
        return self._file.clone_from(source)

    def truncate(self, size: int) -> None:
        """As :meth:`HostFile.truncate`."""
        self._file.truncate(size)

    def flush(self) -> None:
        """As :meth:`HostFile.flush`."""
        self._file.flush()

    def close(self) -> None:
        """As :meth:`HostFile.close`."""
        self._file.close()
