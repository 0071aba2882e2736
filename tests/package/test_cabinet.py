"""Cabinets made for the purpose: what is told of them, what is read, and what damage and lies lead to."""

from __future__ import annotations

import gc
import random
import struct
import sys
import tempfile
import time
import tracemalloc
from datetime import datetime
from pathlib import Path

import pytest

from scripts.fixtures.cab_files import (
    LZX,
    MSZIP,
    NO_RESERVES,
    SIGNATURE_ROOM,
    STORED,
    CabFile,
    CabFolder,
    Reserves,
    build_cab,
    sign_with,
)
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, NotFoundError, RefusedError, UnsupportedError, VhdtoolError
from vhdtool.package import cabinet as cabinet_module
from vhdtool.package import cabinet_folder
from vhdtool.package.cabinet import Cabinet, CabinetMember

TEXT = b"All of it is text. " * 3000
NOISE = random.Random(4).randbytes(100_000)
FILES = (CabFile("readme.txt", TEXT), CabFile(r"sub\noise.bin", NOISE), CabFile("empty", b""), CabFile("end", b"end"))


def opened(data: bytes, path: str = "a.cab") -> Cabinet:
    return Cabinet.open(BytesSource(data), path=path)


def contents(cabinet: Cabinet) -> dict[str, bytes]:
    return {member.name: data for member, data in cabinet.read_all()}


def fails(data: bytes, name: str | None = None) -> VhdtoolError:
    """The error of opening, or of reading one or all files."""
    with pytest.raises(VhdtoolError) as caught:
        _ = contents(opened(data)) if name is None else opened(data).read(name)
    assert caught.value.path == "a.cab"
    return caught.value


def patched(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
@pytest.mark.parametrize(
    "reserves",
    [NO_RESERVES, SIGNATURE_ROOM, Reserves(folder=8), Reserves(block=12), Reserves(b"x" * 20_000, 255, 255)],
)
@pytest.mark.parametrize("checksums", [True, False])
def test_every_layout_gives_its_files(method: int, reserves: Reserves, checksums: bool) -> None:
    cabinet = opened(build_cab([CabFolder(FILES, method)], reserves=reserves, checksums=checksums))
    assert contents(cabinet) == {file.name: file.data for file in FILES}
    assert cabinet.reserve == reserves.header
    assert cabinet.problems == ()


def test_facts_of_members() -> None:
    data = build_cab(
        [
            CabFolder(
                [CabFile("a", b"1" * 9, 0x21), CabFile("Größe.txt", b"22", 0, (1999, 12, 31, 23, 59, 58))], STORED
            ),
            CabFolder([CabFile(r"sub\b", b"333")], MSZIP),
        ]
    )
    cabinet = opened(data)
    assert cabinet.members == (
        CabinetMember("a", 9, 0, "stored", datetime(2016, 6, 25, 13, 24, 30), 0x21, 0),
        CabinetMember("Größe.txt", 2, 0, "stored", datetime(1999, 12, 31, 23, 59, 58), 0x80, 9),
        CabinetMember(r"sub\b", 3, 1, "MSZIP", datetime(2016, 6, 25, 13, 24, 30), 0x20, 0),
    )
    assert (cabinet.path, cabinet.size, cabinet.signature_range) == ("a.cab", len(data), None)
    assert cabinet.read("SUB/B") == b"333"
    assert cabinet.member("größe.TXT").parts == ("Größe.txt",)
    assert cabinet.members[2].parts == ("sub", "b")
    assert cabinet.find("c") is None
    with pytest.raises(NotFoundError) as caught:
        cabinet.read("c")
    assert caught.value.code == "cabinet-no-such-file"


def test_a_time_that_is_none() -> None:
    data = build_cab([CabFolder([CabFile("a", b"1")])])
    entry = struct.unpack_from("<I", data, 16)[0]
    assert opened(patched(data, entry + 10, b"\0\0")).members[0].modified is None


def test_signature_and_extra_bytes() -> None:
    unsigned = build_cab([CabFolder(FILES)], reserves=SIGNATURE_ROOM)
    assert opened(unsigned).signature_range is None
    signed = sign_with(unsigned, b"signature")
    cabinet = opened(signed)
    assert cabinet.signature_range == (len(unsigned), 16)
    assert (cabinet.problems, cabinet.size, cabinet.source.size) == ((), len(signed), len(signed))
    assert contents(cabinet)["readme.txt"] == TEXT
    more = opened(signed + b"more")
    assert [(one.code, one.offset) for one in more.problems] == [("cabinet-extra-bytes", len(unsigned))]


def test_asked_files_only_and_in_folder_order() -> None:
    folders = [CabFolder([CabFile(f"{number}{letter}", letter.encode()) for letter in "ab"]) for number in range(3)]
    cabinet = opened(build_cab(folders))
    names = [member.name for member, _ in cabinet.read_all(["2B", "0b", "2a"])]
    assert names == ["0b", "2a", "2b"]


def test_a_member_as_a_source() -> None:
    cabinet = opened(build_cab([CabFolder(FILES)]))
    source = cabinet.open_member(cabinet.member(r"sub\noise.bin"))
    assert source.size == len(NOISE)
    assert source.read_at(99_990, 50) == NOISE[99_990:]
    assert source.read_at(200_000, 5) == b""
    assert cabinet.open_member(cabinet.member("empty")).read_at(0, 10) == b""
    with pytest.raises(ValueError, match="negative"):
        source.read_at(-1, 5)


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
def test_a_long_folder_is_kept_in_a_file_that_goes_away(method: int, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cabinet_folder, "IN_MEMORY", 1000)
    monkeypatch.setattr(cabinet_module, "IN_MEMORY", 1000)
    cabinet = opened(build_cab([CabFolder(FILES, method)]))
    assert cabinet.read("readme.txt") == TEXT
    assert cabinet.read("end") == b"end"
    source = cabinet.open_member(cabinet.member(r"sub\noise.bin"))
    assert source.read_at(5, 1000) == NOISE[5:1005]
    del cabinet
    gc.collect()
    assert source.read_at(0, len(NOISE)) == NOISE
    del source
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_long_file_costs_little_memory(monkeypatch) -> None:
    big = 48 << 20
    data = build_cab([CabFolder([CabFile("big", bytes(range(256)) * (big // 256))], STORED)], checksums=False)
    cabinet = opened(data)
    tracemalloc.start()
    source = cabinet.open_member(cabinet.members[0])
    assert source.read_at(big - 4, 10) == b"\xfc\xfd\xfe\xff"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    monkeypatch.setattr(cabinet_module, "MAX_AS_BYTES", big - 1)
    with pytest.raises(RefusedError) as caught:
        cabinet.read("big")
    assert caught.value.code == "cabinet-too-large"


def cab_of_many(count: int, method: int) -> bytes:
    return build_cab([CabFolder([CabFile(f"f{n:05}", (b"%05d" % n) * 200) for n in range(count)], method)])


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
def test_a_folder_is_decoded_once_whatever_is_asked_in_whatever_order(method: int, monkeypatch) -> None:
    decoded: list[int] = []
    real = cabinet_module.unpack_folder
    monkeypatch.setattr(
        cabinet_module, "unpack_folder", lambda folder, need: decoded.append(need) or real(folder, need)
    )
    cabinet = opened(cab_of_many(2000, method))
    for n in (1999, 0, 1000, *range(2000)):
        assert cabinet.read(f"f{n:05}") == (b"%05d" % n) * 200
    assert decoded == [2000 * 1000]


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
def test_many_files_in_one_folder_cost_what_their_bytes_cost(method: int) -> None:
    def seconds(count: int) -> float:
        data = cab_of_many(count, method)
        spent = []
        for _ in range(7):
            gc.collect()
            started = time.process_time()
            cabinet = opened(data)
            for member in cabinet.members:
                cabinet.read(member.name)
            spent.append(time.process_time() - started)
        return min(spent)

    assert seconds(2000) <= 12 * seconds(200)


def test_other_formats_are_named() -> None:
    for start, word in ((b"MZ" + bytes(60), "program"), (b"MSWIM\0\0\0", "Windows image"), (b"PK\3\4", "ZIP")):
        error = fails(start)
        assert isinstance(error, UnsupportedError)
        assert error.code == "not-a-cabinet"
        assert word in error.message
    assert fails(b"").code == "not-a-cabinet"
    assert fails(b"MSC").code == "not-a-cabinet"


def test_a_version_that_is_not_known() -> None:
    assert fails(patched(build_cab([CabFolder(FILES)]), 24, b"\4")).code == "cabinet-version-unknown"


def test_every_cut_gives_one_error() -> None:
    data = build_cab([CabFolder([CabFile("a", b"1" * 300), CabFile("b", NOISE[:200])])], reserves=SIGNATURE_ROOM)
    for length in range(len(data)):
        error = fails(data[:length])
        assert error.code in {"not-a-cabinet", "cabinet-damaged"}, length


def test_a_cut_cabinet_gives_the_files_before_the_cut() -> None:
    data = build_cab([CabFolder(FILES, STORED)])
    cabinet = opened(data[:-50_000])
    assert [(one.code, one.offset) for one in cabinet.problems] == [("cabinet-cut-off", cabinet.size)]
    reading = cabinet.read_all()
    assert next(reading)[1] == TEXT
    with pytest.raises(DamagedError) as caught:
        next(reading)
    assert caught.value.code == "cabinet-damaged"
    assert r"sub\noise.bin" in caught.value.message
    assert cabinet.read("empty") == b""


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
def test_a_changed_byte_is_found_and_located(method: int) -> None:
    data = build_cab([CabFolder(FILES, method)])
    first = struct.unpack_from("<I", data, 36)[0]
    size = struct.unpack_from("<H", data, first + 4)[0]
    second = first + 8 + size
    for place in (second + 4, second + 8, second + 8 + 77, second + 8 + 78, second + 8 + 79):
        error = fails(patched(data, place, bytes([data[place] ^ 0x10])))
        assert error.code in {"cabinet-checksum", "cabinet-damaged"}, place
        assert error.offset == second or place == second + 4  # the block's length: the next block is not where it was
    broken = patched(data, second + 100, bytes([data[second + 100] ^ 1]))
    assert fails(broken, "readme.txt").offset == second
    assert opened(broken).read("empty") == b""


def test_damage_without_a_checksum_is_found_by_the_decoder() -> None:
    data = build_cab([CabFolder(FILES, MSZIP)], checksums=False)
    first = struct.unpack_from("<I", data, 36)[0]
    error = fails(patched(data, first + 8, b"XX"))
    assert (error.code, error.offset) == ("cabinet-damaged", first)


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (16, b"\xff\xff", "cabinet-damaged"),  # the file table elsewhere
        (26, b"\0\0", "cabinet-damaged"),  # no folders
        (26, b"\2\0", "cabinet-damaged"),  # two folders: the file table begins elsewhere
        (28, b"\0\0", "cabinet-damaged"),  # no files
        (28, b"\xff\xff", "cabinet-damaged"),  # more files than fit
        (36, b"\0\0\0\0", "cabinet-damaged"),  # data in the header
        (36, b"\xff\xff\xff\xff", "cabinet-damaged"),  # data after the end
        (40, b"\0\0", "cabinet-damaged"),  # no blocks
        (40, b"\xff\xff", "ok"),  # more blocks than there are: no file needs them
        (42, b"\4\0", "cabinet-compression-unknown"),
        (42, b"\3\x0e", "cabinet-compression-unknown"),  # LZX:14
        (42, b"\2\x16", "cabinet-compression-unknown"),  # Quantum:22
        (42, b"\3\x15", "cabinet-damaged"),  # LZX in name only
        (42, b"\2\x12", "cabinet-damaged"),  # Quantum in name only
        (42, b"\0\0", "cabinet-damaged"),  # stored in name only
        (44, b"\xff\xff\xff\x7f", "cabinet-damaged"),  # a file longer than its folder
        (48, b"\xff\xff\xff\xff", "cabinet-damaged"),  # a file beginning after its folder
        (52, b"\1\0", "cabinet-damaged"),  # a file in no folder
        (52, b"\xfe\xff", "cabinet-damaged"),
        (52, b"\xfd\xff", "cabinet-damaged"),
        (60, b"\0", "cabinet-damaged"),  # no name
    ],
)
def test_lies_in_the_tables(offset: int, value: bytes, code: str) -> None:
    data = patched(build_cab([CabFolder([CabFile("a", TEXT)])]), offset, value)
    if code == "ok":
        assert opened(data).read("a") == TEXT
    else:
        assert fails(data).code == code


@pytest.mark.parametrize(("packed", "unpacked"), [(0, 5), (5, 0), (65535, 32768), (10, 32769), (10, 65535)])
def test_lies_in_a_block(packed: int, unpacked: int) -> None:
    data = build_cab([CabFolder([CabFile("a", NOISE)], STORED)], checksums=False)
    first = struct.unpack_from("<I", data, 36)[0]
    error = fails(patched(data, first + 4, struct.pack("<HH", packed, unpacked)))
    assert error.code == "cabinet-damaged"


def one_block(method: int, data: bytes, unpacked: int, size: int) -> bytes:
    """A cabinet of one block that says of itself what it likes."""
    header = struct.pack("<4sIIIIIBBHHHHH", b"MSCF", 0, 70 + len(data), 0, 44, 0, 3, 1, 1, 1, 0, 0, 0)
    entry = struct.pack("<IIHHHH", size, 0, 0, 0x48D9, 0, 0x20) + b"a\0"
    block = struct.pack("<IHH", 0, len(data), unpacked) + data
    return header + struct.pack("<IHH", 62, 1, method) + entry + block


@pytest.mark.parametrize(
    ("method", "data", "unpacked"),
    [
        (STORED, b"1" * 10, 20),
        (STORED, b"1" * 20, 10),
        (MSZIP, b"CK\x01\x0a\0\xf5\xff" + b"1" * 10, 20),
        (MSZIP, b"CK\x01\x14\0\xeb\xff" + b"1" * 20, 10),
        (MSZIP, b"CK\x00\x0a\0\xf5\xff" + b"1" * 10, 10),  # the stream does not end
        (MSZIP, b"CK" + b"\0\0\0\xff\xff" * 8000 + b"\x01\x0a\0\xf5\xff" + b"1" * 10, 10),  # longer than may be
    ],
)
def test_a_block_that_is_not_as_long_as_it_says(method: int, data: bytes, unpacked: int) -> None:
    assert opened(one_block(STORED, b"1" * 10, 10, 10)).read("a") == b"1" * 10
    assert opened(one_block(MSZIP, b"CK\x01\x0a\0\xf5\xff" + b"1" * 10, 10, 10)).read("a") == b"1" * 10
    error = fails(one_block(method, data, unpacked, 10))
    assert (error.code, error.offset) == ("cabinet-damaged", 62)


def test_a_folder_that_is_longer_than_its_files(monkeypatch) -> None:
    data = build_cab([CabFolder([CabFile("a", b"1" * 1000)])])
    monkeypatch.setattr(cabinet_module, "MAX_UNPACKED", 5000)
    assert opened(data).read("a") == b"1" * 1000
    assert fails(patched(data, 48, struct.pack("<I", 6000))).code == "cabinet-too-large"


def test_a_name_without_end() -> None:
    data = build_cab([CabFolder([CabFile("n" * 255, b"1")])])
    assert opened(data).read("n" * 255) == b"1"
    error = fails(build_cab([CabFolder([CabFile("n" * 256, b"1")])]))
    assert (error.code, error.offset) == ("cabinet-damaged", 60)


@pytest.mark.parametrize(
    "name", [r"..\a", "/a", r"\a", r"\\host\share\a", r"C:\a", "a:stream", r"a\..\..\b", "a//b", "b\\", "a\x01", "."]
)
def test_names_that_lead_out(name: str) -> None:
    cabinet = opened(build_cab([CabFolder([CabFile(name, b"1"), CabFile("ok", b"2")])]))
    assert [one.code for one in cabinet.problems] == ["cabinet-unsafe-name"]
    with pytest.raises(RefusedError) as caught:
        _ = cabinet.members[0].parts
    assert caught.value.code == "cabinet-unsafe-name"
    assert cabinet.read("ok") == b"2"


def test_a_name_twice_is_never_guessed() -> None:
    cabinet = opened(build_cab([CabFolder([CabFile("update.mum", b"1"), CabFile("UPDATE.mum", b"2")])]))
    assert [one.code for one in cabinet.problems] == ["cabinet-name-twice"]
    with pytest.raises(DamagedError) as caught:
        cabinet.read("update.mum")
    assert caught.value.code == "cabinet-name-twice"
    assert [data for _, data in cabinet.read_all()] == [b"1", b"2"]
    assert len(cabinet.find_all("Update.Mum")) == 2


def test_problems_are_not_without_number() -> None:
    cabinet = opened(build_cab([CabFolder([CabFile(rf"..\{number}", b"") for number in range(500)])]))
    assert len(cabinet.problems) == cabinet_module.MAX_NOTED


def huge(size: int, blocks: int = 0xFFFF) -> bytes:
    """A cabinet of a few hundred bytes that says it unpacks to ``size``."""
    data = build_cab([CabFolder([CabFile("a", b"1")])])
    return patched(patched(data, 44, struct.pack("<I", size)), 40, struct.pack("<H", blocks))


def test_a_ratio_that_no_package_has() -> None:
    error = fails(huge(100 << 20))
    assert isinstance(error, RefusedError)
    assert error.code == "cabinet-too-large"
    assert "100 times" in (error.expected or "")


def test_limits_hold_before_anything_is_unpacked(monkeypatch) -> None:
    data = build_cab([CabFolder([CabFile(f"f{number}", b"1" * 1000) for number in range(5)])] * 2)
    monkeypatch.setattr(cabinet_folder, "unpack_folder", None)
    monkeypatch.setattr(cabinet_module, "unpack_folder", None)
    opened(data)
    for name, value in (("MAX_MEMBERS", 9), ("MAX_UNPACKED", 9999)):
        with monkeypatch.context() as patch:
            patch.setattr(cabinet_module, name, value)
            error = fails(data)
            assert error.code == "cabinet-too-large", name
            assert isinstance(error, RefusedError)


def test_files_that_share_bytes_count_each() -> None:
    """Five hundred files over the same 20 MiB of a folder: 10 GiB unpacked from 20 KiB."""
    data = build_cab([CabFolder([CabFile("a", bytes(20 << 20)), *(CabFile(f"f{n}", b"") for n in range(500))])])
    data = bytearray(data)
    entry = struct.unpack_from("<I", data, 16)[0]
    for _ in range(501):
        struct.pack_into("<II", data, entry, 20 << 20, 0)
        entry = data.index(b"\0", entry + 16) + 1
    assert fails(bytes(data)).code == "cabinet-too-large"


def test_folders_that_share_blocks_count_each() -> None:
    """Ten thousand folders of 65,535 blocks each, all the same blocks: bounded before they are walked."""
    data = bytearray(build_cab([CabFolder([CabFile(f"f{n}", b"1")]) for n in range(10_000)]))
    for number in range(10_000):
        struct.pack_into("<H", data, 36 + 8 * number + 4, 0xFFFF)
    started = time.perf_counter()
    assert fails(bytes(data)).code == "cabinet-too-large"
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("method", [STORED, LZX])
def test_no_room_for_temporary_files(method: int, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(cabinet_folder, "IN_MEMORY", 1000)
    with pytest.raises(VhdtoolError) as caught:
        opened(build_cab([CabFolder(FILES, method)])).read("end")
    assert caught.value.code == "cannot-unpack"
    assert caught.value.exit_code == 7


def test_libmspack_that_can_not_write(monkeypatch) -> None:
    cab = pytest.importorskip("pylibmspack.cab")
    monkeypatch.setattr(cab._cab, "extract_file", lambda *_: 4)  # MSPACK_ERR_WRITE
    with pytest.raises(VhdtoolError) as caught:
        opened(build_cab([CabFolder(FILES, LZX)])).read("end")
    assert caught.value.code == "cannot-unpack"


def test_without_libmspack(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibmspack", None)
    with pytest.raises(VhdtoolError) as caught:
        opened(build_cab([CabFolder(FILES, LZX)])).read("end")
    assert caught.value.code == "libmspack-missing"
    assert opened(build_cab([CabFolder(FILES, MSZIP)])).read("end") == b"end"


def test_a_mutated_cabinet_never_fails_otherwise() -> None:
    chance = random.Random(20160625)
    small = [CabFile("x", NOISE[:5000])]
    good = build_cab([CabFolder(FILES[:1]), CabFolder(small, STORED), CabFolder(small, LZX)], checksums=False)
    for _ in range(400):
        data = bytearray(good)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            for member, content in opened(bytes(data)).read_all():
                assert len(content) == member.size
        except VhdtoolError:
            continue
