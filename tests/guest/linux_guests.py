"""A whole Linux guest in memory: a Debian with one kernel, its daemons and their rule."""

from __future__ import annotations

import gzip

from tests.guest.linux_files import cpio, kernel_image, module_elf
from tests.guest.linux_filesystem import Content, Link, volume
from vhdtool.guest.inspection import inspect_guest
from vhdtool.guest.linux import find_linux
from vhdtool.guest.model import Guest
from vhdtool.knowledge.linux_modules import hyperv_modules

RELEASE = "6.1.0-2-amd64"
MODULES = f"lib/modules/{RELEASE}"
INITRAMFS = f"boot/initrd.img-{RELEASE}"
AT_BOOT = ("drivers/hv/hv_vmbus", "drivers/scsi/hv_storvsc", "drivers/net/hyperv/hv_netvsc")
NOT_BUILT = {"hyperv_fb"}

Files = dict[str, Content | str]


def initramfs(*modules: str, release: str = RELEASE) -> bytes:
    return gzip.compress(cpio([(f"usr/lib/modules/{release}/kernel/{module}.ko", b"") for module in modules]))


def module(release: str = RELEASE, **info: str) -> bytes:
    return module_elf({"vermagic": f"{release} SMP mod_unload"} | info)


def debian() -> Files:
    modules = [one for one in hyperv_modules() if one.name not in NOT_BUILT]
    files: Files = {
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "sbin/init": Link("/lib/systemd/systemd"),
        "lib/systemd/systemd": "x",
        f"boot/vmlinuz-{RELEASE}": kernel_image(f"{RELEASE} (debian-kernel@lists.debian.org) #1 SMP"),
        INITRAMFS: initramfs(*AT_BOOT),
        f"{MODULES}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
        f"{MODULES}/modules.dep": "".join(f"{one.path}.ko: kernel/x.ko\n" for one in modules),
        "var/lib/dpkg/status": "Package: hyperv-daemons\nStatus: install ok installed\nVersion: 6.1.192-2\n\n"
        f"Package: linux-image-{RELEASE}\nStatus: install ok installed\nVersion: 6.1.192-2\n",
        f"var/lib/dpkg/info/linux-image-{RELEASE}.list": f"/boot/vmlinuz-{RELEASE}\n",
        "var/lib/dpkg/info/hyperv-daemons.list": "",
    }
    files |= {f"{MODULES}/{one.path}.ko": module() for one in modules}
    rules, owned = "", ""
    for name in ("kvp", "vss", "fcopy"):
        files[f"usr/sbin/hv_{name}_daemon"] = b"\x7fELF"
        files[f"lib/systemd/system/hv-{name}-daemon.service"] = f"[Service]\nExecStart=/usr/sbin/hv_{name}_daemon -n\n"
        rules += f'KERNEL=="vmbus/hv_{name}", ENV{{SYSTEMD_WANTS}}+="hv-{name}-daemon.service"\n'
        owned += f"/usr/sbin/hv_{name}_daemon\n"
    for name in ("hv_get_dns_info", "hv_get_dhcp_info", "hv_set_ifconfig"):
        files[f"usr/libexec/hypervkvpd/{name}"] = "#!/bin/sh"
    files["lib/udev/rules.d/60-hyperv-daemons.rules"] = rules
    files["var/lib/dpkg/info/hyperv-daemons.list"] = owned
    return files


def inspected(files: Files, *others: Files, all_services: bool = False) -> Guest:
    """Inspect the Linux on the first volume; the others are there to be mounted, by the labels volume1, volume2, …"""
    volumes = [volume(index, one, label=f"volume{index}") for index, one in enumerate((files, *others))]
    (installation,) = find_linux(volumes[0], volumes)
    return inspect_guest(installation, all_services=all_services)
