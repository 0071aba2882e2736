from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.crash.recording import UNFLUSHED, Flush, Operation, RecordingStore, Truncate, Write
from tests.crash.vhdx_scenarios import IMAGE, SCENARIOS, Scenario, differencing, pending
from tests.disk.in_place_vhdx import commit, digest, disk_of, findings, headers, written_over
from tests.disk.vhdx_files import IDENTITY, MIB, change, make, opened, overwrite, pattern, read_all, write_headers
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit
from vhdtool.disk.create_vhdx import Block, ExtraRegion
from vhdtool.disk.overlay import Overlay
from vhdtool.disk.raw import open_raw
from vhdtool.disk.recover_vhdx import recover_vhdx
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_header import Header, parse_header
from vhdtool.disk.vhdx_log_entry import DataWrite, parse_entry_header, writes_of
from vhdtool.disk.vhdx_move import RECORD, RECORD_SIZE
from vhdtool.errors import ChangedError, DamagedError, InputError, OutputError, RefusedError, VhdtoolError
from vhdtool.layout import offset_of
from vhdtool.progress import SILENT

GUID = UUID("77777777-7777-4777-8777-777777777777")
OTHER_REGION = UUID("99999999-9999-4999-8999-999999999999")
WRITES = {MIB + 100: b"changed" * 500, 3 * MIB + 7: b"new"}


def plain(path: Path, **wanted: Any) -> bytes:
    """Blocks 1 and 2 of 8 are there; the disk."""
    blocks = {1: Block(data=pattern(1, MIB)), 2: Block(data=pattern(2, MIB))}
    make(path, **({"virtual_size": 8 * MIB, "blocks": blocks} | wanted))
    return read_all(path)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.watched is None], ids=str)
def test_the_disk_afterwards(tmp_path: Path, scenario: Scenario) -> None:
    scenario.build(tmp_path)
    path = tmp_path / IMAGE
    before = disk_of(path)
    written = commit(path, scenario.writes, fold=scenario.fold)
    assert disk_of(path) == written_over(before, scenario.writes)
    assert written.path == str(path)
    assert written.file_size == path.stat().st_size
    with open_disk(path) as disk:
        assert disk.info.problems == ()
        assert not [one for one in audit_disk(disk).findings if one.severity != "info" and one.path == str(path)]


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_the_file_grows_by_new_blocks_only(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.vhdx"
    plain(path, kind=kind)
    before = path.stat().st_size
    written = commit(path, WRITES)
    grown = MIB if kind == "dynamic" else 0
    assert (written.file_size_before, written.file_size) == (before, before + grown)
    assert path.stat().st_size == before + grown
    assert written.blocks == 2
    assert findings(path) == []


def test_blocks_come_back_to_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    with opened(path) as layer:
        before = {entry.block_number: entry.file_offset for entry in layer.bat_entries() if entry.file_offset}
    commit(path, WRITES)
    with opened(path) as layer:
        after = {entry.block_number: entry.file_offset for entry in layer.bat_entries() if entry.file_offset}
    assert after == before | {3: max(before.values()) + MIB}


def test_without_fold_copies_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    old = plain(path)
    before = path.stat().st_size
    written = commit(path, WRITES, fold=False)
    assert path.stat().st_size == before + 2 * MIB == written.file_size
    assert disk_of(path) == written_over(old, WRITES)
    assert findings(path) == []


def test_what_the_file_has_beside_the_disk_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    note = (UUID(int=5), fmt.METADATA_IS_USER, b"a note")
    plain(path, regions=[ExtraRegion(OTHER_REGION, pattern(9, 4096))], metadata_items=[note])
    with opened(path) as layer:
        region = layer.regions[-1]
        items = layer.metadata_items
    start = path.read_bytes()[: 64 << 10]
    commit(path, WRITES)
    assert path.read_bytes()[: 64 << 10] == start
    assert path.read_bytes()[region.offset :][:4096] == pattern(9, 4096)
    with opened(path) as layer:
        assert layer.metadata_items == items
        assert layer.regions[-1] == region


def test_identities(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    commit(path, WRITES, data_write_guid=GUID)
    first, second = headers(path)
    for header in (first, second):
        assert header.data_write_guid == GUID
        assert header.file_write_guid != IDENTITY.file_write
        assert header.log_guid == fmt.NO_GUID
    assert abs(first.sequence_number - second.sequence_number) == 1
    commit(path, {0: b"again"})
    assert headers(path)[0].data_write_guid not in {GUID, IDENTITY.data_write}


def test_blocks_of_a_child_become_whole(tmp_path: Path) -> None:
    differencing(tmp_path)
    path = tmp_path / IMAGE
    before, parent = disk_of(path), digest(tmp_path / "base.vhdx")
    writes = {2 * MIB + 512: b"partial", 5 * MIB: b"not there", 3 * MIB: b"zero", 4 * MIB + 512: b"unmapped"}
    commit(path, writes)
    assert disk_of(path) == written_over(before, writes)
    with opened(path) as layer:
        states = {entry.block_number: entry.state for entry in layer.bat_entries() if entry.kind == "payload"}
    assert {number: states[number] for number in (2, 3, 4, 5)} == dict.fromkeys((2, 3, 4, 5), BlockState.FULLY_PRESENT)
    assert digest(tmp_path / "base.vhdx") == parent


@pytest.mark.parametrize(("inside", "gap"), [(MIB, 0), (512 << 10, 0), (0, 0), (0, 3 * MIB)])
@pytest.mark.parametrize("fold", [True, False])
def test_an_empty_block_keeps_a_place_past_the_end(tmp_path: Path, inside: int, gap: int, fold: bool) -> None:
    """The file holds nothing of it, so it may end before it, or in it."""
    path = tmp_path / "a.vhdx"
    old = plain(path, virtual_size=16 * MIB, block_size=2 * MIB)
    with opened(path) as layer:
        start = layer.bat_range[0]
    size = path.stat().st_size
    with path.open("ab") as file:
        file.truncate(size + inside)
    overwrite(path, start + 4 * 8, encode_bat_entry(BlockState.UNMAPPED, size + gap))
    writes = {9 * MIB: b"was empty" * 1000, 2 * MIB: b"full"}
    commit(path, writes, fold=fold)
    assert disk_of(path) == written_over(old, writes)
    assert findings(path) == []
    assert recover_vhdx(str(path), UNFLUSHED, SILENT) is None


def test_places_that_overlap(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path, virtual_size=16 * MIB, block_size=2 * MIB)
    with opened(path) as layer:
        start = layer.bat_range[0]
    size = path.stat().st_size
    for number, place in ((4, size), (5, size + MIB)):
        overwrite(path, start + number * 8, encode_bat_entry(BlockState.UNMAPPED, place))
    before = digest(path)
    with pytest.raises(RefusedError) as caught:
        commit(path, {9 * MIB: b"x", 11 * MIB: b"y"})
    assert caught.value.code == "image-damaged"
    assert digest(path) == before


def test_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    commit(path, WRITES)
    before = digest(path)
    store = RecordingStore(tmp_path)
    written = commit(path, WRITES, store)
    assert (written.blocks, written.bytes_written) == (0, 0)
    assert store.operations == []
    assert digest(path) == before


def test_a_pending_log_is_replayed_first(tmp_path: Path) -> None:
    pending(tmp_path)
    path = tmp_path / IMAGE
    before = disk_of(path)
    written = commit(path, {MIB: b"changed"})
    assert disk_of(path) == written_over(before, {MIB: b"changed"})
    assert written.notes == ("a pending log was replayed into the file, entries: 1",)
    assert findings(path) == []


def test_the_candidate_is_what_the_file_becomes(tmp_path: Path) -> None:
    differencing(tmp_path)
    path = tmp_path / IMAGE
    before = digest(path)
    with open_disk(path) as disk, Overlay(disk) as overlay:
        for offset, data in ({5 * MIB + 99: b"new"} | WRITES).items():
            overlay.write_at(offset, data)
        steps = VhdxInPlaceCommit(overlay, Target("in-place"), UNFLUSHED)
        candidate = steps.prepare(SILENT)
        assert candidate.format == "vhdx"
        assert [name for name, _ in candidate.files] == [str(path), str(tmp_path / "base.vhdx")]
        shown = candidate.files[0][1]
        content = shown.read_at(0, shown.size)
        assert candidate.files[1][1].read_at(0, 1 << 30) == (tmp_path / "base.vhdx").read_bytes()
        assert digest(path) == before
        steps.finish(SILENT)
    real = path.read_bytes()
    assert len(real) == len(content)
    differing = {
        at for at in range(0, len(real), MIB // 16) if real[at : at + MIB // 16] != content[at : at + MIB // 16]
    }
    # the headers' sequence numbers, and what the log had
    assert differing == {*fmt.HEADER_OFFSETS, MIB}


# --- the specification's rules, held against the calls ---------------------------------------------------------------


@pytest.fixture(params=[one for one in SCENARIOS if one.name != "pending-log"], ids=str)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[Operation], bytes]:
    """What a commit did, and the file's first MiB before."""
    scenario: Scenario = request.param
    scenario.build(tmp_path)
    with (tmp_path / IMAGE).open("rb") as file:
        before = file.read(MIB)
    store = RecordingStore(tmp_path)
    scenario.commit(tmp_path, store)
    return store.operations, before


def header_writes(operations: list[Operation]) -> list[tuple[int, int, Header]]:
    """Place among the operations, slot, and what the slot says then."""
    found = []
    for place, one in enumerate(operations):
        if isinstance(one, Write) and one.offset in fmt.HEADER_OFFSETS:
            found.append((place, one.offset, parse_header(one.data.ljust(fmt.HEADER_SIZE, b"\0"))))
    return found


def test_headers_come_first_in_pairs_and_flushed(recorded: tuple[list[Operation], bytes]) -> None:
    operations, before = recorded
    old = [parse_header(before[offset : offset + fmt.HEADER_SIZE]) for offset in fmt.HEADER_OFFSETS]
    written = header_writes(operations)
    assert [place for place, _, _ in written[:2]] == [0, 2]
    assert all(isinstance(operations[place + 1], Flush) for place, _, _ in written)
    numbers = [header.sequence_number for _, _, header in written]
    highest = max(header.sequence_number for header in old)
    assert numbers == list(range(highest + 1, highest + 1 + len(numbers)))
    assert [slot for _, slot, _ in written[::2]] == [written[0][1]] * (len(written) // 2)
    for (_, slot, one), (_, other, same) in zip(written[::2], written[1::2], strict=True):
        assert slot != other
        assert replace(one, sequence_number=0) == replace(same, sequence_number=0)
    assert len({header.file_write_guid for _, _, header in written}) == 1
    assert written[0][2].file_write_guid not in {header.file_write_guid for header in old}
    guids = [header.data_write_guid for _, _, header in written]
    assert guids[0] == guids[1] == old[0].data_write_guid
    assert len(set(guids[2:])) == 1
    assert guids[2] != guids[0]
    last = written[-1][2]
    assert (last.log_guid, last.log_offset, last.log_length) == (fmt.NO_GUID, old[0].log_offset, old[0].log_length)


def test_the_log_holds_the_bat_and_nothing_else(recorded: tuple[list[Operation], bytes], tmp_path: Path) -> None:
    operations, _ = recorded
    with opened(tmp_path / IMAGE) as layer:
        bat_start, bat_length = layer.bat_range
    for place, _, header in header_writes(operations):
        if header.log_guid == fmt.NO_GUID:
            continue
        size, flushed, position, number = 0, [], header.log_offset, 0
        entries: dict[int, bytes] = {}
        for one in operations[:place]:
            if isinstance(one, Write):
                size = max(size, one.offset + len(one.data))
                entries[one.offset] = one.data
            elif isinstance(one, Flush):
                flushed.append(size)
        while position in entries and entries[position][:4] == fmt.LOG_ENTRY_SIGNATURE:
            data = entries[position]
            entry = parse_entry_header(data)
            number += 1
            assert fmt.checksum_is_right(data)
            assert (entry.log_guid, entry.sequence_number, entry.tail) == (header.log_guid, number, 0)
            assert 0 < entry.descriptor_count <= 126
            assert entry.flushed_file_offset % MIB == entry.last_file_offset % MIB == 0
            assert entry.flushed_file_offset <= max(flushed)
            for write in writes_of(data, entry):
                assert isinstance(write, DataWrite)
                assert bat_start <= write.file_offset < bat_start + bat_length
            position += entry.entry_length
        assert number > 0
        assert position - header.log_offset <= header.log_length - fmt.LOG_SECTOR_SIZE
        assert header.log_offset % MIB == header.log_length % MIB == 0


def record_of(operations: list[Operation]) -> tuple[int, int]:
    """From the record, the first thing behind the headers: how many blocks are touched, the file's size before."""
    record = next(one for one in operations if isinstance(one, Write) and one.offset not in fmt.HEADER_OFFSETS)
    last = record.data[-RECORD_SIZE:]
    assert last.startswith(b"vhdtool moving")
    return tuple(
        int.from_bytes(last[offset_of(RECORD, name) :][:size], "little")
        for name, size in (("block_count", 4), ("old_size", 8))
    )  # type: ignore[return-value]


def test_what_is_in_use_is_never_overwritten(recorded: tuple[list[Operation], bytes]) -> None:
    """Before the log counts, nothing goes to where something was but headers and the log's own place."""
    operations, before = recorded
    slots = [parse_header(before[offset : offset + fmt.HEADER_SIZE]) for offset in fmt.HEADER_OFFSETS]
    old = max(slots, key=lambda header: header.sequence_number)
    first = next(place for place, _, header in header_writes(operations) if header.log_guid != fmt.NO_GUID)
    _, old_size = record_of(operations)
    for one in operations[:first]:
        assert not isinstance(one, Truncate)
        if isinstance(one, Write):
            in_log = old.log_offset <= one.offset < old.log_offset + old.log_length
            assert one.offset in fmt.HEADER_OFFSETS or in_log or one.offset >= old_size
    assert sum(isinstance(one, Truncate) for one in operations) == 1
    assert isinstance(operations[-1], Flush)


def test_the_room_is_that_of_the_touched_blocks_and_8_mib_at_most(
    recorded: tuple[list[Operation], bytes], tmp_path: Path
) -> None:
    operations, _ = recorded
    with opened(tmp_path / IMAGE) as layer:
        block_size = layer.info.block_size or 0
    blocks, old_size = record_of(operations)
    end = max(one.offset + len(one.data) for one in operations if isinstance(one, Write))
    assert end <= old_size + blocks * block_size + 8 * MIB


# --- refusals --------------------------------------------------------------------------------------------------------


def damage_header(path: Path) -> None:
    overwrite(path, fmt.HEADER_OFFSETS[1] + 100, b"?")


def damage_region_table(path: Path) -> None:
    overwrite(path, fmt.REGION_TABLE_OFFSETS[0] + 5, b"?")


def contradict_headers(path: Path) -> None:
    first, _ = headers(path)
    write_headers(path, first, replace(first, data_write_guid=GUID))


def contradict_regions(path: Path) -> None:
    change(path, fmt.REGION_TABLE_OFFSETS[1], fmt.REGION_TABLE_SIZE, lambda data: fmt.sealed(data[:-1] + b"?"))


def end_sequence(path: Path) -> None:
    first, second = headers(path)
    write_headers(path, replace(first, sequence_number=(1 << 64) - 2), replace(second, sequence_number=(1 << 64) - 1))


def lose_log(path: Path) -> None:
    first, second = headers(path)
    write_headers(path, replace(first, log_offset=1 << 40), replace(second, log_offset=1 << 40))


def cut_off(path: Path) -> None:
    """A block that is not touched lies past the end of the file."""
    with opened(path) as layer:
        place = layer.bat_range[0] + 7 * 8
    overwrite(path, place, encode_bat_entry(BlockState.FULLY_PRESENT, 1 << 40))


def share_place(path: Path) -> None:
    """A block that is not touched lies where a touched one does."""
    with opened(path) as layer:
        start = layer.bat_range[0]
        entry = next(entry for entry in layer.bat_entries() if entry.block_number == 1)
    overwrite(path, start + 7 * 8, encode_bat_entry(BlockState.FULLY_PRESENT, entry.file_offset))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (damage_header, "image-needs-recovery"),
        (damage_region_table, "image-needs-recovery"),
        (contradict_headers, "image-damaged"),
        (contradict_regions, "image-damaged"),
        (end_sequence, "image-damaged"),
        (lose_log, "image-damaged"),
        (cut_off, "image-damaged"),
        (share_place, "image-damaged"),
    ],
)
def test_refused_and_untouched(tmp_path: Path, damage: Callable[[Path], None], code: str) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    damage(path)
    before = digest(path)
    with pytest.raises(RefusedError) as caught:
        commit(path, WRITES)
    assert caught.value.code == code
    assert caught.value.hint
    assert caught.value.exit_code == 4
    assert digest(path) == before


def test_a_touched_block_in_a_bad_place(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    with opened(path) as layer:
        start = layer.bat_range[0]
    overwrite(path, start + 8, encode_bat_entry(BlockState.FULLY_PRESENT, MIB))
    before = digest(path)
    with pytest.raises(DamagedError) as caught:
        commit(path, {3 * MIB: b"x", MIB: b"y"})
    assert caught.value.code == "vhdx-block-overlap"
    assert digest(path) == before


def test_an_interrupted_commit_is_recovered_first(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    old = plain(path)
    store = RecordingStore(tmp_path, fail_from=9)
    with pytest.raises(VhdtoolError):
        commit(path, WRITES, store)
    before = digest(path)
    with pytest.raises(RefusedError) as caught:
        commit(path, WRITES)
    assert caught.value.code == "image-needs-recovery"
    assert digest(path) == before
    recover_vhdx(str(path), UNFLUSHED, SILENT)
    commit(path, WRITES)
    assert disk_of(path) == written_over(old, WRITES)


def test_room_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    before = digest(path)
    store = RecordingStore(tmp_path, room=3 * MIB - 1)
    with pytest.raises(OutputError) as caught:
        commit(path, WRITES, store)
    assert caught.value.code == "no-room"
    assert store.operations == []
    assert digest(path) == before
    commit(path, WRITES, RecordingStore(tmp_path, room=3 * MIB))


def test_a_change_of_too_much_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdtool.disk.vhdx_copy_plan.SECTOR_LIMIT", 2)
    path = tmp_path / "a.vhdx"
    make(path, virtual_size=2000 * MIB)
    before = digest(path)
    commit(path, {0: b"one", 600 * MIB: b"two"})
    before = digest(path)
    with pytest.raises(RefusedError) as caught:
        commit(path, {0: b"1", 600 * MIB: b"2", 1200 * MIB: b"3"})
    assert caught.value.code == "change-too-wide"
    assert digest(path) == before


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)

    class Shut(type(UNFLUSHED)):  # type: ignore[misc]
        def open(self, path: str) -> Any:
            raise InputError("cannot-open-for-writing", "no", path=path)

    with pytest.raises(InputError):
        commit(path, WRITES, Shut())


def test_no_vhdx() -> None:
    class Changes:
        class base:  # noqa: N801
            layers = (open_raw,)

    with pytest.raises(ValueError, match="no VHDX"):
        VhdxInPlaceCommit(Changes(), Target("in-place"))  # type: ignore[arg-type]


def test_finish_before_prepare(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain(path)
    with open_disk(path) as disk, Overlay(disk) as overlay, pytest.raises(ValueError, match="prepared"):
        VhdxInPlaceCommit(overlay, Target("in-place"), UNFLUSHED).finish(SILENT)


# --- writes that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fail_for", [1, None])
def test_every_call_may_fail(tmp_path: Path, fail_for: int | None) -> None:
    """A failure before the commit leaves the old disk and exit 7, one after it exit 8; recover brings both to rest."""
    path = tmp_path / "a.vhdx"
    old = plain(path)
    new, untouched = written_over(old, WRITES), path.read_bytes()
    codes, hints = [], set()
    for number in range(1000):
        path.write_bytes(untouched)
        store = RecordingStore(tmp_path, fail_from=number, fail_for=fail_for)
        try:
            commit(path, WRITES, store)
            break
        except OutputError as error:
            codes.append(7)
            assert disk_of(path) == old
            if fail_for == 1 or "recover" not in (error.hint or ""):
                assert path.stat().st_size == len(untouched)
                assert path.read_bytes()[MIB + (64 << 10) :] == untouched[MIB + (64 << 10) :]
        except ChangedError as error:
            codes.append(8)
            hints.add((error.code, error.hint))
            assert disk_of(path) in (old, new)
        side = disk_of(path)
        recover_vhdx(str(path), UNFLUSHED, SILENT)
        assert disk_of(path) == side
        assert [code for code in findings(path) if code != "vhdx-tail-waste"] == []
        assert path.stat().st_size in (len(untouched), len(untouched) + MIB)
    assert codes == sorted(codes)
    assert {7, 8} == set(codes)
    ((code, hint),) = hints
    assert code == "commit-unfinished"
    assert f"vhdtool recover {path}" in hint
    assert disk_of(path) == new
