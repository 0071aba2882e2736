"""Compressed files of a Linux guest, unpacked piece by piece: never more than a bounded piece in memory.

The kernel's own rule tells what a file is packed with: the first bytes (Linux, lib/decompress.c).
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

import construct as c

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, MissingSupportError, UnsupportedError
from vhdtool.layout import packed

CHUNK = 256 << 10
"""Bytes that are read at a time."""

PIECE = 1 << 20
"""Bytes that are handed out at a time, at most."""

MOST_MEMORY = 128 << 20
"""What a decompressor may take; ``xz -9`` and ``zstd --ultra -22`` files of the kernel stay below."""

# LZ4 project, doc/lz4_Frame_format.md, "Legacy frame"
LZ4_BLOCK_HEADER = c.Struct("size" / c.Int32ul)
_BLOCK_HEADER = packed(LZ4_BLOCK_HEADER)
LZ4_LEGACY = 0x184C2102
"""The magic number, in the place of a size."""

LZ4_BLOCK = 8 << 20
"""Unpacked size of a block of LZ4's legacy frame, which is what the kernel reads (lz4_Frame_format.md)."""

MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\0\0", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO\0\r\n\x1a\n", "lzo"),
)
SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
"""Of packed modules (kmod)."""


class Unpacker(Protocol):
    """A decompressor in the manner of :mod:`bz2` and :mod:`lzma`: each call gives at most ``max_length`` bytes."""

    @property
    def eof(self) -> bool:
        """Whether the end of the packed stream was met."""

    @property
    def needs_input(self) -> bool:
        """Whether it gives nothing more without more input."""

    @property
    def unused_data(self) -> bytes:
        """What was given to it from beyond the end."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Take ``data`` and give what is ready."""


def packed_with(head: bytes) -> str | None:
    """Name the compression by a file's first bytes; ``None`` where they are of none."""
    return next((name for magic, name in MAGICS if head.startswith(magic)), None)


class PackedStream:
    """One packed stream inside a file, from ``offset`` on. ``end`` is known once all its pieces were taken."""

    def __init__(self, source: ByteSource, offset: int, compression: str, *, path: str | None = None) -> None:
        self._source = source
        self._offset = offset
        self._compression = compression
        self._path = path
        self.end: int | None = None

    def pieces(self) -> Iterator[bytes]:
        """Yield the unpacked bytes.

        Raises :class:`DamagedError` ``packed-data-damaged`` and ``truncated``; :class:`UnsupportedError`
        ``compression-unknown`` (LZO); :class:`MissingSupportError` ``library-missing``.
        """
        unpacker = _unpacker(self._compression, self._path)
        position = self._offset
        while not unpacker.eof:
            data = b""
            if unpacker.needs_input:
                data = self._source.read_at(position, CHUNK)
                if not data:
                    if isinstance(unpacker, _Lz4) and unpacker.between_blocks:
                        break  # the legacy frame has no mark at its end
                    raise self._cut_off(position)
                position += len(data)
            piece = self._decompressed(unpacker, data, position)
            if piece:
                yield piece
        self.end = position - len(unpacker.unused_data)

    def _decompressed(self, unpacker: Unpacker, data: bytes, position: int) -> bytes:
        try:
            return unpacker.decompress(data, PIECE)
        # Each library has error types of its own (zlib.error, LZMAError, ZstdError, LZ4BlockError, OSError, EOFError,
        # ValueError, MemoryError), and they all mean the same: these bytes are not what their beginning says.
        except Exception as error:
            raise self._damaged(error, position) from error

    def _damaged(self, error: Exception, position: int) -> DamagedError:
        return DamagedError(
            "packed-data-damaged",
            f"the {self._compression} data can't be unpacked: {str(error)[:200] or type(error).__name__}",
            path=self._path,
            offset=max(self._offset, position - CHUNK),
        )

    def _cut_off(self, position: int) -> DamagedError:
        return DamagedError(
            "truncated", f"the {self._compression} data is cut off", path=self._path, offset=position
        )  # fmt: skip


def unpack(source: ByteSource, compression: str, most: int, *, path: str | None = None) -> bytes:
    """Unpack a whole file. Raises as :meth:`PackedStream.pieces`; :class:`UnsupportedError` ``unpacked-too-large``."""
    found = bytearray()
    for piece in PackedStream(source, 0, compression, path=path).pieces():
        found += piece
        if len(found) > most:
            raise UnsupportedError(
                "unpacked-too-large", "the file unpacks to more than any of its kind", path=path,
                expected=f"at most {most} bytes",
            )  # fmt: skip
    return bytes(found)


def _unpacker(compression: str, path: str | None) -> Unpacker:
    if compression == "gzip":
        return _Gzip()
    if compression == "bzip2":
        return bz2.BZ2Decompressor()
    if compression in {"xz", "lzma"}:
        form = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
        return lzma.LZMADecompressor(form, memlimit=MOST_MEMORY)
    if compression == "zstd":
        return _zstd()
    if compression == "lz4":
        return _Lz4()
    raise UnsupportedError("compression-unknown", f"{compression} data can't be unpacked", path=path)


def _zstd() -> Unpacker:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415  # only where there is such data
        else:
            from backports import zstd  # noqa: PLC0415  # the same module, for older Pythons
    except ImportError as error:
        raise _missing("backports.zstd") from error
    # 2^27 is MOST_MEMORY: a larger window is refused, as the kernel refuses it (lib/decompress_unzstd.c).
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MOST_MEMORY.bit_length() - 1}
    unpacker: Unpacker = zstd.ZstdDecompressor(options=options)
    return unpacker


def _missing(package: str) -> MissingSupportError:
    return MissingSupportError(
        "library-missing", f"the package {package} is not installed", hint=f"Install it with: pip install {package}"
    )


class _Gzip:
    """:mod:`zlib` in the manner of :mod:`bz2`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._waiting = b""
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._waiting and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self._inner.decompress(self._waiting + data, max(0, max_length))
        self._waiting = self._inner.unconsumed_tail
        self._full = 0 < max_length <= len(piece)  # more may be ready without more input
        return piece


class _Lz4:
    """LZ4's legacy frame: a magic number, then blocks, each behind its packed size."""

    def __init__(self) -> None:
        try:
            from lz4 import block  # noqa: PLC0415  # only where there is such data
        except ImportError as error:
            raise _missing("lz4") from error
        self._block = block
        self._input = bytearray()
        self._ready = memoryview(b"")
        self.eof = False

    @property
    def needs_input(self) -> bool:
        return not self._ready and not self._whole_block()

    @property
    def unused_data(self) -> bytes:
        return bytes(self._input) if self.eof else b""

    @property
    def between_blocks(self) -> bool:
        return not self._input and not self._ready

    def _whole_block(self) -> bool:
        if len(self._input) < 4:
            return False
        (size,) = _BLOCK_HEADER.unpack_from(self._input)
        return size == LZ4_LEGACY or not self._plausible(size) or len(self._input) >= 4 + size

    @staticmethod
    def _plausible(size: int) -> bool:
        """Whether it can be the size of a block: the worst case is a little longer than what was packed."""
        return 0 < size <= LZ4_BLOCK + LZ4_BLOCK // 255 + 16

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        self._input += data
        if not self._ready and self._whole_block():
            (size,) = _BLOCK_HEADER.unpack_from(self._input)
            if size == LZ4_LEGACY:
                del self._input[:4]
                return b""
            if not self._plausible(size):
                self.eof = True  # what follows is no block: the next archive, or padding
                return b""
            packed = bytes(self._input[4 : 4 + size])
            del self._input[: 4 + size]
            self._ready = memoryview(self._block.decompress(packed, uncompressed_size=LZ4_BLOCK))
        piece = bytes(self._ready[:max_length])
        self._ready = self._ready[len(piece) :]
        return piece
