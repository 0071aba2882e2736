"""Small images without indirection, fixed VHD and raw, in a folder of their own."""

from __future__ import annotations

from pathlib import Path

from tests.disk.vhd_files import make
from tests.disk.vhdx_files import pattern
from tests.fuzz.vhd_images import FIXED

MIB = 1 << 20
SIZE = 8 * MIB


def make_flat(tmp_path: Path, kind: str) -> Path:
    """``vhd`` or ``raw``, 8 MiB; half of the raw one is a hole."""
    folder = tmp_path / "images"
    folder.mkdir()
    path = folder / ("disk.vhd" if kind == "vhd" else "disk.img")
    if kind == "vhd":
        make(path, kind=FIXED)
        return path
    with path.open("wb") as file:
        file.write(pattern(1, SIZE // 2))
        file.truncate(SIZE)
    return path
