from __future__ import annotations

import struct

import pytest

from tests.guest.linux_filesystem import LinuxFilesystem, tree, volume
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.guest.linux_mounts import LinuxVolume, filesystem_uuid, mount_volumes
from vhdtool.guest.source import Troubles

UUID = "3d2a7a6c-28a5-4ac3-a3d8-6c4f1e9b5a10"
BOOT = {"vmlinuz-6.1": "k", "grub/grub.cfg": "menu"}


def mounted(fstab: str, *volumes: LinuxVolume):
    root = tree({"etc/fstab": fstab, "boot/": "", "usr/": "", "var/": ""})
    troubles = Troubles()
    return root, mount_volumes(root, [volume(0, {}), *volumes], troubles), troubles


@pytest.mark.parametrize(
    ("device", "names"),
    [
        (f"UUID={UUID}", {"uuid": UUID}),
        (f'UUID="{UUID.upper()}"', {"uuid": UUID}),
        (f"/dev/disk/by-uuid/{UUID}", {"uuid": UUID}),
        ("LABEL=boot", {"label": "boot"}),
        ("/dev/disk/by-label/boot", {"label": "boot"}),
        ("PARTUUID=1234abcd-02", {"partition_id": "1234abcd-02"}),
        ("/dev/mapper/my--vg-root--fs", {"name": "my-vg/root-fs"}),
        ("/dev/my-vg/root-fs", {"name": "my-vg/root-fs"}),
        ("/dev/sda2", {}),
        ("/dev/nvme0n1p2", {}),
        ("PARTUUID=unknown", {}),
    ],
)
def test_a_volume_is_found_by_any_of_its_names(device: str, names: dict[str, str]):
    # the other volume looks like nothing; what no name tells is told by what lies on it
    root, mounts, troubles = mounted(
        f"{device} /boot ext4 defaults 0 2\n", volume(1, {"x": ""}), volume(2, BOOT, **names)
    )
    assert [(mount.path, mount.volume) for mount in mounts] == [("/boot", 2)]
    assert root.text("/boot/grub/grub.cfg") == "menu"
    assert troubles.found == []


@pytest.mark.parametrize("device", [f"UUID={UUID}", "LABEL=other"])
def test_a_volume_of_another_name_is_not_taken(device: str):
    root, mounts, _ = mounted(f"{device} /boot ext4 defaults 0 2", volume(1, BOOT, uuid="no", label="no"))
    assert mounts[0].volume is None
    assert mounts[0].device == device
    assert root.entries("/boot") == ()


def test_only_what_facts_may_lie_on_is_mounted_parents_first():
    lines = f"""
# comment
UUID=b /var/lib xfs defaults
UUID=a /var ext4 rw
UUID={UUID} /home ext4 defaults
tmpfs /var tmpfs size=1G
host:/x /usr nfs ro
broken
UUID=c none swap sw
"""
    root, mounts, _ = mounted(lines, volume(1, {"lib/": ""}, uuid="a"), volume(2, {"hyperv/x": "pool"}, uuid="b"))
    assert [(mount.path, mount.volume) for mount in mounts] == [("/var", 1), ("/var/lib", 2)]
    assert root.text("/var/lib/hyperv/x") == "pool"


def test_a_subvolume_that_can_be_reached_and_one_that_can_not():
    one = volume(1, {"@var/lib/x": "there"}, uuid="a", kind="btrfs")
    root, mounts, troubles = mounted("UUID=a /var btrfs rw,subvol=@var,compress=zstd 0 0", one)
    assert (mounts[0].volume, mounts[0].base) == (1, "/@var")
    assert root.text("/var/lib/x") == "there"
    root, mounts, troubles = mounted("UUID=a /var btrfs subvol=/@/var 0 0", one)
    assert [trouble.error.code for trouble in troubles.found] == ["no-such-subvolume"]
    assert root.text("/var/lib/x") is None


def test_a_subvolume_is_looked_for_from_the_top_of_the_volume():
    """As openSUSE has it: the default subvolume is @/.snapshots/1/snapshot, and /var is beside it."""
    default, top = LinuxFilesystem({"etc/x": ""}), LinuxFilesystem({"@/var/lib/x": "there"})
    one = LinuxVolume(1, "btrfs", lambda: pytest.fail("no device"), lambda: default, top=lambda: top, label="root")
    root, mounts, troubles = mounted("LABEL=root /var btrfs subvol=/@/var 0 0", one)
    assert (mounts[0].volume, mounts[0].base) == (1, "/@/var")
    assert root.text("/var/lib/x") == "there"
    assert troubles.found == []


def test_a_volume_that_can_not_be_read_is_told():
    def broken():
        raise DamagedError("filesystem-damaged", "broken")

    bad = LinuxVolume(1, "ext", broken, broken, label="boot")
    _, mounts, troubles = mounted("LABEL=boot /boot ext4 defaults\nUUID=x /usr ext4 ro", bad)
    assert mounts[0].path == "/boot"
    assert [trouble.error.code for trouble in troubles.found] == ["filesystem-damaged"]
    assert bad.uuid is None


def test_an_escaped_path_and_a_very_long_table():
    _, mounts, _ = mounted("LABEL=my\\040boot /boot ext4\n" + "x y z\n" * 100_000, volume(1, {}, label="my boot"))
    assert mounts[0].volume == 1


def test_identities_lie_where_the_formats_say():
    raw = bytes.fromhex(UUID.replace("-", ""))
    places = {"ext": 1024 + 0x68, "xfs": 32, "btrfs": 65536 + 0x20}
    for kind, place in places.items():
        head = bytearray(0x11000)
        head[place : place + 16] = raw
        assert filesystem_uuid(BytesSource(head), kind) == UUID
        assert filesystem_uuid(BytesSource(head[: place + 15]), kind) is None
    fat = bytearray(512)
    struct.pack_into("<I", fat, 0x43, 0x1234ABCD)
    assert filesystem_uuid(BytesSource(fat), "fat32") == "1234-ABCD"
    assert filesystem_uuid(BytesSource(fat), "ntfs") is None
