"""Linux guests in states that people bring about: what dpkg, modprobe, systemctl and a shell say of each."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import vhdtool
from scripts.fixtures.linux_guest_debian import disable, dpkg, grub_configuration, systemctl
from scripts.fixtures.linux_guest_initramfs import DEFAULT_MODULES, make_initramfs
from scripts.fixtures.linux_guest_packages import fetch, without_scripts
from scripts.fixtures.linux_guests import CACHE
from tests.oracle.linux_guests import GuestShop, guest_shop, in_tree, modprobe_loads, product, unit_state
from tests.tools import require_tool, run
from vhdtool.guest.linux_model import LinuxDaemonFact, LinuxFacts, LinuxKernel
from vhdtool.guest.model import Guest

pytestmark = pytest.mark.oracle

MODPROBE_FILES = {
    "etc/modprobe.d/10-first.conf": """\
# blacklist hv_netvsc
blacklist\thv-balloon
  blacklist   hyperv_fb
blacklist \\
  hv_sock
options hv_storvsc storvsc_ringbuffer_size=131072
softdep hv_utils pre: hv_balloon
""",
    "etc/modprobe.d/20-install.conf": """\
install uio_hv_generic /usr/bin/logger refused
install hid_hyperv /bin/true
install hyperv_keyboard /sbin/modprobe --ignore-install hyperv_keyboard $CMDLINE_OPTS
remove hv_netvsc /bin/false
""",
    "etc/modprobe.d/not-read.txt": "blacklist hv_netvsc\n",
    "usr/lib/modprobe.d/vendor.conf": "blacklist pci_hyperv\n",
    "usr/lib/modprobe.d/hidden.conf": "blacklist hv_utils\n",
    "etc/modprobe.d/hidden.conf": "# nothing: hides the file of the same name below /usr\n",
}
OS_RELEASES = [
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "PRETTY_NAME='Single Quoted 1'\nNAME=Other\n",
    "PRETTY_NAME=Bare\n",
    'PRETTY_NAME="With \\"quotes\\", \\$dollar and \\\\ backslash"\n',
    '# PRETTY_NAME="comment"\nPRETTY_NAME="First"\nPRETTY_NAME="Last counts"\n',
    'PRETTY_NAME="Größer Ünïcode 語"\n',
]


@pytest.fixture(scope="module")
def shop() -> GuestShop:
    return guest_shop()


def inspected(image: Path) -> tuple[Guest, LinuxFacts]:
    with vhdtool.open_image(image) as opened:
        (found,) = opened.guests
    assert isinstance(found.linux, LinuxFacts)
    return found, found.linux


def kernel_of(image: Path) -> LinuxKernel:
    (kernel,) = inspected(image)[1].kernels
    return kernel


def daemon_of(linux: LinuxFacts, name: str = "hv_kvp_daemon") -> LinuxDaemonFact:
    return next(daemon for daemon in linux.daemons if daemon.name == name)


def test_rules_of_modprobe(shop: GuestShop, tmp_path: Path) -> None:
    def change(root: Path, _: str) -> None:
        for name, text in MODPROBE_FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    kernel = kernel_of(shop.variant(tmp_path, change))
    loads = {
        module.name: modprobe_loads(tmp_path / "tree", kernel.release, module.name)
        for module in kernel.modules
        if module.path is not None
    }
    off = {name for name, loaded in loads.items() if not loaded}
    # modprobe only shows the command that it would run here; that command loads the module
    assert {"hv_balloon", "hyperv_fb", "hv_sock", "uio_hv_generic", "hid_hyperv", "pci_hyperv"} <= off
    assert {module.name for module in kernel.modules if module.blocked} == off - {"hyperv_keyboard"}


@pytest.mark.parametrize("text", OS_RELEASES)
def test_os_release_as_a_shell_reads_it(shop: GuestShop, tmp_path: Path, text: str) -> None:
    def change(root: Path, _: str) -> None:
        (root / "usr/lib/os-release").write_text(f"ID=debian\n{text}", encoding="utf-8")

    found, _ = inspected(shop.variant(tmp_path, change))
    assert found.os.product == product(tmp_path / "tree")


def test_package_that_is_unpacked_but_not_configured(shop: GuestShop, tmp_path: Path) -> None:
    def change(root: Path, _: str) -> None:
        package = without_scripts(fetch(CACHE).daemons, tmp_path / "daemons.deb")
        dpkg(root, "--unpack", str(package))

    image = shop.variant(tmp_path, change)
    query = ("dpkg-query", f"--root={tmp_path / 'tree'}", "-W", "-f", "${db:Status-Status}", "hyperv-daemons")
    state = run(*query).stdout.decode()
    assert state == "unpacked"
    found, linux = inspected(image)
    package = daemon_of(linux).package
    assert package is not None
    assert (package.name, package.state) == ("hyperv-daemons", state)
    assert found.os.pending


def test_purged_package(shop: GuestShop, tmp_path: Path) -> None:
    def change(root: Path, _: str) -> None:
        dpkg(root, "--purge", "hyperv-daemons")

    _, linux = inspected(shop.variant(tmp_path, change))
    assert {(daemon.path, daemon.start) for daemon in linux.daemons} == {(None, "no")}
    assert linux.kernels[0].package is not None


def test_daemon_of_no_package(shop: GuestShop, tmp_path: Path) -> None:
    def change(root: Path, _: str) -> None:
        old = root / "usr/sbin/hv_kvp_daemon"
        content = old.read_bytes()
        dpkg(root, "--purge", "hyperv-daemons")
        (root / "usr/local/sbin").mkdir(parents=True)
        own = root / "usr/local/sbin/hv_kvp_daemon"
        own.write_bytes(content)
        own.chmod(0o755)
        (root / "etc/systemd/system/hv-kvp-daemon.service").write_text(
            "[Unit]\nDescription=own\n[Service]\nExecStart=/usr/local/sbin/hv_kvp_daemon -n\n"
            "[Install]\nWantedBy=multi-user.target\n"
        )
        systemctl(root, "enable", "hv-kvp-daemon.service")

    image = shop.variant(tmp_path, change)
    daemon = daemon_of(inspected(image)[1])
    assert (daemon.path, daemon.package, daemon.start) == ("/usr/local/sbin/hv_kvp_daemon", None, "boot")
    assert run("dpkg-query", f"--root={tmp_path / 'tree'}", "-S", daemon.path or "", check=False).returncode == 1


@pytest.mark.parametrize(
    ("made_by", "start"),
    [
        ("masked by an empty file", "masked"),
        ("disabled, the rule of udev stays", "device"),
        ("masked on the command line", "masked"),
        ("enabled for another target", "boot"),
    ],
)
def test_starts(shop: GuestShop, tmp_path: Path, made_by: str, start: str) -> None:
    unit = "hv-kvp-daemon.service"

    def change(root: Path, release: str) -> None:
        units = root / "etc/systemd/system"
        if made_by == "masked by an empty file":
            (units / unit).write_text("")
        elif made_by == "masked on the command line":
            grub_configuration(root, release, f"root=/dev/sda1 ro systemd.mask={unit}")
        else:
            (units / "multi-user.target.wants" / unit).unlink()
            if made_by == "enabled for another target":
                (units / "sysinit.target.requires").mkdir()
                (units / "sysinit.target.requires" / unit).symlink_to(f"/lib/systemd/system/{unit}")

    image = shop.variant(tmp_path, change)
    daemon = daemon_of(inspected(image)[1])
    assert (daemon.unit, daemon.start) == (unit, start)
    if made_by != "masked on the command line":  # systemctl looks at files alone
        state = unit_state(tmp_path / "tree", unit)
        assert state == {"masked": "masked", "device": "disabled", "boot": "enabled"}[start]


@pytest.mark.parametrize("disabled", [True, False])
def test_starts_by_the_links_of_run_levels(shop: GuestShop, tmp_path: Path, disabled: bool) -> None:
    """The same guest with an init that is not systemd: the links that update-rc.d made are what counts."""

    def change(root: Path, _: str) -> None:
        (root / "sbin/init").unlink()
        (root / "sbin/init").write_bytes(b"\x7fELF")
        if disabled:
            disable(root, "hv-kvp-daemon")

    daemon = daemon_of(inspected(shop.variant(tmp_path, change))[1])
    links = sorted(f"/etc/{path.parent.name}/{path.name}" for path in (tmp_path / "tree/etc").glob("rc?.d/S*kvp*"))
    assert bool(links) is not disabled
    assert (daemon.path, daemon.start) == ("/usr/sbin/hv_kvp_daemon", "no" if disabled else "boot")
    assert set(daemon.started_by) == {link for link in links if link[7] in "2345"}


def test_initramfs_of_another_kernel_counts_for_nothing(shop: GuestShop, tmp_path: Path) -> None:
    """It was made for a kernel that is gone: its modules are none of this one's."""

    def change(root: Path, release: str) -> None:
        (root / "usr/lib/modules" / release).rename(root / "usr/lib/modules/5.10.0-1-amd64")
        make_initramfs(root, "5.10.0-1-amd64", root / f"boot/initrd.img-{release}")
        (root / "usr/lib/modules/5.10.0-1-amd64").rename(root / "usr/lib/modules" / release)

    found, linux = inspected(shop.variant(tmp_path, change))
    kernel = linux.kernels[0]
    assert kernel.initramfs is not None
    assert kernel.initramfs.modules == ()
    assert {module.in_initramfs for module in kernel.modules} == {False}
    assert [finding.code for finding in found.findings if "initramfs" in finding.code]


def test_initramfs_without_the_disk_driver_is_told(shop: GuestShop, tmp_path: Path) -> None:
    def change(root: Path, release: str) -> None:
        rest = [name for name in DEFAULT_MODULES if name != "hv_storvsc"]
        make_initramfs(root, release, root / f"boot/initrd.img-{release}", modules=rest)

    found, linux = inspected(shop.variant(tmp_path, change))
    (storage,) = (module for module in linux.kernels[0].modules if module.name == "hv_storvsc")
    assert (storage.in_initramfs, storage.path is None) == (False, False)
    assert [finding for finding in found.findings if "hv_storvsc" in finding.message and finding.severity == "high"]


def test_module_outside_of_the_packages(shop: GuestShop, tmp_path: Path) -> None:
    """As LIS and DKMS put them: depmod prefers the one in ``updates``."""

    def change(root: Path, release: str) -> None:
        folder = root / "usr/lib/modules" / release
        (own,) = folder.rglob("hv_balloon.ko")
        (folder / "updates").mkdir()
        own.rename(folder / "updates/hv_balloon.ko")
        run(require_tool("depmod"), "-b", str(root), release)

    kernel = kernel_of(shop.variant(tmp_path, change))
    (balloon,) = (module for module in kernel.modules if module.name == "hv_balloon")
    told = run(require_tool("modinfo"), "-b", str(tmp_path / "tree"), "-k", kernel.release, "-n", "hv_balloon").stdout
    assert balloon.path is not None
    assert in_tree(balloon.path).endswith("/updates/hv_balloon.ko")
    assert told.decode().strip().endswith("/updates/hv_balloon.ko")


def test_newest_packages_in_the_log_of_the_database(shop: GuestShop, tmp_path: Path) -> None:
    """A guest that lost power: part of the database is still in SQLite's log. Owners are unknown, never wrong."""
    made = shop.guest("suse-ext4")
    assert made.rpm_database is not None
    inside = made.rpm_database.relative_to(made.root)

    def change(root: Path, _: str) -> None:
        database = root / inside / "rpmdb.sqlite"
        with closing(sqlite3.connect(database)) as writer:
            (number,) = writer.execute("SELECT hnum FROM Name WHERE key = 'hyper-v'").fetchone()
            for table in ("Packages", "Name", "Basenames"):
                writer.execute(f"DELETE FROM {table} WHERE hnum = ?", (number,))  # noqa: S608  # three names
            writer.commit()
            # closing it would empty the log
            kept = {file.name: file.read_bytes() for file in (root / inside).iterdir()}
        for name, content in kept.items():
            (root / inside / name).write_bytes(content)
        assert (root / inside / "rpmdb.sqlite-wal").stat().st_size

    found, linux = inspected(shop.variant(tmp_path, change, of="suse-ext4"))
    told = run(require_tool("rpm"), "--dbpath", str(tmp_path / "tree" / inside), "-qa").stdout.decode()
    assert "hyper-v" not in told
    assert daemon_of(linux).package is None
    assert daemon_of(linux).path is not None
    assert [finding for finding in found.findings if "rpm-database-in-use" in finding.message]


def test_default_that_the_environment_names(shop: GuestShop, tmp_path: Path) -> None:
    """``GRUB_DEFAULT=saved``: two kernels, the older one chosen by the path of titles that grub-set-default writes."""

    def change(root: Path, release: str) -> None:
        older = "5.10.0-1-amd64"
        grub = root / "boot/grub/grub.cfg"
        text = grub.read_text()
        grub_configuration(root, older, "root=/dev/sda1 ro older=1")
        _, _, entries = grub.read_text().partition("### BEGIN /etc/grub.d/10_linux ###\n")
        text = text.replace('set default="0"', 'set default="${saved_entry}"')
        grub.write_text(f"{text}{entries.replace('Advanced options', 'Older')}")
        saved = f"Older for Debian GNU/Linux>Debian GNU/Linux, with Linux {older}"
        (root / "boot/grub/grubenv").write_text(f"# GRUB Environment Block\nsaved_entry={saved}\n".ljust(1024, "#"))
        for name in ("vmlinuz", "config"):
            (root / f"boot/{name}-{older}").write_bytes((root / f"boot/{name}-{release}").read_bytes())

    _, linux = inspected(shop.variant(tmp_path, change))
    (default,) = (kernel for kernel in linux.kernels if kernel.default)
    assert (default.release, len(linux.kernels)) == ("5.10.0-1-amd64", 2)
    assert (default.command_line or "").split()[-1] == "older=1"
