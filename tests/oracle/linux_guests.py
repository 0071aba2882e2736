"""What the tools of a Linux say of a guest's tree: dpkg, rpm, modinfo, modprobe, lsinitramfs, systemctl, file, sh."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.fixtures.linux_guest_disk import TreeVolume, linux_disk
from scripts.fixtures.linux_guest_packages import PackagesNotHereError, fetch
from scripts.fixtures.linux_guests import CACHE, GUESTS, LinuxGuest, Workshop
from tests.tools import cannot_judge, require_tool, run

MAKERS = (
    "dpkg",
    "depmod",
    "cpio",
    "gzip",
    "xz",
    "zstd",
    "lz4",
    "sfdisk",
    "mkfs.ext4",
    "systemctl",
    "update-rc.d",
    "deb-systemd-helper",
)
MAKERS_OF = {
    "debian-xfs": ("mkfs.xfs",),
    "debian-lvm": ("mkfs.xfs",),
    "debian-btrfs": ("mkfs.btrfs",),
    "rhel-lvm": ("mkfs.xfs", "rpm", "rpmbuild"),
    "suse-ext4": ("rpm", "rpmbuild"),
}
_MERGED = re.compile(r"/(bin|sbin|lib|lib64)/")


@dataclass(frozen=True, slots=True)
class JudgedModule:
    """A module as modinfo shows it; ``path`` below the tree."""

    built_in: bool
    path: str | None
    version: str | None
    vermagic: str | None
    srcversion: str | None


@functools.cache
def guest_shop() -> GuestShop:
    """The one of this session; what it makes is removed when the session ends."""
    folder = Path(tempfile.mkdtemp(prefix="vhdtool-linux-guests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return GuestShop(folder)


class GuestShop:
    """Makes each guest once in a test session; skips by name where a tool or the packages are missing."""

    def __init__(self, folder: Path) -> None:
        self.workshop = Workshop(folder)
        self._made: dict[str, LinuxGuest] = {}

    def guest(self, name: str) -> LinuxGuest:
        """The guest of this name."""
        if name not in self._made:
            self.require(*MAKERS_OF.get(name, ()))
            self._made[name] = GUESTS[name](self.workshop)
        return self._made[name]

    def variant(self, folder: Path, change: Callable[[Path, str], None], *, of: str = "debian-ext4") -> Path:
        """Copy a guest's tree, change it (``change`` gets its root and its kernel), and put it on an ext4 disk."""
        made = self.guest(of)
        root = folder / "tree"
        shutil.copytree(made.root, root, symlinks=True)
        change(root, made.releases[0])
        return linux_disk(folder / "guest.img", [TreeVolume("variant", root, "ext4")])

    def require(self, *tools: str) -> None:
        """Skip where guests can't be made."""
        for tool in (*MAKERS, *tools):
            require_tool(tool)
        try:
            fetch(CACHE)
        except PackagesNotHereError as error:
            cannot_judge(f"Debian's packages can't be had: {error}")


def in_tree(path: str) -> str:
    """A path's real name in a tree with one ``/usr``."""
    return f"/usr{path}" if _MERGED.match(path) else path


def owner(guest: LinuxGuest, path: str) -> tuple[str, str] | None:
    """Name and version of the package that a file belongs to, as the package manager says it."""
    names = {path, in_tree(path), path.removeprefix("/usr") if _MERGED.match(path.removeprefix("/usr")) else path}
    for name in sorted(names):
        found = _dpkg_owner(guest.root, name) if guest.rpm_database is None else _rpm_owner(guest.rpm_database, name)
        if found is not None:
            return found
    return None


def _dpkg_owner(root: Path, path: str) -> tuple[str, str] | None:
    query = (require_tool("dpkg-query"), f"--root={root}")
    told = run(*query, "-S", path, check=False).stdout.decode()
    if not told:
        return None
    name = told.partition(":")[0]
    fields = run(*query, "-W", "-f", "${Version}\t${db:Status-Status}", name).stdout.decode().split("\t")
    return (name, fields[0]) if fields[1] == "installed" else None


def _rpm_owner(database: Path, path: str) -> tuple[str, str] | None:
    shape = "[%{FILENAMES}\t%{=NAME}\t%{=VERSION}-%{=RELEASE}\n]"
    told = run(require_tool("rpm"), "--dbpath", str(database), "-qa", "--qf", shape).stdout.decode()
    rows = [line.split("\t") for line in told.splitlines()]
    return next(((name, version) for file, name, version in rows if file == path), None)


def rpm_file_owner(database: Path, path: str) -> str:
    """What ``rpm -qf`` answers."""
    shape = "%{NAME} %{VERSION}-%{RELEASE}"
    return run(require_tool("rpm"), "--dbpath", str(database), "-qf", "--qf", shape, path).stdout.decode()


def modinfo(guest: LinuxGuest, release: str, module: str) -> JudgedModule | None:
    """What modinfo finds; ``None``: neither a file nor built in."""
    told = run(require_tool("modinfo"), "-0", "-b", str(guest.root), "-k", release, module, check=False)
    if told.returncode:
        return None
    text = told.stdout.decode(errors="replace")
    name = re.search(r"filename(?::\s+|=)([^\0\n]+)", text)
    assert name is not None, text
    fields = dict(part.split("=", 1) for part in text.split("\0") if "=" in part)
    if name[1] == "(builtin)":
        return JudgedModule(True, None, None, None, None)
    path = in_tree("/" + os.path.relpath(name[1], guest.root))
    vermagic = fields.get("vermagic")
    return JudgedModule(
        False, path, fields.get("version"), None if vermagic is None else vermagic.strip(), fields.get("srcversion")
    )


def modprobe_loads(root: Path, release: str, module: str) -> bool:
    """Whether a device that asks for the module gets it, by the tree's ``modprobe.d``."""
    command = (require_tool("modprobe"), "-n", "-v", "-b", "-d", str(root), "-S", release)
    folders = [root / folder / "modprobe.d" for folder in ("etc", "usr/lib")]
    places = [word for folder in folders if folder.is_dir() for word in ("-C", str(folder))]
    told = run(*command, *places, module, check=False).stdout.decode()
    return any(
        line.startswith("insmod ") and Path(line.split()[1]).name.partition(".ko")[0].replace("-", "_") == module
        for line in told.splitlines()
    )


def initramfs_modules(file: Path, release: str) -> set[str]:
    """The modules for a kernel that lsinitramfs lists, with ``_`` for ``-``."""
    told = run(require_tool("lsinitramfs"), str(file), check=False)
    # it looks for a packed archive behind the plain ones, and complains where there is none
    assert told.returncode == 0 or b"premature end of archive" in told.stderr, told.stderr
    names = told.stdout.decode().splitlines()
    found = (
        re.fullmatch(rf"(?:\./)?(?:usr/)?lib/modules/{re.escape(release)}/.*?([^/]+)\.ko(?:\.\w+)?", n) for n in names
    )
    return {match[1].replace("-", "_") for match in found if match is not None}


def unit_state(root: Path, unit: str) -> str:
    """What ``systemctl is-enabled`` says: enabled, disabled, masked."""
    told = run(require_tool("systemctl"), f"--root={root}", "is-enabled", unit, check=False)
    return told.stdout.decode().strip()


def image_release(file: Path) -> str:
    """The release that ``file`` reads from a kernel image."""
    told = run(require_tool("file"), "-b", "-L", str(file)).stdout.decode()
    match = re.search(r"version (\S+)", told)
    assert match is not None, told
    return match[1]


def product(root: Path) -> str:
    """``PRETTY_NAME`` as a shell reads os-release."""
    file = root / "usr/lib/os-release"
    return run(shutil.which("sh") or "/bin/sh", "-c", f'. "{file}"; printf %s "$PRETTY_NAME"').stdout.decode()
