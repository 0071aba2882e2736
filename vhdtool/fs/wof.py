"""Files that Windows keeps compressed behind the WOF filter (CompactOS, ``compact /exe``).

The file's data stream is all zeros and sparse; its bytes lie in the named stream ``WofCompressedData`` as a table of
chunk offsets and the chunks. Sources: MS-FSCC 2.1.2.1 (tag), winioctl.h and wofapi.h (WOF_EXTERNAL_INFO,
FILE_PROVIDER_EXTERNAL_INFO_V1), wimlib's documentation of the same chunk format in WIM resources.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import construct as c

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.fs.base import Extent
from vhdtool.fs.boundary import CODE, HINT

WOF_STREAM = "WofCompressedData"
WOF_INFO = c.Struct("version" / c.Int32ul, "provider" / c.Int32ul)
FILE_PROVIDER_INFO = c.Struct("version" / c.Int32ul, "algorithm" / c.Int32ul)
WIM_PROVIDER, FILE_PROVIDER = 1, 2
CACHED_BYTES = 256 * 1024  # decompressed chunks kept: readers of versions and resources go back and forth
LARGE_FILE = 1 << 32  # from here on the offsets of the table are 64 bits wide
OFFSETS_PER_READ = 512  # of the table, at once

Decompress = Callable[[bytes, int], bytes]


@dataclass(frozen=True, slots=True)
class WofAlgorithm:
    """One of the four: its name as in ``FileStat.storage``, bytes of a chunk, and the decompressor."""

    name: str
    chunk_size: int
    decompress: Decompress


def wof_algorithm(data: bytes, path: str) -> WofAlgorithm:
    """Return the algorithm that a WOF reparse point names.

    Raises :class:`UnsupportedError` ``wof-algorithm`` for the WIM provider and for what is not known.
    """
    if len(data) < WOF_INFO.sizeof():
        raise DamagedError(CODE, "the WOF reparse point is cut off", path=path, hint=HINT)
    info = WOF_INFO.parse(data)
    if info.provider == WIM_PROVIDER:
        raise UnsupportedError(
            "wof-algorithm",
            "the file's bytes lie in a WIM archive (WIMBoot)",
            path=path,
            hint="Read it from the .wim file that the image was installed from.",
        )
    rest = data[WOF_INFO.sizeof() :]
    number = None
    if info.provider == FILE_PROVIDER and len(rest) >= FILE_PROVIDER_INFO.sizeof():
        number = int(FILE_PROVIDER_INFO.parse(rest).algorithm)
    found = _ALGORITHMS.get(number) if number is not None else None
    if found is None:
        raise UnsupportedError(
            "wof-algorithm",
            "the file is compressed in a way that is not known",
            path=path,
            found=f"provider {info.provider}, algorithm {number}",
        )
    return found


class WofFile:
    """An opened WOF file: chunks are decompressed as they are asked for."""

    def __init__(self, path: str, stored: ByteSource, size: int, algorithm: WofAlgorithm) -> None:
        """``stored`` is the compressed stream, ``size`` the file's length in bytes."""
        self.path = path
        self._stored = stored
        self._size = size
        self._algorithm = algorithm
        self._chunks = -(-size // algorithm.chunk_size)
        self._entry = struct.Struct("<Q" if size >= LARGE_FILE else "<I")
        self._table_size = max(0, self._chunks - 1) * self._entry.size
        if self._table_size > stored.size or (size and stored.size == 0):
            raise self._damaged("its chunk table is cut off")
        self._tables: OrderedDict[int, bytes] = OrderedDict()
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Length in bytes, decompressed."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        length = min(length, self._size - offset)
        found = []
        while length > 0:
            number, inside = divmod(offset, self._algorithm.chunk_size)
            piece = self._chunk(number)[inside : inside + length]
            found.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(found)

    def extents(self) -> Sequence[Extent]:
        """None: the stored bytes are not the file's."""
        return ()

    def _chunk(self, number: int) -> bytes:
        known = self._cache.get(number)
        if known is not None:
            self._cache.move_to_end(number)
            return known
        chunk_size = self._algorithm.chunk_size
        wanted = min(chunk_size, self._size - number * chunk_size)
        start, end = self._offset(number), self._offset(number + 1)
        if not start < end <= self._stored.size or end - start > wanted:
            raise self._damaged(f"chunk {number} has impossible bounds {start} to {end}")
        stored = self._stored.read_at(start, end - start)
        # A chunk that did not get smaller is stored as it is.
        data = stored if len(stored) == wanted else self._decompressed(number, stored, wanted)
        self._cache[number] = data
        if len(self._cache) * chunk_size > CACHED_BYTES:
            self._cache.popitem(last=False)
        return data

    def _decompressed(self, number: int, stored: bytes, wanted: int) -> bytes:
        try:
            return self._algorithm.decompress(stored, wanted)
        except ValueError as error:
            raise self._damaged(f"chunk {number} can't be decompressed: {error}") from error

    def _offset(self, number: int) -> int:
        """Where chunk ``number`` starts in the stored stream; that of the one after the last is its end."""
        if number == 0:
            return self._table_size
        if number == self._chunks:
            return self._stored.size
        page, index = divmod(number - 1, OFFSETS_PER_READ)
        table = self._tables.get(page)
        if table is None:
            at = page * OFFSETS_PER_READ * self._entry.size
            length = min(OFFSETS_PER_READ * self._entry.size, self._table_size - at)
            table = self._tables[page] = self._stored.read_at(at, length)
            if len(self._tables) > 16:
                self._tables.popitem(last=False)
        if len(table) < (index + 1) * self._entry.size:
            raise self._damaged("its chunk table is cut off")
        return self._table_size + int(self._entry.unpack_from(table, index * self._entry.size)[0])

    def _damaged(self, text: str) -> DamagedError:
        return DamagedError(CODE, f"the compressed file is damaged: {text}", path=self.path, hint=HINT)


def _xpress(data: bytes, size: int) -> bytes:
    from vhdtool.fs.xpress import decompress  # noqa: PLC0415  # only for compressed files

    return decompress(data, size)


def _lzx(data: bytes, size: int) -> bytes:
    from vhdtool.fs.lzx import decompress  # noqa: PLC0415  # only for compressed files

    return decompress(data, size)


# FILE_PROVIDER_COMPRESSION_* of wofapi.h / ntifs.h.
_ALGORITHMS = {
    0: WofAlgorithm("wof-xpress4k", 4096, _xpress),
    1: WofAlgorithm("wof-lzx", 32768, _lzx),
    2: WofAlgorithm("wof-xpress8k", 8192, _xpress),
    3: WofAlgorithm("wof-xpress16k", 16384, _xpress),
}
