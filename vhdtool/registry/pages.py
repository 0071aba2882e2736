"""The bytes of a hive file, a page at a time: the file itself, with what its logs hold laid over it."""

from __future__ import annotations

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError
from vhdtool.registry.format import PAGE_SIZE

CACHED_PAGES = 16384  # 64 MiB
_RUN = 64  # pages that one read of the source asks for at most


class HivePages:
    """A :class:`vhdtool.bytesource.ByteSource` of the hive as it is after recovery, read lazily.

    At most ``cached`` pages of the source are kept; pages laid over it stay.
    """

    def __init__(self, source: ByteSource, path: str, *, cached: int = CACHED_PAGES) -> None:
        self._source = source
        self._path = path
        self._cached = cached
        self._cache: dict[int, bytes] = {}
        self._laid: dict[int, bytes] = {}
        self._size = source.size

    @property
    def size(self) -> int:
        """Length in bytes; recovery can make it longer than the file."""
        return self._size

    @property
    def laid(self) -> tuple[int, ...]:
        """The numbers of the pages that something was laid over, in order."""
        return tuple(sorted(self._laid))

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the hive ends.

        Raises :class:`DamagedError` ``hive-truncated`` where the source does not hold what its size promises.
        """
        length = min(length, self._size - offset)
        if length <= 0:
            return b""
        first, start = divmod(offset, PAGE_SIZE)
        last = (offset + length - 1) // PAGE_SIZE
        if first == last:
            return self.page(first)[start : start + length]
        parts = bytearray()
        for at in range(first, last + 1, _RUN):
            numbers = range(at, min(last + 1, at + _RUN))
            self._load(numbers)
            for number in numbers:
                parts += self.page(number)
        return bytes(memoryview(parts)[start : start + length])

    def page(self, number: int) -> bytes:
        """Return the 4096 bytes of a page; the last page of the file is filled up with zeros."""
        page = self._cache.get(number)
        if page is not None:
            return page
        page = self._laid.get(number)
        if page is None:
            page = self._read(number, 1)
            self._keep(number, page)
        return page

    def lay_over(self, offset: int, data: bytes) -> None:
        """Put ``data`` in place of what the file has at ``offset``; the hive grows where it has to."""
        at = 0
        while at < len(data):
            number, start = divmod(offset + at, PAGE_SIZE)
            piece = data[at : at + PAGE_SIZE - start]
            if len(piece) < PAGE_SIZE:
                below = self.page(number) if number in self._laid or self._in_file(number) else bytes(PAGE_SIZE)
                piece = below[:start] + piece + below[start + len(piece) :]
            self._cache.pop(number, None)
            self._laid[number] = piece
            at += PAGE_SIZE - start
        self._size = max(self._size, offset + len(data))

    def _in_file(self, number: int) -> bool:
        return number * PAGE_SIZE < self._source.size

    def _load(self, numbers: range) -> None:
        """Read the pages that are missing, those beside one another at once."""
        missing = [number for number in numbers if number not in self._cache and number not in self._laid]
        while missing:
            count = 1
            while count < len(missing) and missing[count] == missing[0] + count:
                count += 1
            data = self._read(missing[0], count)
            for index in range(count):
                self._keep(missing[0] + index, data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])
            del missing[:count]

    def _read(self, number: int, count: int) -> bytes:
        offset = number * PAGE_SIZE
        wanted = min(count * PAGE_SIZE, self._source.size - offset)
        data = self._source.read_at(offset, wanted) if wanted > 0 else b""
        if not data or len(data) < wanted or wanted <= (count - 1) * PAGE_SIZE:
            raise DamagedError(
                "hive-truncated",
                "the hive file is cut off",
                path=self._path,
                offset=offset + len(data),
                expected=f"{count * PAGE_SIZE} bytes from {offset:#x}",
                found=f"{len(data)} bytes",
                hint="Copy the hive again from where it came from; what lies before can be read.",
            )
        return data.ljust(count * PAGE_SIZE, b"\0")

    def _keep(self, number: int, page: bytes) -> None:
        if len(self._cache) >= self._cached:
            del self._cache[next(iter(self._cache))]
        self._cache[number] = page
