"""LZX and Quantum, decoded by libmspack.

What the library is given is not the cabinet: it is a new one made here, of one folder with one file, whose header and
tables are ours and whose blocks were checked (:mod:`vhdtool.package.cabinet_blocks`). So its header parser meets no
foreign bytes, a set of parts looks like one cabinet, and a folder of many files costs what its bytes cost: asked for
a file, the library decodes the folder again from its start.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import IO

from vhdtool.errors import DamagedError, MissingSupportError
from vhdtool.layout import packed
from vhdtool.package.cabinet_blocks import NeededBlocks
from vhdtool.package.cabinet_format import BLOCK, FILE, FOLDER, HEADER, MAGIC
from vhdtool.package.cabinet_part import damaged

_NAME = "folder"
_BLOCK = packed(BLOCK)
_FILES_OFFSET = packed(HEADER).size + packed(FOLDER).size
_DATA_OFFSET = _FILES_OFFSET + packed(FILE).size + len(_NAME) + 1


def decode_by_libmspack(blocks: NeededBlocks, output: IO[bytes]) -> DamagedError | None:
    """Write the decoded blocks to ``output``, as far as they decode; return why not further, if anything.

    The library reads and writes files with names: they lie in a folder for this user only, for the time of the call.

    Raises:
        MissingSupportError: ``libmspack-missing``.
        OSError: no room for temporary files.
    """
    try:
        from pylibmspack import CabArchive  # noqa: PLC0415  # slow to import
        from pylibmspack.errors import CabDecompressionError, CabError, CabFormatError  # noqa: PLC0415
    except ImportError as error:
        raise MissingSupportError(
            "libmspack-missing",
            "the pylibmspack package, which unpacks cabinets, is not installed",
            hint="Install it: pip install pylibmspack",
        ) from error
    with tempfile.TemporaryDirectory(prefix="vhdtool-cabinet-") as place:
        target = Path(place, _NAME)
        with tempfile.NamedTemporaryFile(dir=place, delete=False) as out:  # its folder goes, and it with it
            out.write(bytes(_DATA_OFFSET))
            for block in blocks:
                out.write(_BLOCK.pack(0, len(block.data), block.unpacked_size) + block.data)
            size = min(blocks.need, blocks.size)
            cabinet_size = out.tell()
            out.seek(0)
            out.write(_tables(blocks.compression, blocks.count, size, cabinet_size))
        if size == 0:
            return None
        fault: DamagedError | None = None
        try:
            CabArchive(out.name).extract(_NAME, place, safe=False, max_size=size)
        except (CabFormatError, CabDecompressionError) as error:
            path, offset = blocks.place_of(target.stat().st_size if target.exists() else 0)
            fault = damaged("a data block does not decode", path, offset)
            fault.__cause__ = error
        except CabError as error:
            raise OSError(None, str(error), place) from error  # what else it tells of is files and memory
        if target.exists():
            with target.open("rb") as decoded:
                shutil.copyfileobj(decoded, output, 1 << 20)
        return fault


def _tables(compression: int, block_count: int, size: int, cabinet_size: int) -> bytes:
    header = packed(HEADER).pack(MAGIC, 0, cabinet_size, 0, _FILES_OFFSET, 0, 3, 1, 1, 1, 0, 0, 0)
    folder = packed(FOLDER).pack(_DATA_OFFSET, block_count, compression)
    return header + folder + packed(FILE).pack(size, 0, 0, 0, 0, 0) + _NAME.encode() + b"\0"
