"""The unpacked bytes of a folder: every folder is decoded once, from its first block to as far as is asked."""

from __future__ import annotations

import io
import tempfile
import weakref
import zlib
from collections.abc import Callable
from typing import IO

from vhdtool.errors import DamagedError, OutputError, UnsupportedError
from vhdtool.package.cabinet_blocks import DataBlock, Folder, NeededBlocks, part_missing
from vhdtool.package.cabinet_format import METHOD_MASK, MSZIP, STORED, compression_is_known, compression_name
from vhdtool.package.cabinet_libmspack import decode_by_libmspack
from vhdtool.package.cabinet_part import damaged

IN_MEMORY = 8 << 20
"""Longest unpacked folder that is kept in memory, in bytes; a longer one is kept in a temporary file without a name."""
_MSZIP_MARK = b"CK"
_DEFLATE = -15  # no header, the largest window


class UnpackedFolder:
    """A folder's bytes from its start. ``size``: how far it was decoded; ``error``: why not further, if anything."""

    def __init__(self, content: bytes | IO[bytes], size: int, error: DamagedError | None) -> None:
        self.size = size
        self.error = error
        self._content = content

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the decoded part ends."""
        length = max(min(length, self.size - offset), 0)
        if isinstance(self._content, bytes):
            return self._content[offset : offset + length]
        self._content.seek(offset)
        return self._content.read(length)


def unpack_folder(folder: Folder, need: int) -> UnpackedFolder:
    """Decode the first ``need`` bytes of a folder.

    Damage is no error here: the bytes before it are good, and :attr:`UnpackedFolder.error` tells of it.

    Raises:
        UnsupportedError: ``cabinet-compression-unknown``.
        MissingSupportError: ``libmspack-missing``.
        OutputError: ``cannot-unpack``: no room for temporary files.
    """
    if not compression_is_known(folder.compression):
        piece = folder.pieces[0]
        raise UnsupportedError(
            "cabinet-compression-unknown",
            "the files are compressed in an unknown way",
            path=piece.part.path,
            offset=piece.folder.data_offset,
            expected="stored, MSZIP, Quantum:10 to 21 or LZX:15 to 21",
            found=compression_name(folder.compression),
            hint="The file is damaged, or was made by a tool with a method of its own.",
        )
    if folder.began_before:
        first = folder.pieces[0].part
        return UnpackedFolder(b"", 0, part_missing(first.path, first.previous_name))
    decode = {STORED: _decode_stored, MSZIP: _decode_mszip}.get(folder.compression & METHOD_MASK, decode_by_libmspack)
    blocks = NeededBlocks(folder, need)
    output: IO[bytes] | None = None
    kept = False
    try:
        output = io.BytesIO() if need <= IN_MEMORY else tempfile.TemporaryFile()  # noqa: SIM115  # closed below
        error = decode(blocks, output) or blocks.error
        size = min(output.tell(), need)
        output.seek(0)
        if size <= IN_MEMORY:
            return UnpackedFolder(output.read(size), size, error)
        unpacked = UnpackedFolder(output, size, error)
        weakref.finalize(unpacked, output.close)
        kept = True
        return unpacked
    except OSError as failure:
        raise OutputError(
            "cannot-unpack",
            f"can't write temporary files: {failure.strerror or failure}",
            path=failure.filename,
            hint="Make room where temporary files go, or name another place in TMPDIR.",
        ) from failure
    finally:
        if output is not None and not kept:
            output.close()


def _decode_stored(blocks: NeededBlocks, output: IO[bytes]) -> DamagedError | None:
    return _decode_each(blocks, output, lambda block, _: block.data if len(block.data) == block.unpacked_size else None)


def _decode_mszip(blocks: NeededBlocks, output: IO[bytes]) -> DamagedError | None:
    return _decode_each(blocks, output, _inflated)


def _inflated(block: DataBlock, before: bytes) -> bytes | None:
    """MSZIP: every block is a deflate stream of its own, with the block before as its dictionary."""
    if not block.data.startswith(_MSZIP_MARK):
        return None
    inflate = zlib.decompressobj(_DEFLATE, zdict=before) if before else zlib.decompressobj(_DEFLATE)
    try:
        data = inflate.decompress(block.data[len(_MSZIP_MARK) :], block.unpacked_size + 1)
    except zlib.error:
        return None
    return data if inflate.eof and len(data) == block.unpacked_size else None


def _decode_each(
    blocks: NeededBlocks, output: IO[bytes], decode: Callable[[DataBlock, bytes], bytes | None]
) -> DamagedError | None:
    """Decode block by block; ``decode`` gets the block and the one before, decoded, and returns None where it can't."""
    before = b""
    for block in blocks:
        data = decode(block, before)
        if data is None:
            return damaged("a data block does not decode", block.path, block.offset)
        output.write(data)
        before = data
    return None
