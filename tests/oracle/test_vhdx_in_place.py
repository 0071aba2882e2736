"""VHDX files that we changed in place or brought to rest, judged by programs that we did not write."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.crash.power_cut import Platter, State
from tests.crash.vhdx_scenarios import IMAGE, NEW_GUID, SCENARIOS, Scenario
from tests.data_files import data_file
from tests.disk.in_place_vhdx import commit, disk_of, findings, headers, written_over
from tests.tools import require_tool, run
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit
from vhdtool.disk.host_store import OS_STORE
from vhdtool.disk.overlay import Overlay
from vhdtool.disk.recover_vhdx import recover_vhdx
from vhdtool.progress import SILENT

pytestmark = pytest.mark.oracle

MIB = 1 << 20
GIB = 1 << 30
NAMED = {scenario.name: scenario for scenario in SCENARIOS}


def by_qemu(path: Path) -> bytes:
    """The disk, and that the image has no error."""
    checked = run(require_tool("qemu-img"), "check", "-f", "vhdx", str(path))
    assert b"No errors were found" in checked.stdout
    raw = path.with_suffix(".raw")
    run(require_tool("qemu-img"), "convert", "-f", "vhdx", "-O", "raw", str(path), str(raw))
    return raw.read_bytes()


def by_7zip(path: Path) -> bytes:
    return run(require_tool("7zz"), "e", "-so", "-tvhdx", str(path)).stdout


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.watched is None], ids=str)
def test_changed_images(tmp_path: Path, scenario: Scenario) -> None:
    scenario.build(tmp_path)
    path = tmp_path / IMAGE
    expected = written_over(disk_of(path), scenario.writes)
    commit(path, scenario.writes, OS_STORE, fold=scenario.fold)
    assert by_7zip(path) == expected
    if scenario.qemu:
        assert by_qemu(path) == expected


@pytest.mark.parametrize("name", ["dynamic", "fixed", "large-blocks"])
def test_candidates(tmp_path: Path, name: str) -> None:
    """What is shown before anything is written is a whole image."""
    scenario = NAMED[name]
    scenario.build(tmp_path)
    path, shown = tmp_path / IMAGE, tmp_path / "shown.vhdx"
    with open_disk(path) as disk, Overlay(disk) as overlay:
        for offset, data in scenario.writes.items():
            overlay.write_at(offset, data)
        steps = VhdxInPlaceCommit(overlay, Target("in-place"), data_write_guid=NEW_GUID)
        source = steps.prepare(SILENT).files[0][1]
        shown.write_bytes(source.read_at(0, source.size))
        steps.abandon()
        expected = overlay.read_at(0, overlay.size)
    assert by_qemu(shown) == by_7zip(shown) == expected
    assert headers(shown)[0].data_write_guid == NEW_GUID


@pytest.mark.parametrize("options", ["subformat=dynamic", "subformat=dynamic,block_size=8M", "subformat=fixed"])
def test_images_made_by_qemu(tmp_path: Path, options: str) -> None:
    raw, source = tmp_path / "a.raw", random.Random(options)
    with raw.open("wb") as file:
        file.truncate(41 * MIB)
        for _ in range(6):
            file.seek(source.randrange(40 * MIB))
            file.write(source.randbytes(source.randrange(1, MIB)))
    path = tmp_path / "a.vhdx"
    run(require_tool("qemu-img"), "convert", "-f", "raw", "-O", "vhdx", "-o", options, str(raw), str(path))
    expected = raw.read_bytes()
    for _ in range(3):
        writes = {source.randrange(40 * MIB): source.randbytes(source.randrange(1, 300_000)) for _ in range(5)}
        commit(path, writes, OS_STORE)
        expected = written_over(expected, writes)
        assert by_qemu(path) == expected


@pytest.mark.data
@pytest.mark.parametrize("name", ["dynamic", "fixed"])
def test_images_made_by_windows(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.vhdx"
    shutil.copyfile(data_file(f"vhd/fox-it__dissect.hypervisor/{name}.vhdx.gz"), path)
    size = path.stat().st_size
    writes = {1000: b"start" * 100, 5 * MIB - 10: b"across" * 100, 10 * MIB - 4: b"end."}
    expected = written_over(disk_of(path), writes)
    written = commit(path, writes, OS_STORE)
    assert written.file_size <= size + written.blocks * 32 * MIB
    assert by_qemu(path) == by_7zip(path) == expected
    assert findings(path) == []


@pytest.mark.data
def test_a_log_left_by_windows(tmp_path: Path) -> None:
    sample = data_file("vhd/LTRData__DiscUtils/vhdx-log-replay.vhdx.gz")
    ours, theirs = tmp_path / "ours.vhdx", tmp_path / "theirs.vhdx"
    shutil.copyfile(sample, ours)
    shutil.copyfile(sample, theirs)
    run(require_tool("qemu-img"), "check", "-r", "all", str(theirs))
    done = recover_vhdx(str(ours), OS_STORE, SILENT)
    assert done is not None
    assert done.action == "replayed"
    assert recover_vhdx(str(ours), OS_STORE, SILENT) is None
    run(require_tool("qemu-img"), "check", "-f", "vhdx", str(ours))
    run(require_tool("qemu-img"), "compare", "-f", "vhdx", "-F", "vhdx", str(ours), str(theirs))
    assert [code for code in findings(ours) if code not in {"vhdx-tail-waste", "vhdx-soft-anchor"}] == []


@pytest.mark.data
def test_in_place_over_a_log_left_by_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    shutil.copyfile(data_file("vhd/LTRData__DiscUtils/vhdx-log-replay.vhdx.gz"), path)
    with open_disk(path) as disk:
        before = disk.read_at(0, MIB)
    writes = {100 * 512: b"changed"}
    written = commit(path, writes, OS_STORE)
    assert "log was replayed" in written.notes[0]
    raw = tmp_path / "a.raw"
    run(require_tool("qemu-img"), "check", "-f", "vhdx", str(path))
    run(require_tool("qemu-img"), "convert", "-f", "vhdx", "-O", "raw", str(path), str(raw))
    with raw.open("rb") as file:
        assert file.read(MIB) == written_over(before, writes)
    assert raw.stat().st_size == GIB


@pytest.mark.parametrize("flush", [5, 7, 9, 10, 12])
def test_qemu_repairs_and_recover_gives_the_space_back(tmp_path: Path, flush: int) -> None:
    """QEMU replays what an interrupted commit left and knows nothing of the lent space."""
    scenario = NAMED["dynamic"]
    folder, expected = scenario.prepare(tmp_path)
    recording = scenario.record(folder)
    size = (folder / IMAGE).stat().st_size
    stop = recording.flushes[flush] + 1
    platter = Platter(recording, tmp_path / "stable")
    platter.advance(stop)
    platter.make(State(stop, "none", {}), tmp_path / "state")
    path = tmp_path / "state" / IMAGE
    run(require_tool("qemu-img"), "check", "-f", "vhdx", "-r", "all", str(path))
    assert by_qemu(path) == expected.new
    done = recover_vhdx(str(path), OS_STORE, SILENT)
    assert done is not None
    assert done.action == "finished"
    assert by_qemu(path) == expected.new
    assert path.stat().st_size == size
