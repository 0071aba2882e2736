"""A virtual disk, with its whole chain, as one standalone image of another or the same format."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.image_shape import Format, Kind, refuse_other_name, shape_like, standalone_writer
from vhdtool.disk.image_writer import data_ranges, fill
from vhdtool.disk.new_file import NewFile, refuse_existing
from vhdtool.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Converted:
    """The new file: its size and the bytes of it that were written, the rest being holes."""

    path: str
    size: int
    written: int


def convert_image(
    disk: VirtualDisk,
    out: str | os.PathLike[str],
    *,
    format: Format,  # noqa: A002  # the word that everybody uses
    kind: Kind,
    block_size: int | None = None,
    store: HostStore = OS_STORE,
    progress: Progress = SILENT,
) -> Converted:
    """Write the bytes of ``disk`` to a new image; a pending log goes into it as replayed.

    The file gets its name when it is whole and on stable storage; where the work fails or is interrupted it is
    removed. The sector size stays, and from VHDX to VHDX the identity that the guest sees.

    Args:
        disk: what is to be read, with its whole chain.
        out: the new file.
        format: that of the new file.
        kind: a raw image is fixed.
        block_size: in bytes; by default that of ``disk`` where the format stays, else 32 MiB for VHDX, 2 MiB for VHD.
        store: through which the file is made.
        progress: is told the bytes of the disk.

    Raises:
        RefusedError: ``output-is-input`` and ``output-exists``.
        UsageError: ``output-format``, ``vhd-sector-size``, ``vhdx-create-invalid``, ``vhd-create-invalid``,
            ``raw-is-flat``.
        OutputError: ``cannot-write``.
        DamagedError: where the disk can't be read.
    """
    path = os.fspath(out)
    refuse_existing(path, [file.path for file in disk.files])
    refuse_other_name(path, format, hint="Name the file after its format, or name another format.")
    with NewFile(path, "convert", store) as new:
        writer = standalone_writer(new.file, shape_like(disk, format, kind, block_size))
        progress.start("convert", disk.size)
        try:
            end = fill(writer, disk, data_ranges(disk), progress)
            progress.advance(disk.size - end)
            size = writer.finish()
        finally:
            progress.finish()
        new.publish()
    return Converted(path, size, writer.bytes_written)


def convert_to_raw(disk: VirtualDisk, out_path: str | os.PathLike[str], progress: Progress = SILENT) -> Converted:
    """Write the bytes of ``disk`` to a new sparse raw file: :func:`convert_image` for raw. Raises the same."""
    return convert_image(disk, out_path, format="raw", kind="fixed", progress=progress)
