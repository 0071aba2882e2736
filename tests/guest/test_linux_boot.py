from __future__ import annotations

import time

import pytest

from tests.guest.linux_filesystem import tree
from vhdtool.guest.linux_boot import BootMenu, read_boot_menu, release_order

DEBIAN = r"""
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="DEFAULT"
fi
function load_video {
  insmod all_video
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-uuid' {
	load_video
	linux	/boot/vmlinuz-6.1.0-2-amd64 root=UUID=x ro  quiet
	initrd	/boot/initrd.img-6.1.0-2-amd64
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-uuid' {
	menuentry 'Debian, with Linux 6.1.0-2' $menuentry_id_option 'gnulinux-6.1.0-2-amd64-advanced' {
		linux	/boot/vmlinuz-6.1.0-2-amd64 root=UUID=x ro  quiet
		initrd	/boot/initrd.img-6.1.0-2-amd64
	}
	menuentry "Debian, with Linux 6.1.0-1" --id old {
		linux16	($root)/vmlinuz-6.1.0-1-amd64 root=UUID=x module_blacklist=hv_storvsc
		initrd16	($root)/ucode.img ($root)/initrd.img-6.1.0-1-amd64
	}
}
menuentry 'UEFI Firmware Settings' --id uefi-firmware {
	fwsetup
}
"""


def menu(default: str, **files: str) -> BootMenu:
    return read_boot_menu(tree({"boot/grub/grub.cfg": DEBIAN.replace("DEFAULT", default)} | files))


@pytest.mark.parametrize(
    ("default", "kernel"),
    [
        ("0", "2"), ("1>0", "2"), ("1>1", "1"), ("1", "2"), ("gnulinux-advanced-uuid>old", "1"),
        ("Advanced options>Debian, with Linux 6.1.0-1", "1"), ("gnulinux-simple-uuid", "2"),
        ("7", "2"), ("nothing>at>all", "2"), ("", "2"), ("2", "2"), ("999999999999999999999", "2"),
    ],
)  # fmt: skip
def test_the_default_of_a_menu(default: str, kernel: str):
    found = menu(default)
    assert found.default is not None
    assert found.default.kernel.endswith(f"vmlinuz-6.1.0-{kernel}-amd64")
    assert found.source == "/boot/grub/grub.cfg"


def test_entries_have_what_the_kernel_is_given():
    found = menu("1>1")
    assert [entry.kernel for entry in found.entries] == [
        "/boot/vmlinuz-6.1.0-2-amd64", "/boot/vmlinuz-6.1.0-2-amd64", "/vmlinuz-6.1.0-1-amd64",
    ]  # fmt: skip
    assert found.default == found.entries[2]
    assert found.default.initramfs == ("/ucode.img", "/initrd.img-6.1.0-1-amd64")
    assert found.default.options == "root=UUID=x module_blacklist=hv_storvsc"


def test_the_saved_entry_counts_where_it_is_asked_for():
    saved = {"boot/grub/grubenv": "# GRUB Environment Block\nsaved_entry=gnulinux-advanced-uuid>old\n#####"}
    assert menu("${saved_entry}", **saved).default.kernel.endswith("-1-amd64")
    assert menu("0", **saved).default.kernel.endswith("-2-amd64")
    assert menu("${saved_entry}").default.kernel.endswith("-2-amd64")


BLS = {
    "boot/grub2/grub.cfg": 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n',
    "boot/loader/entries/m-5.14.0-9.conf": "title a\nversion 5.14.0-9.el9\nlinux /vmlinuz-5.14.0-9.el9\n"
    "initrd /initramfs-5.14.0-9.el9.img $tuned_initrd\noptions root=/dev/x $kernelopts\n",
    "boot/loader/entries/m-5.14.0-70.conf": "title b\nversion 5.14.0-70.el9\nlinux /vmlinuz-5.14.0-70.el9\n",
    "boot/loader/entries/m-0-rescue.conf": "title r\nversion 9-rescue\nlinux /vmlinuz-0-rescue\n",
    "boot/loader/entries/broken.conf": "title only\n",
    "boot/loader/entries/note.txt": "linux /x",
}


def test_boot_loader_entries_the_newest_by_its_numbers():
    found = read_boot_menu(tree(BLS))
    assert found.default.kernel == "/vmlinuz-5.14.0-70.el9"
    assert [entry.kernel for entry in found.entries][-1] == "/vmlinuz-0-rescue"
    saved = BLS | {"boot/grub2/grubenv": "saved_entry=m-5.14.0-9\nkernelopts=ro quiet\n"}
    found = read_boot_menu(tree(saved))
    assert found.default.kernel == "/vmlinuz-5.14.0-9.el9"
    assert found.default.options == "root=/dev/x ro quiet"
    assert found.default.initramfs == ("/initramfs-5.14.0-9.el9.img",)
    assert found.default.source == "/boot/loader/entries/m-5.14.0-9.conf"


def test_the_menu_of_systemd_boot():
    files = {path: text for path, text in BLS.items() if "grub" not in path}
    assert read_boot_menu(tree(files)).default.kernel == "/vmlinuz-5.14.0-70.el9"
    found = read_boot_menu(tree(files | {"boot/loader/loader.conf": "timeout 3\ndefault m-5.14.0-9*\n"}))
    assert found.default.kernel == "/vmlinuz-5.14.0-9.el9"
    assert found.source == "/boot/loader/loader.conf"


def test_extlinux():
    text = """DEFAULT menu.c32
PROMPT 0
LABEL lts
  LINUX vmlinuz-lts
  INITRD initramfs-lts
  APPEND root=UUID=x modules=ext4 quiet
LABEL old
  KERNEL /boot/vmlinuz-old
  APPEND initrd=/boot/a.img,/boot/b.img ro
"""
    found = read_boot_menu(tree({"boot/extlinux.conf": text}))
    assert (found.default.kernel, found.default.initramfs) == ("vmlinuz-lts", ("initramfs-lts",))
    found = read_boot_menu(tree({"boot/extlinux.conf": text.replace("menu.c32", "old")}))
    assert (found.default.initramfs, found.default.options) == (("/boot/a.img", "/boot/b.img"), "ro")


def test_the_old_grub():
    text = """default=1
timeout=5
title One
	root (hd0,0)
	kernel /vmlinuz-2.6.32-1 ro
	initrd /initramfs-2.6.32-1.img
title Two
	kernel (hd0,0)/vmlinuz-2.6.32-2 ro quiet
"""
    assert read_boot_menu(tree({"boot/grub/menu.lst": text})).default.kernel == "/vmlinuz-2.6.32-2"
    assert read_boot_menu(tree({"boot/grub/menu.lst": text.replace("=1", "=9")})).default.kernel == "/vmlinuz-2.6.32-1"


def test_a_menu_in_the_efi_partition_and_a_stub_that_only_leads_on():
    files = {"boot/efi/EFI/debian/grub.cfg": "search.fs_uuid x root\nconfigfile $prefix/grub.cfg\n"}
    assert read_boot_menu(tree(files)) == BootMenu((), None, None)
    files = {"boot/efi/EFI/centos/grub.cfg": DEBIAN.replace("DEFAULT", "0")}
    assert read_boot_menu(tree(files)).source == "/boot/efi/EFI/centos/grub.cfg"


@pytest.mark.parametrize(
    "text",
    [
        "submenu 'a' {\n" * 50_000,
        "menuentry 'a' {\nlinux /x\n}\n" * 50_000,
        "}\n" * 100_000,
        "menuentry 'a' {\nlinux\ninitrd /x\nlinux /k",
        "menuentry " + "'" * 100_000 + " {\n",
        "menuentry 'a' " + "--id " * 50_000 + "{\nlinux /k\n",
        "\0" * 100_000,
    ],
)
def test_a_hostile_menu_takes_no_time(text: str):
    start = time.monotonic()
    read_boot_menu(tree({"boot/grub/grub.cfg": text, "boot/extlinux.conf": text, "boot/grub/menu.lst": text}))
    assert time.monotonic() - start < 5


def test_releases_are_sorted_as_their_numbers_count():
    releases = ["6.1.0-9-amd64", "6.1.0-10-amd64", "5.14.0-70.el9", "6.1.0-10-cloud-amd64", "6.10.1", "6.1.0-rc1"]
    assert sorted(releases, key=release_order) == [
        "5.14.0-70.el9", "6.1.0-rc1", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-10-cloud-amd64", "6.10.1",
    ]  # fmt: skip
