"""Which volume is which directory of a Linux guest: ``/etc/fstab`` (fstab(5)) held against the volumes of the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from uuid import UUID

import construct as c

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import NotFoundError, VhdtoolError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.fs.paths import split_path
from vhdtool.guest.linux_model import LinuxMount
from vhdtool.guest.linux_tree import LinuxTree, MountedVolume
from vhdtool.guest.source import Troubles

FSTAB = "/etc/fstab"
MOST_LINES = 1000

WANTED = ("/boot", "/boot/efi", "/efi", "/usr", "/usr/lib", "/etc", "/var", "/var/lib", "/lib", "/opt")
"""Directories that facts are read from; a volume that is mounted elsewhere is of no concern."""

NETWORK_OR_VIRTUAL = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "swap", "none", "overlay", "9p"}
)

# Linux kernel, fs/ext4/ext4.h (struct ext4_super_block); fs/xfs/libxfs/xfs_format.h (struct xfs_dsb); Btrfs,
# include/uapi/linux/btrfs_tree.h (struct btrfs_super_block); FAT as in Microsoft's specification.
EXT_IDENTITY = c.Struct(c.Padding(0x468), "uuid" / c.Bytes(16))
XFS_IDENTITY = c.Struct(c.Padding(32), "uuid" / c.Bytes(16))
BTRFS_IDENTITY = c.Struct(c.Padding(0x10020), "uuid" / c.Bytes(16))
FAT16_IDENTITY = c.Struct(c.Padding(39), "serial" / c.Int32ul)
FAT32_IDENTITY = c.Struct(c.Padding(67), "serial" / c.Int32ul)
_IDENTITIES = {"ext": EXT_IDENTITY, "xfs": XFS_IDENTITY, "btrfs": BTRFS_IDENTITY}
_SERIALS = {"fat12": FAT16_IDENTITY, "fat16": FAT16_IDENTITY, "fat32": FAT32_IDENTITY}


class LinuxVolume:
    """A volume of the image as fstab may name it. ``name`` is ``group/volume`` of a logical one.

    ``partition_id`` is what PARTUUID would be, where it is known. ``top`` opens a Btrfs from its topmost subvolume.
    """

    def __init__(
        self,
        index: int,
        kind: str,
        device: Callable[[], BlockDevice],
        filesystem: Callable[[], GuestFilesystem],
        *,
        top: Callable[[], GuestFilesystem] | None = None,
        label: str | None = None,
        name: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        self.index = index
        self.kind = kind
        self.label = label
        self.name = name
        self.partition_id = partition_id
        self._device = device
        self._filesystem = filesystem
        self._top = top

    @property
    def filesystem(self) -> GuestFilesystem:
        """The opened file system. Raises what opening it raises."""
        return self._filesystem()

    @property
    def top(self) -> GuestFilesystem:
        """The same from the subvolume above all, where it has such. Raises what opening it raises."""
        return self._filesystem() if self._top is None else self._top()

    @cached_property
    def uuid(self) -> str | None:
        """What blkid calls the UUID of the file system; ``None`` where the first bytes can't be read."""
        try:
            return filesystem_uuid(self._device(), self.kind)
        except VhdtoolError:
            return None


def filesystem_uuid(device: BlockDevice, kind: str) -> str | None:
    """Read the UUID of an ext, XFS or Btrfs file system, or the serial of a FAT as ``1234-ABCD``."""
    layout = _IDENTITIES.get(kind) or _SERIALS.get(kind)
    if layout is None:
        return None
    head = device.read_at(0, layout.sizeof())
    if len(head) < layout.sizeof():
        return None
    found = layout.parse(head)
    if kind in _SERIALS:
        return f"{found.serial >> 16:04X}-{found.serial & 0xFFFF:04X}"
    return str(UUID(bytes=found.uuid))


def mount_volumes(tree: LinuxTree, volumes: Sequence[LinuxVolume], troubles: Troubles) -> tuple[LinuxMount, ...]:
    """Mount what ``/etc/fstab`` of the tree says, as far as facts may lie there; tell what was found.

    A directory whose volume is not on the image, or can't be read, stays what it is on the root volume.
    """
    text = ""
    with troubles.guard(FSTAB):
        text = tree.text(FSTAB) or ""
    mounts: list[LinuxMount] = []
    for device, path, kind, options in sorted(_lines(text), key=lambda line: line[1].count("/")):
        if path not in WANTED or kind in NETWORK_OR_VIRTUAL or any(path == known.path for known in mounts):
            continue
        base = "/"
        found = _volume(device, path, volumes, tree.root.volume)
        with troubles.guard(f"the volume of {path}"):
            if found is not None:
                filesystem, base = _seen(found, options)
                tree.mount(path, MountedVolume(found.index, filesystem, base))
        mounts.append(LinuxMount(path, device, None if found is None else found.index, base))
    return tuple(mounts)


def _lines(text: str) -> Iterator[tuple[str, str, str, str]]:
    for line in text.splitlines()[:MOST_LINES]:
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("#"):
            device, path, kind = (_unescaped(field) for field in fields[:3])
            if path.startswith("/"):
                yield device.strip('"'), "/" + "/".join(split_path(path, backslash=False)), kind, "".join(fields[3:4])


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _volume(device: str, path: str, volumes: Sequence[LinuxVolume], root: int) -> LinuxVolume | None:
    key, _, value = device.partition("=")
    value = value.strip('"')
    if device.startswith("/dev/disk/by-"):
        key, _, value = device[len("/dev/disk/by-") :].partition("/")
    key = key.upper()
    tests: dict[str, Callable[[LinuxVolume], bool]] = {
        "UUID": lambda volume: (volume.uuid or "").lower() == value.lower(),
        "LABEL": lambda volume: volume.label == value,
        "PARTUUID": lambda volume: (volume.partition_id or "").lower() == value.lower(),
    }
    test = tests.get(key)
    if test is None:
        name = _logical_name(device)
        if name is not None:
            test = lambda volume: volume.name == name  # noqa: E731  # one line, named by its place
    if test is not None and value != "":
        found = next((volume for volume in volumes if test(volume)), None)
        if found is not None or key in {"UUID", "LABEL"}:
            return found
    if test is not None and value == "":
        return next((volume for volume in volumes if test(volume)), None)
    # /dev/sda1 and the like: a name that depends on the machine. What the volume holds tells better.
    return next((volume for volume in volumes if volume.index != root and _looks_like(volume, path)), None)


def _logical_name(device: str) -> str | None:
    """``group/volume`` of ``/dev/mapper/group-volume`` (``--`` stands for one ``-``) or ``/dev/group/volume``."""
    if device.startswith("/dev/mapper/"):
        parts = re.split(r"(?<!-)-(?!-)", device[len("/dev/mapper/") :], maxsplit=1)
        return "/".join(part.replace("--", "-") for part in parts) if len(parts) == 2 else None
    match = re.fullmatch(r"/dev/([^/]+)/([^/]+)", device)
    return None if match is None else f"{match[1]}/{match[2]}"


def _looks_like(volume: LinuxVolume, path: str) -> bool:
    try:
        names = {fact.name for fact in volume.filesystem.list("/")}
    except VhdtoolError:
        return False
    if path == "/boot":
        return any(name.startswith(("vmlinuz", "vmlinux")) for name in names) or bool({"grub", "grub2"} & names)
    if path in {"/boot/efi", "/efi"}:
        return "EFI" in names
    wanted = {"/usr": {"lib", "bin", "share"}, "/var": {"lib", "cache", "log"}}.get(path)
    return wanted is not None and wanted <= names


def _seen(volume: LinuxVolume, options: str) -> tuple[GuestFilesystem, str]:
    """The file system and the directory of it that is mounted: a subvolume's, named from the top (btrfs(5))."""
    match = re.search(r"(?:^|,)subvol=([^,]+)", options)
    if volume.kind != "btrfs" or match is None:
        return volume.filesystem, "/"
    base = "/" + "/".join(split_path(match[1], backslash=False))
    fact = volume.top.stat(base)
    if base != "/" and (fact is None or fact.kind != "directory"):
        raise NotFoundError("no-such-subvolume", f"the volume has no subvolume {base}")
    return volume.top, base
