"""What keeps kernel modules from loading, and what names them to be loaded.

modprobe.d(5), modules-load.d(5); the kernel's own options in Documentation/admin-guide/kernel-parameters.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Troubles
from vhdtool.knowledge.linux_modules import HypervModule

FOLDERS = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
"""Where ``modprobe.d`` and ``modules-load.d`` are; a file hides those of its name further behind."""

LISTS = ("/etc/modules",)
"""Debian's own list, which systemd reads too (a link in modules-load.d)."""

COMMAND_LINE = "kernel command line"
"""How a place begins that is no file."""

MOST_FILES = 512
LOADERS = ("modprobe", "insmod", "kmod")
"""What a command of ``install`` loads the module with; one without any of them takes its place and loads nothing."""


@dataclass(slots=True)
class LoadRules:
    """Rules by module name (with ``_``), each with the place that it stands at."""

    blocked: dict[str, list[str]] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)


def read_load_rules(tree: LinuxTree, troubles: Troubles) -> LoadRules:
    """Read what ``/etc`` and ``/usr/lib`` say of modules."""
    rules = LoadRules()
    for path in _files(tree, "modprobe.d", troubles):
        with troubles.guard(path):
            _modprobe(tree.text(path) or "", path, rules)
    for path in (*_files(tree, "modules-load.d", troubles), *LISTS):
        with troubles.guard(path):
            for line in (tree.text(path) or "").splitlines():
                words = line.split()
                if words and words[0][0] not in "#;":
                    rules.named.setdefault(_name(words[0]), []).append(path)
    return rules


def blocked_by_command_line(module: HypervModule, command_line: str, *, built_in: bool) -> Iterator[str]:
    """Options of the kernel's command line that keep a module from loading."""
    for word in command_line.split():
        name, _, value = word.partition("=")
        values = {_name(one) for one in value.split(",")}
        if built_in:
            if name == "initcall_blacklist" and module.init in values:
                yield f"{COMMAND_LINE}: {word}"
        elif name in {"modprobe.blacklist", "module_blacklist"} and module.name in values:
            yield f"{COMMAND_LINE}: {word}"
        elif name == "rd.driver.blacklist" and module.boots and module.name in values:
            # dracut alone obeys: the module may load later, but without it the root is not found
            yield f"{COMMAND_LINE}, in the initramfs: {word}"


def _files(tree: LinuxTree, folder: str, troubles: Troubles) -> list[str]:
    found: dict[str, str] = {}
    with troubles.guard(folder):
        for start in FOLDERS:
            for fact in tree.entries(f"{start}/{folder}")[:MOST_FILES]:
                if fact.name.endswith(".conf"):
                    found.setdefault(fact.name, f"{start}/{folder}/{fact.name}")
    return [found[name] for name in sorted(found)][:MOST_FILES]


def _modprobe(text: str, path: str, rules: LoadRules) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        match words:
            case ["blacklist", name, *_]:
                rules.blocked.setdefault(_name(name), []).append(f"{path}: {' '.join(words)}")
            case ["install", name, *command] if command and not any(one in " ".join(command) for one in LOADERS):
                rules.blocked.setdefault(_name(name), []).append(f"{path}: {' '.join(words)}")


def _name(word: str) -> str:
    return word.replace("-", "_")
