"""Which kernel a Linux guest starts, with which command line: GRUB, boot loader entries, extlinux.

GRUB's configuration is a script. It is not run: its menu is read, with the default that its generator writes
(GRUB manual, "Simple configuration handling"). Boot loader entries as the Boot Loader Specification has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vhdtool.guest.linux_tree import LinuxTree

GRUB_FILES = ("/boot/grub2/grub.cfg", "/boot/grub/grub.cfg")
GRUB_ENVIRONMENTS = ("/boot/grub2/grubenv", "/boot/grub/grubenv")
OLD_GRUB_FILES = ("/boot/grub/menu.lst", "/boot/grub/grub.conf")
EFI_FOLDERS = ("/boot/efi/EFI", "/efi/EFI", "/boot/EFI")
ENTRY_FOLDERS = ("/boot/loader", "/efi/loader", "/boot/efi/loader")
EXTLINUX_FILES = ("/boot/extlinux/extlinux.conf", "/boot/extlinux.conf", "/boot/syslinux/syslinux.cfg")
MOST_ENTRIES = 1000
DEEPEST_MENU = 16

_BLOCK = re.compile(r"""^(menuentry|submenu)\s+(?:'([^']*)'|"([^"]*)"|(\S+))(.*)$""")
_IDENTIFIER = re.compile(r"""(?:\$\{?menuentry_id_option\}?|--id[= ])\s*(?:'([^']*)'|"([^"]*)"|([^\s{]+))""")
_DEFAULT = re.compile(r"""^set\s+default=(?:"([^"]*)"|'([^']*)'|(\S*))""")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True, slots=True)
class BootEntry:
    """An entry of a boot menu. Paths as the boot loader has them: from the root of whichever volume it reads."""

    kernel: str
    initramfs: tuple[str, ...]
    options: str
    source: str


@dataclass(frozen=True, slots=True)
class BootMenu:
    """All entries, and the one that starts by itself; ``source`` is the file that says so."""

    entries: tuple[BootEntry, ...]
    default: BootEntry | None
    source: str | None


@dataclass(slots=True)
class _Node:
    title: str = ""
    identifier: str | None = None
    entry: BootEntry | None = None
    children: list[_Node] = field(default_factory=list)


def read_boot_menu(tree: LinuxTree) -> BootMenu:
    """Read the boot menu of a guest; without any that is known, an empty one. Raises what reading the files raises."""
    environment = _grub_environment(tree)
    for path in (*GRUB_FILES, *_efi_grub_files(tree)):
        text = tree.text(path)
        if text is None:
            continue
        entries = tuple(_loader_entries(tree, ENTRY_FOLDERS[0], environment)) if "blscfg" in text else ()
        menu = _grub_menu(text, path, environment, entries)
        if menu.entries:
            return menu
    for folder in ENTRY_FOLDERS:
        entries = tuple(_loader_entries(tree, folder, environment))
        if entries:
            return _loader_menu(tree, folder, entries, environment)
    for path in EXTLINUX_FILES:
        text = tree.text(path)
        if text is not None:
            return _extlinux_menu(text, path)
    for path in OLD_GRUB_FILES:
        text = tree.text(path)
        if text is not None:
            return _old_grub_menu(text, path)
    return BootMenu((), None, None)


def release_order(release: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts kernel releases as their numbers count."""
    parts = re.findall(r"\d+|[A-Za-z]+", release)
    return tuple((1, int(part[:18]), "") if part.isdecimal() else (0, 0, part) for part in parts)


def _efi_grub_files(tree: LinuxTree) -> Iterator[str]:
    for folder in EFI_FOLDERS:
        for fact in tree.entries(folder)[:64]:
            if fact.kind == "directory":
                yield f"{folder}/{fact.name}/grub.cfg"


def _grub_environment(tree: LinuxTree) -> dict[str, str]:
    for path in GRUB_ENVIRONMENTS:
        text = tree.text(path)
        if text is not None:
            pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
            return {name: value for name, equals, value in pairs if equals}
    return {}


def _grub_menu(text: str, path: str, environment: Mapping[str, str], listed: Sequence[BootEntry]) -> BootMenu:
    root, defaults = _parse_grub(text, path)
    root.children[:0] = [_Node(_stem(entry.source), _stem(entry.source), entry) for entry in listed]
    entries = tuple(_entries_of(root))[:MOST_ENTRIES]
    chosen = "0"
    for value in defaults:
        if "next_entry" not in value:
            chosen = _substituted(value, environment) or "0"
    node = _chosen(root, chosen) or _chosen(root, "0")
    default = node.entry if node is not None and node.entry is not None else next(iter(entries), None)
    return BootMenu(entries, default, path)


def _parse_grub(text: str, path: str) -> tuple[_Node, list[str]]:
    """The menu as a tree, and every value that the script may give to ``default``."""
    root = _Node()
    stack: list[_Node | None] = [root]  # None: a block that is no part of the menu
    defaults: list[str] = []
    count = 0
    for raw in text.splitlines():
        line = raw.strip()
        inside = stack[-1]
        match = _BLOCK.match(line)
        if match is not None and count < MOST_ENTRIES and len(stack) < DEEPEST_MENU:
            count += 1
            identifier = _IDENTIFIER.search(match[5])
            node = _Node(
                match[2] or match[3] or match[4] or "",
                None if identifier is None else next((one for one in identifier.groups() if one), None),
            )
            if inside is not None:
                inside.children.append(node)
            if line.endswith("{"):
                stack.append(node)
        elif line.endswith("{") and not line.startswith("#"):
            stack.append(None)
        elif line == "}":
            if len(stack) > 1:
                stack.pop()
        elif (found := _DEFAULT.match(line)) is not None:
            defaults.append(found[1] or found[2] or found[3] or "")
        elif inside is not None and inside is not root:
            _grub_command(inside, line, path)
    return root, defaults


def _grub_command(node: _Node, line: str, path: str) -> None:
    words = line.split()
    if len(words) < 2:
        return
    if re.fullmatch(r"linux(16|efi)?|\$linux\w*|kernel", words[0]):
        node.entry = BootEntry(_unquoted(words[1]), (), " ".join(words[2:]), path)
    elif re.fullmatch(r"initrd(16|efi)?|\$initrd\w*", words[0]) and node.entry is not None:
        entry = node.entry
        paths = tuple(_unquoted(word) for word in words[1:])
        node.entry = BootEntry(entry.kernel, paths, entry.options, entry.source)


def _entries_of(node: _Node) -> Iterator[BootEntry]:
    if node.entry is not None:
        yield node.entry
    for child in node.children:
        yield from _entries_of(child)


def _chosen(root: _Node, choice: str) -> _Node | None:
    """Find what ``default`` names: numbers, titles and identifiers, with ``>`` between the levels."""
    node = root
    for part in choice.split(">")[:DEEPEST_MENU]:
        found = None
        if part.isdecimal() and len(part) < 9:
            found = node.children[int(part)] if int(part) < len(node.children) else None
        else:
            found = next((child for child in node.children if part in {child.identifier, child.title}), None)
        if found is None:
            return None
        node = found
    while node.entry is None and node.children:  # a submenu: its first entry
        node = node.children[0]
    return node


def _loader_entries(tree: LinuxTree, folder: str, environment: Mapping[str, str]) -> Iterator[BootEntry]:
    """The entries, the newest first, as both GRUB and systemd-boot sort them."""
    found: list[tuple[str, BootEntry]] = []
    for fact in tree.entries(f"{folder}/entries")[:MOST_ENTRIES]:
        if not fact.name.endswith(".conf"):
            continue
        path = f"{folder}/entries/{fact.name}"
        values: dict[str, list[str]] = {}
        for line in (tree.text(path) or "").splitlines():
            key, _, value = line.strip().partition(" ")
            if key and not key.startswith("#"):
                values.setdefault(key, []).append(value.strip())
        if "linux" not in values:
            continue
        options = _substituted(" ".join(values.get("options", [])), environment)
        initramfs = tuple(word for line in values.get("initrd", []) for word in line.split() if "$" not in word)
        entry = BootEntry(values["linux"][-1], initramfs, " ".join(options.split()), path)
        found.append((values.get("version", [_stem(path)])[-1], entry))
    found.sort(key=lambda item: (release_order(item[0]), item[1].source), reverse=True)
    # a rescue kernel comes last, whatever its name is
    yield from sorted((entry for _, entry in found), key=lambda entry: "-0-rescue" in entry.source)


def _loader_menu(
    tree: LinuxTree, folder: str, entries: Sequence[BootEntry], environment: Mapping[str, str]
) -> BootMenu:
    path = f"{folder}/loader.conf"
    wanted = environment.get("saved_entry", "")
    for line in (tree.text(path) or "").splitlines():
        key, _, value = line.strip().partition(" ")
        if key == "default":
            wanted = value.strip()
    default = next((one for one in entries if wanted and _is_named(one, wanted)), entries[0])
    return BootMenu(tuple(entries), default, path if wanted and tree.is_file(path) else default.source)


def _is_named(entry: BootEntry, wanted: str) -> bool:
    name = entry.source.rpartition("/")[2]
    return fnmatchcase(name, wanted) or fnmatchcase(_stem(name), wanted)


def _extlinux_menu(text: str, path: str) -> BootMenu:
    entries: dict[str, BootEntry] = {}
    label, default = "", ""
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        entry = entries.get(label)
        match key.upper():
            case "DEFAULT":
                default = value
            case "LABEL" if len(entries) < MOST_ENTRIES:
                label = value
            case "LINUX" | "KERNEL":
                entries[label] = BootEntry(value, (), "", path)
            case "INITRD" if entry is not None:
                entries[label] = BootEntry(entry.kernel, tuple(value.split(",")), entry.options, path)
            case "APPEND" if entry is not None:
                words = value.split()
                packed = [word[len("initrd=") :] for word in words if word.startswith("initrd=")]
                options = " ".join(word for word in words if not word.startswith("initrd="))
                initramfs = entry.initramfs or tuple(one for word in packed for one in word.split(","))
                entries[label] = BootEntry(entry.kernel, initramfs, options, path)
    chosen = entries.get(default) or next(iter(entries.values()), None)
    return BootMenu(tuple(entries.values()), chosen, path)


def _old_grub_menu(text: str, path: str) -> BootMenu:
    """GRUB 0.97: entries begin with ``title``, ``default`` counts them."""
    nodes: list[_Node] = []
    default = 0
    for raw in text.splitlines():
        line = raw.strip()
        if re.match(r"title\b", line) and len(nodes) < MOST_ENTRIES:
            nodes.append(_Node(line))
        elif (match := re.fullmatch(r"default[ =](\d{1,4})", line)) is not None:
            default = int(match[1])
        elif nodes:
            _grub_command(nodes[-1], line, path)
    entries = [node.entry for node in nodes if node.entry is not None]
    chosen = nodes[default].entry if default < len(nodes) else None
    return BootMenu(tuple(entries), chosen or next(iter(entries), None), path)


def _substituted(text: str, environment: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: environment.get(match[1], ""), text)


def _unquoted(word: str) -> str:
    """A path without quotes and without the device in front: ``($root)/vmlinuz``, ``(hd0,1)/vmlinuz``."""
    return re.sub(r"^\([^)]*\)", "", word.strip("'\""))


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".conf")
