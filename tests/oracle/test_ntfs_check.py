"""Random work on NTFS volumes by the writer: our own checker judges each session, foreign readers the result.

``VHDTOOL_NTFS_DOSE`` multiplies the number of operations (5,000 in all is a dose of about 10), ``VHDTOOL_NTFS_SEED``
repeats a run.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fs.ntfs_surgery import Surgery, differing
from tests.fs.test_ntfs_check import in_entry, in_name, in_record
from tests.oracle.ntfs_volumes import (
    FileVolume,
    dissected,
    judge,
    new_volume,
    ours,
    require_library,
    sleuthkit_names,
)
from tests.tools import require_tool
from tests.volume.memory import MemoryDevice
from vhdtool.bytesource import BytesSource
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_check import check_touched, check_volume
from vhdtool.fs.writer import FileWriter, open_writer

pytestmark = pytest.mark.oracle

LAYOUTS = [(512, 512, 24), (4096, 512, 24), (65536, 512, 96), (4096, 4096, 24)]
PER_SESSION, PER_JUDGEMENT = 20, 200
LETTERS = "abcXYZmn019_^~ " + "äöüßÿŉǰΐάς\u0131\u0130\u017f\u1e9e\ufb01\u01c5\u0587жя漢"

Tree = dict[str, bytes | None]
Step = Callable[[FileWriter], None]


def operations() -> int:
    """For each of the four layouts."""
    return int(125 * float(os.environ.get("VHDTOOL_NTFS_DOSE", "1")))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    seed = int(os.environ.get("VHDTOOL_NTFS_SEED", secrets.randbits(32)))
    request.node.add_report_section("setup", "seed", f"repeat: VHDTOOL_NTFS_SEED={seed}")
    return random.Random(seed)


class Model:
    """What the volume should hold, and steps that change both."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tree: Tree = {}
        self._folded: set[str] = set()

    def step(self) -> Step:
        files = [path for path, content in self.tree.items() if content is not None]
        folders = [path for path, content in self.tree.items() if content is None]
        kind = self.rng.choice(["new"] * 5 + ["folder", "replace", "resize", "remove", "remove", "remove folder"])
        empty = [path for path in folders if not any(other.startswith(path + "/") for other in self.tree)]
        if kind == "folder" and len(folders) < 40:
            return self._make(folders)
        if kind == "replace" and files:
            path = self.rng.choice(files)
            content = self._content()
            self.tree[path] = content
            return lambda writer: writer.put(path, BytesSource(content))
        if kind == "resize" and files:
            return self._resize(self.rng.choice(files))
        if kind == "remove" and files:
            return self._remove(self.rng.choice(files))
        if kind == "remove folder" and empty:
            return self._remove(self.rng.choice(empty))
        path = self._name(folders)
        content = self._content()
        self.tree[path] = content
        return lambda writer: writer.put(path, BytesSource(content))

    def _make(self, folders: list[str]) -> Step:
        path = self._name(folders)
        self.tree[path] = None
        return lambda writer: writer.make_directory(path)

    def _resize(self, path: str) -> Step:
        size = self.rng.choice([0, 1, 700, 5000, 40_000])
        old = self.tree[path] or b""
        self.tree[path] = old[:size].ljust(size, b"\0")
        return lambda writer: writer.resize(path, size)

    def _remove(self, path: str) -> Step:
        del self.tree[path]
        return lambda writer: writer.remove(path)

    def _content(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 1, 8, 300, 700, 900, 4096, 5000, 70_000]))

    def _name(self, folders: list[str]) -> str:
        above = self.rng.choice(["", "", *folders])
        while True:
            letters = "".join(self.rng.choice(LETTERS) for _ in range(self.rng.choice([1, 3, 8, 40, 120]))).strip(" ~")
            path = f"{above}/{letters}{self.rng.randrange(10_000)}"
            # Names that NTFS takes for one are not wanted here: each letter that has a capital may fold to it.
            folded = "".join(one.upper() if len(one.upper()) == 1 else one for one in path)
            if folded not in self._folded:
                self._folded.add(folded)
                return path


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"clusters-{layout[0]}-sectors-{layout[1]}")
def test_random_sessions_of_the_writer_are_sound(
    layout: tuple[int, int, int], tmp_path: Path, rng: random.Random
) -> None:
    require_library()
    cluster, sector, mebibytes = layout
    path = new_volume(tmp_path / "volume", mebibytes, cluster=cluster, sector=sector)
    model = Model(rng)
    before = path.read_bytes()
    done = 0
    while done < operations():
        session(path, sector, [model.step() for _ in range(PER_SESSION)])
        done += PER_SESSION
        after = path.read_bytes()
        devices = MemoryDevice(before, sector), MemoryDevice(after, sector)
        assert check_touched(*devices, differing(before, after), path=None, overwritten=()) == ()
        if done % PER_JUDGEMENT == 0 or done >= operations():
            assert check_volume(devices[1]) == ()
            agree(path, model.tree, layout)
        before = after


def agree(path: Path, tree: Tree, layout: tuple[int, int, int]) -> None:
    """All readers that are right about this layout."""
    cluster, sector, _ = layout
    if cluster == 65536:
        # libfsntfs loses the second block of an index that has two in one cluster: names are missing from its list
        # that The Sleuth Kit, 7-Zip and dissect.ntfs show.
        judge(path, sector=sector)
        assert ours(path) == tree
        assert dissected(path) == tree
        assert sleuthkit_names(path) == tree.keys()
    else:
        judge(path, tree, sector=sector)


def session(path: Path, sector: int, steps: list[Step]) -> None:
    volume = FileVolume(path, sector)
    writer = open_writer(volume)
    try:
        for step in steps:
            step(writer)
        writer.finish()
    finally:
        writer.abort()
        volume.close()


def test_faults_beside_sound_work_are_found(tmp_path: Path) -> None:
    """A session's result with one field changed behind its back: in a new file, its directory, and beside both."""
    require_library()
    require_tool("mkntfs")
    path = new_volume(tmp_path / "volume", 24)
    session(path, 512, [lambda writer: writer.put("/there.bin", BytesSource(b"x" * 9000))])
    before = path.read_bytes()
    session(path, 512, [lambda writer: writer.put("/made.bin", BytesSource(b"y" * 9000))])
    after = path.read_bytes()
    filesystem = NtfsFilesystem(MemoryDevice(after))
    made, there = filesystem.stat("/made.bin"), filesystem.stat("/there.bin")
    assert made is not None
    assert made.record is not None
    assert there is not None
    assert there.record is not None
    faults = {
        "ntfs-attribute-id": in_record(made.record, 40, "<H", 0),
        "ntfs-name-differs": in_name(made.record, 66, "<B", ord("M")),
        "ntfs-size-differs": in_entry(5, "made.bin", 16 + 48, "<Q", 8999),
        "ntfs-name-dangling": in_entry(5, "there.bin", 6, "<H", 99),
        "ntfs-link-count": in_record(there.record, 18, "<H", 3),
    }
    for code, change in faults.items():
        volume = Surgery(after)
        change(volume)
        damaged = bytes(volume.data)
        found = check_touched(MemoryDevice(before), MemoryDevice(damaged), differing(before, damaged), path=None)
        assert code in {problem.code for problem in found}
