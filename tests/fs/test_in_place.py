from __future__ import annotations

import hashlib
import random
import struct

import pytest

from tests.fs import features
from tests.fs.ntfs_surgery import DATA, Surgery, attribute, differing, runs, u16
from tests.fs.test_fitness import segment
from tests.fs.test_ntfs import VOLUME as FEATURES
from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError, NotFoundError, RefusedError, VhdtoolError
from vhdtool.fs.in_place import NEEDS_WRITER, overwrite
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_check import check_touched

PLAIN = features.FILES["/plain.bin"]


class WritableMemory(MemoryDevice):
    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data)
        self.writes: list[tuple[int, int]] = []

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        assert 0 <= offset <= len(self.data) - len(view)
        self.data[offset : offset + len(view)] = view
        self.writes.append((offset, len(view)))


def content(data: bytes | bytearray, path: str) -> bytes:
    file = NtfsFilesystem(MemoryDevice(data)).open(path)
    return file.read_at(0, file.size)


def fragmented() -> tuple[bytes, bytes, list[int]]:
    """/resident.txt with four clusters apart and out of order: the volume, the file's bytes, and those clusters."""
    volume = Surgery(FEATURES)
    start = volume.free_cluster(8)
    clusters = [start + 5, start + 1, start + 2, start + 7]
    volume.make_room(segment("/resident.txt"), clusters)
    content_ = random.Random(9).randbytes(4 * 4096)
    for number, cluster in enumerate(clusters):
        volume.data[cluster * 4096 : (cluster + 1) * 4096] = content_[number * 4096 : (number + 1) * 4096]
    return bytes(volume.data), content_, clusters


def test_bytes_are_written_where_the_file_has_them() -> None:
    device = WritableMemory(FEATURES)
    fs = NtfsFilesystem(device)
    assert overwrite(device, fs, "\\PLAIN.bin", [(0, b"first"), (len(PLAIN) - 4, b"last"), (511, b"over")]) == 13
    expected = bytearray(PLAIN)
    expected[:5], expected[-4:], expected[511:515] = b"first", b"last", b"over"
    assert content(device.data, "/plain.bin") == bytes(expected)
    allowed = {at for offset, length in device.writes for at in range(offset, offset + length)}
    assert {at for at in range(len(FEATURES)) if device.data[at] != FEATURES[at]} <= allowed
    assert sum(length for _, length in device.writes) == 13


def test_the_order_of_the_pieces_holds() -> None:
    device = WritableMemory(FEATURES)
    overwrite(device, NtfsFilesystem(device), "/plain.bin", [(10, b"aaaa"), (12, b"bb"), (0, b"z")])
    assert content(device.data, "/plain.bin")[:14] == b"z" + PLAIN[1:10] + b"aabb"
    assert [length for _, length in device.writes] == [4, 2, 1]


def test_a_file_in_pieces() -> None:
    data, whole, clusters = fragmented()
    assert content(data, "/resident.txt") == whole
    rng = random.Random(5)
    for _ in range(30):
        device = WritableMemory(data)
        offset = rng.randrange(len(whole))
        piece = rng.randbytes(rng.randint(1, len(whole) - offset))
        assert overwrite(device, NtfsFilesystem(device), "/resident.txt", [(offset, piece)]) == len(piece)
        assert content(device.data, "/resident.txt") == whole[:offset] + piece + whole[offset + len(piece) :]
        written = differing(data, bytes(device.data))
        assert {at // 4096 for at, _ in written} <= set(clusters)
        number = segment("/resident.txt")
        assert check_touched(MemoryDevice(data), device, written, path=None, overwritten=[number]) == ()


def test_nothing_to_write() -> None:
    device = WritableMemory(FEATURES)
    for path in ("/plain.bin", "/resident.txt", "/empty"):
        assert overwrite(device, NtfsFilesystem(device), path, []) == 0
        assert overwrite(device, NtfsFilesystem(device), path, [(0, b"")]) == 0
    assert device.writes == []
    assert device.data == FEATURES


def test_a_short_name_beside_the_long_one_is_no_second_file() -> None:
    """Both names are the file's; the resident data is the only reason against it."""
    for name in (features.LONG_NAME, features.SHORT_NAME):
        assert refused("/" + name, [(0, b"x")]).code == "file-resident"


def refused(path: str, pieces: list[tuple[int, bytes]], data: bytes = FEATURES) -> VhdtoolError:
    device = WritableMemory(data)
    before = hashlib.sha256(device.data).digest()
    with pytest.raises(VhdtoolError) as caught:
        overwrite(device, NtfsFilesystem(device), path, pieces)
    assert device.writes == []
    assert hashlib.sha256(device.data).digest() == before
    return caught.value


@pytest.mark.parametrize(
    ("path", "pieces", "code"),
    [
        ("/resident.txt", [(0, b"x")], "file-resident"),
        ("/empty", [(0, b"x")], "file-beyond-end"),
        ("/plain.bin", [(0, b"fine"), (len(PLAIN) - 1, b"xy")], "file-beyond-end"),
        ("/plain.bin", [(0, b"fine"), (-1, b"x")], "file-beyond-end"),
        ("/plain.bin", [(1 << 60, b"x")], "file-beyond-end"),
        ("/wof-lzx", [(0, b"x")], "file-wof-compressed"),
        ("/compressed/words.txt", [(0, b"x")], "file-compressed"),
        ("/sparse.bin", [(0, b"x")], "file-sparse"),
        ("/junction/Sub/File.txt", [(0, b"x")], "reparse-on-path"),
        ("/$Bitmap", [(0, b"x")], "file-system-file"),
    ],
)
def test_refusals_write_nothing_at_all(path: str, pieces: list[tuple[int, bytes]], code: str) -> None:
    error = refused(path, pieces)
    assert isinstance(error, RefusedError)
    assert (error.code, error.exit_code) == (code, 4)
    assert error.hint


@pytest.mark.parametrize(
    ("path", "code"),
    [("/nothing", "no-such-file"), ("/Directory", "is-a-directory"), ("/plain.bin/x", "not-a-directory")],
)
def test_names_that_lead_to_no_file(path: str, code: str) -> None:
    error = refused(path, [(0, b"x")])
    assert isinstance(error, NotFoundError)
    assert error.code == code


def edited(offset: int, layout: str, content_: int, type_: int = DATA) -> bytes:
    volume = Surgery(FEATURES)
    volume.edit(
        segment("/plain.bin"),
        lambda record: struct.pack_into(layout, record, attribute(record, type_) + offset, content_),
    )
    return bytes(volume.data)


def test_beyond_what_was_ever_written() -> None:
    data = edited(56, "<Q", 1000)
    assert refused("/plain.bin", [(0, b"fine"), (999, b"xy")], data).code == "file-beyond-initialized"
    device = WritableMemory(data)
    assert overwrite(device, NtfsFilesystem(device), "/plain.bin", [(999, b"x")]) == 1


def test_hard_links() -> None:
    assert refused("/hardlinks/000 a name of some length, of which one record holds not many", [(0, b"x")]).code == (
        "file-hard-linked"
    )
    volume = Surgery(FEATURES)
    volume.edit(segment("/plain.bin"), lambda record: struct.pack_into("<H", record, 18, 2))
    assert refused("/plain.bin", [(0, b"x")], bytes(volume.data)).code == "file-hard-linked"


def test_what_the_writer_can_do_instead_is_named() -> None:
    assert {"file-hard-linked", "file-resident", "file-beyond-initialized", "file-beyond-end"} == NEEDS_WRITER


def claiming(cluster: int) -> bytes:
    volume = Surgery(FEATURES)

    def change(record: bytearray) -> None:
        at = attribute(record, DATA)
        at += u16(record, at + 32)
        size = record[at] >> 4
        record[at + 2 : at + 2 + size] = cluster.to_bytes(size, "little")

    volume.edit(segment("/plain.bin"), change)
    return bytes(volume.data)


def test_run_lists_that_lead_where_no_file_may_write() -> None:
    volume = Surgery(FEATURES)
    places = {
        "free": volume.free_cluster(8),
        "$MFT": struct.unpack_from("<Q", FEATURES, 48)[0],
        "$MFTMirr": struct.unpack_from("<Q", FEATURES, 56)[0],
        "boot sector": 0,
        "$Bitmap": runs(record := volume.record(6), attribute(record, DATA))[0][0],
        "$LogFile": runs(record := volume.record(2), attribute(record, DATA))[0][0],
    }
    for cluster in places.values():
        error = refused("/plain.bin", [(0, b"x")], claiming(cluster))
        assert isinstance(error, DamagedError)


def test_a_cluster_that_the_file_has_twice() -> None:
    volume = Surgery(FEATURES)
    start = volume.free_cluster(2)
    volume.make_room(segment("/resident.txt"), [start, start + 1, start])
    volume.flip_bit(6, DATA, start)
    error = refused("/resident.txt", [(0, b"x")], bytes(volume.data))
    assert isinstance(error, DamagedError)
    assert "twice" in error.message


def test_names_of_the_file_are_counted_in_all_records() -> None:
    error = refused(features.SPILLED, [(0, b"x")])
    assert error.found == f"{features.HARD_LINKS + 1} names"
