"""NTFS volumes that tests write into, and the foreign readers that judge the result."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import dissect.ntfs
import pytest

from tests.oracle.ntfs_accounting import Ledger
from tests.tools import require_tool, run
from vhdtool.disk.device import FileDevice
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs3g_library import candidates, load
from vhdtool.fs.ntfs_check import check_volume

KNOWN = frozenset(
    {
        "$AttrDef",
        "$BadClus",
        "$Bitmap",
        "$Boot",
        "$Extend",
        "$LogFile",
        "$MFT",
        "$MFTMirr",
        "$Secure",
        "$UpCase",
        "$Volume",
    }
)

Tree = Mapping[str, bytes | None]
"""What should be there: content by path, ``None`` for a directory."""


def require_library() -> None:
    """Skip by name where libntfs-3g is missing, as :func:`tests.tools.require_tool` does for programs."""
    if load(candidates())[0] is None:
        require_tool("libntfs-3g.so.89")


def new_volume(path: Path, mebibytes: int = 16, *, cluster: int = 4096, sector: int = 512) -> Path:
    """A volume that mkntfs makes."""
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    run(require_tool("mkntfs"), "-F", "-q", "-s", str(sector), "-c", str(cluster), "-p", "0", "-H", "255", "-S", "63",
        str(path))  # fmt: skip
    return path


class FileVolume(FileDevice):
    """A volume in a file that is written into directly: what a test may, and the library never does."""

    def __init__(self, path: Path, sector: int = 512) -> None:
        super().__init__(path)
        self.logical_sector_size = sector
        self._file = path.open("r+b", buffering=0)
        self.written: list[tuple[int, int]] = []

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        assert 0 <= offset <= self.size - len(view)
        self._file.seek(offset)
        assert self._file.write(view) == len(view)
        self.written.append((offset, len(view)))

    def close(self) -> None:
        self._file.close()
        super().close()


def judge(
    path: Path, tree: Tree | None = None, *, mended: bool = False, archive: bool = True, sector: int = 512
) -> None:
    """Every reader at hand: no complaint, and where ``tree`` is given exactly these names and contents.

    ``mended`` tells that ntfsfix complained of the volume before we touched it (a cut-off backup boot sector), and
    ``archive=False`` that 7-Zip did. 7-Zip reads no volume with sectors of 4096 bytes.
    """
    archive = archive and sector == 512
    fixed = run(require_tool("ntfsfix"), "-n", str(path), check=False)
    assert b"completed successfully" in fixed.stdout, fixed.stdout
    assert mended or fixed.returncode == 0, fixed.stdout + fixed.stderr
    run(require_tool("ntfsinfo"), "-m", str(path))
    run(require_tool("fsstat"), "-f", "ntfs", str(path))
    if archive:
        tested = run(require_tool("7zz"), "t", "-tntfs", str(path), check=False).stdout
        assert b"Everything is Ok" in tested, tested
    Ledger(path).check()
    with closing(FileDevice(path)) as device:
        assert check_volume(device) == ()
    if tree is None:
        return
    assert ours(path) == tree
    assert dissected(path) == tree
    if not index_blocks_share_clusters(path):
        assert libfsntfs(path) == tree
    named = sleuthkit_names(path)
    assert tree.keys() <= named
    assert named - tree.keys() <= Ledger(path).paths_left_over()  # as dissect does
    if archive:
        sizes = {name: None if content is None else len(content) for name, content in tree.items()}
        assert seven_zip_names(path) == sizes


def index_blocks_share_clusters(path: Path) -> bool:
    """Clusters larger than an index block: libfsntfs finds nothing then in directories of more than one block."""
    with path.open("rb") as file:
        boot = file.read(80)
    index_block = struct.unpack_from("<b", boot, 68)[0]
    sectors = boot[13] if boot[13] <= 128 else 1 << (256 - boot[13])
    return index_block < 0 and sectors * struct.unpack_from("<H", boot, 11)[0] > 1 << -index_block


def ours(path: Path) -> dict[str, bytes | None]:
    """By the reader of this project."""
    device = FileDevice(path)
    filesystem = NtfsFilesystem(device)
    found: dict[str, bytes | None] = {}
    pending = ["/"]
    while pending:
        folder = pending.pop()
        for entry in filesystem.list(folder):
            below = f"{folder.rstrip('/')}/{entry.name}"
            if folder == "/" and entry.name in KNOWN:
                continue
            if entry.kind == "directory":
                found[below] = None
                pending.append(below)
            elif entry.kind == "symlink" or (entry.storage or "").startswith("reparse-"):
                found[below] = f"link to {entry.link_target}".encode()
            else:
                file = filesystem.open(below)
                assert file.size == entry.size, below  # the directory's copy of the size
                found[below] = file.read_at(0, file.size)
    device.close()
    return found


def dissected(path: Path) -> dict[str, bytes | None]:
    """By dissect.ntfs, through listings: its look-up by path misses names (tests/oracle/test_filesystems.py).

    It lists index blocks that are free, too, with what was in them once: those entries are left out here.
    """
    found: dict[str, bytes | None] = {}
    in_use = Ledger(path).entries_in_use()
    with path.open("rb") as file:
        volume = dissect.ntfs.NTFS(file)

        def walk(folder: Any, above: str) -> None:
            for entry in folder.iterdir(ignore_dos=True):
                name = entry.attribute.file_name
                number = entry.header.FileReference.SegmentNumberLowPart
                if name == "." or (not above and name in KNOWN) or (folder.segment, name, number) not in in_use:
                    continue
                child = entry.dereference()
                if child.is_dir():
                    found[f"{above}/{name}"] = None
                    walk(child, f"{above}/{name}")
                else:
                    found[f"{above}/{name}"] = child.open().read()

        walk(volume.mft.get(5), "")
    return found


def libfsntfs(path: Path) -> dict[str, bytes | None]:
    """By libfsntfs."""
    pyfsntfs = pytest.importorskip("pyfsntfs", reason="libfsntfs-python is not installed")
    volume = pyfsntfs.volume()
    volume.open(str(path))
    found: dict[str, bytes | None] = {}

    def walk(folder: Any, above: str) -> None:
        for entry in folder.sub_file_entries:
            if not above and entry.name in KNOWN:
                continue
            below = f"{above}/{entry.name}"
            if entry.has_directory_entries_index():
                found[below] = None
                walk(entry, below)
            else:
                found[below] = entry.read_buffer_at_offset(entry.size, 0) if entry.size else b""

    walk(volume.get_root_directory(), "")
    volume.close()
    return found


def sleuthkit_names(path: Path) -> set[str]:
    """By The Sleuth Kit, which sorts named streams in as files."""
    names = set()
    listed = run(require_tool("fls"), "-u", "-r", "-p", "-f", "ntfs", str(path)).stdout.decode()
    for line in listed.splitlines():
        name = line.split("\t", 1)[1].split(":")[0]
        if name.split("/")[0] not in KNOWN | {"$OrphanFiles"} and not name.endswith("/."):
            names.add("/" + name)
    return names


def seven_zip_names(path: Path) -> dict[str, int | None]:
    """By 7-Zip: sizes, and ``None`` for directories."""
    listed = run(require_tool("7zz"), "l", "-slt", "-tntfs", "-sccUTF-8", str(path)).stdout.decode()
    found: dict[str, int | None] = {}
    for block in listed.split("----------\n", 1)[1].split("\n\n"):
        facts = dict(re.findall(r"^(\w[\w ]*) = (.*)$", block, re.MULTILINE))
        name = facts.get("Path", "")
        if not name or name.startswith("[") or name.split("/")[0] in KNOWN or ":" in name:
            continue
        found["/" + name] = None if facts["Folder"] == "+" else int(facts["Size"])
    return found
