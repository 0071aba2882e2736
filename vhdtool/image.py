"""The facade: a disk image from its file to its guests, each step taken when it is asked for.

    with open_image("server.vhdx") as image:
        image.disk           # the virtual disk: bytes, chain, extents
        image.volumes        # partitions and logical volumes, with their roles
        image.installations  # each Windows on it, nothing read yet but where it is
        image.systems        # each guest, Windows and Linux
        image.guests         # everything that is known of each

``installations`` and ``systems`` cost a look at each file system's root, ``guests`` the reading of hives and, of a
Linux, of its kernels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.errors import InputError, Problem, RefusedError, UsageError, VhdtoolError
from vhdtool.fs.base import FileStat, GuestFile, GuestFilesystem
from vhdtool.guest.model import Finding, Guest
from vhdtool.volume.partitions import Volume, VolumeTable, read_volumes, volume_device

if TYPE_CHECKING:
    from vhdtool.fs.state import VolumeState
    from vhdtool.guest.linux import LinuxInstallation
    from vhdtool.guest.linux_mounts import LinuxVolume
    from vhdtool.guest.source import WindowsInstallation

WINDOWS_FILESYSTEMS = frozenset({"ntfs", "refs", "fat16", "fat32"})
"""File systems that a Windows can be installed on (ReFS since Windows 11; FAT up to XP). Others are not looked into."""

LINUX_FILESYSTEMS = frozenset({"ext", "xfs", "btrfs"})
"""File systems that the root of a Linux is on."""

MOUNTED_FILESYSTEMS = LINUX_FILESYSTEMS | {"fat12", "fat16", "fat32"}
"""File systems of volumes that a Linux has facts on: its own, and that of the EFI system partition."""

NO_WINDOWS_ROLES = frozenset({"esp", "msr"})
"""Partitions that hold no installation by their purpose."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file of the guest that was opened while the image was read: what the facts rest on."""

    volume: int
    path: str


class RecordedFilesystem:
    """A guest file system that notes which files are opened."""

    def __init__(self, inner: GuestFilesystem, volume: int, record: dict[OpenedFile, None]) -> None:
        self.inner = inner
        self._volume = volume
        self._record = record

    @property
    def kind(self) -> str:
        """As :attr:`GuestFilesystem.kind`."""
        return self.inner.kind

    @property
    def label(self) -> str | None:
        """As :attr:`GuestFilesystem.label`."""
        return self.inner.label

    def stat(self, path: str) -> FileStat | None:
        """As :meth:`GuestFilesystem.stat`."""
        return self.inner.stat(path)

    def list(self, path: str) -> Sequence[FileStat]:
        """As :meth:`GuestFilesystem.list`."""
        return self.inner.list(path)

    def open(self, path: str) -> GuestFile:
        """As :meth:`GuestFilesystem.open`, and note the file."""
        file = self.inner.open(path)
        self._record[OpenedFile(self._volume, file.path)] = None
        return file


class Image:
    """A disk image opened for reading. Nothing in it is ever changed; a context manager closes its files."""

    def __init__(self, disk: VirtualDisk, path: str) -> None:
        self.path = path
        self.disk = disk
        self._filesystems: dict[int, RecordedFilesystem | VhdtoolError] = {}
        self._tops: dict[int, RecordedFilesystem] = {}
        self._opened: dict[OpenedFile, None] = {}
        self._unreadable_volumes: dict[int, VhdtoolError] = {}
        self._unreadable_states: dict[int, VhdtoolError] = {}
        self._unreadable_guests: tuple[VhdtoolError, ...] = ()

    def __enter__(self) -> Self:
        """Give the image itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the image's files."""
        self.close()

    def close(self) -> None:
        """Close the files of the chain; a second call does nothing."""
        self.disk.close()

    @cached_property
    def volume_table(self) -> VolumeTable:
        """The partition table as the disk has it.

        Raises :class:`InputError` ``not-a-disk`` for a raw file without a partition table or a file system: VHD and
        VHDX files have a signature, a raw image has nothing else that tells it from any other file.
        """
        table = read_volumes(self.disk)
        if self.disk.info.format == "raw" and table.scheme == "none" and not table.volumes:
            raise InputError(
                "not-a-disk",
                "the file holds no partition table and no file system that is known",
                path=self.path,
                hint="Name a disk image: .vhdx, .avhdx, .vhd, .avhd or raw.",
            )
        return table

    @cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes, those with a guest on them in the role ``os``. Looks for the guests."""
        systems = {system.volume_index for system in self.systems}
        return tuple(
            replace(volume, role="os") if volume.index in systems else volume for volume in self.volume_table.volumes
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in the containers and the partition table, and was survived."""
        return (*self.disk.info.problems, *self.volume_table.problems)

    @property
    def opened_files(self) -> tuple[OpenedFile, ...]:
        """The guest's files that have been opened up to now, in the order of the first time."""
        return tuple(self._opened)

    def volume(self, index: int) -> Volume:
        """Return the volume with this index, as the partition table has it.

        Raises :class:`UsageError` ``no-such-volume``.
        """
        for volume in self.volume_table.volumes:
            if volume.index == index:
                return volume
        known = ", ".join(str(volume.index) for volume in self.volume_table.volumes) or "none"
        raise UsageError(
            "no-such-volume", f"the image has no volume {index}", path=self.path, hint=f"Its volumes: {known}."
        )

    def filesystem(self, index: int) -> GuestFilesystem:
        """Open the file system of a volume, once.

        Raises :class:`UsageError` ``no-such-volume`` and what :func:`vhdtool.fs.read.open_filesystem` raises
        (encrypted, of an unsupported kind, damaged).
        """
        known = self._filesystems.get(index)
        if known is None:
            known = self._filesystems[index] = self._open_filesystem(self.volume(index))
        if isinstance(known, VhdtoolError):
            raise known
        return known

    def _open_filesystem(self, volume: Volume) -> RecordedFilesystem | VhdtoolError:
        from vhdtool.fs.read import open_filesystem  # noqa: PLC0415  # slow: only for who needs a file system

        try:
            inner = open_filesystem(volume_device(self.disk, volume), volume)
        except VhdtoolError as error:
            return error
        return RecordedFilesystem(inner, volume.index, self._opened)

    def label(self, index: int) -> str | None:
        """Return a volume's label; NTFS and exFAT keep theirs inside the file system."""
        volume = self.volume(index)
        if volume.label is None and volume.filesystem in {"ntfs", "exfat"}:
            try:
                return self.filesystem(index).label
            except VhdtoolError:  # told by `findings`
                return None
        return volume.label

    def state(self, index: int) -> VolumeState:
        """Tell whether a volume is dirty, hibernated or encrypted. What can't be read is ``None``."""
        from vhdtool.fs.state import VolumeState, read_state  # noqa: PLC0415  # construct is slow to import

        volume = self.volume(index)
        inner: GuestFilesystem | None = None
        try:
            if volume.filesystem == "ntfs":
                self.filesystem(index)
                known = self._filesystems[index]
                inner = known.inner if isinstance(known, RecordedFilesystem) else None
            return read_state(volume_device(self.disk, volume), volume, inner)
        except VhdtoolError as error:
            if index not in self._unreadable_volumes and not isinstance(self._filesystems.get(index), VhdtoolError):
                self._unreadable_states[index] = error
            return VolumeState(None, None, volume.encryption is not None)

    @cached_property
    def installations(self) -> tuple[WindowsInstallation, ...]:
        """Each Windows on the disk, in the order of the volumes.

        A file system that can't be read is passed over here; :attr:`findings` names it.
        """
        from vhdtool.guest.source import GuestVolume  # noqa: PLC0415
        from vhdtool.guest.windows import find_windows  # noqa: PLC0415

        found: list[WindowsInstallation] = []
        for volume in self.volume_table.volumes:
            if volume.filesystem not in WINDOWS_FILESYSTEMS or volume.encryption or volume.role in NO_WINDOWS_ROLES:
                continue
            try:
                found += find_windows([GuestVolume(volume.index, self.filesystem(volume.index))])
            except VhdtoolError as error:
                self._unreadable_volumes[volume.index] = error
        return tuple(found)

    @cached_property
    def linux_installations(self) -> tuple[LinuxInstallation, ...]:
        """Each Linux on the disk, in the order of the volumes of their roots.

        A file system that can't be read is passed over here; :attr:`findings` names it.
        """
        candidates = [
            volume
            for volume in self.volume_table.volumes
            if volume.filesystem in LINUX_FILESYSTEMS and not volume.encryption and volume.container is None
        ]
        if not candidates:
            return ()
        from vhdtool.guest.linux import find_linux  # noqa: PLC0415  # only for disks that may hold one

        known = [self._linux_volume(volume) for volume in self.volume_table.volumes if _may_be_mounted(volume)]
        found: list[LinuxInstallation] = []
        for volume in candidates:
            own = next(one for one in known if one.index == volume.index)
            try:
                found += find_linux(own, known)
            except VhdtoolError as error:
                self._unreadable_volumes[volume.index] = error
        return tuple(found)

    def _btrfs_top(self, volume: Volume) -> GuestFilesystem:
        """Open a Btrfs from the subvolume above all, once."""
        known = self._tops.get(volume.index)
        if known is None:
            from vhdtool.fs.dissect_fs import open_dissect  # noqa: PLC0415  # slow, and only for Btrfs

            inner = open_dissect(volume_device(self.disk, volume), "btrfs", top=True)
            known = self._tops[volume.index] = RecordedFilesystem(inner, volume.index, self._opened)
        return known

    def _linux_volume(self, volume: Volume) -> LinuxVolume:
        from vhdtool.guest.linux_mounts import LinuxVolume  # noqa: PLC0415  # only for disks that may hold a Linux

        disk_id = self.volume_table.disk_id
        partition_id = f"{disk_id}-{volume.index + 1:02x}" if volume.scheme == "mbr" and disk_id else None
        return LinuxVolume(
            volume.index,
            volume.filesystem or "",
            lambda: volume_device(self.disk, volume),
            lambda: self.filesystem(volume.index),
            top=(lambda: self._btrfs_top(volume)) if volume.filesystem == "btrfs" else None,
            label=volume.label,
            name=volume.name if volume.scheme == "lvm" else None,
            partition_id=partition_id,
        )

    @cached_property
    def systems(self) -> tuple[WindowsInstallation | LinuxInstallation, ...]:
        """Each guest on the disk, as ``--guest`` counts them: every Windows, then every Linux."""
        return (*self.installations, *self.linux_installations)

    def system(self, index: int | None = None) -> WindowsInstallation | LinuxInstallation:
        """Choose one guest: by its place in :attr:`systems`, or the only one. Raises as :meth:`installation`."""
        if not self.systems:
            raise self._no_guest()
        return self.systems[self._choice(index, len(self.systems))]

    def installation(self, index: int | None = None) -> WindowsInstallation:
        """Choose one Windows: by its place in :attr:`systems`, or the only one.

        Raises :class:`UsageError` ``ambiguous-guest`` or ``no-such-guest`` with the choices; where there is none,
        :class:`RefusedError` ``encrypted`` when an encrypted volume may hide it, the error of the file system that
        could not be read, or :class:`InputError` ``no-guest``; ``linux-guest`` where it is a Linux.
        """
        found = self.installations
        if not found:
            raise self._no_windows()
        if index is not None and len(found) <= index < len(self.systems):
            raise self._no_windows()
        return found[self._choice(index, len(found))]

    def _choice(self, index: int | None, count: int) -> int:
        """Check the number of a guest against the first ``count`` of them."""
        choices = "; ".join(
            f"--guest {number}: {system.root} on volume {system.volume_index}"
            for number, system in enumerate(self.systems[:count])
        )
        if index is None:
            if count > 1:
                kind = "installations of Windows" if count == len(self.installations) else "guests"
                raise UsageError(
                    "ambiguous-guest",
                    f"the image has {count} {kind}",
                    path=self.path,
                    hint=f"Say which: {choices}.",
                )
            return 0
        if not 0 <= index < count:
            raise UsageError(
                "no-such-guest", f"the image has no guest {index}", path=self.path, hint=f"It has: {choices}."
            )
        return index

    def _no_windows(self) -> VhdtoolError:
        if not self.linux_installations:
            return self._no_guest()
        return InputError(
            "linux-guest",
            "the guest is a Linux, and this is a question to a Windows",
            path=self.path,
            hint="What is known of it: vhdtool inspect IMAGE; version and services list answer for it too.",
        )

    def _no_guest(self) -> VhdtoolError:
        for volume in self.volume_table.volumes:
            if volume.encryption:
                return RefusedError(
                    "encrypted",
                    f"volume {volume.index} is encrypted ({volume.encryption}), and no guest is on the others",
                    path=self.path,
                    offset=volume.offset,
                    hint="Decrypt it in the running guest first (BitLocker: manage-bde -off C:); see inspect.",
                )
        for error in self._unreadable_volumes.values():
            return error
        return InputError(
            "no-guest",
            "no installation of Windows or Linux was found",
            path=self.path,
            hint="See what is on the disk with: vhdtool inspect IMAGE",
        )

    @cached_property
    def guests(self) -> tuple[Guest, ...]:
        """Everything that is known of each guest that can be read."""
        return self.inspect_guests()

    def inspect_guests(self, *, all_services: bool = False) -> tuple[Guest, ...]:
        """Inspect each guest; ``all_services`` lists every service too, not only the integration services.

        An installation that can't be read is left out where another can, and raises its error where none can.
        """
        from vhdtool.guest.inspection import inspect_guest  # noqa: PLC0415

        guests: list[Guest] = []
        failed: list[VhdtoolError] = []
        for system in self.systems:
            try:
                guests.append(inspect_guest(system, all_services=all_services))
            except VhdtoolError as error:
                failed.append(error)
        if failed and not guests:
            raise failed[0]
        self._unreadable_guests = tuple(failed)
        return tuple(guests)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the user should know of the image as a whole: no guest, encrypted or unreadable volumes."""
        found = [
            Finding(
                "volume-encrypted",
                "high",
                f"Volume {volume.index} is encrypted ({volume.encryption}): nothing on it can be read.",
                "Decrypt it in the running guest before it is shut down (BitLocker: manage-bde -off C:).",
            )
            for volume in self.volume_table.volumes
            if volume.encryption
        ]
        if not self.systems:
            found.append(
                Finding("no-guest", "medium", "No installation of Windows or Linux was found on this image.", None),
            )
        unreadable = {index: error for index, error in self._filesystems.items() if isinstance(error, VhdtoolError)}
        found += [
            Finding("volume-unreadable", "high", f"Volume {index}: {error} [{error.code}]", error.hint)
            for index, error in (unreadable | self._unreadable_volumes).items()
            if not self.volume(index).encryption
        ]
        found += [
            Finding("volume-state-unknown", "medium", f"Volume {index}: {error} [{error.code}]", error.hint)
            for index, error in self._unreadable_states.items()
        ]
        found += [
            Finding("guest-unreadable", "high", f"{error} [{error.code}]", error.hint)
            for error in self._unreadable_guests
        ]
        return tuple(found)


def _may_be_mounted(volume: Volume) -> bool:
    return volume.filesystem in MOUNTED_FILESYSTEMS and not volume.encryption and volume.container is None


def open_image(path: str | os.PathLike[str], *, parent: str | os.PathLike[str] | None = None) -> Image:
    """Open a ``.vhdx``, ``.vhd`` or raw disk image with the chain it stands on. Read-only.

    ``parent`` names the parent file of a differencing image where its own locators lead nowhere. Raises
    :class:`InputError` and its kinds: not a disk, damaged, unsupported, parent missing.
    """
    return Image(open_disk(path, parent=parent), os.fspath(path))
