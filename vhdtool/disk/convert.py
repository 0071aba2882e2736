"""A virtual disk, with its whole chain, as one raw file."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from vhdtool.disk.chain import VirtualDisk
from vhdtool.errors import OutputError, RefusedError
from vhdtool.progress import SILENT, Progress

PIECE_SIZE = 1 << 20
HOLE_SIZE = 64 << 10  # runs of zeros of this size, aligned to it, are not written
_ZEROS = bytes(HOLE_SIZE)


@dataclass(frozen=True, slots=True)
class Converted:
    """The new file: its size and the bytes of it that were written, the rest being holes."""

    path: str
    size: int
    written: int


def convert_to_raw(disk: VirtualDisk, out_path: str | os.PathLike[str], progress: Progress = SILENT) -> Converted:
    """Write the bytes of ``disk`` to a new sparse file.

    The file gets its name when it is whole; until then it is ``.NAME.….partial`` beside it, and it is removed where
    the work fails or is interrupted.

    Raises:
        RefusedError: ``output-is-input`` and ``output-exists``.
        OutputError: ``cannot-write``.
        DamagedError: where the disk can't be read.
    """
    target = Path(out_path)
    _refuse_existing(disk, target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    progress.start("convert", disk.size)
    try:
        written = _write(disk, partial, progress)
        _give_name(partial, target)
    except OSError as error:
        raise OutputError(
            "cannot-write",
            f"can't write the output: {error.strerror}",
            path=str(target),
            hint="Check the folder's rights and its free space.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
        progress.finish()
    return Converted(str(target), disk.size, written)


def _refuse_existing(disk: VirtualDisk, target: Path) -> None:
    for file in disk.files:
        try:
            same = target.samefile(file.path)
        except OSError:
            continue
        if same:
            raise RefusedError(
                "output-is-input",
                "the output is a file of the disk that is to be converted",
                path=str(target),
                hint="Name another output.",
            )
    if os.path.lexists(target):
        raise RefusedError(
            "output-exists",
            "the output is there already",
            path=str(target),
            hint="Remove it first, or name another output.",
        )


def _write(disk: VirtualDisk, partial: Path, progress: Progress) -> int:
    written = 0
    buffer = bytearray(PIECE_SIZE)
    view = memoryview(buffer)
    with partial.open("xb", buffering=0) as file:
        for extent in disk.extents():
            if extent.kind != "data":
                progress.advance(extent.length)
                continue
            offset, end = extent.offset, extent.offset + extent.length
            while offset < end:
                got = disk.read_into(offset, view[: min(PIECE_SIZE - offset % HOLE_SIZE, end - offset)])
                for start, stop in _written_parts(buffer, got):
                    file.seek(offset + start)
                    _write_all(file.fileno(), view[start:stop])
                    written += stop - start
                offset += got
                progress.advance(got)
        file.truncate(disk.size)
        os.fsync(file.fileno())
    return written


def _written_parts(buffer: bytearray, length: int) -> list[tuple[int, int]]:
    """The parts of a piece that are not runs of zeros."""
    parts: list[tuple[int, int]] = []
    for start in range(0, length, HOLE_SIZE):
        stop = min(start + HOLE_SIZE, length)
        if buffer.startswith(_ZEROS[: stop - start], start, stop):
            continue
        if parts and parts[-1][1] == start:
            parts[-1] = parts[-1][0], stop
        else:
            parts.append((start, stop))
    return parts


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _give_name(partial: Path, target: Path) -> None:
    """Rename without replacing a file that appeared meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError as error:
        raise RefusedError("output-exists", "the output has appeared meanwhile", path=str(target)) from error
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise RefusedError("output-exists", "the output has appeared meanwhile", path=str(target)) from None
        partial.rename(target)
