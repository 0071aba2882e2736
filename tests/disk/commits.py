"""What tests of commits need: disks to change, changes, folders as they were."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path

from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.disk.commit import Target, Written
from vhdtool.disk.overlay import Overlay
from vhdtool.progress import SILENT

MIB = 1 << 20


def folder_state(folder: Path) -> dict[str, str]:
    """Every file below a folder, by name, with a digest of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def content_of(path: Path) -> bytes:
    with open_disk(path) as disk:
        assert not disk.info.problems, disk.info.problems
        return disk.read_at(0, disk.size)


@contextmanager
def changed(path: Path, changes: dict[int, bytes]):
    """An overlay over an image with some bytes written at some places."""
    with open_disk(path) as disk, Overlay(disk) as overlay:
        for offset, data in changes.items():
            overlay.write_at(offset, data)
        yield overlay


def commit(kind, path: Path, changes: dict[int, bytes], out: Path, **target) -> tuple[Written, bytes]:
    """Prepare and finish a commit of ``kind`` (a class); return what it wrote and what the disk should hold now."""
    name = {"ChildCommit": "child", "OutputCommit": "output"}[kind.__name__]
    with changed(path, changes) as overlay:
        steps = kind(overlay, Target(name, str(out), **target))
        steps.prepare(SILENT)
        return steps.finish(SILENT), overlay.read_at(0, overlay.size)


def whole(disk: VirtualDisk) -> bytes:
    return disk.read_at(0, disk.size)
