from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.commits import changed, commit, content_of, folder_state
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhdx_files import LOG_GUID, MIB, make, memory_peak, overwrite
from tests.fuzz import vhd_images, vhdx_images
from vhdtool.disk import child_image
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_child import ChildCommit
from vhdtool.disk.create_vhd import write_vhd
from vhdtool.disk.create_vhdx import Block, PendingEntry, PendingLog
from vhdtool.disk.host_store import OS_STORE
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.errors import OutputError, RefusedError, UsageError, VhdtoolError
from vhdtool.progress import SILENT

CHANGES = {700 * 512 + 100: b"hello" * 1000, 2 * MIB - 3: b"across", 3 * MIB + 512: b"last" * 128}
VHD_EPOCH = 946_684_800  # 2000-01-01 00:00 UTC in seconds of Unix


def text_of(path: Path) -> list[str]:
    """The UTF-16 texts of a VHDX's parent locator, in the order of MS-VHDX 2.6.2.6 tables; read without our parser."""
    data = path.read_bytes()
    at = data.index(UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le)
    (count,) = struct.unpack_from("<H", data, at + 18)
    texts = []
    for number in range(count):
        key, value, key_size, value_size = struct.unpack_from("<IIHH", data, at + 20 + 12 * number)
        texts += [data[at + key : at + key + key_size].decode("utf-16-le")]
        texts += [data[at + value : at + value + value_size].decode("utf-16-le")]
    return texts


def bat_of(path: Path) -> list[int]:
    """The entries of the BAT that are not zero, by index, read without our parser."""
    data = path.read_bytes()
    table = 192 << 10
    (count,) = struct.unpack_from("<I", data, table + 8)
    for number in range(count):
        guid, offset, length = struct.unpack_from("<16sQI", data, table + 16 + 32 * number)
        if guid == UUID("2dc27766-f623-4200-9d64-115e9bfd4a08").bytes_le:
            return list(struct.unpack_from(f"<{length // 8}Q", data, offset))
    raise AssertionError("no BAT")


@pytest.mark.parametrize(
    ("chain", "suffix", "model"),
    [(vhdx_chain, "vhdx", vhdx_images.read_model), (vhd_chain, "vhd", vhd_images.read_model)],
)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_child_holds_the_changed_disk(tmp_path, chain, suffix, model, depth):
    top = chain(tmp_path, depth)[-1]
    before = folder_state(tmp_path)
    child = tmp_path / f"child.{suffix}"
    written, _ = commit(ChildCommit, tmp_path / f"layer{depth}.{suffix}", CHANGES, child)
    expected = bytearray(model(top, 0, top.virtual_size))
    for offset, data in CHANGES.items():
        expected[offset : offset + len(data)] = data
    assert content_of(child) == expected
    after = folder_state(tmp_path)
    assert after.pop(child.name)
    assert after == before
    assert written.path == str(child)
    assert written.file_size == child.stat().st_size
    assert written.file_size_before is None
    assert str(child) in written.undo
    with open_disk(child) as disk:
        assert disk.info.type == "differencing"
        assert disk.info.parents[0] == str(tmp_path / f"layer{depth}.{suffix}")


def test_a_chain_of_children_of_ours(tmp_path):
    make(tmp_path / "base.vhdx", virtual_size=9 * MIB, blocks={3: Block(data=b"3" * MIB)})
    previous, rng = tmp_path / "base.vhdx", random.Random(5)
    for number in range(4):
        changes = {rng.randrange(9 * MIB - 5000): rng.randbytes(rng.randrange(1, 5000)) for _ in range(5)}
        child = tmp_path / f"child{number}.vhdx"
        _, expected = commit(ChildCommit, previous, changes, child)
        assert content_of(child) == expected
        previous = child
    with open_disk(previous) as disk:
        assert len(disk.layers) == 5


def test_a_vhdx_child_has_whole_blocks_and_no_bitmap(tmp_path):
    vhdx_chain(tmp_path)
    child = tmp_path / "child.vhdx"
    written, _ = commit(ChildCommit, tmp_path / "layer3.vhdx", CHANGES, child)
    used = {index: entry for index, entry in enumerate(bat_of(child)) if entry}
    assert {entry & 7 for entry in used.values()} == {6}
    assert written.blocks == len(used)
    assert max(used) < 4  # no entry of a sector bitmap, the first of which has index 4096 or 2048
    assert child.stat().st_size % MIB == 0
    assert len({entry >> 20 for entry in used.values()}) == len(used)


def test_the_linkage_of_a_vhdx_child(tmp_path):
    (tmp_path / "sub").mkdir()
    vhdx_chain(tmp_path, 1)
    with open_disk(tmp_path / "layer1.vhdx") as disk:
        identity = disk.layers[0].info.identity
        disk_id = disk.layers[0].virtual_disk_id
    here, below = tmp_path / "child.vhdx", tmp_path / "sub" / "child.vhdx"
    commit(ChildCommit, tmp_path / "layer1.vhdx", CHANGES, here)
    commit(ChildCommit, tmp_path / "layer1.vhdx", CHANGES, below, parent_windows_path="D:/vm/layer1.vhdx")
    linkage = ["parent_linkage", f"{{{identity}}}"]
    assert identity == identity.lower()
    if os.name == "posix":  # never a path of this system
        assert text_of(here) == [*linkage, "relative_path", ".\\layer1.vhdx"]
    windows = ["absolute_win32_path", "\\\\?\\D:\\vm\\layer1.vhdx"]
    assert text_of(below) == [*linkage, "relative_path", "..\\layer1.vhdx", *windows]
    with open_disk(below) as disk:
        assert disk.layers[0].virtual_disk_id == disk_id
        assert disk.layers[0].info.identity != identity


def test_children_have_identities_of_their_own(tmp_path):
    vhdx_chain(tmp_path, 1)
    vhd_chain(tmp_path, 1)
    seen = set()
    for suffix in ("vhdx", "vhd"):
        for number in range(2):
            child = tmp_path / f"{number}.{suffix}"
            commit(ChildCommit, tmp_path / f"layer1.{suffix}", CHANGES, child)
            with open_disk(child) as disk:
                seen |= {layer.info.identity for layer in disk.layers}
                if suffix == "vhdx":
                    seen.add(str(disk.layers[0].file_write_guid))
    assert len(seen) == 3 + 2 + 3


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_the_linkage_of_a_vhd_child(tmp_path, kind):
    base, child = tmp_path / "bäse.vhd", tmp_path / "child.vhd"
    identity = UUID(int=77)
    stamp = VHD_EPOCH + 700_000_000
    write_vhd(base, virtual_size=5 * MIB + 512, unique_id=identity, kind=kind, blocks={}, timestamp=vhd_time(5))
    os.utime(base, (stamp, stamp + 0.7))
    written, expected = commit(ChildCommit, base, CHANGES, child, parent_windows_path="\\\\host\\vm\\bäse.vhd")
    assert content_of(child) == expected
    data = child.read_bytes()
    assert data[:8] == data[-512:-504] == b"conectix"
    assert struct.unpack_from(">Q", data, 48) == (5 * MIB + 512,)
    assert struct.unpack_from(">I", data, 60) == (4,)  # differencing
    header = data[512:1536]
    assert header[40:56] == identity.bytes
    assert struct.unpack_from(">I", header, 56) == (700_000_000,)
    assert header[64:576].decode("utf-16-be").rstrip("\0") == "bäse.vhd"
    locators = [struct.unpack_from(">4sIIIQ", header, 576 + 24 * number) for number in range(8)]
    found = {code: data[at : at + size].decode("utf-16-le") for code, _, size, _, at in locators if code.strip(b"\0")}
    assert found == {b"W2ru": ".\\bäse.vhd", b"W2ku": "\\\\host\\vm\\bäse.vhd"}
    assert any("time" in note and "bäse.vhd" in note for note in written.notes)


def test_a_vhd_child_on_this_system_names_no_absolute_path(tmp_path):
    vhd_chain(tmp_path, 1)
    commit(ChildCommit, tmp_path / "layer1.vhd", CHANGES, tmp_path / "child.vhd")
    if os.name == "posix":
        assert b"W2ku" not in (tmp_path / "child.vhd").read_bytes()


def vhd_time(seconds):
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(VHD_EPOCH + seconds, UTC)


def test_the_blocks_of_a_vhd_child_are_whole(tmp_path):
    vhd_chain(tmp_path)
    child = tmp_path / "child.vhd"
    commit(ChildCommit, tmp_path / "layer3.vhd", {5 * MIB: b"x"}, child)
    data = child.read_bytes()
    (place,) = struct.unpack_from(">I", data, 1536 + 4 * 2)
    assert data[place * 512 : place * 512 + 512] == b"\xff" * 512


def test_a_note_is_only_for_vhd(tmp_path):
    vhdx_chain(tmp_path, 1)
    written, _ = commit(ChildCommit, tmp_path / "layer1.vhdx", CHANGES, tmp_path / "child.vhdx")
    assert written.notes == ()


@pytest.mark.parametrize(("scattered", "block_size"), [(True, MIB), (False, 2 * MIB)])
def test_the_block_size_that_makes_the_smaller_file(tmp_path, scattered, block_size):
    make(tmp_path / "base.vhdx", virtual_size=64 * MIB, block_size=32 * MIB)
    child = tmp_path / "child.vhdx"
    changes = {number * MIB: b"x" for number in (range(0, 20, 4) if scattered else range(4, 10))}
    commit(ChildCommit, tmp_path / "base.vhdx", changes, child)
    with open_disk(child) as disk:
        assert disk.info.block_size == block_size
    assert child.stat().st_size == 4 * MIB + (5 if scattered else 6) * MIB


def test_large_disks_take_the_smaller_table(tmp_path):
    """1 TiB: a table of 8 MiB for blocks of 1 MiB, of 4 MiB for 2 MiB, and one block."""
    make(tmp_path / "base.vhdx", virtual_size=1 << 40, block_size=32 * MIB)
    child = tmp_path / "child.vhdx"
    commit_without_reading(tmp_path / "base.vhdx", {5 << 30: b"x"}, child)
    assert child.stat().st_size == 3 * MIB + 5 * MIB + 2 * MIB  # a page more than 4 MiB: entries of bitmaps


def commit_without_reading(path, changes, child):
    with changed(path, changes) as overlay:
        steps = ChildCommit(overlay, Target("child", str(child)))
        steps.prepare(SILENT)
        return steps.finish(SILENT)


def test_a_small_change_of_a_large_disk_is_a_small_file(tmp_path):
    make(tmp_path / "base.vhdx", virtual_size=40 << 30, block_size=32 * MIB, blocks={9: Block(data=b"s" * MIB)})
    child = tmp_path / "child.vhdx"
    written = commit_without_reading(
        tmp_path / "base.vhdx", {(9 << 25) + 4096: b"x" * 600, (9 << 25) + MIB: b"y", 30 << 30: b"z"}, child
    )
    assert child.stat().st_size <= 8 * MIB
    assert written.bytes_written < 2 * MIB


@pytest.mark.parametrize("sector", [512, 4096])
def test_the_end_of_the_disk(tmp_path, sector):
    size = 3 * MIB + 5 * sector
    make(tmp_path / "base.vhdx", virtual_size=size, logical_sector_size=sector, blocks={3: Block(data=b"e" * 999)})
    child = tmp_path / "child.vhdx"
    _, expected = commit(ChildCommit, tmp_path / "base.vhdx", {size - 1: b"!"}, child)
    assert content_of(child) == expected
    assert len(expected) == size
    with open_disk(child) as disk:
        assert disk.logical_sector_size == sector


def test_large_sectors_get_clear_bitmaps_in_every_chunk(tmp_path):
    size = 70 << 30  # three chunks of 32 GiB
    make(tmp_path / "base.vhdx", virtual_size=size, logical_sector_size=4096, block_size=32 * MIB)
    child = tmp_path / "child.vhdx"
    commit_without_reading(tmp_path / "base.vhdx", {33 << 30: b"x"}, child)
    with open_disk(child) as disk:
        entries = [entry for entry in disk.layers[0].bat_entries() if entry.kind == "bitmap"]
        assert [entry.state for entry in entries] == [fmt.BlockState.FULLY_PRESENT] * 3
        with child.open("rb") as file:
            for entry in entries:
                file.seek(entry.file_offset)
                assert file.read(MIB) == bytes(MIB)
        assert disk.read_at(33 << 30, 2) == b"x\0"


def test_zeros_over_data_hide_the_parent(tmp_path):
    make(tmp_path / "base.vhdx", blocks={1: Block(data=b"d" * MIB)})
    child = tmp_path / "child.vhdx"
    _, expected = commit(ChildCommit, tmp_path / "base.vhdx", {MIB: bytes(MIB)}, child)
    assert expected == bytes(4 * MIB)
    assert content_of(child) == expected


def test_zeros_are_not_written(tmp_path):
    make(tmp_path / "base.vhdx", virtual_size=64 * MIB)
    child = tmp_path / "child.vhdx"
    changes = {number * 2 * MIB: b"x" for number in range(20)}
    written, expected = commit(ChildCommit, tmp_path / "base.vhdx", changes, child)
    assert written.bytes_written < 20 * (64 << 10) + MIB
    assert content_of(child) == expected


def test_memory_does_not_grow_with_the_change(tmp_path):
    make(tmp_path / "base.vhdx", virtual_size=512 * MIB)
    piece = random.Random(8).randbytes(MIB)
    with open_disk(tmp_path / "base.vhdx") as disk, child_image_overlay(disk, piece) as overlay, memory_peak() as peak:
        steps = ChildCommit(overlay, Target("child", str(tmp_path / "child.vhdx")))
        steps.prepare(SILENT)
        steps.finish(SILENT)
    assert peak() < 8 * MIB


def child_image_overlay(disk, piece):
    from vhdtool.disk.overlay import Overlay  # noqa: PLC0415

    overlay = Overlay(disk)
    for number in range(48):
        overlay.write_at(number * 10 * MIB, piece)
    return overlay


class Refusal:
    """A commit that must be refused, and nothing made or changed by it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, path: Path, out: Path, changes=None, **target) -> VhdtoolError:
        before = folder_state(self.folder)
        with changed(path, CHANGES if changes is None else changes) as overlay:
            steps = ChildCommit(overlay, Target("child", str(out), **target))
            with pytest.raises(VhdtoolError) as caught:
                steps.prepare(SILENT)
            steps.abandon()
        assert folder_state(self.folder) == before
        return caught.value


@pytest.fixture
def refused(tmp_path):
    return Refusal(tmp_path)


def test_raw_has_no_children(tmp_path, refused):
    (tmp_path / "disk.img").write_bytes(b"r" * (4 * MIB))
    error = refused(tmp_path / "disk.img", tmp_path / "child.vhdx")
    assert isinstance(error, UsageError)
    assert error.code == "raw-has-no-children"
    assert "--output" in error.hint


def test_nothing_to_do(tmp_path, refused):
    make(tmp_path / "base.vhdx", blocks={0: Block(data=b"same" * 512)})
    for changes in ({}, {0: b"same"}):
        error = refused(tmp_path / "base.vhdx", tmp_path / "child.vhdx", changes)
        assert isinstance(error, RefusedError)
        assert error.code == "no-changes"


def test_a_pending_log_anywhere_in_the_chain(tmp_path, refused):
    log = PendingLog(LOG_GUID, [PendingEntry([DataWrite(3 * MIB, bytes(4096))])])
    make(tmp_path / "pending.vhdx", log=log)
    error = refused(tmp_path / "pending.vhdx", tmp_path / "child.vhdx")
    assert isinstance(error, RefusedError)
    assert (error.code, error.path) == ("log-pending", str(tmp_path / "pending.vhdx"))
    assert "vhdtool recover" in error.hint
    parent = {"parent_linkage": "{22222222-2222-4222-8222-222222222222}", "relative_path": ".\\pending.vhdx"}
    make(tmp_path / "middle.vhdx", kind="differencing", parent=parent)
    error = refused(tmp_path / "middle.vhdx", tmp_path / "child.vhdx")
    assert (error.code, error.path) == ("log-pending", str(tmp_path / "pending.vhdx"))


def test_names_that_promise_another_format(tmp_path, refused):
    vhdx_chain(tmp_path, 1)
    vhd_chain(tmp_path, 1)
    for parent, name in (("vhdx", "c.vhd"), ("vhdx", "c.img"), ("vhdx", "child"), ("vhd", "c.vhdx"), ("vhd", "c.raw")):
        error = refused(tmp_path / f"layer1.{parent}", tmp_path / name)
        assert isinstance(error, UsageError)
        assert error.code == "output-format"
    for parent, name in (("vhdx", "c.AVHDX"), ("vhd", "c.avhd")):
        commit(ChildCommit, tmp_path / f"layer1.{parent}", CHANGES, tmp_path / name)


def test_files_that_are_there(tmp_path, refused):
    vhdx_chain(tmp_path)
    (tmp_path / "other.vhdx").write_bytes(b"mine")
    os.link(tmp_path / "layer1.vhdx", tmp_path / "same.vhdx")
    assert refused(tmp_path / "layer3.vhdx", tmp_path / "other.vhdx").code == "output-exists"
    for name in ("layer3.vhdx", "layer1.vhdx", "same.vhdx"):
        assert refused(tmp_path / "layer3.vhdx", tmp_path / name).code == "output-is-input"
    error = refused(tmp_path / "layer3.vhdx", tmp_path / "no" / "child.vhdx")
    assert isinstance(error, OutputError | RefusedError)


@pytest.mark.skipif(os.name != "posix", reason="Windows knows no such names")
@pytest.mark.parametrize("name", ["a\\b.vhdx", "c:d.vhdx", "con.vhdx", os.fsdecode(b"\xff.vhdx")])
def test_parents_that_a_windows_path_can_not_name(tmp_path, refused, name):
    make(tmp_path / name, blocks={0: Block(data=b"x")})
    error = refused(tmp_path / name, tmp_path / "child.vhdx")
    assert isinstance(error, RefusedError)
    assert error.code == "parent-not-nameable"


@pytest.mark.parametrize("text", ["/mnt/base.vhdx", "base.vhdx", "D:base.vhdx", "\\base.vhdx", "D:\\", "D:\\a\0b", ""])
def test_windows_paths_that_are_none(tmp_path, refused, text):
    make(tmp_path / "base.vhdx")
    error = refused(tmp_path / "base.vhdx", tmp_path / "child.vhdx", parent_windows_path=text)
    assert isinstance(error, UsageError)
    assert error.code == "not-a-windows-path"


def test_a_parent_without_identity(tmp_path, refused):
    write_vhd(tmp_path / "base.vhd", virtual_size=4 * MIB, unique_id=UUID(int=0), timestamp=vhd_time(0), blocks={})
    error = refused(tmp_path / "base.vhd", tmp_path / "child.vhd")
    assert isinstance(error, RefusedError)
    assert error.code == "parent-without-identity"


def test_a_chain_that_can_not_grow(tmp_path, refused, monkeypatch):
    vhdx_chain(tmp_path)
    monkeypatch.setattr(child_image, "DEPTH_LIMIT", 3)
    error = refused(tmp_path / "layer3.vhdx", tmp_path / "child.vhdx")
    assert (type(error), error.code) == (RefusedError, "chain-too-deep")
    commit(ChildCommit, tmp_path / "layer2.vhdx", CHANGES, tmp_path / "child.vhdx")


def test_a_damaged_block_in_the_way(tmp_path, refused):
    layout = make(tmp_path / "base.vhdx", blocks={0: Block(data=b"a" * MIB), 1: Block(data=b"b" * MIB)})
    overwrite(tmp_path / "base.vhdx", layout.bat_offset + 8, (5).to_bytes(8, "little"))
    error = refused(tmp_path / "base.vhdx", tmp_path / "child.vhdx", {MIB + 4096: b"x" * 4096})
    assert error.code == "vhdx-block-state"


def test_a_full_disk_leaves_nothing(tmp_path, refused, monkeypatch):
    make(tmp_path / "base.vhdx")

    def full(*_):
        raise OutputError("cannot-write", "can't write the file: No space left on device")

    monkeypatch.setattr("vhdtool.disk.host_store.OsFile.write_at", full)
    assert refused(tmp_path / "base.vhdx", tmp_path / "child.vhdx").code == "cannot-write"


def test_a_name_that_is_taken_meanwhile(tmp_path):
    vhdx_chain(tmp_path, 1)
    child = tmp_path / "child.vhdx"
    with changed(tmp_path / "layer1.vhdx", CHANGES) as overlay:
        steps = ChildCommit(overlay, Target("child", str(child)))
        steps.prepare(SILENT)
        child.write_bytes(b"mine")
        with pytest.raises(RefusedError) as caught:
            steps.finish(SILENT)
        assert caught.value.code == "output-exists"
        steps.abandon()
        steps.abandon()
    assert child.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child.vhdx", "layer1.vhdx"]


def test_abandoned_commits_leave_nothing(tmp_path):
    vhdx_chain(tmp_path, 1)
    before = folder_state(tmp_path)
    with changed(tmp_path / "layer1.vhdx", CHANGES) as overlay:
        steps = ChildCommit(overlay, Target("child", str(tmp_path / "child.vhdx")))
        steps.abandon()
        steps.prepare(SILENT)
        assert folder_state(tmp_path) != before
        steps.abandon()
        assert folder_state(tmp_path) == before


def test_a_finished_commit_is_not_abandoned(tmp_path):
    vhdx_chain(tmp_path, 1)
    with changed(tmp_path / "layer1.vhdx", CHANGES) as overlay:
        steps = ChildCommit(overlay, Target("child", str(tmp_path / "child.vhdx")))
        with pytest.raises(ValueError, match="prepare"):
            steps.finish(SILENT)
        steps.prepare(SILENT)
        steps.finish(SILENT)
        steps.abandon()
        assert content_of(tmp_path / "child.vhdx") == overlay.read_at(0, overlay.size)


def test_the_candidate_is_the_child_and_its_parents(tmp_path):
    vhdx_chain(tmp_path)
    child = tmp_path / "child.vhdx"
    with changed(tmp_path / "layer3.vhdx", CHANGES) as overlay:
        steps = ChildCommit(overlay, Target("child", str(child)))
        candidate = steps.prepare(SILENT)
        assert candidate.format == "vhdx"
        assert [Path(path).name for path, _ in candidate.files] == [
            "child.vhdx", "layer3.vhdx", "layer2.vhdx", "layer1.vhdx",
        ]  # fmt: skip
        sources = [source.read_at(0, source.size) for _, source in candidate.files]
        steps.finish(SILENT)
    assert sources == [Path(path).read_bytes() for path, _ in candidate.files]


def test_flushed_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    vhdx_chain(tmp_path, 1)
    calls = []
    for owner, name in ((type(OS_STORE), "give_name"), (type(OS_STORE), "flush_folder")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), name, calls))
    from vhdtool.disk.host_store import OsFile  # noqa: PLC0415

    for name in ("write_at", "truncate", "flush"):
        monkeypatch.setattr(OsFile, name, noted(getattr(OsFile, name), name, calls))
    commit(ChildCommit, tmp_path / "layer1.vhdx", CHANGES, tmp_path / "child.vhdx")
    assert calls[-3:] == ["flush", "give_name", "flush_folder"]


def noted(function, name, calls):
    def call(*arguments):
        calls.append(name)
        return function(*arguments)

    return call


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_folders_behind_links(tmp_path):
    """The way leads from folder to folder as they really are, so that every reader can follow it."""
    (tmp_path / "store" / "deep").mkdir(parents=True)
    (tmp_path / "machines").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store" / "deep")
    make(tmp_path / "machines" / "base.vhdx")
    child = tmp_path / "link" / "child.vhdx"
    commit(ChildCommit, tmp_path / "machines" / "base.vhdx", CHANGES, child)
    assert text_of(child)[3] == "..\\..\\machines\\base.vhdx"
    for path in (child, tmp_path / "store" / "deep" / "child.vhdx"):
        with open_disk(path) as disk:
            assert disk.read_at(2 * MIB - 3, 6) == b"across"


def test_a_path_without_a_folder(tmp_path, monkeypatch):
    make(tmp_path / "base.vhdx")
    monkeypatch.chdir(tmp_path)
    commit(ChildCommit, Path("base.vhdx"), CHANGES, Path("child.vhdx"))
    assert text_of(tmp_path / "child.vhdx")[3] == ".\\base.vhdx"


def test_progress_is_told_to_the_end(tmp_path):
    vhdx_chain(tmp_path, 1)
    told = []

    class Listener:
        def start(self, what, total):
            told.append((what, total))

        def advance(self, done):
            told.append(done)

        def finish(self):
            told.append("finish")

    with changed(tmp_path / "layer1.vhdx", CHANGES) as overlay:
        steps = ChildCommit(overlay, Target("child", str(tmp_path / "child.vhdx")))
        steps.prepare(Listener())
        steps.abandon()
    assert told[0] == ("write child", 4 * MIB)
    assert told[-1] == "finish"
    assert sum(told[1:-1]) == 4 * MIB


def test_the_parents_time_where_it_can_not_be_told(tmp_path):
    vhd_chain(tmp_path, 1)
    os.utime(tmp_path / "layer1.vhd", (1000, 1000))  # 1970: before the format's epoch
    assert child_image.parent_time(str(tmp_path / "layer1.vhd")) is None
