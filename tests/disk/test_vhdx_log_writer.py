from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.recording import UNFLUSHED, RecordingStore
from tests.crash.vhdx_scenarios import IMAGE, pending
from tests.disk.in_place_vhdx import digest, disk_of, findings, headers
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, make, opened, overwrite, pattern
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.device import FileDevice
from vhdtool.disk.vhdx_header_slots import HeaderSlots
from vhdtool.disk.vhdx_log import replay_log
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.disk.vhdx_log_writer import LogPlace, log_length_for, write_entries, write_logged
from vhdtool.errors import RefusedError


@pytest.mark.parametrize(("mib", "room"), [(1, 252), (2, 506), (4, 1014), (16, 4062)])
def test_room(mib: int, room: int) -> None:
    """Entries of at most 126 writes take a sector more than they have writes; the last sector stays free."""
    sectors = mib * 256
    entries = -(-room // 126)
    assert LogPlace(MIB, mib * MIB).room == room
    assert room + entries <= sectors - 1
    assert room + 1 + -(-(room + 1) // 126) > sectors - 1


@pytest.mark.parametrize(("sectors", "mib"), [(1, 1), (252, 1), (253, 2), (506, 2), (507, 3), (15000, 60)])
def test_length(sectors: int, mib: int) -> None:
    assert log_length_for(sectors) == mib * MIB


@pytest.mark.parametrize("count", [1, 126, 127, 252])
def test_what_is_written_is_what_a_replay_finds(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))})
    with opened(path) as layer:
        region = layer.regions[0]
    writes = [DataWrite(region.offset + 65536 + number * 4096, pattern(number, 4096)) for number in range(count)]
    file = UNFLUSHED.open(str(path))
    slots = HeaderSlots(file)
    guid = write_entries(file, LogPlace(MIB, MIB), writes)
    device = FileDevice(path)
    assert replay_log(device, slots.header) is None
    slots.write(replace(slots.header, log_guid=guid))
    replay = replay_log(device, slots.header)
    assert replay is not None
    assert list(replay.stored.writes()) == writes
    assert len(replay.entries) == -(-count // 126)
    device.close()
    file.close()


def test_metadata_is_changed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path, blocks={1: Block(data=pattern(1, MIB))}, metadata_items=[(LOG_GUID, fmt.METADATA_IS_USER, bytes(4096))])
    before = disk_of(path)
    with opened(path) as layer:
        item = next(item for item in layer.metadata_items if item.item_id == LOG_GUID)
    sector = item.offset // 4096 * 4096
    data = path.read_bytes()[sector : sector + 4096]
    store = RecordingStore(tmp_path)
    written = write_logged(str(path), [DataWrite(sector, data[:-4] + b"note")], store)
    assert written == sum(len(one.data) for one in store.operations if hasattr(one, "data"))
    assert path.read_bytes()[sector : sector + 4096] == data[:-4] + b"note"
    assert disk_of(path) == before
    for header in headers(path):
        assert header.data_write_guid == IDENTITY.data_write
        assert header.file_write_guid != IDENTITY.file_write
        assert header.log_guid == fmt.NO_GUID
    assert findings(path) == []


def test_refused(tmp_path: Path) -> None:
    pending(tmp_path)
    path = tmp_path / IMAGE
    before = digest(path)
    with pytest.raises(RefusedError) as caught:
        write_logged(str(path), [DataWrite(2 * MIB, bytes(4096))], UNFLUSHED)
    assert caught.value.code == "image-needs-recovery"
    assert digest(path) == before
    path = tmp_path / "b.vhdx"
    make(path)
    before = digest(path)
    with pytest.raises(RefusedError) as caught:
        write_logged(str(path), [DataWrite(2 * MIB, bytes(4096))] * 253, UNFLUSHED)
    assert caught.value.code == "change-too-wide"
    assert digest(path) == before


def test_slots_write_one_sector_where_the_rest_is_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    make(path)
    overwrite(path, fmt.HEADER_OFFSETS[0] + 2000, b"?")
    store = RecordingStore(tmp_path)
    slots = HeaderSlots(store.open(str(path)))
    slots.write(slots.header)
    slots.write(slots.header)
    sizes = [len(one.data) for one in store.operations if hasattr(one, "data")]
    assert sizes == [4096, 512, 512, 512]  # the damaged slot is the one that is not in effect
    assert headers(path)[1].sequence_number > headers(path)[0].sequence_number
    assert findings(path) == []
