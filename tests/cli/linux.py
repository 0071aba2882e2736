"""A disk with a Linux on it, as far as anybody looks at it: made by mke2fs from a tree."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.tools import require_tool, run


def linux_disk(path: Path) -> Path:
    """Write a bare ext4 volume with /etc/os-release of a Debian and the unit of a Hyper-V daemon."""
    tree = path.with_suffix(".tree")
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    units = tree / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    (units / "hv-kvp-daemon.service").write_text("[Unit]\n")
    with path.open("wb") as file:
        file.truncate(16 << 20)
    run(require_tool("mke2fs"), "-q", "-t", "ext4", "-d", str(tree), str(path))
    shutil.rmtree(tree)
    return path
