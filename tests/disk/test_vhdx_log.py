from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.vhdx_files import (
    LOG_GUID,
    MIB,
    change,
    codes,
    make,
    memory_peak,
    opened,
    overwrite,
    pattern,
    read,
    stored,
    write_headers,
)
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Block, PendingEntry, PendingLog, encode_log
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_header import parse_header
from vhdtool.disk.vhdx_log_entry import DataWrite, LogWrite, ZeroWrite
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError
from vhdtool.layout import offset_of

LOG_AT = MIB
DATA_AT = 4 * MIB  # where make() puts the first block
OLD = pattern(1, MIB)


def pending(path: Path, entries: Sequence[PendingEntry], *, start: int = 0, first: int = 1, **wanted: object) -> Path:
    make(path, blocks={0: Block(data=OLD)}, log=PendingLog(LOG_GUID, entries, start, first), **wanted)
    return path


def data(sector: int, value: int) -> LogWrite:
    """A write to a sector of the first block: easy to see, though Hyper-V logs metadata only."""
    return DataWrite(DATA_AT + sector * 4096, pattern(value, 4096))


def entry(*writes: LogWrite, **fields: int) -> PendingEntry:
    return PendingEntry(writes, **fields)


def value_at(path: Path, sector: int) -> int:
    """The number of the pattern that a sector of the first block reads as."""
    with opened(path) as layer:
        return int.from_bytes(read(layer, sector * 4096, 8), "big")


def refused(path: Path) -> VhdtoolError:
    with pytest.raises(VhdtoolError) as caught, opened(path):
        pass
    return caught.value


def test_a_pending_log_is_applied_in_memory_and_told(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(1, 100)), entry(data(2, 200), ZeroWrite(DATA_AT + 3 * 4096, 8192))])
    before = path.read_bytes()
    with opened(path) as layer:
        assert layer.info.log == layer.log_state == "replayed"
        assert codes(layer) == ["vhdx-log-pending"]
        assert layer.replay is not None
        assert (len(layer.replay.entries), layer.replay.data_sectors, layer.replay.zero_ranges) == (2, 2, 1)
        found = read(layer, 0, MIB)
    assert found == OLD[:4096] + pattern(100, 4096) + pattern(200, 4096) + bytes(8192) + OLD[5 * 4096 :]
    assert path.read_bytes() == before


def test_no_guid_means_no_replay(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(1, 100))])
    header = parse_header(stored(path, fmt.HEADER_OFFSETS[0], 4096))
    write_headers(path, replace(header, log_guid=fmt.NO_GUID))
    with opened(path) as layer:
        assert layer.info.log == "clean"
        assert layer.replay is None
        assert read(layer, 0, MIB) == OLD


def test_the_log_reaches_region_tables_metadata_and_bat(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain = make(path, blocks={0: Block(data=OLD)})
    good = path.read_bytes()
    table = good[fmt.REGION_TABLE_OFFSETS[0] :][:4096]
    metadata = good[plain.metadata_offset : plain.metadata_offset + 4096]
    items = good[plain.metadata_offset + 65536 :][:4096]
    bat = encode_bat_entry(6, DATA_AT).ljust(4096, b"\0")
    writes = [
        *(DataWrite(offset, table) for offset in fmt.REGION_TABLE_OFFSETS),
        DataWrite(plain.metadata_offset, metadata),
        DataWrite(plain.metadata_offset + 65536, items),
        DataWrite(plain.bat_offset, bat),
    ]
    path.unlink()
    pending(path, [entry(*writes)])
    for place in (*fmt.REGION_TABLE_OFFSETS, plain.metadata_offset, plain.metadata_offset + 65536, plain.bat_offset):
        overwrite(path, place, b"\xa5" * 4096)
    with opened(path) as layer:
        assert read(layer, 0, MIB) == OLD
        assert layer.info.virtual_size == 4 * MIB


def test_entries_may_wrap_at_the_end_of_the_log(tmp_path: Path) -> None:
    entries = [entry(*(data(sector, 10 * number + sector) for sector in range(3))) for number in range(1, 5)]
    path = pending(tmp_path / "a.vhdx", entries, start=MIB - 6 * 4096)  # the second entry goes round the end
    assert [value_at(path, sector) for sector in range(3)] == [40, 41, 42]


@pytest.mark.parametrize("first", [1, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 3])
def test_sequence_numbers_of_any_size(tmp_path: Path, first: int) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100)), entry(data(0, 200))], first=first)
    assert value_at(path, 0) == 200


def test_entries_before_the_tail_are_not_replayed(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100)), entry(data(1, 200), tail=8192)])
    assert value_at(path, 0) == 1  # the first entry is in the file already, says the second
    assert value_at(path, 1) == 200


def write_log(path: Path, log: PendingLog) -> None:
    size = path.stat().st_size
    for place, piece in encode_log(log, MIB, size):
        overwrite(path, LOG_AT + place, piece)


def test_the_highest_whole_sequence_wins(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))], first=5)
    write_log(path, PendingLog(LOG_GUID, [entry(data(0, 200))], 64 * 4096, 9))
    write_log(path, PendingLog(LOG_GUID, [entry(data(0, 150))], 128 * 4096, 7))
    assert value_at(path, 0) == 200


def test_a_torn_last_entry_is_dropped(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100)), entry(data(0, 200))])
    overwrite(path, LOG_AT + 8192 + 4096 + 2000, b"torn")
    assert value_at(path, 0) == 100


def test_a_sequence_whose_tail_is_gone_gives_way_to_an_older_one(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 200), tail=512 * 512)], first=9)
    write_log(path, PendingLog(LOG_GUID, [entry(data(0, 100))], 64 * 4096, 3))
    assert value_at(path, 0) == 100


def test_an_entry_inside_a_run_is_no_head(tmp_path: Path) -> None:
    # 2.3.3 judges a run of entries by its last one: entry 2 alone would be whole, entry 3 names a tail that is gone
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100)), entry(data(0, 200)), entry(data(0, 250), tail=99 * 4096)])
    assert refused(path).code == "vhdx-log-no-valid-sequence"


def test_stale_entries_of_another_log_do_not_count(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))], first=5)
    write_log(path, PendingLog(UUID(int=77), [entry(data(0, 200))], 64 * 4096, 9))
    assert value_at(path, 0) == 100


def test_a_gap_in_the_sequence_numbers_ends_a_run(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100)), entry(data(0, 200), sequence_number=3)])
    assert value_at(path, 0) == 100  # entry 3 needs a tail that does not lead to it


@pytest.mark.parametrize("place", [0, 4, 8, 12, 16, 24, 32, 64, 80, 4096, 8191])
def test_any_damage_makes_the_only_entry_invalid(tmp_path: Path, place: int) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))])
    overwrite(path, LOG_AT + place, bytes([stored(path, LOG_AT + place, 1)[0] ^ 4]))
    error = refused(path)
    assert isinstance(error, DamagedError)
    assert (error.code, error.offset) == ("vhdx-log-no-valid-sequence", LOG_AT)


ENTRY_FIELDS = {
    "entry_length": [0, 1, 4095, 4096, 12288, MIB, MIB + 4096, 0xFFFFF000, 0xFFFFFFFF],
    "tail": [1, 4095, MIB, 0xFFFFF000, 0xFFFFFFFF],
    "sequence_number": [0, 2, (1 << 64) - 1],
    "descriptor_count": [0, 2, 126, 127, 0xFFFFFFFF],
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, values in ENTRY_FIELDS.items() for value in values]
)
def test_entry_headers_that_lie_with_a_right_checksum(tmp_path: Path, field: str, value: int) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))])
    at = offset_of(fmt.LOG_ENTRY_HEADER, field)
    size = 8 if field == "sequence_number" else 4
    whole = bytearray(stored(path, LOG_AT, 8192))
    whole[at : at + size] = value.to_bytes(size, "little")
    overwrite(path, LOG_AT, fmt.sealed(bytes(whole)))
    assert refused(path).code == "vhdx-log-no-valid-sequence"


@pytest.mark.parametrize(
    "write",
    [
        DataWrite(0, bytes(4096)),
        DataWrite(65536, bytes(4096)),
        DataWrite(196608 - 4096, bytes(4096)),
        DataWrite(DATA_AT + 512, bytes(4096)),
        DataWrite(LOG_AT, bytes(4096)),
        DataWrite(2 * MIB - 4096, bytes(4096)),
        ZeroWrite(0, 1 << 40),
        ZeroWrite(196608, MIB),
        ZeroWrite(DATA_AT, 100),
        ZeroWrite(DATA_AT + 1, 4096),
        ZeroWrite(65536, (1 << 64) - 4096),
    ],
)
def test_writes_to_places_that_no_log_may_touch(tmp_path: Path, write: LogWrite) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(write)])
    error = refused(path)
    assert isinstance(error, DamagedError)
    assert error.code == "vhdx-log-write-invalid"
    assert error.offset == write.file_offset


def test_a_file_that_lost_its_end(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100), flushed_file_offset=6 * MIB)])
    error = refused(path)
    assert isinstance(error, DamagedError)
    assert error.code == "vhdx-log-file-truncated"
    assert (error.expected, error.found) == (f"at least {6 * MIB} bytes", f"{5 * MIB} bytes")


def test_the_last_file_offset_makes_the_file_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.vhdx"
    plain = make(path, blocks={0: Block(data=OLD)})
    path.unlink()
    bat = encode_bat_entry(6, DATA_AT) + encode_bat_entry(6, DATA_AT + MIB)
    pending(path, [entry(DataWrite(plain.bat_offset, bat.ljust(4096, b"\0")), last_file_offset=6 * MIB)])
    with opened(path) as layer:
        assert layer.stored_size == 6 * MIB
        assert layer.info.file_size == 5 * MIB
        assert read(layer, 0, 2 * MIB) == OLD + bytes(MIB)


@pytest.mark.parametrize(
    ("log_offset", "log_length"),
    [
        (0, MIB),
        (MIB + 4096, MIB),
        (MIB, 0),
        (MIB, 4096),
        (MIB, 0xFFF00000),
        (1 << 63, MIB),
        ((1 << 64) - MIB, MIB),
        (5 * MIB, MIB),
    ],
)
def test_a_log_in_a_place_that_none_may_have(tmp_path: Path, log_offset: int, log_length: int) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))])
    header = replace(
        parse_header(stored(path, fmt.HEADER_OFFSETS[0], 4096)), log_offset=log_offset, log_length=log_length
    )
    write_headers(path, header)
    assert refused(path).code == "vhdx-log-location"
    write_headers(path, replace(header, log_guid=fmt.NO_GUID))
    with opened(path) as layer:
        assert codes(layer) == ([] if log_length == 0 else ["vhdx-log-location"])
        assert layer.log_range is None
        assert read(layer, 0, MIB) == OLD


def test_another_version_of_the_log(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))])
    write_headers(path, replace(parse_header(stored(path, fmt.HEADER_OFFSETS[0], 4096)), log_version=1))
    error = refused(path)
    assert isinstance(error, UnsupportedError)
    assert error.code == "vhdx-log-version-unsupported"


def test_an_empty_log_that_should_hold_something(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [])
    assert refused(path).code == "vhdx-log-no-valid-sequence"


def test_a_log_full_to_the_last_sector(tmp_path: Path) -> None:
    # QEMU replays a part of such a log; ours all of it
    entries = [entry(*(data(sector, 1000 * number + sector) for sector in range(127))) for number in (1, 2)]
    path = pending(tmp_path / "a.vhdx", [entries[0]])
    full = [entry(*(data(sector, 1000 * number + sector) for sector in range(126))) for number in (1, 2)]
    path.unlink()
    pending(path, [*full, entry(data(0, 5000))])
    assert value_at(path, 0) == 5000
    assert value_at(path, 125) == 2125


def lying_log(path: Path, entry_bytes: bytes, length: int) -> None:
    """A log of ``length`` bytes that holds one piece over and over."""
    pending(path, [])
    header = parse_header(stored(path, fmt.HEADER_OFFSETS[0], 4096))
    with path.open("r+b") as file:
        file.truncate(8 * MIB + length)
        file.seek(8 * MIB)
        block = entry_bytes * (MIB // len(entry_bytes))
        for _ in range(length // MIB):
            file.write(block)
    write_headers(path, replace(header, log_offset=8 * MIB, log_length=length))


@pytest.mark.parametrize("honest", [False, True])
def test_a_log_of_nothing_but_entries_ends_soon(tmp_path: Path, *, honest: bool) -> None:
    (_, first), *_ = encode_log(PendingLog(LOG_GUID, [entry(tail=127 * MIB)]), MIB, 8 * MIB)
    lying_log(tmp_path / "a.vhdx", first if honest else first[:100] + b"x" + first[101:], 128 * MIB)
    started = time.perf_counter()
    with memory_peak() as peak:
        code = refused(tmp_path / "a.vhdx").code
    assert code == "vhdx-log-too-large"
    assert time.perf_counter() - started < 15  # tracing makes it several times slower than it is
    assert peak() < 256 * MIB


def test_a_log_beyond_the_limit(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))])
    header = parse_header(stored(path, fmt.HEADER_OFFSETS[0], 4096))
    with path.open("r+b") as file:
        file.truncate(8 * MIB + fmt.LOG_LENGTH_LIMIT + MIB)
    write_headers(path, replace(header, log_offset=8 * MIB, log_length=fmt.LOG_LENGTH_LIMIT + MIB))
    assert refused(path).code == "vhdx-log-too-large"


def test_overlapping_zero_ranges_without_number(tmp_path: Path) -> None:
    writes = [ZeroWrite(DATA_AT + 4096 * (number % 7), 4096 * (number % 11)) for number in range(20000)]
    path = pending(tmp_path / "a.vhdx", [entry(*writes, data(30, 7))])
    assert value_at(path, 30) == 7
    assert value_at(path, 3) == 0


def test_a_damaged_header_copy_and_a_pending_log(tmp_path: Path) -> None:
    path = pending(tmp_path / "a.vhdx", [entry(data(0, 100))])
    change(path, fmt.HEADER_OFFSETS[1] + 60, 1, lambda byte: bytes([byte[0] ^ 1]))
    with opened(path) as layer:
        assert codes(layer) == ["vhdx-header-copy-damaged", "vhdx-log-pending"]
    assert value_at(path, 0) == 100
