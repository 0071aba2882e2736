"""Opening the file system of a volume."""

from __future__ import annotations

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import RefusedError, UnsupportedError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.volume.partitions import Volume

DISSECT_KINDS = ("fat12", "fat16", "fat32", "exfat", "ext", "xfs", "btrfs")

ENCRYPTION_HINTS = {
    "bitlocker": "Decrypt the volume in the running guest (manage-bde -off), or export a decrypted copy.",
}


def open_filesystem(device: BlockDevice, volume: Volume) -> GuestFilesystem:
    """Open the file system of ``volume``; ``device`` holds the volume's bytes (``volume_device``).

    Raises :class:`RefusedError` ``encrypted``; :class:`UnsupportedError` ``container-member`` (a part of a dynamic
    disk, a storage pool or a volume group), ``filesystem-unsupported`` (ReFS, swap), ``no-filesystem``;
    :class:`vhdtool.errors.DamagedError` ``filesystem-damaged``.
    """
    where = f"volume {volume.index}"
    if volume.encryption is not None:
        raise RefusedError(
            "encrypted",
            f"the volume is encrypted ({volume.encryption})",
            path=where,
            hint=ENCRYPTION_HINTS.get(volume.encryption, "Decrypt it first, with the tools of its own system."),
        )
    if volume.container is not None:
        raise UnsupportedError(
            "container-member",
            f"the volume is a part of something else ({volume.container})",
            path=where,
            hint="What it belongs to can be read in the running guest only.",
        )
    if volume.filesystem == "ntfs":
        from vhdtool.fs.ntfs import NtfsFilesystem  # noqa: PLC0415  # construct and dissect, 90 ms

        return NtfsFilesystem(device)
    if volume.filesystem in DISSECT_KINDS:
        from vhdtool.fs.dissect_fs import open_dissect  # noqa: PLC0415  # dissect, 50 ms

        return open_dissect(device, volume.filesystem)
    if volume.filesystem is not None:
        raise UnsupportedError("filesystem-unsupported", f"{volume.filesystem} can't be read", path=where)
    raise UnsupportedError("no-filesystem", "there is no known file system on the volume", path=where)
