from __future__ import annotations

import json

import pytest
from msgspec import UNSET

from tests.guest.linux_files import kernel_image, kvp_record
from tests.guest.linux_filesystem import Link, volume
from tests.guest.linux_guests import AT_BOOT, INITRAMFS, MODULES, RELEASE, Files, debian, initramfs, inspected, module
from vhdtool.errors import DamagedError
from vhdtool.guest.inspection import integration_version, list_services
from vhdtool.guest.linux import find_linux
from vhdtool.guest.linux_model import LinuxFacts, LinuxKernel, LinuxModule, LinuxPackage
from vhdtool.guest.model import Guest, Service
from vhdtool.report.encode import to_json


def linux(guest: Guest) -> LinuxFacts:
    assert isinstance(guest.linux, LinuxFacts)
    return guest.linux


def row(guest: Guest, name: str) -> Service:
    return next(one for one in (*guest.services, *guest.drivers) if one.name == name)


def hyperv_module(guest: Guest, name: str) -> LinuxModule:
    kernel = next(one for one in linux(guest).kernels if one.default)
    return next(one for one in kernel.modules if one.name == name)


def codes(guest: Guest) -> dict[str, str]:
    return {finding.code: finding.severity for finding in guest.findings}


def test_a_healthy_guest_has_nothing_to_be_told():
    guest = inspected(debian())
    assert codes(guest) == {}
    assert (guest.os.family, guest.os.product) == ("linux", "Debian GNU/Linux 12 (bookworm)")
    assert (guest.os.version, guest.os.architecture, guest.os.install_state) == (RELEASE, "amd64", "complete")
    version = guest.integration_services
    assert (version.version, version.source, version.agreement) == (RELEASE, "kernel", "agree")
    assert {one.source: one.version for one in version.evidence} == {
        "kernel": RELEASE, "kernel-image": RELEASE, "vermagic": RELEASE, "kernel-package": "6.1.192-2",
        "daemons-package": "6.1.192-2",
    }  # fmt: skip
    assert [(one.name, one.start, one.trigger_start, one.status) for one in guest.services] == [
        ("hv_kvp_daemon", "manual", True, "ok"), ("hv_vss_daemon", "manual", True, "ok"),
        ("hv_fcopy_daemon", "manual", True, "ok"), ("hv_fcopy_uio_daemon", None, None, "not-offered"),
    ]  # fmt: skip
    assert (row(guest, "hv_storvsc").start, row(guest, "hv_storvsc").built_in) == ("boot", False)
    assert (row(guest, "hv_utils").start, row(guest, "hv_utils").trigger_start) == ("manual", True)
    assert row(guest, "hyperv_fb").status == "not-offered"
    facts = linux(guest)
    assert (facts.init, facts.package_manager, facts.boot_source) == ("systemd", "dpkg", None)
    assert facts.daemons[0].package == LinuxPackage("hyperv-daemons", "6.1.192-2")
    assert facts.kernels[0].package == LinuxPackage(f"linux-image-{RELEASE}", "6.1.192-2")
    assert facts.kernels[0].initramfs.modules == ("hv_netvsc", "hv_storvsc", "hv_vmbus")


def test_the_part_is_in_the_document_of_a_linux_alone():
    guest = inspected(debian())
    assert json.loads(to_json(guest))["linux"]["package_manager"] == "dpkg"
    windows = Guest(0, guest.os, guest.integration_services, (), (), (), (), ())
    assert windows.linux is UNSET
    assert "linux" not in json.loads(to_json(windows))


def changed(**files: object) -> Files:
    return debian() | files  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["hv_vmbus", "hv_storvsc"])
def test_a_boot_module_that_the_initramfs_lacks(name: str):
    files = debian() | {INITRAMFS: initramfs(*(one for one in AT_BOOT if name not in one))}
    guest = inspected(files)
    assert codes(guest) == {"boot-module-not-in-initramfs": "high"}
    assert f"update-initramfs -u -k {RELEASE}" in (guest.findings[0].fix or "")
    assert (row(guest, name).status, row(guest, name).expected_start) == ("wrong-start", "boot")
    other = debian() | {INITRAMFS: initramfs(*AT_BOOT, release="6.1.0-1-amd64")}
    assert codes(inspected(other)) == {"boot-module-not-in-initramfs": "high"}


def test_what_is_built_in_needs_no_initramfs():
    files = debian()
    built = "kernel/drivers/hv/hv_vmbus.ko\nkernel/drivers/scsi/hv_storvsc.ko\n"
    files[f"{MODULES}/modules.builtin"] = built
    del files[INITRAMFS]
    guest = inspected(files)
    assert codes(guest) == {}
    assert (row(guest, "hv_vmbus").built_in, row(guest, "hv_vmbus").start) == (True, "boot")
    assert row(guest, "hv_vmbus").evidence == (f"/{MODULES}/modules.builtin",)
    assert hyperv_module(guest, "hv_vmbus").path is None


def test_the_configuration_tells_where_no_list_does():
    files = debian() | {
        f"boot/config-{RELEASE}": "CONFIG_HYPERV=y\n# CONFIG_HYPERV_STORAGE is not set\nCONFIG_HYPERV_NET=m\n"
    }
    del files[f"{MODULES}/modules.builtin"]
    guest = inspected(files)
    found = {name: hyperv_module(guest, name).built_in for name in ("hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils")}
    assert found == {"hv_vmbus": True, "hv_storvsc": False, "hv_netvsc": False, "hv_utils": None}
    # the newest kernels have an option of its own, and HYPERV is no module any more
    files[f"boot/config-{RELEASE}"] = "CONFIG_HYPERV=y\nCONFIG_HYPERV_VMBUS=m\n"
    assert hyperv_module(inspected(files), "hv_vmbus").built_in is False


def test_no_initramfs_and_one_that_can_not_be_read():
    files = debian()
    del files[INITRAMFS]
    assert codes(inspected(files)) == {"initramfs-missing": "high"}
    guest = inspected(debian() | {INITRAMFS: b"garbage"})
    assert codes(guest) == {"evidence-unreadable": "medium"}
    assert hyperv_module(guest, "hv_vmbus").in_initramfs is None
    assert row(guest, "hv_vmbus").status == "unknown"


def test_modules_that_are_missing():
    files = debian()
    for name in ("drivers/scsi/hv_storvsc", "drivers/hv/hv_balloon", "net/vmw_vsock/hv_sock"):
        del files[f"{MODULES}/kernel/{name}.ko"]
    files[INITRAMFS] = initramfs("drivers/hv/hv_vmbus")
    guest = inspected(files)
    assert codes(guest) == {"boot-module-missing": "high", "module-missing": "medium"}
    assert (row(guest, "hv_balloon").status, row(guest, "hv_sock").status) == ("missing", "not-offered")


@pytest.mark.parametrize(
    ("path", "text", "severity", "name"),
    [
        ("etc/modprobe.d/a.conf", "blacklist hv_storvsc\n", "high", "hv_storvsc"),
        ("etc/modprobe.d/a.conf", "install hv-balloon /bin/true\n", "medium", "hv_balloon"),
        ("etc/modprobe.d/a.conf", "install hv_utils /usr/bin/logger no, \\\n not here", "medium", "hv_utils"),
        ("lib/modprobe.d/a.conf", "# x\nblacklist hyperv-drm", "low", "hyperv_drm"),
        ("etc/default/grub", 'GRUB_CMDLINE_LINUX="ro module_blacklist=hv_utils,x"\n', "medium", "hv_utils"),
        ("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT='modprobe.blacklist=hv_netvsc'", "medium", "hv_netvsc"),
        ("etc/kernel/cmdline", "rd.driver.blacklist=hv_storvsc", "high", "hv_storvsc"),
    ],
)
def test_a_module_that_is_kept_from_loading(path: str, text: str, severity: str, name: str):
    guest = inspected(debian() | {path: text})
    assert codes(guest) == {"module-blacklisted": severity}
    assert row(guest, name).status == "disabled"
    assert row(guest, name).effective_start == "disabled"
    assert len(hyperv_module(guest, name).blocked) == 1


@pytest.mark.parametrize(
    "text",
    [
        "blacklist hv",
        "install hv_utils /sbin/modprobe --ignore-install hv_utils",
        "options hv_utils x=1",
        "#blacklist hv_utils",
    ],
)
def test_lines_that_keep_nothing_from_loading(text: str):
    assert codes(inspected(debian() | {"etc/modprobe.d/a.conf": text})) == {}


def test_a_file_in_etc_hides_that_of_its_name():
    files = debian() | {"lib/modprobe.d/a.conf": "blacklist hv_utils", "etc/modprobe.d/a.conf": Link("/dev/null")}
    assert codes(inspected(files)) == {}


def test_initcalls_are_for_what_is_built_in():
    text = {"etc/default/grub": 'GRUB_CMDLINE_LINUX="initcall_blacklist=storvsc_drv_init"'}
    assert codes(inspected(debian() | text)) == {}
    built = {f"{MODULES}/modules.builtin": "kernel/drivers/scsi/hv_storvsc.ko\n"}
    assert codes(inspected(debian() | text | built)) == {"module-blacklisted": "high"}


def test_modules_that_are_named_to_be_loaded():
    guest = inspected(debian() | {"etc/modules-load.d/a.conf": "# x\nhv_sock\n", "etc/modules": "hv_utils\n"})
    assert (row(guest, "hv_sock").start, row(guest, "hv_utils").start) == ("auto", "auto")
    assert hyperv_module(guest, "hv_sock").loaded_by == ("/etc/modules-load.d/a.conf",)


def test_modules_without_an_index_and_modules_that_took_the_place_of_others():
    files = debian()
    del files[f"{MODULES}/modules.dep"]
    assert codes(inspected(files)) == {"modules-not-indexed": "medium"}
    extra = f"{MODULES}/extra/microsoft-hyper-v/hv_vmbus.ko"
    files = debian() | {extra: module(version="4.3.5")}
    files[f"{MODULES}/modules.dep"] = "extra/microsoft-hyper-v/hv_vmbus.ko:\n"
    guest = inspected(files)
    assert hyperv_module(guest, "hv_vmbus").path == f"/{extra}"
    evidence = {one.source: one.version for one in guest.integration_services.evidence}
    assert evidence["module-version"] == "4.3.5"


@pytest.mark.parametrize(
    ("name", "code", "severity"),
    [("kvp", "kvp-disabled", "medium"), ("vss", "daemon-disabled", "medium"), ("fcopy", "daemon-disabled", "info")],
)
def test_a_daemon_that_nothing_starts(name: str, code: str, severity: str):
    files = debian()
    rules = str(files["lib/udev/rules.d/60-hyperv-daemons.rules"])
    files["lib/udev/rules.d/60-hyperv-daemons.rules"] = "".join(
        line for line in rules.splitlines(keepends=True) if name not in line
    )
    guest = inspected(files)
    assert codes(guest) == {code: severity}
    assert guest.findings[0].fix == f"In the guest: systemctl enable hv-{name}-daemon"
    assert (row(guest, f"hv_{name}_daemon").start, row(guest, f"hv_{name}_daemon").status) == ("disabled", "disabled")


def test_a_daemon_that_is_masked_or_not_installed():
    masked = debian() | {"etc/systemd/system/hv-vss-daemon.service": Link("/dev/null")}
    guest = inspected(masked)
    assert codes(guest) == {"daemon-masked": "medium"}
    assert guest.findings[0].fix == "In the guest: systemctl unmask hv-vss-daemon; systemctl enable hv-vss-daemon"
    missing = {path: content for path, content in debian().items() if "hv_kvp" not in path and "hv-kvp" not in path}
    guest = inspected(missing)
    assert codes(guest) == {"daemon-missing": "medium"}
    assert "install the package hyperv-daemons" in (guest.findings[0].fix or "")
    assert row(guest, "hv_kvp_daemon").status == "missing"
    unit_alone = {path: content for path, content in debian().items() if path != "usr/sbin/hv_kvp_daemon"}
    assert codes(inspected(unit_alone)) == {"daemon-missing": "medium"}


def test_a_daemon_that_the_command_line_masks():
    text = 'GRUB_CMDLINE_LINUX="ro systemd.mask=hv-kvp-daemon systemd.mask=other.service"'
    guest = inspected(debian() | {"etc/default/grub": text})
    assert codes(guest) == {"kvp-disabled": "medium"}
    assert linux(guest).daemons[0].started_by == ("kernel command line: systemd.mask=hv-kvp-daemon.service",)
    assert "/etc/default/grub" in (guest.findings[0].fix or "")


def test_the_script_that_chooses_the_daemon_of_the_running_kernel():
    script = "#!/bin/bash\nexec /usr/lib/linux-tools/`uname -r`/`basename $0` $@\n"
    files = debian() | {"usr/sbin/hv_kvp_daemon": script}
    assert codes(inspected(files)) == {"daemon-not-for-kernel": "medium"}
    place = f"usr/lib/linux-tools/{RELEASE}/hv_kvp_daemon"
    guest = inspected(
        files | {place: Link("../../linux-tools-6.1/hv_kvp_daemon"), "usr/lib/linux-tools-6.1/hv_kvp_daemon": b"x"}
    )
    assert codes(guest) == {}
    assert (linux(guest).daemons[0].path, linux(guest).daemons[0].program) == ("/usr/sbin/hv_kvp_daemon", f"/{place}")


def newer(release: str = "6.12.1-1-amd64") -> Files:
    """The same guest with a kernel that has no device for hv_fcopy_daemon any more."""
    text = {path.replace(RELEASE, release): content for path, content in debian().items()}
    text |= {path: module(release) for path in text if path.endswith(".ko")}
    text[f"boot/vmlinuz-{release}"] = kernel_image(f"{release} (x) #1")
    text[f"boot/initrd.img-{release}"] = initramfs(*AT_BOOT, release=release)
    return text


def test_the_daemon_for_files_is_another_from_kernel_6_10_on():
    guest = inspected(newer())
    assert codes(guest) == {"daemon-missing": "info"}
    assert row(guest, "hv_fcopy_daemon").status == "not-offered"
    assert row(guest, "hv_fcopy_uio_daemon").status == "missing"
    unit = {"lib/systemd/system/hypervfcopyd.service": "[Service]\nExecStart=/usr/sbin/hypervfcopyd\n",
            "usr/sbin/hypervfcopyd": b"x",
            "etc/systemd/system/multi-user.target.wants/hypervfcopyd.service": Link("x")}  # fmt: skip
    guest = inspected(newer() | unit)
    assert codes(guest) == {}
    assert row(guest, "hv_fcopy_uio_daemon").start == "auto"


def test_scripts_of_the_daemon_that_are_missing():
    files = {path: content for path, content in debian().items() if "hv_set_ifconfig" not in path}
    assert codes(inspected(files)) == {"kvp-helper-missing": "info"}


def two_kernels(default: str) -> Files:
    other = "6.1.0-10-amd64"
    entry = f"menuentry 'x' {{\nlinux /vmlinuz-{default} ro quiet\ninitrd /initrd.img-{default}\n}}\n"
    files = debian() | {
        f"boot/vmlinuz-{other}": kernel_image(other),
        f"lib/modules/{other}/modules.builtin": "",
        "boot/grub/grub.cfg": f'set default="0"\n{entry}',
    }
    files |= {f"lib/modules/{other}/{path}.ko": module(other) for path in ("kernel/drivers/hv/hv_vmbus",)}
    return files


def test_the_kernel_that_starts_is_the_one_of_the_boot_menu():
    guest = inspected(two_kernels(RELEASE))
    assert guest.os.version == RELEASE
    assert [(kernel.release, kernel.default) for kernel in linux(guest).kernels] == [
        ("6.1.0-10-amd64", False), (RELEASE, True),
    ]  # fmt: skip
    assert linux(guest).boot_source == "/boot/grub/grub.cfg"
    assert linux(guest).kernels[1].command_line == "ro quiet"
    assert codes(guest) == {"other-kernel-not-ready": "low"}
    guest = inspected(two_kernels("6.1.0-10-amd64"))
    assert guest.os.version == "6.1.0-10-amd64"
    assert codes(guest)["boot-module-missing"] == "high"


def test_without_a_menu_the_newest_kernel_starts_or_the_one_that_a_link_names():
    files = two_kernels(RELEASE)
    del files["boot/grub/grub.cfg"]
    assert inspected(files).os.version == "6.1.0-10-amd64"
    guest = inspected(files | {"vmlinuz": Link(f"boot/vmlinuz-{RELEASE}")})
    assert (guest.os.version, linux(guest).boot_source) == (RELEASE, "/vmlinuz")


def test_sources_that_contradict_each_other():
    guest = inspected(debian() | {f"boot/vmlinuz-{RELEASE}": kernel_image("6.1.0-1-amd64 (x)")})
    assert guest.integration_services.agreement == "conflict"
    assert codes(guest) == {"integration-version-conflict": "medium"}


def test_a_kernel_that_is_named_by_its_flavour_alone():
    release = "6.6.31-0-lts"
    files: Files = {
        "etc/os-release": "ID=alpine\nPRETTY_NAME=Alpine",
        "boot/vmlinuz-lts": kernel_image(f"{release} (x)"),
        "boot/initramfs-lts": initramfs(*AT_BOOT, release=release),
        "boot/config-lts": "CONFIG_HYPERV=m\n",
        f"lib/modules/{release}/modules.builtin": "",
        "boot/extlinux.conf": "DEFAULT lts\nLABEL lts\nLINUX vmlinuz-lts\nINITRD initramfs-lts\nAPPEND root=x\n",
    }
    guest = inspected(files)
    (kernel,) = linux(guest).kernels
    assert isinstance(kernel, LinuxKernel)
    assert (kernel.release, kernel.image, kernel.config) == (release, "/boot/vmlinuz-lts", "/boot/config-lts")
    assert kernel.initramfs.modules == ("hv_netvsc", "hv_storvsc", "hv_vmbus")
    assert linux(guest).boot_source == "/boot/extlinux.conf"


def test_a_guest_whose_boot_lies_elsewhere():
    files = {path: content for path, content in debian().items() if not path.startswith("boot/")}
    boot = {path.removeprefix("boot/"): content for path, content in debian().items() if path.startswith("boot/")}
    guest = inspected(files | {"etc/fstab": "LABEL=volume1 /boot ext4 defaults 0 2", "boot/": ""}, boot)
    assert codes(guest) == {}
    assert [(mount.path, mount.volume) for mount in linux(guest).mounts] == [("/boot", 1)]
    guest = inspected(files | {"etc/fstab": "LABEL=gone /boot ext4 defaults 0 2", "boot/": ""}, {})
    assert codes(guest) == {"mount-not-found": "medium"}


def test_a_guest_whose_programs_lie_elsewhere():
    files: Files = {"lib": Link("usr/lib"), "sbin": Link("usr/sbin"), "usr/": ""}
    files |= {"etc/fstab": "LABEL=volume1 /usr ext4 ro 0 2", "etc/os-release": Link("../usr/lib/os-release")}
    usr: Files = {}
    for path, content in debian().items():
        if path.startswith(("lib/", "sbin/")):
            usr[path] = content
        elif path.startswith("usr/"):
            usr[path.removeprefix("usr/")] = content
        elif path == "etc/os-release":
            usr["lib/os-release"] = content
        else:
            files[path] = content
    guest = inspected(files, usr)
    assert codes(guest) == {}
    assert guest.os.product == "Debian GNU/Linux 12 (bookworm)"
    assert linux(guest).daemons[0].package == LinuxPackage("hyperv-daemons", "6.1.192-2")


def test_a_system_without_a_kernel_and_without_anything():
    guest = inspected({"etc/os-release": "ID=debian\n"})
    assert guest.integration_services.version is None
    assert guest.drivers == ()
    assert codes(guest)["kernel-not-found"] == "medium"
    assert guest.os.product is None


def test_a_package_that_is_not_configured():
    files = debian()
    files["var/lib/dpkg/status"] = str(files["var/lib/dpkg/status"]).replace("ok installed", "ok half-configured", 1)
    guest = inspected(files)
    assert guest.os.pending == ("the package hyperv-daemons is half-configured",)
    assert codes(guest) == {"servicing-pending": "medium"}


@pytest.mark.parametrize("content", ["", "uninitialized\n", None])
def test_a_guest_without_a_machine_id(content: str | None):
    files = debian() | ({} if content is None else {"etc/machine-id": content})
    if content is None:
        del files["etc/machine-id"]
    guest = inspected(files)
    assert guest.os.install_state == "generalized"
    assert codes(guest) == {"image-generalized": "info"}


def test_what_host_and_guest_told_each_other():
    pool = kvp_record("HostName", "hv01") + kvp_record("VirtualMachineName", "web")
    guest = inspected(debian() | {"var/lib/hyperv/.kvp_pool_3": pool})
    assert linux(guest).kvp_host.virtual_machine_name == "web"
    assert linux(guest).kvp_pools[0].count == 2


def test_files_that_can_not_be_read_cost_their_own_facts_alone():
    broken = DamagedError("filesystem-damaged", "broken")
    for path in debian():
        guest = inspected(debian() | {path: broken}) if path != "etc/os-release" else inspected(debian())
        assert guest.os.family == "linux"
        assert guest.os.version == RELEASE


def test_links_in_circles_everywhere():
    for path in ("boot", "lib", "usr/sbin", "var/lib/dpkg", "etc/modprobe.d", "etc/systemd/system", "var/lib/hyperv"):
        files = {name: content for name, content in debian().items() if not name.startswith(f"{path}/")}
        guest = inspected(files | {path: Link(f"/{path}/x")})
        assert guest.os.family == "linux"


def test_version_and_services_answer_with_what_they_need():
    one = volume(0, debian())
    (installation,) = find_linux(one, [one])
    assert (installation.volume_index, installation.root, installation.hives()) == (0, "/", ())
    assert integration_version(installation) == inspected(debian()).integration_services
    assert f"/{INITRAMFS}" not in installation.tree.root.filesystem.bytes_read
    services, drivers, every = list_services(installation)
    guest = inspected(debian())
    assert (services, drivers, every) == (guest.services, guest.drivers, None)
    assert {one.name for one in inspected(debian(), all_services=True).all_services} == {
        "hv-kvp-daemon", "hv-vss-daemon", "hv-fcopy-daemon",
    }  # fmt: skip


def test_the_root_of_a_btrfs_is_its_subvolume():
    one = volume(
        0, {f"@/{path}": content for path, content in debian().items()} | {"snap/etc/os-release": "x"}, kind="btrfs"
    )
    (installation,) = find_linux(one, [one])
    assert installation.root == "/@"
    assert integration_version(installation).version == RELEASE
    other = volume(0, {f"zroot/{path}": content for path, content in debian().items()}, kind="btrfs")
    assert find_linux(other, [other])[0].root == "/zroot"
    assert find_linux(volume(0, {"@/x": "", "home/a": ""}, kind="btrfs"), []) == []
