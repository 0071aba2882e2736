"""A dynamic or differencing VHD changed in place: whenever the power goes, all readers see one disk, old or new."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.crash.power_cut import (
    Expected,
    Platter,
    Reader,
    Recording,
    State,
    View,
    crash_seed,
    dose,
    flushes_that_matter,
    judge,
    record,
)
from tests.crash.recording import RecordingStore
from tests.crash.vhd_readers import by_7zip, by_dissect, by_pyvhdi, by_qemu, view_by
from tests.disk.commits import changed, whole
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_vhd import VhdInPlaceCommit
from vhdtool.disk.create_vhd import Block, Parent, write_vhd
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.recover_vhd import recover_vhd
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.errors import ChangedError, OutputError
from vhdtool.progress import SILENT

KIB = 1 << 10
BLOCK = 64 * KIB
SIZE = 11 * BLOCK + 5 * 512  # the last block is a short one
NAME = "disk.vhd"
BASE = "base.vhd"
ALLOCATED = (4, 0, 11, 7, 2)
TOUCH_ALL = {
    100: b"in a block" * 40,
    BLOCK - 700: b"over into a hole" * 120,
    7 * BLOCK + 512: b"x" * BLOCK,
    11 * BLOCK: b"end" * 500,
}
TOUCH_OLD = {
    512: b"only blocks that are there" * 50,
    4 * BLOCK + 9000: b"another" * 700,
    11 * BLOCK + 600: b"last" * 100,
}
TOUCH_HOLES = {BLOCK: b"hole" * 1000, 5 * BLOCK - 1: b"one more"[:1], 9 * BLOCK: b"and more" * 300, 10 * BLOCK: b"z"}


@dataclass(frozen=True)
class Case:
    changes: dict[int, bytes]
    differencing: bool = False
    fold: bool = True
    allocated: Sequence[int] = ALLOCATED


CASES = {
    "dynamic, old and new blocks": Case(TOUCH_ALL),
    "dynamic, old blocks": Case(TOUCH_OLD),
    "dynamic, new blocks": Case(TOUCH_HOLES, allocated=(4, 0, 11)),
    "dynamic, empty": Case(TOUCH_ALL, allocated=()),
    "dynamic, not folded": Case(TOUCH_ALL, fold=False),
    "differencing, old and new blocks": Case(TOUCH_ALL, differencing=True),
    "differencing, old blocks": Case(TOUCH_OLD, differencing=True),
    "differencing, new blocks": Case(TOUCH_HOLES, differencing=True, allocated=(4, 0, 11)),
}
COUNT = 110


def make(folder: Path, case: Case) -> None:
    folder.mkdir()
    source = random.Random(7)
    blocks = {}
    for number in case.allocated:
        # whole bytes of bits: within a byte libvhdi is wrong, before the change as after it
        bits = bytes(source.choice((0, 0xFF)) for _ in range(BLOCK // 512 // 8)) if case.differencing else None
        blocks[number] = Block(source.randbytes(BLOCK if number < 11 else 5 * 512), bits)
    parent = None
    if case.differencing:
        content = {number: Block(source.randbytes(BLOCK if number < 11 else 5 * 512)) for number in (0, 1, 2, 4, 11)}
        write_vhd(
            folder / BASE, virtual_size=SIZE, unique_id=UUID(int=8), timestamp=EPOCH, block_size=BLOCK, blocks=content
        )
        parent = Parent(UUID(int=8), name=BASE, relative=f".\\{BASE}")
    write_vhd(
        folder / NAME,
        virtual_size=SIZE,
        unique_id=UUID(int=9),
        timestamp=EPOCH,
        kind="differencing" if case.differencing else "dynamic",
        block_size=BLOCK,
        blocks=blocks,
        order=case.allocated,
        parent=parent,
    )


def commit(folder: Path, case: Case, store: HostStore) -> None:
    with changed(folder / NAME, case.changes) as overlay:
        steps = VhdInPlaceCommit(overlay, Target("in-place", fold=case.fold), store)
        steps.prepare(SILENT)
        steps.finish(SILENT)


def trouble_of(folder: Path, case: Case, store: HostStore) -> OutputError | ChangedError | None:
    try:
        commit(folder, case, store)
    except (OutputError, ChangedError) as error:
        return error
    return None


def content(path: Path) -> bytes:
    with open_disk(path) as disk:
        return whole(disk)


class Scene:
    """A case that was carried out and recorded."""

    def __init__(self, case: Case, tmp_path: Path) -> None:
        self.case = case
        self.tmp_path = tmp_path
        self.folder = tmp_path / "images"
        make(self.folder, case)
        old = content(self.folder / NAME)
        with changed(self.folder / NAME, case.changes) as overlay:
            new = overlay.read_at(0, overlay.size)
        self.expected = Expected(old, new)
        self.size_before = (self.folder / NAME).stat().st_size
        self.recording: Recording = record(self.folder, lambda store: commit(self.folder, case, store))
        self.size_after = (self.folder / NAME).stat().st_size

    def ours(self, folder: Path) -> View:
        return self.expected.view(content(folder / NAME))

    def recovered(self, folder: Path) -> View:
        """As recover leaves it: no more than what is left of the commit is changed, and nothing is left to do."""
        before = self.ours(folder)
        path = folder / NAME
        recover_vhd(str(path))
        after = self.ours(folder)
        with open_disk(path) as disk:
            problems = disk.info.problems
        size = self.size_before if after is View.OLD else self.size_after
        at_rest = recover_vhd(str(path)) is None and path.stat().st_size == size
        return after if before is after and not problems and at_rest else View.WRONG

    def foreign(self, every: int) -> list[Reader]:
        parent = BASE if self.case.differencing else None
        looks = {"7zz": by_7zip(self.tmp_path), "pyvhdi": by_pyvhdi(parent)}
        if not self.case.differencing:
            looks |= {"qemu": by_qemu(self.tmp_path), "dissect": by_dissect}
        return [
            Reader(name, view_by(look, NAME, self.expected), every=1 if name in {"pyvhdi", "dissect"} else every)
            for name, look in looks.items()
        ]

    def readers(self) -> list[Reader]:
        return [Reader("ours", self.ours), Reader("recover", self.recovered, changes=True)]


@pytest.mark.parametrize("name", CASES)
def test_old_or_new_to_us_and_after_recover(tmp_path, name):
    scene = Scene(CASES[name], tmp_path)
    seen = judge(scene.recording, scene.readers(), seed=crash_seed(), count=dose(COUNT), work=tmp_path / "states").seen(
        "ours"
    )
    assert seen[View.OLD] >= 10
    assert seen[View.NEW] >= 10


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_old_or_new_to_foreign_readers(tmp_path, name):
    scene = Scene(CASES[name], tmp_path)
    every = 4 if dose(1) <= 1 else 1  # a process for each state and reader: all of them only in the long run
    judge(scene.recording, scene.foreign(every), seed=crash_seed(), count=dose(COUNT), work=tmp_path / "states")


def test_each_flush_that_holds_something_up_is_missed(tmp_path):
    scene = Scene(CASES["dynamic, old and new blocks"], tmp_path)
    readers = [Reader("ours", scene.ours), Reader("pyvhdi", view_by(by_pyvhdi(), NAME, scene.expected))]

    def judged(recording: Recording) -> None:
        judge(recording, readers, seed=5, count=250, work=tmp_path / "states")

    judged(scene.recording)
    found = flushes_that_matter(scene.recording, judged)
    # the blocks before the commit, the commit before the fold-back, the fold-back before the second flip, that before
    # the old table's room is used again, the last footer before the file is cut off, and the first one's before the
    # old one is written over; only the record's flush guards nothing but the clearing up
    assert set(found) >= {0, 2, 3, 4, 5, 6}


def test_power_goes_again_while_recovering(tmp_path):
    scene = Scene(CASES["dynamic, old and new blocks"], tmp_path)
    source = random.Random(crash_seed())
    platter = Platter(scene.recording, tmp_path / "stable")
    views = set()
    for stop in range(1, len(scene.recording.operations) + 1):
        platter.advance(stop)
        folder = tmp_path / f"stopped-{stop}"
        platter.make(State(stop, "none", {}), folder)
        view = scene.ours(folder)
        again = record(folder, lambda store, folder=folder: recover_vhd(str(folder / NAME), store))
        if not again.operations:
            continue
        only = frozenset({view})
        readers = [Reader("ours", scene.ours), Reader("recover", scene.recovered, changes=True)]
        judge(
            again, readers, seed=source.getrandbits(32), count=dose(15), work=tmp_path / "again", starts=only, ends=only
        )
        views.add(view)
    assert views == {View.OLD, View.NEW}


@pytest.mark.parametrize("name", ["dynamic, old and new blocks", "differencing, old blocks"])
def test_a_call_that_fails_leaves_the_old_disk_or_says_that_it_is_changed(tmp_path, name):
    """One call fails, or all from one on (the host's disk is full): the error says which disk to expect."""
    case = CASES[name]
    ends = set()
    for lasting in (1, None):
        calls = 0
        while True:
            folder = tmp_path / f"{calls}-{lasting}"
            make(folder, case)
            with changed(folder / NAME, case.changes) as overlay:
                new = overlay.read_at(0, overlay.size)
            old, before = content(folder / NAME), (folder / NAME).read_bytes()
            trouble = trouble_of(folder, case, RecordingStore(folder, fail_from=calls, fail_for=lasting))
            if trouble is None:
                break
            if isinstance(trouble, OutputError):
                assert content(folder / NAME) == old
                assert lasting is None or (folder / NAME).read_bytes() == before
            else:
                assert trouble.code == "commit-unfinished"
                assert f"vhdtool recover {folder / NAME}" in str(trouble.hint)
                assert content(folder / NAME) in {old, new}
                ends.add(content(folder / NAME) == new)
            recover_vhd(str(folder / NAME))
            assert recover_vhd(str(folder / NAME)) is None
            assert content(folder / NAME) in {old, new}
            calls += 1
        assert calls > 8
    assert True in ends
