"""What a new image shall be: format, kind, measures; and the writer that makes such a one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PureWindowsPath
from typing import Final, Literal
from uuid import UUID, uuid4

from vhdtool.disk import vhd_format
from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.image_writer import ImageWriter, RawWriter
from vhdtool.disk.vhd_writer import FixedVhdWriter, VhdIdentity, VhdWriter
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_writer import Identity, VhdxShape, VhdxWriter
from vhdtool.errors import UsageError

Format = Literal["vhdx", "vhd", "raw"]
Kind = Literal["fixed", "dynamic"]
VHDX_BLOCK_SIZE: Final = 32 << 20
"""That of Hyper-V's own new dynamic and fixed images."""
_SUFFIXES: Final[dict[str, Format]] = {".vhdx": "vhdx", ".avhdx": "vhdx", ".vhd": "vhd", ".avhd": "vhd"}


@dataclass(frozen=True, slots=True)
class ImageShape:
    """A standalone image. Sizes in bytes; ``block_size`` ``None`` is the format's usual one.

    ``virtual_disk``: the identity that a guest sees (SCSI page 83), which VHDX alone stores; ``None`` draws a new one.
    """

    format: Format
    kind: Kind
    virtual_size: int
    block_size: int | None = None
    logical_sector_size: int = 512
    physical_sector_size: int = 4096
    virtual_disk: UUID | None = None


def format_of_name(path: str) -> Format:
    """The format that a file's name promises: what is named neither as a VHDX nor as a VHD is raw."""
    return _SUFFIXES.get(PureWindowsPath(path).suffix.lower(), "raw")


def refuse_other_name(path: str, form: str, *, hint: str) -> None:
    """Raise :class:`UsageError` ``output-format`` where a file's name promises another format than it will have.

    Hyper-V opens a VHDX only under ``.vhdx`` or ``.avhdx`` and a VHD only under ``.vhd`` or ``.avhd``.
    """
    promised = format_of_name(path)
    if promised != form:
        suffixes = " or ".join(suffix for suffix, known in _SUFFIXES.items() if known == form)
        raise UsageError(
            "output-format",
            f"the name of the new file is not that of a {form} image",
            path=path,
            expected=f"a name that ends in {suffixes}" if suffixes else "a name that ends neither in .vhdx nor .vhd",
            found=PureWindowsPath(path).suffix or "no suffix",
            hint=hint,
        )


def shape_like(disk: VirtualDisk, form: Format, kind: Kind, block_size: int | None = None) -> ImageShape:
    """Return the shape of a standalone image that holds what ``disk`` holds.

    The identity that the guest sees stays: it is the same disk, only in another file. Without a ``block_size`` that
    of the disk is kept where the format stays. Raises :class:`UsageError` ``vhd-sector-size``.
    """
    info, top = disk.info, disk.layers[0]
    if block_size is None and info.format == form:
        block_size = info.block_size
    if form == "vhd" and info.logical_sector_size != vhd_format.SECTOR_SIZE:
        raise UsageError(
            "vhd-sector-size",
            f"a VHD has sectors of {vhd_format.SECTOR_SIZE} bytes, this disk of {info.logical_sector_size}",
            path=info.path,
            hint="Partition tables and file systems hold sector numbers: use VHDX, which keeps the sector size.",
        )
    return ImageShape(
        form,
        kind,
        info.virtual_size,
        block_size,
        info.logical_sector_size,
        info.physical_sector_size if info.format == "vhdx" else max(info.logical_sector_size, 4096),
        top.virtual_disk_id if isinstance(top, VhdxLayer) else None,
    )


def standalone_writer(file: HostFile, shape: ImageShape) -> ImageWriter:
    """Return the writer of a new fixed or dynamic image; ids are drawn, the time is now.

    Raises :class:`UsageError` ``vhdx-create-invalid``, ``vhd-create-invalid``, ``raw-is-flat`` for a shape that the
    format does not know.
    """
    size = shape.virtual_size
    if shape.format == "vhdx":
        identity = Identity(uuid4(), uuid4(), shape.virtual_disk or uuid4())
        block_size = shape.block_size or VHDX_BLOCK_SIZE
        measures = VhdxShape(size, block_size, shape.logical_sector_size, shape.physical_sector_size, shape.kind)
        return VhdxWriter(file, measures, identity)
    if shape.format == "vhd":
        if shape.kind == "fixed":
            return FixedVhdWriter(file, size, new_vhd_identity())
        return VhdWriter(file, size, new_vhd_identity(), block_size=shape.block_size or vhd_format.BLOCK_SIZE_DEFAULT)
    if shape.kind != "fixed" or shape.block_size is not None:
        raise UsageError(
            "raw-is-flat", "a raw image is fixed and has no blocks", hint="Name VHDX or VHD as the format."
        )
    if size <= 0 or size % vhd_format.SECTOR_SIZE:
        raise UsageError(
            "raw-is-flat", "a raw image consists of whole sectors", expected="a multiple of 512", found=size
        )
    return RawWriter(file, size)


def new_vhd_identity() -> VhdIdentity:
    """An id that no image has, and the time of now in whole seconds."""
    return VhdIdentity(uuid4(), datetime.now(UTC).replace(microsecond=0))
