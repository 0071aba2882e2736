"""Foreign readers of VHD files: the whole disk as they see it, or ``None`` where they refuse the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.power_cut import Expected, View
from tests.tools import require_tool, run

STEP = 64 << 10
Look = Callable[[Path], bytes | None]
"""An image's path; its parent, where it has one, lies beside it."""


def by_qemu(work: Path) -> Look:
    """Non-differencing images; a fixed one is known by ``-f vpc`` alone. QEMU looks at no sector bitmap."""
    tool = require_tool("qemu-img")
    out = work / "qemu.raw"

    def look(path: Path) -> bytes | None:
        out.unlink(missing_ok=True)
        ended = run(tool, "convert", "-f", "vpc", "-O", "raw", str(path), str(out), check=False)
        return out.read_bytes() if ended.returncode == 0 else None

    return look


def by_7zip(work: Path) -> Look:
    tool = require_tool("7zz")
    out = work / "7z"

    def look(path: Path) -> bytes | None:
        shutil.rmtree(out, ignore_errors=True)
        ended = run(tool, "e", "-tVHD", f"-o{out}", "-y", str(path), check=False)
        found = list(out.iterdir()) if out.exists() else []
        return found[0].read_bytes() if ended.returncode == 0 and found else None

    return look


def by_pyvhdi(parent: str | None = None) -> Look:
    pyvhdi = pytest.importorskip("pyvhdi")

    def look(path: Path) -> bytes | None:
        names = [path] if parent is None else [path, path.with_name(parent)]
        files = []
        try:
            for name in names:
                file = pyvhdi.file()
                file.open(str(name))
                files.append(file)
            if parent is not None:
                files[0].set_parent(files[1])
            # block by block: one read over several of a child returns the parent's bytes after a hole [20260901]
            size = files[0].get_media_size()
            return b"".join(
                files[0].read_buffer_at_offset(min(STEP, size - place), place) for place in range(0, size, STEP)
            )
        except OSError:
            return None
        finally:
            for file in files:
                file.close()

    return look


def by_dissect(path: Path) -> bytes | None:
    """Non-differencing images."""
    vhd = pytest.importorskip("dissect.hypervisor.disk.vhd")
    with path.open("rb") as file:
        try:
            disk = vhd.VHD(file)
            return bytes(disk.read(disk.size))
        except (OSError, ValueError, EOFError):
            return None


def view_by(look: Look, name: str, expected: Expected) -> Callable[[Path], View]:
    """What ``look`` makes of the file ``name`` in a folder, against what is expected."""

    def view(folder: Path) -> View:
        data = look(folder / name)
        return View.REFUSED if data is None else expected.view(data)

    return view
