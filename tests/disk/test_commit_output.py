from __future__ import annotations

import os
from uuid import UUID

import pytest

from tests.crash.recording import RecordingStore
from tests.disk.commits import changed, commit, content_of, folder_state, whole
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, make, memory_peak
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_output import OutputCommit
from vhdtool.disk.create_vhd import Block as VhdBlock
from vhdtool.disk.create_vhd import write_vhd
from vhdtool.disk.create_vhdx import Block, PendingEntry, PendingLog
from vhdtool.disk.host_store import OS_STORE
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.errors import OutputError, RefusedError, UsageError
from vhdtool.progress import SILENT

CHANGES = {700 * 512 + 100: b"hello" * 1000, 2 * MIB - 3: b"across", 3 * MIB: bytes(MIB // 2)}


def image(folder, kind, form):
    path = folder / f"base.{form}"
    if form == "vhdx":
        make(path, kind=kind, blocks={1: Block(data=b"1" * MIB), 3: Block(data=b"3" * MIB)})
    elif form == "vhd":
        blocks = {0: VhdBlock(b"0" * 5000), 1: VhdBlock(b"1" * (2 * MIB))}
        write_vhd(path, virtual_size=4 * MIB, unique_id=UUID(int=9), timestamp=EPOCH, kind=kind, blocks=blocks)
    else:
        path.write_bytes(b"raw!" * (MIB // 2) + bytes(MIB) + b"end." * (MIB // 4))
    return path


KINDS = [("fixed", "vhdx"), ("dynamic", "vhdx"), ("fixed", "vhd"), ("dynamic", "vhd"), ("fixed", "img")]


@pytest.mark.parametrize(("kind", "form"), KINDS)
def test_the_same_kind_with_the_changed_disk(tmp_path, kind, form):
    base, out = image(tmp_path, kind, form), tmp_path / f"out.{form}"
    before = base.read_bytes()
    with open_disk(base) as disk:
        old, info = whole(disk), disk.layers[0].info
    written, expected = commit(OutputCommit, base, CHANGES, out)
    model = bytearray(old)
    for offset, data in CHANGES.items():
        model[offset : offset + len(data)] = data
    assert content_of(out) == expected == model
    assert base.read_bytes() == before
    with open_disk(out) as disk:
        new = disk.layers[0].info
        same = ("format", "type", "virtual_size", "logical_sector_size", "physical_sector_size", "block_size")
        assert [getattr(new, name) for name in same] == [getattr(info, name) for name in same]
        assert new.identity != info.identity or form == "img"
    assert (written.path, written.file_size_before) == (str(out), None)
    assert written.file_size == out.stat().st_size
    assert written.notes == ()
    assert str(base) in written.undo


@pytest.mark.parametrize(("chain", "suffix"), [(vhdx_chain, "vhdx"), (vhd_chain, "vhd")])
def test_a_chain_becomes_one_dynamic_image(tmp_path, chain, suffix):
    chain(tmp_path)
    out = tmp_path / f"out.{suffix}"
    _, expected = commit(OutputCommit, tmp_path / f"layer3.{suffix}", CHANGES, out)
    assert content_of(out) == expected
    with open_disk(out) as disk:
        assert (disk.info.type, len(disk.layers)) == ("dynamic", 1)


def test_the_disk_keeps_the_identity_that_the_guest_sees(tmp_path):
    base, out = image(tmp_path, "dynamic", "vhdx"), tmp_path / "out.vhdx"
    commit(OutputCommit, base, CHANGES, out)
    with open_disk(out) as disk:
        layer = disk.layers[0]
        assert layer.virtual_disk_id == IDENTITY.virtual_disk
        assert not {layer.data_write_guid, layer.file_write_guid} & {IDENTITY.data_write, IDENTITY.file_write}


def test_a_pending_log_goes_in_as_replayed(tmp_path):
    path, out = tmp_path / "a.vhdx", tmp_path / "out.vhdx"
    layout = make(path, blocks={0: Block(data=b"0" * MIB)})
    path.unlink()
    entry = (0).to_bytes(8, "little") + (layout.blocks[0] | 6).to_bytes(8, "little")
    log = PendingLog(LOG_GUID, [PendingEntry([DataWrite(layout.bat_offset, entry.ljust(4096, b"\0"))])])
    make(path, blocks={0: Block(data=b"0" * MIB)}, log=log)
    _, expected = commit(OutputCommit, path, {0: b"new"}, out)
    assert content_of(out) == expected == b"new" + bytes(MIB - 3) + b"0" * MIB + bytes(2 * MIB)


def test_holes_stay_holes(tmp_path):
    path = tmp_path / "a.img"
    with path.open("wb") as file:
        file.truncate(8 << 30)
        file.seek(5 << 30)
        file.write(b"there" * 1000)
    out = tmp_path / "out.img"
    with changed(path, {1 << 30: b"new"}) as overlay:
        steps = OutputCommit(overlay, Target("output", str(out)))
        steps.prepare(SILENT)
        written = steps.finish(SILENT)
    assert out.stat().st_size == 8 << 30
    assert written.bytes_written < MIB
    if hasattr(os.stat_result, "st_blocks"):
        assert out.stat().st_blocks * 512 < 2 * MIB
    with open_disk(out) as disk:
        assert disk.read_at(5 << 30, 5) == b"there"
        assert disk.read_at(1 << 30, 4) == b"new\0"


@pytest.mark.parametrize("form", ["img", "vhd"])
def test_a_clone_where_the_host_can_share_extents(tmp_path, form):
    base, out = image(tmp_path, "fixed", form), tmp_path / f"out.{form}"
    store = RecordingStore(tmp_path, reflinks=True)
    with changed(base, CHANGES) as overlay:
        steps = OutputCommit(overlay, Target("output", str(out)), store)
        steps.prepare(SILENT)
        written = steps.finish(SILENT)
        assert content_of(out) == whole(overlay)
    assert written.bytes_written < 2 * MIB
    with open_disk(base) as one, open_disk(out) as other:
        assert form == "img" or one.layers[0].info.identity != other.layers[0].info.identity


def refused(folder, base, out, store=OS_STORE):
    before = folder_state(folder)
    with changed(base, CHANGES) as overlay:
        steps = OutputCommit(overlay, Target("output", str(out)), store)
        with pytest.raises((UsageError, RefusedError, OutputError)) as caught:
            steps.prepare(SILENT)
        steps.abandon()
    assert folder_state(folder) == before
    return caught.value


def test_another_format_is_a_matter_of_conversion(tmp_path):
    for form, names in (("vhdx", ["o.vhd", "o.img"]), ("vhd", ["o.vhdx", "o"]), ("img", ["o.vhdx", "o.VHD"])):
        base = image(tmp_path, "fixed", form)
        for name in names:
            error = refused(tmp_path, base, tmp_path / name)
            assert (type(error), error.code) == (UsageError, "output-format")
            assert "disk convert" in error.hint


def test_nothing_is_overwritten(tmp_path):
    vhdx_chain(tmp_path)
    (tmp_path / "other.vhdx").write_bytes(b"mine")
    base = tmp_path / "layer3.vhdx"
    assert refused(tmp_path, base, tmp_path / "other.vhdx").code == "output-exists"
    assert refused(tmp_path, base, tmp_path / "layer1.vhdx").code == "output-is-input"
    with changed(base, CHANGES) as overlay:
        steps = OutputCommit(overlay, Target("output", str(tmp_path / "new.vhdx")))
        steps.prepare(SILENT)
        (tmp_path / "new.vhdx").write_bytes(b"mine")
        with pytest.raises(RefusedError) as caught:
            steps.finish(SILENT)
        assert caught.value.code == "output-exists"
        steps.abandon()
    assert (tmp_path / "new.vhdx").read_bytes() == b"mine"


@pytest.mark.parametrize(("kind", "form"), KINDS)
def test_every_failing_call_leaves_nothing(tmp_path, kind, form):
    """A full disk at each call of the host in turn."""
    base, out = image(tmp_path, kind, form), tmp_path / f"out.{form}"
    before = folder_state(tmp_path)
    store = RecordingStore(tmp_path)
    with changed(base, CHANGES) as overlay:
        run(overlay, out, store)
        calls = store.calls
        out.unlink()
        for number in range(calls):
            with pytest.raises(OutputError) as caught:
                run(overlay, out, RecordingStore(tmp_path, fail_from=number, fail_for=1))
            assert caught.value.code == "cannot-write"
            assert folder_state(tmp_path) == before


def run(overlay, out, store):
    steps = OutputCommit(overlay, Target("output", str(out)), store)
    try:
        steps.prepare(SILENT)
        steps.finish(SILENT)
    except BaseException:
        steps.abandon()
        raise


def test_memory_does_not_grow_with_the_disk(tmp_path):
    blocks = {number: Block(data=b"data" * (MIB // 4)) for number in range(0, 64, 2)}
    make(tmp_path / "a.vhdx", virtual_size=64 * MIB, blocks=blocks)
    with changed(tmp_path / "a.vhdx", CHANGES) as overlay, memory_peak() as peak:
        run(overlay, tmp_path / "out.vhdx", OS_STORE)
    assert peak() < 6 * MIB
