"""Who has a file of this host open for writing, as far as the system tells: Linux, ``/proc`` and ``/sys``.

A process shows its open files to its own user and to root only, so the answer says whether all of them were seen.
Source: proc(5), "/proc/pid/fdinfo"; the documentation of the Linux kernel, "sysfs-block-loop".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

PROC = Path("/proc")
BLOCK_DEVICES = Path("/sys/block")
MOST_PROCESSES = 100_000
MOST_FILES = 100_000  # open files of one process

NETWORK_FILE_SYSTEMS = frozenset(
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "9p", "virtiofs", "vboxsf", "lustre"),
        *("gpfs", "beegfs", "gfs2", "ocfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.vmhgfs-fuse"),
    ]
)
"""Types of file systems that other machines may write to at the same time (fourth column of ``mountinfo``)."""

_ACCESS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_ACCESS_MODE = 3  # O_ACCMODE: 0 reads, 1 writes, 2 both
_ESCAPED = re.compile(r"\\([0-7]{3})")  # mountinfo writes blanks and backslashes of paths so


@dataclass(frozen=True, slots=True)
class Holders:
    """Who writes to a file: ``process 812 (qemu-nbd)``, ``loop device loop3``.

    ``complete``: the open files of every process that is seen could be read.
    """

    names: tuple[str, ...]
    complete: bool


def writers_of(path: str) -> Holders:
    """Find who has the file at ``path`` open for writing; the process that asks counts too."""
    wanted = os.stat(path)  # noqa: PTH116
    identity = wanted.st_dev, wanted.st_ino
    names = []
    complete = PROC.is_dir()
    for process in _processes():
        try:
            if _writes(process, identity):
                names.append(f"process {process.name}{_command(process)}")
        except PermissionError:
            complete = False
        except OSError:  # it ended meanwhile
            continue
    return Holders((*names, *_loop_devices(identity)), complete)


def network_file_system(path: str) -> str | None:
    """The type of the file system of ``path``, where other machines may write to it; ``None`` where they can't."""
    real = os.path.realpath(path)
    longest, kind = -1, ""
    try:
        lines = (PROC / "self" / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        place = fields.split(" ")[4:5]
        if not place or not rest:
            continue
        point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), place[0])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of several on one place the last counts
            longest, kind = len(point), rest.split(" ")[0]
    return kind if kind in NETWORK_FILE_SYSTEMS else None


def _processes() -> Iterator[Path]:
    try:
        with os.scandir(PROC) as entries:
            yield from islice((Path(entry.path) for entry in entries if entry.name.isdigit()), MOST_PROCESSES)
    except OSError:
        return


def _writes(process: Path, identity: tuple[int, int]) -> bool:
    with os.scandir(process / "fd") as files:
        for file in islice(files, MOST_FILES):
            try:
                found = os.stat(file.path)  # noqa: PTH116  # follows to what is open
                if (found.st_dev, found.st_ino) != identity:
                    continue
                access = _ACCESS.search((process / "fdinfo" / file.name).read_text(encoding="ascii"))
            except (OSError, UnicodeDecodeError):  # closed meanwhile
                continue
            if access and int(access[1], 8) & _ACCESS_MODE:
                return True
    return False


def _command(process: Path) -> str:
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f" ({name})" if name.isprintable() and name else ""


def _loop_devices(identity: tuple[int, int]) -> Iterator[str]:
    for backing in sorted(BLOCK_DEVICES.glob("loop*/loop/backing_file")):
        try:
            found = os.stat(backing.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n"))  # noqa: PTH116
        except (OSError, ValueError):
            continue
        if (found.st_dev, found.st_ino) == identity:
            yield f"loop device {backing.parents[1].name}"
