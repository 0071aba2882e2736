"""What starts a daemon in a Linux guest: systemd's links, udev's rules, scripts of System V and OpenRC.

systemd.unit(5), systemd.device(5) (``SYSTEMD_WANTS``), udev(7); Debian Policy 9.3 for run levels; OpenRC, rc(8).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vhdtool.fs.base import FileStat
from vhdtool.guest.linux_loading import COMMAND_LINE
from vhdtool.guest.linux_model import DaemonStart
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Troubles

UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""In the order of their weight."""

RULE_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
RUN_LEVELS = ("2", "3", "4", "5")
OPENRC_LEVELS = ("sysinit", "boot", "default")
NULL_DEVICE = "/dev/null"
MASK_OPTION = "systemd.mask="
MOST_FOLDERS = 512
MOST_RULES = 512

NEVER_REACHED = re.compile(
    r"^(rescue|emergency|shutdown|reboot|poweroff|halt|kexec|sleep|suspend|hibernate|hybrid-sleep|initrd[-\w]*|exit)\."
)
"""Units that a usual start does not reach: what they want is not started."""

VENDOR_RULES = re.compile(r"hyper|hv|vmbus|azure|lis", re.IGNORECASE)
"""Names of rule files of packages that are read; those in ``/etc`` all are."""

Init = Literal["systemd", "sysv", "openrc", "upstart"]


@dataclass(frozen=True, slots=True)
class Start:
    """How a daemon starts; ``by`` lists what does it, or what forbids it. ``unit`` is its name, where it has one."""

    how: DaemonStart
    by: tuple[str, ...]
    unit: str | None
    unit_path: str | None


class StartRules:
    """All that starts something, read once; asked for each daemon."""

    def __init__(self, tree: LinuxTree, troubles: Troubles, command_line: str = "") -> None:
        """``command_line`` is the kernel's: systemd takes masks from it too (systemd-debug-generator(8))."""
        self._masks = {_unit_name(word) for word in command_line.split() if word.startswith(MASK_OPTION)}
        self._tree = tree
        self._troubles = troubles
        self.init: Init | None = None
        self._wants: dict[str, list[tuple[str, str]]] = {}
        self._rules: list[tuple[str, str]] = []
        self._scripts: dict[str, list[str]] = {}
        with troubles.guard("the init system"):
            self.init = _init(tree)
        if self.init in {"systemd", None}:
            self._read_wants()
            self._read_rules()
        else:
            self._read_scripts()

    def start(self, units: Sequence[str]) -> Start:
        """Tell how the first of ``units`` that the guest has is started; ``no`` where it has none of them."""
        if self.init not in {"systemd", None}:
            return self._script_start(units)
        for unit in units:
            path, masked = self._unit_path(unit)
            if path is None:
                continue
            if masked:
                return Start("masked", (path,), unit, path)
            if unit in self._masks:
                return Start("masked", (f"{COMMAND_LINE}: {MASK_OPTION}{unit}",), unit, path)
            device = [f"{rule}: SYSTEMD_WANTS {unit}" for rule, text in self._rules if unit in text]
            boot: list[str] = []
            for link, wanting in self._wants.get(unit, ()):
                if wanting.endswith(".device"):
                    device.append(link)
                elif not NEVER_REACHED.match(wanting):
                    boot.append(link)
            how: DaemonStart = "boot" if boot else "device" if device else "no"
            return Start(how, (*boot, *device), unit, path)
        return Start("no", (), None, None)

    def services(self) -> tuple[Start, ...]:
        """Every service of systemd that the guest has, by name; none of another init."""
        names: set[str] = set()
        if self.init in {"systemd", None}:
            for folder in UNIT_FOLDERS:
                with self._troubles.guard(folder):
                    names |= {fact.name for fact in self._entries(folder) if fact.name.endswith(".service")}
        return tuple(self.start([name]) for name in sorted(names) if not name.endswith("@.service"))

    def program(self, start: Start) -> str | None:
        """The file that a unit starts, as its ``ExecStart`` names it."""
        if start.unit_path is None or start.how == "masked":
            return None
        with self._troubles.guard(start.unit_path):
            text = self._tree.text(start.unit_path) or ""
            match = re.search(r"^ExecStart\s*=\s*[-@:+!]*(\S+)", text, re.MULTILINE)
            return None if match is None else match[1].strip("\"'")
        return None

    def _unit_path(self, unit: str) -> tuple[str | None, bool]:
        """Where a unit is, and whether it is masked there: a link to nothing, or an empty file."""
        with self._troubles.guard(f"the unit {unit}"):
            for folder in UNIT_FOLDERS:
                path = f"{folder}/{unit}"
                fact = self._tree.stat(path)
                if fact is not None:
                    empty = fact.kind == "file" and fact.size == 0
                    return path, empty or (fact.kind == "symlink" and fact.link_target == NULL_DEVICE)
        return None, False

    def _read_wants(self) -> None:
        for folder in UNIT_FOLDERS:
            with self._troubles.guard(folder):
                for fact in self._entries(folder):
                    wanting, dot, kind = fact.name.rpartition(".")
                    if dot and kind in {"wants", "requires", "upholds"}:
                        for link in self._entries(f"{folder}/{fact.name}"):
                            found = self._wants.setdefault(link.name, [])
                            found.append((f"{folder}/{fact.name}/{link.name}", wanting))

    def _read_rules(self) -> None:
        seen: set[str] = set()
        for folder in RULE_FOLDERS:
            with self._troubles.guard(folder):
                for fact in self._entries(folder)[:MOST_RULES]:
                    if fact.name in seen or not fact.name.endswith(".rules"):
                        continue
                    seen.add(fact.name)  # a file hides those of its name further behind, a link to nothing too
                    if fact.kind == "symlink" and fact.link_target == NULL_DEVICE:
                        continue
                    if folder.startswith("/etc/") or VENDOR_RULES.search(fact.name):
                        path = f"{folder}/{fact.name}"
                        self._rules.append((path, _wanted(self._tree.text(path) or "")))

    def _entries(self, folder: str) -> tuple[FileStat, ...]:
        """A directory's entries; none where the directory is another's under a second name (``/lib``)."""
        if folder.startswith("/lib/") and self._tree.real(folder) != folder:
            return ()
        return self._tree.entries(folder)[: MOST_FOLDERS * 16]

    def _read_scripts(self) -> None:
        if self.init == "openrc":
            for level in OPENRC_LEVELS:
                with self._troubles.guard(f"the run level {level}"):
                    for fact in self._tree.entries(f"/etc/runlevels/{level}"):
                        self._scripts.setdefault(fact.name, []).append(f"/etc/runlevels/{level}/{fact.name}")
            return
        for level in RUN_LEVELS:
            for folder in (f"/etc/rc{level}.d", f"/etc/rc.d/rc{level}.d"):
                with self._troubles.guard(f"the run level {level}"):
                    for fact in self._tree.entries(folder):
                        if re.match(r"S\d\d", fact.name):
                            self._scripts.setdefault(fact.name[3:], []).append(f"{folder}/{fact.name}")

    def _script_start(self, units: Sequence[str]) -> Start:
        names = [unit.removesuffix(".service") for unit in units]
        for name in names:
            links = tuple(dict.fromkeys(self._scripts.get(name, ())))
            if links:
                return Start("boot", links, name, f"/etc/init.d/{name}")
            if self.init == "upstart":
                with self._troubles.guard(f"the job {name}"):
                    text = self._tree.text(f"/etc/init/{name}.conf")
                    manual = "manual" in (self._tree.text(f"/etc/init/{name}.override") or "").split()
                    if text is not None:
                        on = re.search(r"^start on\b", text, re.MULTILINE) is not None and not manual
                        path = f"/etc/init/{name}.conf"
                        return Start("boot" if on else "no", (path,) if on else (), name, path)
        for name in names:
            for folder in ("/etc/init.d", "/etc/rc.d/init.d"):
                with self._troubles.guard(f"the script {name}"):
                    if self._tree.is_file(f"{folder}/{name}"):
                        return Start("no", (), name, f"{folder}/{name}")
        return Start("no", (), None, None)


def _init(tree: LinuxTree) -> Init | None:
    """Which init the kernel starts: where ``/sbin/init`` leads, else what is installed. ``None``: none of them."""
    real = tree.real("/sbin/init") or ""
    if real.endswith("/systemd"):
        return "systemd"
    if tree.is_file("/sbin/openrc") or tree.is_file("/usr/sbin/openrc") or tree.is_file("/usr/bin/openrc"):
        return "openrc"
    if real and tree.is_directory("/etc/init") and tree.is_file("/sbin/initctl"):
        return "upstart"
    if real:
        return "sysv"
    if tree.is_file("/usr/lib/systemd/systemd") or tree.is_file("/lib/systemd/systemd"):
        return "systemd"
    return None


def _unit_name(option: str) -> str:
    """The unit that an option of the command line masks; one without an ending is a service."""
    name = option.removeprefix(MASK_OPTION)
    return name if "." in name else f"{name}.service"


def _wanted(text: str) -> str:
    """The lines of a rule file that start units."""
    lines = text.replace("\\\n", " ").splitlines()
    return "\n".join(line for line in lines if "SYSTEMD_WANTS" in line and not line.lstrip().startswith("#"))
