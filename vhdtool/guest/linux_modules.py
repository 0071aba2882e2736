"""The Hyper-V modules of one kernel: built in or a file, in the initramfs or not, kept from loading or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vhdtool.guest.linux_initramfs import MOST_UNPACKED, InitramfsContent, read_initramfs
from vhdtool.guest.linux_kernels import InstalledKernel
from vhdtool.guest.linux_loading import LoadRules, blocked_by_command_line
from vhdtool.guest.linux_model import LinuxInitramfs, LinuxModule
from vhdtool.guest.linux_module_file import ModuleInfo, read_module
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Troubles
from vhdtool.knowledge.linux_modules import HypervModule, hyperv_modules

MODULE_ENDINGS = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
OTHER_FOLDERS = ("updates", "extra", "weak-updates", "updates/dkms", "extra/microsoft-hyper-v")
"""Where modules are that a kernel's package did not bring; depmod prefers them (depmod.d(5))."""

OLD_PLACES = {"pci_hyperv": "kernel/drivers/pci/host/pci-hyperv"}
LARGEST_INDEX = 16 << 20

_SET = re.compile(r"^(?:CONFIG_(\w+)=([ym])|# CONFIG_(\w+) is not set)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KernelModules:
    """The Hyper-V modules of a kernel. ``indexed``: depmod's list is there, without which modprobe finds nothing.

    ``unpacked``: bytes that were unpacked to read the initramfs, at most.
    """

    modules: tuple[LinuxModule, ...]
    initramfs: LinuxInitramfs | None
    info: Mapping[str, ModuleInfo]
    indexed: bool
    unpacked: int


def read_modules(
    tree: LinuxTree, kernel: InstalledKernel, rules: LoadRules, troubles: Troubles, *, unpack: int = MOST_UNPACKED
) -> KernelModules:
    """Read the modules of a kernel, and an initramfs that unpacks to at most ``unpack`` bytes.

    What can't be read leaves its facts unknown and goes to ``troubles``.
    """
    config: dict[str, str] = {}
    if kernel.config is not None:
        with troubles.guard(kernel.config):
            text = tree.text(kernel.config) or ""
            config = {match[1] or match[3]: match[2] or "n" for match in _SET.finditer(text)}
    built_in: set[str] | None = None
    index: dict[str, str] | None = None
    if kernel.modules is not None:
        with troubles.guard(f"{kernel.modules}/modules.builtin"):
            built_in = _built_in(tree, kernel.modules)
        with troubles.guard(f"{kernel.modules}/modules.dep"):
            index = _index(tree, kernel.modules)
    initramfs, content = _initramfs(tree, kernel, troubles, unpack)
    initramfs_names = None if initramfs is None or initramfs.modules is None else initramfs.modules
    found: list[LinuxModule] = []
    infos: dict[str, ModuleInfo] = {}
    for module in hyperv_modules():
        is_built_in = _is_built_in(module, built_in, config)
        path = None
        info: ModuleInfo | None = None
        if not is_built_in and kernel.modules is not None:
            with troubles.guard(f"the module {module.name}"):
                path = _module_path(tree, kernel.modules, module, index)
                if path is not None:
                    info = infos[module.name] = read_module(tree.open(path), path)
        blocked = [] if is_built_in else list(rules.blocked.get(module.name, ()))
        blocked += blocked_by_command_line(module, kernel.command_line or "", built_in=bool(is_built_in))
        found.append(
            LinuxModule(
                name=module.name,
                built_in=is_built_in,
                path=path,
                in_initramfs=None if initramfs_names is None else module.name in initramfs_names,
                version=None if info is None else info.version,
                vermagic=None if info is None else info.vermagic,
                srcversion=None if info is None else info.srcversion,
                blocked=tuple(dict.fromkeys(blocked)),
                loaded_by=() if is_built_in else tuple(dict.fromkeys(rules.named.get(module.name, ()))),
            )
        )
    unpacked = unpack if content is None and initramfs is not None else 0 if content is None else content.unpacked
    return KernelModules(tuple(found), initramfs, infos, index is not None, unpacked)


def _built_in(tree: LinuxTree, folder: str) -> set[str] | None:
    text = tree.text(f"{folder}/modules.builtin", LARGEST_INDEX)
    return None if text is None else {_stem(line) for line in text.splitlines() if line}


def _is_built_in(module: HypervModule, listed: set[str] | None, config: Mapping[str, str]) -> bool | None:
    """By the list that the kernel's build makes; by the configuration where there is none."""
    if listed is not None:
        return module.name in listed
    told = next((config[option] for option in module.config if option in config), None)
    return None if told is None else told == "y"


def _index(tree: LinuxTree, folder: str) -> dict[str, str] | None:
    text = tree.text(f"{folder}/modules.dep", LARGEST_INDEX)
    if text is None:
        return None
    names = {module.name for module in hyperv_modules()}
    paths = (line.partition(":")[0] for line in text.splitlines())
    return {_stem(path): path for path in paths if _stem(path) in names}


def _module_path(tree: LinuxTree, folder: str, module: HypervModule, index: Mapping[str, str] | None) -> str | None:
    """The module's file: as depmod listed it, else where the kernel's build puts it."""
    listed = None if index is None else index.get(module.name)
    if listed is not None:
        path = listed if listed.startswith("/") else f"{folder}/{listed}"
        if tree.is_file(path):
            return path
    return next((path for path in _places(folder, module) if tree.is_file(path)), None)


def _places(folder: str, module: HypervModule) -> Iterator[str]:
    file = module.path.rpartition("/")[2]
    stems = [*(f"{other}/{file}" for other in OTHER_FOLDERS), module.path]
    if module.name in OLD_PLACES:
        stems.append(OLD_PLACES[module.name])
    for stem in stems:
        for ending in MODULE_ENDINGS:
            yield f"{folder}/{stem}{ending}"


def _initramfs(
    tree: LinuxTree, kernel: InstalledKernel, troubles: Troubles, most: int
) -> tuple[LinuxInitramfs | None, InitramfsContent | None]:
    path = kernel.initramfs
    if path is None:
        return None, None
    size = 0
    with troubles.guard(f"the initramfs {path}"):
        file = tree.open(path)
        size = file.size
        content = read_initramfs(file, path=path, most=most)
        ours = {module.name for module in hyperv_modules()}
        names = {name for release, name in content.modules if release == kernel.release and name in ours}
        return LinuxInitramfs(path, size, content.compression, tuple(sorted(names))), content
    return LinuxInitramfs(path, size, None, None), None


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
