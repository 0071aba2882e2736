from __future__ import annotations

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError
from vhdtool.fs.ntfs_stream import CompressedStream, ResidentStream

# The example of MS-XCA for LZNT1: one chunk.
LZNT1 = bytes.fromhex(
    "38b08846232000204720410010a24701a045204400084501507900c045200524138805b4024a44ef"
    "0358028c091601484500be009e000401189000"
)
PLAIN = (
    b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F#"
    b" D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0"
)


def stream(data: bytes, runs: list[tuple[int | None, int]], size: int, unit: int = 4) -> CompressedStream:
    return CompressedStream(MemoryDevice(data), runs, 512, unit_clusters=unit, size=size, initialized=size, what="/f")


def test_compressed_plain_and_empty_units() -> None:
    device = LZNT1.ljust(512, b"\0") + bytes([7]) * 2048
    found = stream(device, [(0, 1), (None, 3), (1, 4), (None, 4)], 6000)
    content = PLAIN.ljust(2048, b"\0") + bytes([7]) * 2048 + bytes(1904)
    assert found.read_at(0, 10_000) == content
    for offset in range(0, 6000, 611):
        assert found.read_at(offset, 900) == content[offset : offset + 900]
    assert found.extents() == ()


def test_many_units_do_not_stay_in_memory() -> None:
    found = stream(bytes([7]) * 512 * 64, [(0, 64)], 512 * 64)
    for offset in range(0, 512 * 64, 2048):
        assert found.read_at(offset, 1) == b"\x07"
    assert len(found._units) <= 8


def test_damaged_units() -> None:
    with pytest.raises(DamagedError):
        stream((b"\x03\xb0\xff\xff\xff\xff" * 90)[:512], [(0, 1), (None, 3)], 2048).read_at(0, 10)
    with pytest.raises(DamagedError):
        stream(b"", [(None, 1 << 20)], 100, unit=1 << 20)


def test_a_sparse_run_of_any_length_takes_no_time() -> None:
    found = stream(b"", [(None, 1 << 50)], 1 << 55)
    assert found.read_at(1 << 54, 10) == bytes(10)


def test_resident() -> None:
    assert ResidentStream(b"abc").read_at(1, 9) == b"bc"
    assert ResidentStream(b"abc").extents() == ()
