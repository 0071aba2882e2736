from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.power_cut import Platter, State, record
from tests.crash.recording import UNFLUSHED, RecordingStore, Write
from tests.crash.vhdx_scenarios import IMAGE, SCENARIOS, Scenario, pending
from tests.disk.in_place_vhdx import digest, disk_of, findings, headers
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, change, make, opened, overwrite, pattern, write_headers
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.commit import Recovered
from vhdtool.disk.create_vhdx import Block, PendingEntry, PendingLog
from vhdtool.disk.recover_vhdx import recover_vhdx
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_header import parse_header
from vhdtool.disk.vhdx_log_entry import DataWrite, ZeroWrite
from vhdtool.errors import DamagedError, OutputError
from vhdtool.progress import SILENT

NAMED = {scenario.name: scenario for scenario in SCENARIOS}
# the flushes of a commit after which the power goes: see tests/crash/test_vhdx_in_place.py
RECORD, COPIES, FLIP, TABLE, CLEAR, HOMES, HOME_FLIP, REST = 2, 3, 4, 6, 7, 9, 10, 14


def recover(path: Path) -> Recovered | None:
    done = recover_vhdx(str(path), UNFLUSHED, SILENT)
    if done is not None:
        assert done.path == str(path)
        assert recover_vhdx(str(path), RecordingStore(path.parent, fail_from=0), SILENT) is None
    return done


def plain(path: Path) -> None:
    make(path, blocks={1: Block(data=pattern(1, MIB)), 2: Block(data=pattern(2, MIB))})


def interrupted(tmp_path: Path, scenario: Scenario, flush: int) -> tuple[Path, bytes, bytes, int, int]:
    """The image when the power goes after a flush; the disks before and after the change; the file's sizes."""
    folder, expected = scenario.prepare(tmp_path)
    before = (folder / IMAGE).stat().st_size
    recording = scenario.record(folder)
    after = (folder / IMAGE).stat().st_size
    stop = recording.flushes[flush] + 1
    platter = Platter(recording, tmp_path / "stable")
    platter.advance(stop)
    platter.make(State(stop, "none", {}), tmp_path / "state")
    return tmp_path / "state" / IMAGE, expected.old, expected.new, before, after


# --- nothing to do ---------------------------------------------------------------------------------------------------


def test_nothing_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    before = digest(path)
    store = RecordingStore(tmp_path)
    assert recover_vhdx(str(path), store, SILENT) is None
    assert store.operations == []
    assert digest(path) == before


def test_unused_space_without_a_record_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    with path.open("ab") as file:
        file.write(pattern(5, 3 * MIB))
    before = digest(path)
    assert recover(path) is None
    assert digest(path) == before


# --- interrupted commits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dynamic", "no-fold", "fixed", "differencing", "large-sectors", "wide", "odd-size"])
@pytest.mark.parametrize("flush", [RECORD, COPIES])
def test_rolled_back(tmp_path: Path, name: str, flush: int) -> None:
    path, old, _, size, _ = interrupted(tmp_path, NAMED[name], flush)
    assert path.stat().st_size > size
    done = recover(path)
    assert done is not None
    assert done.action == "rolled-back"
    assert NAMED[name].content(path.parent) == old
    assert path.stat().st_size == (size if name != "odd-size" else -(-size // MIB) * MIB)


@pytest.mark.parametrize("name", ["dynamic", "fixed", "differencing", "large-sectors", "wide"])
@pytest.mark.parametrize("flush", [FLIP, TABLE, CLEAR, HOMES, HOME_FLIP, REST])
def test_finished(tmp_path: Path, name: str, flush: int) -> None:
    path, _, new, _, size = interrupted(tmp_path, NAMED[name], flush)
    done = recover(path)
    assert done is not None
    assert done.action == "finished"
    assert NAMED[name].content(path.parent) == new
    assert path.stat().st_size == size
    assert [code for code in findings(path) if code != "vhdx-soft-anchor"] == []


def test_a_lent_log_comes_back(tmp_path: Path) -> None:
    path, _, new, _, size = interrupted(tmp_path, NAMED["very-wide"], HOMES)
    assert headers(path)[0].log_offset != MIB
    recover(path)
    assert [header.log_offset for header in headers(path)] == [MIB, MIB]
    assert NAMED["very-wide"].content(path.parent) == new
    assert path.stat().st_size == size


def test_somebody_took_the_old_place_of_a_block(tmp_path: Path) -> None:
    """Another program opened the image after the crash and used space that was free."""
    path, _, new, _, _ = interrupted(tmp_path, NAMED["dynamic"], CLEAR)
    with opened(path) as layer:
        start = layer.bat_range[0]
        used = {entry.file_offset for entry in layer.bat_entries()}
    free = next(place for place in range(4 * MIB, 12 * MIB, MIB) if place not in used)
    overwrite(path, free, pattern(77, MIB))
    overwrite(path, start + 7 * 8, encode_bat_entry(BlockState.FULLY_PRESENT, free))
    expected = new[: 7 * MIB] + pattern(77, MIB)
    done = recover(path)
    assert done is not None
    assert disk_of(path) == expected
    assert findings(path) == []


def test_somebody_wrote_behind_the_record(tmp_path: Path) -> None:
    path, old, _, _, _ = interrupted(tmp_path, NAMED["dynamic"], COPIES)
    with path.open("ab") as file:
        file.write(bytes(MIB))
    before = digest(path)
    assert recover(path) is None
    assert digest(path) == before
    assert disk_of(path) == old


def test_a_record_that_a_block_reaches_into(tmp_path: Path) -> None:
    """A guest wrote the record's bytes into its own disk: it is a guest's data."""
    path, _, _, _, _ = interrupted(tmp_path, NAMED["dynamic"], COPIES)
    with opened(path) as layer:
        start = layer.bat_range[0]
    overwrite(path, start + 7 * 8, encode_bat_entry(BlockState.FULLY_PRESENT, path.stat().st_size - MIB))
    before = digest(path)
    assert recover(path) is None
    assert digest(path) == before


@pytest.mark.parametrize("offset", [0, 24, 40, 56, 64, 72, 88, 4095])
def test_a_damaged_record_is_none(tmp_path: Path, offset: int) -> None:
    path, old, _, _, _ = interrupted(tmp_path, NAMED["dynamic"], COPIES)
    place = path.stat().st_size - 4096 + offset
    change(path, place, 1, lambda byte: bytes([byte[0] ^ 0x10]))
    before = digest(path)
    done = recover(path)
    if offset == 4095:  # padding
        assert done is not None
        return
    assert done is None
    assert digest(path) == before
    assert disk_of(path) == old


# --- logs of others --------------------------------------------------------------------------------------------------


def test_a_foreign_log_is_replayed(tmp_path: Path) -> None:
    pending(tmp_path)
    path = tmp_path / IMAGE
    before, identity = disk_of(path), headers(path)[0].data_write_guid
    done = recover(path)
    assert done is not None
    assert (done.action, done.notes) == ("replayed", ("a pending log was replayed into the file, entries: 1",))
    assert disk_of(path) == before
    for header in headers(path):
        assert (header.log_guid, header.data_write_guid) == (fmt.NO_GUID, identity)
        assert header.file_write_guid != IDENTITY.file_write
    assert findings(path) == []


def test_every_kind_of_log_write(tmp_path: Path) -> None:
    """Zeros over data, data over zeros, twice the same place, behind the file's end, a file that grows."""
    path = tmp_path / "a.vhdx"
    blocks = {1: Block(data=pattern(1, MIB))}
    layout = make(tmp_path / "plan.vhdx", blocks=blocks)
    at = layout.blocks[1]
    end = layout.file_size
    first = [DataWrite(at, pattern(10, 4096)), ZeroWrite(at, 8192), DataWrite(at + 4096, pattern(11, 4096))]
    second = [
        ZeroWrite(at + 12288, 1 << 40),
        DataWrite(at + 16384, pattern(12, 4096)),
        DataWrite(end, pattern(3, 4096)),
    ]
    log = PendingLog(LOG_GUID, [PendingEntry(first), PendingEntry(second, last_file_offset=end + 2 * MIB)])
    make(path, blocks=blocks, log=log)
    expected = bytearray(pattern(1, MIB))
    expected[:4096], expected[4096:8192] = bytes(4096), pattern(11, 4096)
    expected[12288:] = bytes(MIB - 12288)
    expected[16384:20480] = pattern(12, 4096)
    before = disk_of(path)
    assert before[MIB : 2 * MIB] == expected
    recover(path)
    assert disk_of(path) == before
    assert path.stat().st_size == end + 2 * MIB
    assert path.read_bytes()[end : end + 4096] == pattern(3, 4096)


def test_headers_come_first_and_the_log_ends_last(tmp_path: Path) -> None:
    pending(tmp_path)
    recording = record(tmp_path, lambda store: recover_vhdx(str(tmp_path / IMAGE), store, SILENT))
    kinds = [
        ("header", parse_header(one.data.ljust(4096, b"\0")).log_guid == fmt.NO_GUID)
        if isinstance(one, Write) and one.offset in fmt.HEADER_OFFSETS
        else type(one).__name__
        for one in recording.operations
    ]
    named, clear = ("header", False), ("header", True)
    assert kinds == [
        named, "Flush", named, "Flush", "Write", "Write", "Flush", clear, "Flush", clear, "Flush",
    ]  # fmt: skip


def test_a_log_that_can_not_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    log = PendingLog(LOG_GUID, [PendingEntry([ZeroWrite(5 * MIB, 4096)])])
    make(path, blocks={1: Block(data=pattern(1, MIB))}, log=log)
    overwrite(path, MIB + 70, b"?")
    before = digest(path)
    with pytest.raises(DamagedError) as caught:
        recover(path)
    assert caught.value.code == "vhdx-log-no-valid-sequence"
    assert digest(path) == before


# --- damaged copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", [0, 1])
def test_a_damaged_header_is_made_whole(tmp_path: Path, slot: int) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    before = disk_of(path)
    overwrite(path, fmt.HEADER_OFFSETS[slot], pattern(8, 4096))
    done = recover(path)
    assert done is not None
    assert done.action == "repaired"
    assert f"header {slot + 1} was damaged" in done.notes[0]
    assert disk_of(path) == before
    assert findings(path) == []


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("edit", [lambda _: bytes(64 << 10), lambda data: b"????" + data[4:]])
def test_a_damaged_region_table_is_made_whole(tmp_path: Path, number: int, edit: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    before, table = disk_of(path), path.read_bytes()[fmt.REGION_TABLE_OFFSETS[0] :][: 64 << 10]
    change(path, fmt.REGION_TABLE_OFFSETS[number], fmt.REGION_TABLE_SIZE, edit)
    recording = record(tmp_path, lambda store: recover_vhdx(str(path), store, SILENT))
    for offset in fmt.REGION_TABLE_OFFSETS:
        assert path.read_bytes()[offset:][: 64 << 10] == table
    assert disk_of(path) == before
    assert findings(path) == []
    logged = next(i for i, one in enumerate(recording.operations) if isinstance(one, Write) and one.data[:4] == b"loge")
    written = [i for i, one in enumerate(recording.operations) if isinstance(one, Write) and one.data[:4] == b"regi"]
    assert logged < min(written)
    assert recover_vhdx(str(path), UNFLUSHED, SILENT) is None


def test_a_region_table_where_there_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    before = disk_of(path)
    first, second = headers(path)
    write_headers(path, replace(first, log_offset=1 << 40), replace(second, log_offset=1 << 40))
    overwrite(path, fmt.REGION_TABLE_OFFSETS[1], bytes(4096))
    done = recover(path)
    assert done is not None
    assert "region table" in done.notes[0]
    assert disk_of(path) == before
    with opened(path) as layer:
        assert all(table.valid for table in layer.region_tables)


def test_an_older_header_that_still_names_a_log(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    first, second = headers(path)
    assert second.sequence_number > first.sequence_number
    write_headers(path, replace(first, log_guid=LOG_GUID), second)
    done = recover(path)
    assert done is not None
    assert done.action == "cleared"
    assert {header.log_guid for header in headers(path)} == {fmt.NO_GUID}


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flush", [COPIES, FLIP, HOMES])
def test_every_call_may_fail_and_it_can_be_tried_again(tmp_path: Path, flush: int) -> None:
    path, old, new, _, _ = interrupted(tmp_path, NAMED["dynamic"], flush)
    side = disk_of(path)
    assert side == (old if flush == COPIES else new)
    untouched = path.read_bytes()
    for number in range(1000):
        path.write_bytes(untouched)
        try:
            recover_vhdx(str(path), RecordingStore(path.parent, fail_from=number), SILENT)
        except OutputError:
            assert disk_of(path) == side
            recover(path)
            assert disk_of(path) == side
            assert findings(path) in ([], ["vhdx-soft-anchor"])
            continue
        break
    assert number > 5
