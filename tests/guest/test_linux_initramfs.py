from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import time

import pytest
from backports import zstd
from lz4 import block

from tests.guest.linux_files import cpio
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, InputError
from vhdtool.guest import linux_initramfs
from vhdtool.guest.linux_initramfs import read_initramfs
from vhdtool.guest.linux_unpack import PIECE, PackedStream, unpack

EARLY = cpio([("kernel/x86/microcode/AuthenticAMD.bin", b"\xff" * 5001)])
MAIN = cpio(
    [
        ("usr/lib/modules/6.1.0/kernel/drivers/hv/hv_vmbus.ko.zst", b"x" * 70_000),
        ("usr/lib/modules/6.1.0/kernel/drivers/hid/hid-hyperv.ko", b"y" * 3),
        ("./lib/modules/5.0/hv_utils.ko.xz", b""),
        ("usr/lib/modules/6.1.0/modules.dep", b"hv_storvsc.ko"),
        ("init", b"z" * 2_500_001),
    ]
)
EXPECTED = {("6.1.0", "hv_vmbus"), ("6.1.0", "hid_hyperv"), ("5.0", "hv_utils")}


def lz4_legacy(data: bytes) -> bytes:
    found = struct.pack("<I", 0x184C2102)
    for at in range(0, len(data), 8 << 20):
        packed = block.compress(data[at : at + (8 << 20)], store_size=False)
        found += struct.pack("<I", len(packed)) + packed
    return found


PACKERS = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstd.compress,
    "lz4": lz4_legacy,
}


def read(data: bytes):
    return read_initramfs(BytesSource(data), path="/boot/initrd")


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("early", [b"", EARLY, EARLY + bytes(512), bytes(4) + EARLY])
def test_every_compression_alone_and_behind_a_plain_archive(kind: str, early: bytes):
    found = read(early + PACKERS[kind](MAIN))
    assert found.modules == EXPECTED
    assert found.compression == kind
    assert found.files == 5 + (1 if early else 0)


@pytest.mark.parametrize("kind", PACKERS)
def test_archives_follow_each_other_in_any_mixture(kind: str):
    more = cpio([("lib/modules/6.1.0/updates/hv_sock.ko", b"")])
    packed = PACKERS[kind](MAIN + bytes(100) + more)
    assert read(packed).modules == EXPECTED | {("6.1.0", "hv_sock")}
    if kind != "lz4":  # whose old frame has no end that can be told
        assert read(PACKERS[kind](MAIN) + bytes(8) + PACKERS[kind](more)).modules == EXPECTED | {("6.1.0", "hv_sock")}


def test_what_is_in_the_files_is_not_read():
    data = cpio([("a", bytes(50 << 20)), ("lib/modules/6/hv_sock.ko", b"")])

    class Counted(BytesSource):
        read = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.read += length
            return super().read_at(offset, length)

    source = Counted(data)
    assert read_initramfs(source).modules == {("6", "hv_sock")}
    assert source.read < 1 << 20


def header(name_size: bytes = b"00000002", size: bytes = b"00000000", magic: bytes = b"070701") -> bytes:
    return magic + b"0" * 48 + size + b"0" * 32 + name_size + b"0" * 8 + b"a\0\0\0"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(100_000),
        b"hello",
        b"070701",
        MAIN[:50],
        MAIN[: len(MAIN) // 2],
        header(name_size=b"00000000"),
        header(name_size=b"ffffffff"),
        header(name_size=b"-0000001"),
        header(size=b"zzzzzzzz"),
        header(size=b"ffffffff"),
        header(size=b"-0000010"),
        EARLY + b"garbage",
        cpio([("a", b"")])[:-8],
    ],
)
@pytest.mark.parametrize("kind", PACKERS)
def test_damage_is_one_clear_error(data: bytes, kind: str):
    with pytest.raises(DamagedError) as caught:
        read(PACKERS[kind](data))
    assert caught.value.code in {"initramfs-damaged", "truncated", "packed-data-damaged"}
    assert caught.value.path == "/boot/initrd"


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "none"])
def test_packed_data_that_is_cut_off_or_changed(kind: str):
    whole = PACKERS[kind](MAIN)
    for data in (whole[: len(whole) // 2], whole[:20], whole[: len(whole) // 3] + b"\xff" * 2000):
        with pytest.raises(InputError):
            read(data)


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "none"])
def test_a_bomb_is_not_unpacked_to_its_end(kind: str, monkeypatch: pytest.MonkeyPatch):
    bomb = PACKERS[kind](cpio([("a", bytes(40 << 20))]))
    assert len(bomb) < 1 << 20
    with pytest.raises(InputError) as caught:
        read_initramfs(BytesSource(bomb), most=1 << 20)
    assert caught.value.code == "initramfs-too-large"
    sizes = [len(piece) for _, piece in zip(range(4), PackedStream(BytesSource(bomb), 0, kind).pieces(), strict=False)]
    assert max(sizes) <= PIECE


def test_a_window_that_would_take_the_memory_is_refused():
    # a frame header that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2), and one block that needs it not
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, (31 - 10) << 3]) + b"\x01\x00\x00"
    with pytest.raises(InputError) as caught:
        read(frame)
    assert caught.value.code == "packed-data-damaged"


def test_many_ends_cost_no_more_than_their_bytes():
    ends = cpio([]) * 100_000
    start = time.monotonic()
    assert read(gzip.compress(ends)).files == 0
    assert time.monotonic() - start < 10


def test_there_are_not_more_files_than_a_system_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linux_initramfs, "MOST_FILES", 10)
    with pytest.raises(InputError) as caught:
        read(cpio([("a", b"")] * 11))
    assert caught.value.code == "initramfs-too-large"


def test_lzo_is_known_and_not_unpacked():
    with pytest.raises(InputError) as caught:
        read(b"\x89LZO\0\r\n\x1a\n" + bytes(100))
    assert caught.value.code == "compression-unknown"


def test_a_file_that_unpacks_to_too_much():
    assert unpack(BytesSource(gzip.compress(b"abc")), "gzip", 3) == b"abc"
    with pytest.raises(InputError) as caught:
        unpack(BytesSource(gzip.compress(b"abcd")), "gzip", 3)
    assert caught.value.code == "unpacked-too-large"
