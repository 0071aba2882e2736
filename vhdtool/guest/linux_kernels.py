"""The kernels that are installed in a Linux guest, each with its image, modules, initramfs and command line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import construct as c

from vhdtool.guest.linux_boot import BootEntry, BootMenu, read_boot_menu, release_order
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Troubles

MODULE_FOLDERS = ("/lib/modules", "/usr/lib/modules")
MOST_KERNELS = 64
LARGEST_IMAGE_TEXT = 512

# Linux kernel, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
BZIMAGE_HEADER = c.Struct(c.Padding(0x202), "magic" / c.Bytes(4), c.Padding(8), "version" / c.Int16ul)
BZIMAGE_START = 0x200

_IMAGE = re.compile(r"^(?:vmlinuz|vmlinux|bzImage|Image|kernel|kernel-genkernel-\w+|linux)-(.+?)(?:\.img|\.efi)?$")
_COMMAND_LINE = re.compile(r"""^GRUB_CMDLINE_LINUX(_DEFAULT)?=(?:"([^"]*)"|'([^']*)'|(\S*))""", re.MULTILINE)
_RELEASE = re.compile(r"^\d+\.\d+")


@dataclass(frozen=True, slots=True)
class InstalledKernel:
    """A kernel and the files that belong to it; ``image_release`` is what the image calls itself."""

    release: str
    image: str | None
    image_release: str | None
    modules: str | None
    config: str | None
    initramfs: str | None
    command_line: str | None
    command_line_source: str | None

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Version as numbers: ``(6, 1, 0)``."""
        return kernel_numbers(self.release)


@dataclass(frozen=True, slots=True)
class Kernels:
    """All kernels, the newest first, and the one that starts. ``boot_source`` is what tells that it does."""

    all: tuple[InstalledKernel, ...]
    default: InstalledKernel | None
    boot_source: str | None


def kernel_numbers(release: str) -> tuple[int, ...] | None:
    """The numbers that a release begins with; ``None`` where it begins with none."""
    match = re.match(r"\d+(?:\.\d+){0,3}", release)
    return None if match is None else tuple(int(part[:9]) for part in match[0].split("."))


def read_kernels(tree: LinuxTree, troubles: Troubles) -> Kernels:
    """Find the kernels: by directories of modules, images in ``/boot``, and what the boot menu names."""
    menu = BootMenu((), None, None)
    with troubles.guard("the boot menu"):
        menu = read_boot_menu(tree)
    images: dict[str, tuple[str, str | None]] = {}
    by_path: dict[str, str] = {}
    with troubles.guard("/boot"):
        for fact in tree.entries("/boot"):
            match = _IMAGE.match(fact.name)
            if match is None or match[1].startswith("0-rescue") or fact.kind == "directory":
                continue
            path = f"/boot/{fact.name}"
            with troubles.guard(f"the kernel image {path}"):
                named = image_release(tree, path)
                release = match[1] if _RELEASE.match(match[1]) or named is None else named
                if _RELEASE.match(release):
                    images.setdefault(release, (path, named))
                    by_path[fact.name] = release
    folders: dict[str, str] = {}
    with troubles.guard("/lib/modules"):
        folders = _module_folders(tree)
    for release, folder in folders.items():
        path = f"{folder}/vmlinuz"
        if release not in images and tree.is_file(path):
            with troubles.guard(f"the kernel image {path}"):
                images[release] = (path, image_release(tree, path))
    releases = sorted({*images, *folders}, key=release_order, reverse=True)[:MOST_KERNELS]
    entries = {release: entry for entry in reversed(menu.entries) if (release := _release_of(entry, by_path, releases))}
    spare = ("", "")
    with troubles.guard("/etc/default/grub"):
        spare = _planned_command_line(tree)
    found = []
    for release in releases:
        image = images.get(release, (None, None))
        with troubles.guard(f"the files of the kernel {release}"):
            found.append(_kernel(tree, release, image, folders.get(release), entries.get(release), spare))
    default, source = _default(menu, by_path, found, tree, troubles)
    return Kernels(tuple(found), default, source)


def image_release(tree: LinuxTree, path: str) -> str | None:
    """The release that an x86 kernel image names; ``None`` where it is of another kind, or leads nowhere."""
    if not tree.is_file(path):
        return None
    file = tree.open(path)
    data = file.read_at(0, BZIMAGE_HEADER.sizeof())
    if len(data) < BZIMAGE_HEADER.sizeof():
        return None
    header = BZIMAGE_HEADER.parse(data)
    if header.magic != b"HdrS" or header.version == 0:
        return None
    text = file.read_at(header.version + BZIMAGE_START, LARGEST_IMAGE_TEXT).split(b"\0", 1)[0]
    word = text.decode("ascii", errors="replace").split(" ", 1)[0]
    return word if _RELEASE.match(word) else None


def _module_folders(tree: LinuxTree) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in MODULE_FOLDERS:
        for fact in tree.entries(folder):
            if _RELEASE.match(fact.name) and tree.is_directory(f"{folder}/{fact.name}"):
                found.setdefault(fact.name, f"{folder}/{fact.name}")
    return found


def _release_of(entry: BootEntry, by_path: dict[str, str], releases: Iterable[str]) -> str | None:
    """The kernel that a menu entry starts, told by its file's name or by a directory of its path."""
    name = entry.kernel.rpartition("/")[2]
    if name in by_path:
        return by_path[name]
    return next((release for release in releases if f"/{release}/" in entry.kernel or name.endswith(release)), None)


def _kernel(  # noqa: PLR0917  # each a part of one row
    tree: LinuxTree,
    release: str,
    image: tuple[str | None, str | None],
    folder: str | None,
    entry: BootEntry | None,
    spare: tuple[str, str],
) -> InstalledKernel:
    path, named = image
    command_line, source = spare if entry is None else (entry.options, entry.source)
    flavour = path.rpartition("/")[2].partition("-")[2] if path else ""
    return InstalledKernel(
        release=release,
        image=path,
        image_release=named,
        modules=folder,
        config=_first(tree, f"/boot/config-{release}", f"{folder}/config" if folder else "", f"/boot/config-{flavour}"),
        initramfs=_initramfs(tree, release, flavour, entry),
        command_line=command_line if source else None,
        command_line_source=source or None,
    )


def _initramfs(tree: LinuxTree, release: str, flavour: str, entry: BootEntry | None) -> str | None:
    named = [path.rpartition("/")[2] for path in (entry.initramfs if entry else ()) if "ucode" not in path]
    return _first(
        tree,
        *(f"/boot/{name}" for name in reversed(named)),
        f"/boot/initrd.img-{release}",
        f"/boot/initramfs-{release}.img",
        f"/boot/initrd-{release}",
        f"/boot/initrd-{release}.img",
        f"/boot/initramfs-{flavour}.img" if flavour else "",
        f"/boot/initramfs-{flavour}" if flavour else "",
    )


def _first(tree: LinuxTree, *paths: str) -> str | None:
    return next((path for path in paths if path and tree.is_file(path)), None)


def _planned_command_line(tree: LinuxTree) -> tuple[str, str]:
    """What the next run of GRUB's generator, or of kernel-install, would write."""
    path = "/etc/default/grub"
    text = tree.text(path)
    if text is not None:
        parts = {match[1] or "": match[2] or match[3] or match[4] or "" for match in _COMMAND_LINE.finditer(text)}
        if parts:
            return " ".join(filter(None, (parts.get("", ""), parts.get("_DEFAULT", "")))), path
    path = "/etc/kernel/cmdline"
    text = tree.text(path)
    return ("", "") if text is None else (" ".join(text.split()), path)


def _default(
    menu: BootMenu, by_path: dict[str, str], found: list[InstalledKernel], tree: LinuxTree, troubles: Troubles
) -> tuple[InstalledKernel | None, str | None]:
    by_release = {kernel.release: kernel for kernel in found}
    if menu.default is not None:
        release = _release_of(menu.default, by_path, by_release)
        if release is not None:
            return by_release[release], menu.source
    with troubles.guard("the link to the kernel"):
        for link in ("/vmlinuz", "/boot/vmlinuz"):
            real = tree.real(link)
            release = None if real is None else by_path.get(real.rpartition("/")[2])
            if release is not None:
                return by_release[release], link
    return (found[0], None) if found else (None, None)
