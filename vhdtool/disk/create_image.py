"""A new empty image: VHDX, VHD or raw; fixed, dynamic, or a child of another image."""

from __future__ import annotations

import os
from typing import Literal

from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.disk.child_image import child_writer, refuse_unfit_parent
from vhdtool.disk.commit import Written
from vhdtool.disk.commit_child import keep_time_note
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.image_shape import Format, ImageShape, refuse_other_name, standalone_writer
from vhdtool.disk.image_writer import ImageWriter
from vhdtool.disk.new_file import NewFile, refuse_existing
from vhdtool.errors import UsageError


def create_image(
    path: str | os.PathLike[str],
    *,
    format: Format,  # noqa: A002  # the word that everybody uses
    kind: Literal["fixed", "dynamic", "differencing"],
    virtual_size: int | None = None,
    block_size: int | None = None,
    logical_sector_size: int | None = None,
    parent: str | os.PathLike[str] | None = None,
    parent_windows_path: str | None = None,
    store: HostStore = OS_STORE,
) -> Written:
    r"""Make a new image whose disk reads as zeros, or as the parent's.

    Args:
        path: the new file.
        format: vhdx, vhd or raw.
        kind: a raw image is fixed; a differencing image has a parent.
        virtual_size: size of the disk in bytes, a multiple of the sector size; a child has its parent's.
        block_size: in bytes; by default 32 MiB for VHDX, 2 MiB for VHD and for children.
        logical_sector_size: 512, or for VHDX also 4096; a child has its parent's.
        parent: the image that a differencing image is over.
        parent_windows_path: the parent's absolute path on a Windows host, as ``D:\images\parent.vhdx``.
        store: through which the file is made.

    Raises:
        UsageError: ``create-contradicts``, ``output-format``, ``vhdx-create-invalid``, ``vhd-create-invalid``,
            ``raw-is-flat``, ``raw-has-no-children``, ``not-a-windows-path``.
        RefusedError: ``output-exists``, ``output-is-input``, and for the parent ``log-pending``,
            ``parent-without-identity``, ``parent-not-nameable``, ``chain-too-deep``.
        OutputError: ``cannot-write``.
        InputError: where the parent can't be opened.
    """
    name = os.fspath(path)
    refuse_existing(name)
    refuse_other_name(name, format, hint="Name the file after its format, or name another format.")
    if kind == "differencing":
        if parent is None:
            raise _contradiction(name, "a differencing image needs a parent")
        with open_disk(parent) as base:
            refuse_unfit_parent(base, name)
            refuse_existing(name, [file.path for file in base.files])
            _refuse_other_measures(name, base, virtual_size, logical_sector_size)
            with NewFile(name, "create", store) as new:
                child = child_writer(new.file, base, name, windows_path=parent_windows_path, block_size=block_size)
                return _publish(new, child, (keep_time_note(base.info.path),) if format == "vhd" else ())
    if parent is not None or parent_windows_path is not None:
        raise _contradiction(name, f"a {kind} image has no parent")
    if virtual_size is None:
        raise _contradiction(name, f"a {kind} image needs a size")
    sector = logical_sector_size or 512
    if sector != 512 and format != "vhdx":
        raise _contradiction(name, f"a {format} image has sectors of 512 bytes")
    with NewFile(name, "create", store) as new:
        shape = ImageShape(format, kind, virtual_size, block_size, sector)
        return _publish(new, standalone_writer(new.file, shape))


def _refuse_other_measures(path: str, base: VirtualDisk, virtual_size: int | None, sector_size: int | None) -> None:
    if virtual_size not in {None, base.size}:
        raise _contradiction(path, f"a child has the size of its parent, {base.size} bytes")
    if sector_size not in {None, base.logical_sector_size}:
        raise _contradiction(path, f"a child has the sectors of its parent, {base.logical_sector_size} bytes")


def _publish(new: NewFile, writer: ImageWriter, notes: tuple[str, ...] = ()) -> Written:
    size = writer.finish()
    new.publish()
    return Written(
        path=new.path,
        blocks=writer.blocks,
        bytes_written=writer.bytes_written,
        file_size_before=None,
        file_size=size,
        undo=f"Delete {new.path}.",
        notes=notes,
    )


def _contradiction(path: str, what: str) -> UsageError:
    return UsageError("create-contradicts", what, path=path)
