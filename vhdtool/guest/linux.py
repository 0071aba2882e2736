"""The installations of Linux on the volumes of a disk, and what each says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from vhdtool.errors import NotFoundError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.guest.linux_model import LinuxMount
from vhdtool.guest.linux_mounts import LinuxVolume, mount_volumes
from vhdtool.guest.linux_release import OTHER_FILES, RELEASE_FILES, read_release
from vhdtool.guest.linux_tree import LinuxTree, MountedVolume
from vhdtool.guest.model import HiveFact
from vhdtool.guest.source import Trouble, Troubles

USUAL_SUBVOLUMES = ("@", "@rootfs", "root", "@root")
"""What installers call the subvolume of the root (Ubuntu, Debian, Fedora); looked at first."""

MOST_SUBVOLUMES = 64
MACHINE_ID = "/etc/machine-id"
UNINITIALIZED = "uninitialized"


class LinuxInstallation:
    """One Linux: its tree, with what ``/etc/fstab`` says of other volumes.

    ``root`` is the directory of its volume that is its root: ``/``, or a subvolume of Btrfs.
    """

    def __init__(self, volume: LinuxVolume, root: str, volumes: Sequence[LinuxVolume]) -> None:
        self.volume_index = volume.index
        self.root = root
        self._volume = volume
        self._volumes = volumes
        self._troubles = Troubles()

    @cached_property
    def _mounted(self) -> tuple[LinuxTree, tuple[LinuxMount, ...]]:
        tree = LinuxTree(MountedVolume(self.volume_index, self._volume.filesystem, self.root))
        return tree, mount_volumes(tree, self._volumes, self._troubles)

    @property
    def tree(self) -> LinuxTree:
        """The directory tree, all volumes in their places."""
        return self._mounted[0]

    @property
    def mounts(self) -> tuple[LinuxMount, ...]:
        """What ``/etc/fstab`` says, as far as facts may lie there."""
        return self._mounted[1]

    def troubles(self) -> tuple[Trouble, ...]:
        """What could not be read when the volumes were put in their places."""
        assert self._mounted  # noqa: S101  # putting them there finds it
        return tuple(self._troubles.found)

    @cached_property
    def release(self) -> dict[str, str]:
        """The fields of os-release; empty where it has none. Raises what reading it raises."""
        return read_release(self.tree) or {}

    @property
    def product(self) -> str | None:
        """What it calls itself."""
        return self.release.get("PRETTY_NAME") or self.release.get("NAME") or None

    def hives(self) -> tuple[HiveFact, ...]:
        """No hives: a Linux has no registry."""
        return ()


def find_linux(volume: LinuxVolume, volumes: Sequence[LinuxVolume]) -> list[LinuxInstallation]:
    """Find the Linux on one volume; ``volumes`` are all that its ``/etc/fstab`` may name.

    Of the subvolumes of a Btrfs the first that holds one counts: the others are its snapshots. Raises what reading
    the file system raises.
    """
    filesystem = volume.filesystem
    for base in _bases(volume, filesystem):
        prefix = base.rstrip("/")
        if any(filesystem.stat(f"{prefix}{path}") is not None for path in (*RELEASE_FILES, *OTHER_FILES)):
            return [LinuxInstallation(volume, base, volumes)]
    return []


def is_generalized(tree: LinuxTree, init: str | None) -> bool:
    """Whether the next start is the first of a new machine: systemd finds no machine id (machine-id(5))."""
    text = tree.text(MACHINE_ID)
    if text is None:
        return init == "systemd"
    return text.strip() in {"", UNINITIALIZED}


def _bases(volume: LinuxVolume, filesystem: GuestFilesystem) -> Iterator[str]:
    yield "/"
    if volume.kind != "btrfs":
        return
    yield from (f"/{name}" for name in USUAL_SUBVOLUMES)
    try:
        entries = filesystem.list("/")
    except NotFoundError:
        return
    for fact in sorted(entries, key=lambda fact: fact.name)[:MOST_SUBVOLUMES]:
        if fact.kind == "directory" and fact.name not in USUAL_SUBVOLUMES:
            yield f"/{fact.name}"
