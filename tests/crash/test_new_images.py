"""Children, outputs and conversions: whenever the power goes, the new name leads to nothing or to the whole disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.crash.power_cut import Reader, View, crash_seed, dose, flushes_that_matter, judge, record
from tests.disk.commits import changed, whole
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhdx_files import make
from tests.tools import require_tool, run
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_child import ChildCommit
from vhdtool.disk.commit_output import OutputCommit
from vhdtool.disk.convert import convert_image
from vhdtool.disk.create_vhd import Block, write_vhd
from vhdtool.disk.create_vhdx import Block as VhdxBlock
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.progress import SILENT

MIB = 1 << 20
CHANGES = {700 * 512 + 100: b"hello" * 1000, 2 * MIB - 3: b"across", 3 * MIB + 512: b"last" * 128}


def fixed_vhdx(folder: Path) -> str:
    make(folder / "base.vhdx", kind="fixed", blocks={1: VhdxBlock(data=b"f" * MIB)})
    return "base.vhdx"


def fixed_vhd(folder: Path) -> str:
    blocks = {1: Block(b"v" * 3000)}
    write_vhd(
        folder / "base.vhd", virtual_size=4 * MIB, unique_id=UUID(int=5), timestamp=EPOCH, kind="fixed", blocks=blocks
    )
    return "base.vhd"


def raw(folder: Path) -> str:
    (folder / "base.img").write_bytes(b"raw" * MIB + bytes(MIB))
    return "base.img"


def vhdx(folder: Path) -> str:
    vhdx_chain(folder)
    return "layer3.vhdx"


def vhd(folder: Path) -> str:
    vhd_chain(folder)
    return "layer3.vhd"


def committed(kind: type[ChildCommit | OutputCommit], base: str, out: str) -> Callable[[Path, HostStore], object]:
    def act(folder: Path, store: HostStore) -> object:
        with changed(folder / base, CHANGES) as overlay:
            target = Target("child" if kind is ChildCommit else "output", str(folder / out))
            steps = kind(overlay, target, store)
            steps.prepare(SILENT)
            return steps.finish(SILENT)

    return act


def converted(base: str, out: str, form: str, kind: str) -> Callable[[Path, HostStore], object]:
    def act(folder: Path, store: HostStore) -> object:
        with open_disk(folder / base) as disk:
            return convert_image(disk, folder / out, format=form, kind=kind, store=store)

    return act


CASES = {
    "child vhdx": (vhdx, lambda base: committed(ChildCommit, base, "new.vhdx"), "new.vhdx"),
    "child vhd": (vhd, lambda base: committed(ChildCommit, base, "new.vhd"), "new.vhd"),
    "output vhdx": (vhdx, lambda base: committed(OutputCommit, base, "new.vhdx"), "new.vhdx"),
    "output fixed vhdx": (fixed_vhdx, lambda base: committed(OutputCommit, base, "new.vhdx"), "new.vhdx"),
    "output vhd": (vhd, lambda base: committed(OutputCommit, base, "new.vhd"), "new.vhd"),
    "output fixed vhd": (fixed_vhd, lambda base: committed(OutputCommit, base, "new.vhd"), "new.vhd"),
    "output raw": (raw, lambda base: committed(OutputCommit, base, "new.img"), "new.img"),
    "convert vhdx to vhd": (vhdx, lambda base: converted(base, "new.vhd", "vhd", "dynamic"), "new.vhd"),
    "convert vhd to fixed vhdx": (vhd, lambda base: converted(base, "new.vhdx", "vhdx", "fixed"), "new.vhdx"),
}


class Case:
    """A folder before, what is done in it, and what readers must see."""

    def __init__(self, name: str, tmp_path: Path, *, reflinks: bool = False) -> None:
        setup, action, self.out = CASES[name]
        self.folder = tmp_path / "disk"
        self.folder.mkdir()
        self.base = setup(self.folder)
        with open_disk(self.folder / self.base) as disk:
            self.old = whole(disk)
        with changed(self.folder / self.base, {} if name.startswith("convert") else CHANGES) as overlay:
            self.new = overlay.read_at(0, overlay.size)
        self.work = tmp_path / "states"
        act = action(self.base)
        self.recording = record(self.folder, lambda store: act(self.folder, store), reflinks=reflinks)

    def ours(self, folder: Path) -> View:
        with open_disk(folder / self.base) as disk:
            if whole(disk) != self.old:
                return View.WRONG
        if not (folder / self.out).exists():
            return View.OLD
        with open_disk(folder / self.out) as disk:
            return View.NEW if whole(disk) == self.new and not disk.info.problems else View.WRONG

    def by_7zip(self, folder: Path) -> View:
        if not (folder / self.out).exists():
            return View.OLD
        out = self.work.with_name("7z")
        shutil.rmtree(out, ignore_errors=True)
        run(require_tool("7zz"), "e", f"-o{out}", "-y", str(folder / self.out))
        [found] = out.iterdir()
        return View.NEW if found.read_bytes() == self.new else View.WRONG

    def by_qemu(self, folder: Path) -> View:
        path = folder / self.out
        if not path.exists():
            return View.OLD
        form = "vhdx" if path.suffix == ".vhdx" else "vpc"
        if form == "vhdx":
            run(require_tool("qemu-img"), "check", "-r", "all", str(path))
        out = self.work.with_name("qemu.raw")
        run(require_tool("qemu-img"), "convert", "-f", form, "-O", "raw", str(path), str(out))
        return View.NEW if out.read_bytes() == self.new else View.WRONG


@pytest.mark.parametrize("name", CASES)
def test_nothing_or_the_whole_new_disk(tmp_path, name):
    case = Case(name, tmp_path)
    tally = judge(
        case.recording, [Reader("vhdtool", case.ours)], seed=crash_seed(), count=dose(60), work=case.work
    )  # fmt: skip
    assert set(tally.seen("vhdtool")) == {View.OLD, View.NEW}


@pytest.mark.parametrize("name", ["output raw", "output fixed vhd"])
def test_the_same_with_clones(tmp_path, name):
    case = Case(name, tmp_path, reflinks=True)
    judge(case.recording, [Reader("vhdtool", case.ours)], seed=crash_seed(), count=dose(30), work=case.work)


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in CASES if "raw" not in name])
def test_other_readers_see_the_same(tmp_path, name):
    case = Case(name, tmp_path)
    readers = [Reader("vhdtool", case.ours), Reader("7-Zip", case.by_7zip, every=7)]
    if not name.startswith("child"):
        readers.append(Reader("QEMU", case.by_qemu, every=7, changes=True))
    judge(case.recording, readers, seed=crash_seed(), count=dose(40), work=case.work)


@pytest.mark.parametrize("name", ["child vhdx", "output vhd"])
def test_the_harness_sees_a_flush_that_is_missing(tmp_path, name):
    case = Case(name, tmp_path)

    def judge_one(recording):
        return judge(recording, [Reader("vhdtool", case.ours)], seed=3, count=60, work=case.work)

    # the first flush holds the contents before the name, the second the name before success is told
    assert set(flushes_that_matter(case.recording, judge_one)) == {0, 1}
