"""The daemons of the integration services in a Linux guest: where they are, whose they are, and whether they start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.guest.linux_kernels import InstalledKernel
from vhdtool.guest.linux_model import LinuxDaemonFact, LinuxHelper
from vhdtool.guest.linux_start import Start, StartRules
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Troubles
from vhdtool.knowledge.linux_daemons import LinuxDaemon, linux_daemons, linux_helpers

PROGRAM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin", "/usr/libexec")
HELPER_FOLDERS = (
    "/usr/libexec/hypervkvpd",
    "/usr/sbin",
    "/usr/lib/hyper-v/bin",
    "/usr/lib/hyperv",
    "/usr/bin",
    "/sbin",
)
"""Where the distributions put the scripts (Debian, Red Hat; Ubuntu; SUSE; Arch)."""

SCRIPT = b"#!"
LARGEST_SCRIPT = 16 << 10
KERNEL_FOLDERS = ("/usr/lib/linux-tools", "/usr/lib/linux-cloud-tools")
"""Ubuntu: a script in ``/usr/sbin`` runs the daemon that was built for the running kernel."""


def read_daemons(
    tree: LinuxTree,
    kernel: InstalledKernel | None,
    starts: StartRules,
    troubles: Troubles,
) -> tuple[LinuxDaemonFact, ...]:
    """Read all daemons that are known, those that the guest lacks too; not yet whose they are."""
    return tuple(_daemon(tree, daemon, kernel, starts, troubles) for daemon in linux_daemons())


def read_helpers(tree: LinuxTree, troubles: Troubles) -> tuple[LinuxHelper, ...]:
    """Find the scripts that the key-value daemon calls."""
    found = []
    for name in linux_helpers():
        path = None
        with troubles.guard(f"the script {name}"):
            places = (f"{folder}/{name}{ending}" for folder in HELPER_FOLDERS for ending in ("", ".sh"))
            path = next((place for place in places if tree.is_file(place)), None)
        found.append(LinuxHelper(name, path))
    return tuple(found)


def _daemon(
    tree: LinuxTree, daemon: LinuxDaemon, kernel: InstalledKernel | None, starts: StartRules, troubles: Troubles
) -> LinuxDaemonFact:
    programs, units = _own_names(daemon, None if kernel is None else kernel.numbers)
    start = Start("no", (), None, None)
    path: str | None = None
    program: str | None = None
    with troubles.guard(f"the daemon {daemon.name}"):
        named: str | None = None
        for unit in units:
            found = starts.start([unit])
            named = starts.program(found)
            if found.unit is not None and not _is_of_another(named, programs):
                start = found
                break
            named = None
        places = (named,) if named is not None else _places(programs)
        path = next((place for place in places if tree.is_file(place)), None)
        program = None if path is None else _program(tree, path, kernel)
    return LinuxDaemonFact(
        name=daemon.name,
        service=daemon.service,
        path=path,
        program=program,
        package=None,
        unit=start.unit,
        start=start.how,
        started_by=start.by,
    )


def _own_names(daemon: LinuxDaemon, kernel: tuple[int, ...] | None) -> tuple[list[str], list[str]]:
    """Names of programs and units; one that two daemons share is that of the one that the kernel works with."""
    others = [other for other in linux_daemons() if other is not daemon and other.service == daemon.service]
    if daemon.serves(kernel) and not (kernel is None and daemon.below is None):
        return list(daemon.programs), list(daemon.units)
    programs = {name for other in others for name in other.programs}
    units = {name for other in others for name in other.units}
    return [name for name in daemon.programs if name not in programs], [
        name for name in daemon.units if name not in units
    ]


def _is_of_another(named: str | None, programs: Sequence[str]) -> bool:
    """Whether a unit's program is known, and that of another daemon."""
    name = (named or "").rpartition("/")[2]
    known = {program for daemon in linux_daemons() for program in daemon.programs}
    return name in known and name not in programs


def _places(programs: Sequence[str]) -> Iterator[str]:
    for name in programs:
        for folder in PROGRAM_FOLDERS:
            yield f"{folder}/{name}"


def _program(tree: LinuxTree, path: str, kernel: InstalledKernel | None) -> str | None:
    """What runs when ``path`` is called: itself, or what a script chooses by the kernel; ``None``: nothing."""
    if tree.open(path).read_at(0, len(SCRIPT)) != SCRIPT:
        return path
    head = tree.open(path).read_at(0, LARGEST_SCRIPT)
    if b"linux-tools" not in head and b"uname -r" not in head:
        return path
    if kernel is None:
        return None
    name = path.rpartition("/")[2]
    places = (f"{folder}/{kernel.release}/{name}" for folder in KERNEL_FOLDERS)
    return next((place for place in places if tree.is_file(place)), None)
