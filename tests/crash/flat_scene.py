"""A fixed VHD or a raw image that is changed in place, recorded, for the crash tests of both ways to do it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from tests.crash.power_cut import Expected, Reader, View, record
from tests.crash.vhd_readers import by_7zip, by_dissect, by_pyvhdi, by_qemu, view_by
from tests.disk.commits import changed, whole
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Commit, Target, Written
from vhdtool.disk.create_vhd import Block, write_vhd
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.recover_copy import recover_copy
from vhdtool.disk.recover_journal import recover_journal
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.progress import SILENT

KIB = 1 << 10
SIZE = 600 * KIB
CHANGES = {
    0: b"the first sector" * 32,
    5 * KIB + 100: b"inside" * 500,
    200 * KIB: bytes(random.Random(3).randbytes(90 * KIB)),
    340 * KIB: bytes(3 * KIB),
    SIZE - 1024: b"the last two" * 85,
}
MakeCommit = Callable[..., Commit]


def make(folder: Path, kind: str) -> str:
    """An image of random bytes with a hole; its name."""
    folder.mkdir()
    source = random.Random(17)
    data = source.randbytes(400 * KIB) + bytes(100 * KIB) + source.randbytes(100 * KIB)
    if kind == "raw":
        (folder / "disk.img").write_bytes(data)
        return "disk.img"
    write_vhd(
        folder / "disk.vhd",
        virtual_size=SIZE,
        unique_id=UUID(int=6),
        timestamp=EPOCH,
        kind="fixed",
        blocks={0: Block(data)},
        short_footer=kind == "short vhd",
    )
    return "disk.vhd"


def commit(path: Path, kind: MakeCommit, store: HostStore) -> Written:
    with changed(path, CHANGES) as overlay:
        steps = kind(overlay, Target("in-place"), store)
        try:
            steps.prepare(SILENT)
            return steps.finish(SILENT)
        except BaseException:
            steps.abandon()
            raise


def content(path: Path) -> bytes:
    with open_disk(path) as disk:
        return whole(disk)


class FlatScene:
    """The image of a kind, its old and new content, and what the commit did."""

    def __init__(self, kind: str, steps: MakeCommit, tmp_path: Path, *, reflinks: bool = False) -> None:
        self.tmp_path = tmp_path
        self.folder = tmp_path / "images"
        self.name = make(self.folder, kind)
        path = self.folder / self.name
        with changed(path, CHANGES) as overlay:
            self.expected = Expected(content(path), overlay.read_at(0, overlay.size))
        self.recording = record(self.folder, lambda store: commit(path, steps, store), reflinks=reflinks)

    def ours(self, folder: Path) -> View:
        return self.expected.view(content(folder / self.name))

    def recovered(self, folder: Path) -> View:
        """As the steps of recover leave it: the same disk, nothing beside it, nothing left to tell or to do."""
        before = self.ours(folder)
        path = folder / self.name
        recover_journal(str(path))
        recover_copy(str(path))
        with open_disk(path) as disk:
            problems = disk.info.problems
        at_rest = recover_journal(str(path)) is None and recover_copy(str(path)) is None
        alone = [each.name for each in folder.iterdir()] == [self.name]
        after = self.ours(folder)
        return after if before is after and at_rest and alone and not problems else View.WRONG

    def readers(self) -> list[Reader]:
        return [Reader("ours", self.ours), Reader("recover", self.recovered, changes=True)]

    def foreign(self, *, may_refuse: bool = False, every: int = 2) -> list[Reader]:
        looks = {
            "pyvhdi": (by_pyvhdi(), 1),
            "dissect": (by_dissect, 1),
            "qemu": (by_qemu(self.tmp_path), every),
            "7zz": (by_7zip(self.tmp_path), every),
        }
        return [
            Reader(name, view_by(look, self.name, self.expected), every=step, may_refuse=may_refuse)
            for name, (look, step) in looks.items()
        ]
