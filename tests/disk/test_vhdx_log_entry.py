from __future__ import annotations

import pytest

from tests.disk.vhdx_files import LOG_GUID, pattern
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.vhdx_log_entry import (
    DataWrite,
    LogWrite,
    ZeroWrite,
    descriptor_sectors,
    encode_entry,
    parse_entry_header,
    writes_of,
)

SEQUENCE = 0x0123456789ABCDEF


def entry_of(writes: list[LogWrite]) -> bytes:
    return encode_entry(
        writes,
        log_guid=LOG_GUID,
        sequence_number=SEQUENCE,
        tail=4096,
        flushed_file_offset=5 << 20,
        last_file_offset=6 << 20,
    )


# 2.3.1.1: the first sector has room for 126 descriptors after the header, each further one for 128
@pytest.mark.parametrize(("count", "sectors"), [(0, 1), (1, 1), (126, 1), (127, 2), (254, 2), (255, 3)])
def test_sectors_of_descriptors(count: int, sectors: int) -> None:
    assert descriptor_sectors(count) == sectors


def test_the_bytes_of_the_specification() -> None:
    data = pattern(9, 4096)
    entry = entry_of([DataWrite(0x300000, data), ZeroWrite(0x400000, 8192)])
    assert len(entry) == 8192
    assert entry[:4] == b"loge"
    assert entry[8:12] == (8192).to_bytes(4, "little")
    assert entry[12:16] == (4096).to_bytes(4, "little")
    assert entry[16:24] == SEQUENCE.to_bytes(8, "little")
    assert entry[24:28] == (2).to_bytes(4, "little")
    assert entry[32:48] == LOG_GUID.bytes_le
    assert entry[64:68] == b"desc"
    assert entry[68:72] == data[4092:]
    assert entry[72:80] == data[:8]
    assert entry[96:100] == b"zero"
    assert entry[104:112] == (8192).to_bytes(8, "little")
    assert entry[4096:4100] == b"data"
    assert entry[4100:4104] == (SEQUENCE >> 32).to_bytes(4, "little")
    assert entry[4104:8188] == data[8:4092]
    assert entry[8188:] == (SEQUENCE & 0xFFFFFFFF).to_bytes(4, "little")
    assert fmt.checksum_is_right(entry)


@pytest.mark.parametrize("count", [0, 1, 126, 127, 300])
def test_what_goes_in_comes_out(count: int) -> None:
    writes: list[LogWrite] = [
        ZeroWrite(number << 20, 4096) if number % 3 else DataWrite(number << 20, pattern(number, 4096))
        for number in range(count)
    ]
    entry = entry_of(writes)
    header = parse_entry_header(entry)
    assert header.entry_length == len(entry)
    assert (header.flushed_file_offset, header.last_file_offset) == (5 << 20, 6 << 20)
    assert list(writes_of(entry, header)) == writes


@pytest.mark.parametrize("place", [64, 88, 96, 120, 4096, 4100, 8188])
def test_a_wrong_signature_or_sequence_number(place: int) -> None:
    entry = bytearray(entry_of([DataWrite(0x300000, bytes(4096)), ZeroWrite(0x400000, 8192)]))
    entry[place] ^= 1
    with pytest.raises(ValueError, match=r"descriptor|sector"):
        list(writes_of(bytes(entry), parse_entry_header(bytes(entry))))


@pytest.mark.parametrize("change", [-4096, 4096])
def test_a_wrong_number_of_data_sectors(change: int) -> None:
    entry = entry_of([DataWrite(0x300000, bytes(4096))])
    header = parse_entry_header(entry)
    changed = entry[:change] if change < 0 else entry + bytes(change)
    with pytest.raises(ValueError, match=r"sector|longer"):
        list(writes_of(changed, header))
