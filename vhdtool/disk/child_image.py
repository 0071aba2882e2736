"""A new differencing image over a chain: what its parent must be, how it names it, how large its blocks are.

Every block that a child of ours has is there as a whole, filled from the chain: a VHDX child then needs no sector
bitmap (MS-VHDX 2.5.1.1: for FULLY_PRESENT it is not looked at), and in a VHD child all bits of a block are set, which
spares libvhdi's fault with runs of bits that end inside a byte (:mod:`vhdtool.disk.reader_faults`).

The child keeps the disk's identity that the guest sees (SCSI page 83): it is the same disk, at a later time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from vhdtool.disk import vhd_format
from vhdtool.disk.chain import DEPTH_LIMIT, VirtualDisk
from vhdtool.disk.child_locators import WaysToParent, ways_to_parent
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.image_shape import new_vhd_identity, refuse_other_name
from vhdtool.disk.vhd_writer import Parent, VhdWriter
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_writer import Identity, VhdxShape, VhdxWriter
from vhdtool.errors import InputError, RefusedError, UsageError

MIB: Final = 1 << 20
VHDX_BLOCK_SIZES: Final = (2 * MIB, MIB)
"""Hyper-V's own children have blocks of 2 MiB; where the file gets smaller by it, 1 MiB."""


def refuse_unfit_parent(base: VirtualDisk, path: str) -> None:
    """Refuse a chain that can't have a child at ``path``.

    Raises :class:`UsageError` ``raw-has-no-children``, ``output-format``; :class:`RefusedError` ``log-pending``,
    ``parent-without-identity``, ``chain-too-deep``.
    """
    top = base.layers[0].info
    if top.format == "raw":
        raise UsageError(
            "raw-has-no-children",
            "a raw image can't be the parent of a differencing image",
            path=top.path,
            hint="Write the changed disk to a new file: --output PATH.",
        )
    refuse_other_name(path, top.format, hint=f"A child of a {top.format} image is a {top.format} image.")
    refuse_pending_log(base)
    if top.identity is None or not UUID(top.identity).int:
        raise RefusedError(
            "parent-without-identity",
            "the image has no identifier that a child could name",
            path=top.path,
            hint="Write the changed disk to a new file: --output PATH.",
        )
    if len(base.layers) >= DEPTH_LIMIT:
        raise RefusedError(
            "chain-too-deep",
            f"the chain has {len(base.layers)} files already",
            path=top.path,
            hint="Merge children into their parents first: vhdtool disk merge CHILD.",
        )


def refuse_pending_log(disk: VirtualDisk) -> None:
    """Raise :class:`RefusedError` ``log-pending`` for a chain of which a file's log waits to be replayed."""
    for layer in disk.layers:
        if layer.info.log == "replayed":
            raise RefusedError(
                "log-pending",
                "the image was not closed cleanly: its log has to be replayed into it first",
                path=layer.info.path,
                hint=f"Run: vhdtool recover {layer.info.path}",
            )


def child_writer(
    file: HostFile, base: VirtualDisk, path: str, *, windows_path: str | None = None, block_size: int | None = None
) -> VhdxWriter | VhdWriter:
    """Return the writer of a child of ``base`` that will be at ``path``; ``windows_path`` is the parent's on its host.

    Raises :class:`UsageError` ``not-a-windows-path``, ``vhd-create-invalid``, ``vhdx-create-invalid``;
    :class:`RefusedError` ``parent-not-nameable``; :class:`InputError` ``cannot-open``.
    """
    top = base.layers[0]
    ways = ways_to_parent(path, top.info.path, windows_path)
    if isinstance(top, VhdxLayer):
        return _vhdx_child(file, top, ways, block_size or VHDX_BLOCK_SIZES[0])
    size = block_size or vhd_format.BLOCK_SIZE_DEFAULT
    parent = Parent(
        unique_id=UUID(top.info.identity),
        timestamp=parent_time(top.info.path),
        name=Path(top.info.path).name,
        relative=ways.relative,
        absolute=ways.absolute,
    )
    return VhdWriter(file, base.size, new_vhd_identity(), block_size=size, parent=parent)


def best_block_size(base: VirtualDisk, touched: Sequence[int]) -> int | None:
    """The block size that makes the smallest child, for the numbers, in order, of the MiB that change."""
    top = base.layers[0]
    if not isinstance(top, VhdxLayer):
        return None
    sizes = {}
    for block_size in VHDX_BLOCK_SIZES:
        ratio = block_size // MIB
        blocks = sum(1 for before, mib in pairwise(chain([-ratio], touched)) if before // ratio != mib // ratio)
        sizes[block_size] = _vhdx_shape(top, block_size).bat_region_size + blocks * block_size
    return min(sizes, key=sizes.__getitem__)


def parent_time(path: str) -> datetime | None:
    """When a VHD parent was last written to, in whole seconds; ``None`` for times that the format can't hold.

    A VHD keeps its identity when it changes: the time is what tells Hyper-V of it. Raises :class:`InputError`
    ``cannot-open``.
    """
    try:
        seconds = int(Path(path).stat().st_mtime)
    except OSError as error:
        raise InputError("cannot-open", f"can't read the file's time: {error.strerror}", path=path) from error
    since = seconds - int(vhd_format.EPOCH.timestamp())
    return datetime.fromtimestamp(seconds, UTC) if 0 < since < 1 << 32 else None


def _vhdx_shape(parent: VhdxLayer, block_size: int) -> VhdxShape:
    info = parent.info
    return VhdxShape(
        info.virtual_size, block_size, info.logical_sector_size, info.physical_sector_size, kind="differencing"
    )


def _vhdx_child(file: HostFile, parent: VhdxLayer, ways: WaysToParent, block_size: int) -> VhdxWriter:
    """With sectors of 4096 bytes every chunk gets a sector bitmap, all clear: 1 MiB for each 32 GiB of the disk.

    pyvhdi reads a child without them wrongly, and dissect.hypervisor one with such sectors in any case, so without
    bitmaps nobody could confirm what was written. With sectors of 512 bytes dissect.hypervisor can.
    """
    linkage = {"parent_linkage": f"{{{parent.data_write_guid}}}"}
    if ways.relative is not None:
        linkage["relative_path"] = ways.relative
    if ways.namespace_path is not None:
        linkage["absolute_win32_path"] = ways.namespace_path
    shape = _vhdx_shape(parent, block_size)
    identity = Identity(uuid4(), uuid4(), parent.virtual_disk_id or uuid4())
    return VhdxWriter(file, shape, identity, parent=linkage, all_bitmaps=shape.logical_sector_size != 512)
