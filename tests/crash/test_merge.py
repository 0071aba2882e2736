"""A merge cut off anywhere: the chain opens, the child is the same disk, the parent the old or the new one."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from tests.crash.power_cut import Reader, View, crash_seed, dose, judge, record
from tests.disk.commits import commit, whole
from tests.disk.vhdx_files import make
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_child import ChildCommit
from vhdtool.disk.create_vhd import Block as VhdBlock
from vhdtool.disk.create_vhd import write_vhd
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.merge import merge_child
from vhdtool.disk.recover import recover_image
from vhdtool.disk.vhd_format import EPOCH

MIB = 1 << 20
CHANGES = {700 * 512 + 100: b"hello" * 100, 2 * MIB - 3: b"across"}
IN_PLACE = Target("in-place", no_children=True)


def content(path: Path) -> bytes:
    with open_disk(path) as disk:
        return whole(disk)


class Case:
    def __init__(self, tmp_path: Path, form: str, *, remove_child: bool) -> None:
        self.folder = tmp_path / "disk"
        self.folder.mkdir()
        self.names = f"base.{form}", f"child.{form}"
        base, child = (self.folder / name for name in self.names)
        if form == "vhdx":
            make(base, virtual_size=3 * MIB, blocks={1: Block(data=b"1" * 9000)})
        else:
            blocks = {0: VhdBlock(b"0" * 9000)}
            write_vhd(base, virtual_size=3 * MIB, unique_id=UUID(int=3), timestamp=EPOCH, blocks=blocks)
        self.old = content(base)
        _, self.new = commit(ChildCommit, base, CHANGES, child)
        self.recording = record(
            self.folder, lambda store: merge_child(str(child), IN_PLACE, remove_child=remove_child, store=store)
        )

    def view(self, folder: Path) -> View:
        base, child = (folder / name for name in self.names)
        parent = content(base)
        if child.exists():
            if content(child) != self.new:
                return View.WRONG
        elif parent != self.new:
            return View.WRONG
        return {self.old: View.OLD, self.new: View.NEW}.get(parent, View.WRONG)

    def ended(self, folder: Path) -> View:
        """What was begun is ended by the commands for it."""
        base, child = (folder / name for name in self.names)
        view = self.view(folder)
        recover_image(str(base))
        if child.exists():
            recover_image(str(child))
            merge_child(str(child), IN_PLACE)
            if content(child) != self.new:
                return View.WRONG
        return view if content(base) == self.new else View.WRONG


@pytest.mark.parametrize("form", ["vhdx", "vhd"])
@pytest.mark.parametrize("remove_child", [False, True])
def test_the_chain_is_whole(tmp_path, form, remove_child):
    case = Case(tmp_path, form, remove_child=remove_child)
    readers = [Reader("vhdtool", case.view), Reader("merge again", case.ended, every=8, changes=True)]
    tally = judge(case.recording, readers, seed=crash_seed(), count=dose(80), work=tmp_path / "states")
    assert set(tally.seen("vhdtool")) == {View.OLD, View.NEW}
