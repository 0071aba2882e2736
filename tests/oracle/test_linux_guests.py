"""Linux guests made from real packages: every fact against the tool of a Linux that tells it from the same tree.

dpkg and rpm for owners and versions, modinfo and modprobe for modules, lsinitramfs, systemctl for starts, ``file`` for
kernel images, a shell for os-release. What no tool tells (a command line's effect, pools, mounts) is what the makers of
the fixtures wrote.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

import vhdtool
from scripts.fixtures.linux_guest_initramfs import COMPRESSORS, make_initramfs
from scripts.fixtures.linux_guest_kvp import GUEST_TELLS, HOST_TELLS, OPERATOR_TELLS
from scripts.fixtures.linux_guest_lvm import LogicalVolume, physical_volume
from scripts.fixtures.linux_guests import GUESTS, LinuxGuest
from tests.oracle.linux_guests import (
    GuestShop,
    guest_shop,
    image_release,
    in_tree,
    initramfs_modules,
    modinfo,
    modprobe_loads,
    owner,
    product,
    rpm_file_owner,
    unit_state,
)
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.guest.linux_initramfs import read_initramfs
from vhdtool.guest.linux_model import LinuxDaemonFact, LinuxFacts, LinuxKernel, LinuxModule
from vhdtool.guest.model import Guest

pytestmark = pytest.mark.oracle

FILESYSTEMS = {
    "debian-ext4": {"ext"},
    "debian-xfs": {"xfs"},
    "debian-lvm": {"ext", "xfs"},
    "debian-btrfs": {"btrfs"},
    "rhel-lvm": {"xfs"},
    "suse-ext4": {"ext"},
}
WITH_DAEMONS = [name for name in GUESTS if name != "debian-btrfs"]


@pytest.fixture(scope="module")
def shop() -> GuestShop:
    return guest_shop()


@pytest.fixture(params=list(GUESTS))
def guest(request: pytest.FixtureRequest, shop: GuestShop) -> LinuxGuest:
    return shop.guest(request.param)


@functools.cache
def inspected(image: Path) -> Guest:
    with vhdtool.open_image(image) as opened:
        (found,) = opened.guests
    return found


def facts(image: Path) -> LinuxFacts:
    found = inspected(image).linux
    assert isinstance(found, LinuxFacts)
    return found


def kernels(guest: LinuxGuest) -> dict[str, LinuxKernel]:
    return {kernel.release: kernel for kernel in facts(guest.image).kernels}


def modules(kernel: LinuxKernel) -> dict[str, LinuxModule]:
    return {module.name: module for module in kernel.modules}


def daemons(guest: LinuxGuest) -> dict[str, LinuxDaemonFact]:
    return {daemon.name: daemon for daemon in facts(guest.image).daemons if daemon.path is not None}


def test_system(guest: LinuxGuest) -> None:
    found = inspected(guest.image)
    assert found.os.install_state == "complete"
    assert (found.os.family, found.os.product, found.os.architecture) == ("linux", product(guest.root), "amd64")
    with vhdtool.open_image(guest.image) as opened:
        assert {volume.filesystem for volume in opened.volumes if volume.filesystem} == FILESYSTEMS[guest.name]
        assert [volume.index for volume in opened.volumes if volume.role == "os"] == [found.volume]
        assert [problem.code for problem in opened.problems] == []
    assert [finding.code for finding in found.findings if "unreadable" in finding.code] == []
    linux = found.linux
    assert isinstance(linux, LinuxFacts)
    assert (linux.init, linux.package_manager) == ("systemd", "dpkg" if guest.rpm_database is None else "rpm")


def test_kernels(guest: LinuxGuest) -> None:
    found = kernels(guest)
    assert set(found) == set(guest.releases)
    assert [release for release, kernel in found.items() if kernel.default] == [guest.releases[0]]
    for release, kernel in found.items():
        assert kernel.image == f"/boot/vmlinuz-{release}"
        image = guest.root / f"boot/vmlinuz-{release}"
        assert kernel.image_release == image_release(image) == release
        assert kernel.package is not None
        assert (kernel.package.name, kernel.package.version) == owner(guest, kernel.image)
        assert kernel.modules_directory is not None
        assert in_tree(kernel.modules_directory) == f"/usr/lib/modules/{release}"
        assert kernel.config is not None
        assert (guest.root / kernel.config[1:]).exists()


def test_modules_as_modinfo_shows_them(guest: LinuxGuest) -> None:
    seen = 0
    for release, kernel in kernels(guest).items():
        for module in kernel.modules:
            told = modinfo(guest, release, module.name)
            if told is None:
                assert (module.built_in, module.path) == (False, None), module
                continue
            seen += 1
            path = None if module.path is None else in_tree(module.path)
            assert (module.built_in, path) == (told.built_in, told.path), module
            assert (module.version, module.vermagic, module.srcversion) == (
                told.version,
                told.vermagic,
                told.srcversion,
            ), module
        on_disk = {
            file.name.partition(".ko")[0].replace("-", "_")
            for file in (guest.root / "usr/lib/modules" / release).rglob("*.ko*")
            if "hyperv" in file.name or "hv_" in file.name
        }
        assert on_disk == {module.name for module in kernel.modules if module.path is not None}
    assert seen >= 10 * len(guest.releases)


def test_initramfs_as_lsinitramfs_lists_it(guest: LinuxGuest) -> None:
    for release, kernel in kernels(guest).items():
        assert kernel.initramfs is not None
        file = guest.root / kernel.initramfs.path[1:]
        told = initramfs_modules(file, release)
        assert {"hv_netvsc", "hid_hyperv"} <= told
        assert kernel.initramfs.size == file.stat().st_size
        assert kernel.initramfs.modules is not None
        assert set(kernel.initramfs.modules) == told & {module.name for module in kernel.modules}
        for module in kernel.modules:
            assert module.in_initramfs == (module.name in told), module


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("compression", ["none", *COMPRESSORS])
def test_initramfs_of_every_compression(shop: GuestShop, tmp_path: Path, compression: str, early: bool) -> None:
    made = shop.guest("debian-ext4")
    (release,) = made.releases
    kind = next(one for one in ("none", *COMPRESSORS) if one == compression)
    if kind != "none":
        require_tool(COMPRESSORS[kind][0])
    file = make_initramfs(made.root, release, tmp_path / "initrd", compression=kind, early=early)
    found = read_initramfs(BytesSource(file.read_bytes()))
    assert found.compression == compression
    assert {name for of, name in found.modules if of == release} == initramfs_modules(file, release)
    assert len(found.modules) == 7


def test_modules_off_as_modprobe_has_it(guest: LinuxGuest) -> None:
    for release, kernel in kernels(guest).items():
        for module in kernel.modules:
            if module.path is not None:
                off = [reason for reason in module.blocked if not reason.startswith("kernel command line")]
                assert (not off) == modprobe_loads(guest.root, release, module.name), module


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("debian-ext4", {}),
        ("debian-xfs", {"hyperv_fb": "/etc/modprobe.d/local.conf", "hv_balloon": "/etc/modprobe.d/local.conf"}),
        ("debian-lvm", dict.fromkeys(("hv_sock", "hv_balloon", "hyperv_fb"), "kernel command line")),
        ("rhel-lvm", {"hyperv_fb": "kernel command line"}),
    ],
)
def test_modules_off_by_name(shop: GuestShop, name: str, off: dict[str, str]) -> None:
    made = shop.guest(name)
    default = next(kernel for kernel in facts(made.image).kernels if kernel.default)
    found = {module.name: module.blocked for module in default.modules if module.blocked}
    assert set(found) == set(off)
    for module, place in off.items():
        assert [reason for reason in found[module] if place in reason], found[module]


def test_only_the_chosen_kernel_has_the_module_off(shop: GuestShop) -> None:
    made = shop.guest("rhel-lvm")
    found = kernels(made)
    older, newer = made.releases
    assert modules(found[older])["hyperv_fb"].blocked
    assert modules(found[newer])["hyperv_fb"].blocked == ()
    words = (found[newer].command_line or "").split()
    assert "rd.lvm.lv=rhel/root" in words
    assert "modprobe.blacklist=hyperv_fb" not in words


def test_command_line_is_the_one_of_the_entry_that_starts(shop: GuestShop) -> None:
    made = shop.guest("debian-ext4")
    (kernel,) = facts(made.image).kernels
    assert kernel.command_line is not None
    assert kernel.command_line.split()[1:] == ["ro", "quiet"]
    assert kernel.command_line_source == "/boot/grub/grub.cfg"


def test_modules_loaded_by_name(shop: GuestShop) -> None:
    (kernel,) = facts(shop.guest("debian-xfs").image).kernels
    found = {module.name: module.loaded_by for module in kernel.modules if module.loaded_by}
    assert found == {"hv_sock": ("/etc/modules-load.d/hyperv.conf",), "uio_hv_generic": ("/etc/modules",)}


def test_daemons_and_their_packages(guest: LinuxGuest) -> None:
    found = daemons(guest)
    if guest.name not in WITH_DAEMONS:
        assert found == {}
        return
    programs = [path for path in (guest.root / "usr").rglob("*") if path.is_file() and _is_daemon(path)]
    assert len(programs) == 3
    assert {daemon.path for daemon in found.values()} == {f"/{path.relative_to(guest.root)}" for path in programs}
    for daemon in found.values():
        assert daemon.path is not None
        assert daemon.package is not None, daemon
        assert (daemon.package.name, daemon.package.version) == owner(guest, daemon.path)
        assert daemon.package.state is None


def _is_daemon(path: Path) -> bool:
    return path.read_bytes()[:4] == b"\x7fELF" and path.suffix != ".ko"


@pytest.mark.parametrize("name", ["rhel-lvm", "suse-ext4"])
def test_owners_as_rpm_asked_by_file(shop: GuestShop, name: str) -> None:
    made = shop.guest(name)
    assert made.rpm_database is not None
    for daemon in daemons(made).values():
        assert daemon.package is not None
        assert daemon.path is not None
        told = rpm_file_owner(made.rpm_database, daemon.path)
        assert f"{daemon.package.name} {daemon.package.version}" == told


def test_starts_as_systemctl_tells_them(guest: LinuxGuest) -> None:
    for daemon in daemons(guest).values():
        assert daemon.unit is not None, daemon
        state = unit_state(guest.root, daemon.unit)
        if state == "masked":
            assert daemon.start == "masked", daemon
        elif state == "enabled":
            assert daemon.start == "boot", daemon
            assert [by for by in daemon.started_by if f".wants/{daemon.unit}" in by]
        else:
            assert state == "disabled"
            assert daemon.start in {"no", "device"}, daemon


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        ("debian-ext4", {"hv_kvp_daemon": "boot", "hv_vss_daemon": "boot", "fcopy": "boot"}),
        ("debian-xfs", {"hv_kvp_daemon": "boot", "hv_vss_daemon": "boot", "fcopy": "masked"}),
        ("debian-lvm", {"hv_kvp_daemon": "no", "hv_vss_daemon": "boot", "fcopy": "boot"}),
        ("rhel-lvm", {"hv_kvp_daemon": "boot", "hv_vss_daemon": "device", "fcopy": "masked"}),
        ("suse-ext4", {"hv_kvp_daemon": "boot", "hv_vss_daemon": "boot", "fcopy": "device"}),
    ],
)
def test_starts_as_the_states_were_made(shop: GuestShop, name: str, starts: dict[str, str]) -> None:
    found = {"fcopy" if "fcopy" in key else key: daemon.start for key, daemon in daemons(shop.guest(name)).items()}
    assert found == starts


def test_rules_of_udev_count_where_none_hides_them(shop: GuestShop) -> None:
    def rules(name: str) -> list[str]:
        return [by for daemon in daemons(shop.guest(name)).values() for by in daemon.started_by if ".rules" in by]

    assert len(rules("debian-ext4")) == 3
    assert rules("debian-lvm") == []


def test_removed_package_leaves_no_daemon(shop: GuestShop) -> None:
    """Its scripts, run level links and the links of its units are all still there, and start nothing."""
    made = shop.guest("debian-btrfs")
    assert (made.root / "etc/init.d/hv-kvp-daemon").exists()
    assert (made.root / "etc/systemd/system/multi-user.target.wants/hv-kvp-daemon.service").is_symlink()
    found = inspected(made.image)
    linux = found.linux
    assert isinstance(linux, LinuxFacts)
    assert {(daemon.path, daemon.package, daemon.start) for daemon in linux.daemons} == {(None, None, "no")}
    assert found.os.pending == ()
    assert [finding.code for finding in found.findings if "daemon" in finding.code]


def test_helper_scripts(guest: LinuxGuest) -> None:
    there = {path.name: f"/{path.relative_to(guest.root)}" for path in guest.root.rglob("hv_[gs]et_*")}
    assert {helper.name: helper.path for helper in facts(guest.image).helpers if helper.path} == there


def test_pools(shop: GuestShop) -> None:
    linux = facts(shop.guest("debian-ext4").image)
    found = {pool.number: {record.key: record.value for record in pool.records} for pool in linux.kvp_pools}
    assert found == {0: OPERATOR_TELLS, 1: GUEST_TELLS, 2: {}, 3: HOST_TELLS, 4: {}}
    assert linux.kvp_host is not None
    assert linux.kvp_host.host_name == HOST_TELLS["HostName"]
    assert linux.kvp_host.virtual_machine_name == HOST_TELLS["VirtualMachineName"]
    assert linux.kvp_host.virtual_machine_id == HOST_TELLS["VirtualMachineId"]
    assert facts(shop.guest("suse-ext4").image).kvp_pools == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("debian-lvm", {"/boot": (None, "boot"), "/usr": ("debian-vg/usr", "usr")}),
        ("rhel-lvm", {"/boot": (None, "rhel-boot")}),
    ],
)
def test_mounts(shop: GuestShop, name: str, expected: dict[str, tuple[str | None, str]]) -> None:
    with vhdtool.open_image(shop.guest(name).image) as opened:
        (found,) = opened.guests
        assert isinstance(found.linux, LinuxFacts)
        volumes = {volume.index: volume for volume in opened.volumes}
        labels = {index: opened.label(index) for index in volumes if volumes[index].filesystem}
    mounted = {mount.path: mount.volume for mount in found.linux.mounts if mount.path != "/"}
    assert set(mounted) == set(expected)
    for path, (logical, label) in expected.items():
        index = mounted[path]
        assert index is not None
        assert labels[index] == label
        assert logical is None or volumes[index].name == logical


def test_the_same_guest_in_a_vhdx(shop: GuestShop, tmp_path: Path) -> None:
    made = shop.guest("debian-lvm")
    image = tmp_path / "debian.vhdx"
    run(require_tool("qemu-img"), "convert", "-f", "raw", "-O", "vhdx", str(made.image), str(image))
    assert inspected(image) == inspected(made.image)


def test_lvm_of_the_fixtures_as_pvck_reads_it(tmp_path: Path) -> None:
    start, begins = physical_volume("some-group", [LogicalVolume("root", 5 << 20), LogicalVolume("usr", 4 << 20)])
    assert begins == [1 << 20, 9 << 20]
    file = tmp_path / "pv"
    file.write_bytes(start + bytes(12 << 20))
    headers = run(require_tool("pvck"), "--dump", "headers", str(file)).stdout.decode()
    assert "label_header.id LABELONE" in headers
    assert "mda_header_1.version 1" in headers
    metadata = run(require_tool("pvck"), "--dump", "metadata", str(file))
    assert b"vgname some-group seqno 1" in metadata.stdout
    assert b"CHECK" not in metadata.stderr + headers.encode()
