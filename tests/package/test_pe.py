from __future__ import annotations

import random
import struct

import pefile
import pytest

from tests.data_files import data_dir
from tests.package.build_pe import RAW, build_pe
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError
from vhdtool.layout import packed
from vhdtool.package import pe
from vhdtool.package.pe import PortableExecutable, file_version, resource_string

KOREAN, ENGLISH, GERMAN = 0x412, 0x409, 0x407


class CountedSource(BytesSource):
    read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.read += length
        return super().read_at(offset, length)


def random_version() -> tuple[int, int, int, int]:
    return tuple(random.randrange(0x10000) for _ in range(4))  # type: ignore[return-value]


@pytest.mark.parametrize("wide", [True, False])
def test_the_version_is_what_was_written(wide: bool) -> None:
    version = random_version()
    found = file_version(BytesSource(build_pe(version, wide=wide)), path="x.dll")
    assert found is not None
    assert found.file == version
    assert str(found) == ".".join(map(str, version))


def test_our_test_files_are_whole_for_pefile() -> None:
    version = random_version()
    parsed = pefile.PE(data=build_pe(version, {ENGLISH: {101: "Heartbeat"}}))
    fixed = parsed.VS_FIXEDFILEINFO[0]
    assert (fixed.FileVersionMS >> 16, fixed.FileVersionLS & 0xFFFF) == (version[0], version[3])


@pytest.mark.parametrize("data", [build_pe(resources=False), build_pe()], ids=["no-directory", "empty-tree"])
def test_a_file_without_resources_has_neither_version_nor_strings(data: bytes) -> None:
    assert file_version(BytesSource(data), path="x.dll") is None
    assert resource_string(BytesSource(data), 101, path="x.dll") is None


def test_a_string_comes_in_the_first_language_that_the_file_has() -> None:
    strings = {KOREAN: {101: "하트비트", 801: "게스트"}, ENGLISH: {101: "Heartbeat"}, GERMAN: {101: "Takt"}}
    file = PortableExecutable(BytesSource(build_pe(strings=strings)), "x.dll")
    assert file.string(101, (GERMAN, ENGLISH)) == "Takt"
    assert file.string(101) == "Heartbeat"
    assert file.string(101, (0x41D, KOREAN)) == "하트비트"
    assert file.string(801, (ENGLISH,)) == "게스트"
    assert file.string(102) is None
    assert file.string(999) is None
    assert file.string(-1) is None
    assert file.string(0x10000) is None


@pytest.mark.parametrize("start", [b"", b"MZ", b"\x7fELF" + bytes(200), b"MZ" + bytes(300)])
def test_another_format_is_named_as_such(start: bytes) -> None:
    with pytest.raises(UnsupportedError, match="Portable Executable") as caught:
        file_version(BytesSource(start), path="x.dll")
    assert caught.value.code == "not-a-pe"


def test_every_truncation_ends_with_an_error_or_without_a_version() -> None:
    whole = build_pe((6, 3, 9600, 18692), {ENGLISH: {101: "Heartbeat"}})
    codes = set()
    for length in range(len(whole)):
        file = PortableExecutable(BytesSource(whole[:length]), "x.dll")
        for ask in (file.file_version, lambda file=file: file.string(101)):
            try:
                ask()
            except VhdtoolError as error:
                codes.add(error.code)
    assert codes == {"not-a-pe", "pe-damaged"}


def test_lying_fields_end_with_an_error_or_without_a_version() -> None:
    whole = build_pe((6, 3, 9600, 18692), {ENGLISH: {101: "Heartbeat"}})
    rng = random.Random(20240605)
    codes = set()
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            place = rng.choice((rng.randrange(0x60, RAW), rng.randrange(RAW, len(whole) - 4)))
            struct.pack_into("<I", data, place, rng.choice((0, 1, 0xFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32))))
        file = PortableExecutable(CountedSource(bytes(data)), "x.dll")
        for ask in (file.file_version, lambda file=file: file.string(101)):
            try:
                ask()
            except VhdtoolError as error:
                codes.add(error.code)
    assert codes == {"not-a-pe", "pe-damaged"}


def test_a_directory_that_leads_to_itself_ends() -> None:
    data = bytearray(build_pe((1, 2, 3, 4)))
    struct.pack_into("<I", data, RAW + 16 + 4, 0x80000000)  # the version's entry leads back to the root
    assert file_version(BytesSource(data), path="x.dll") is None


def test_a_directory_of_more_entries_than_allowed_is_damaged() -> None:
    data = bytearray(build_pe((1, 2, 3, 4)))
    struct.pack_into("<H", data, RAW + 14, 0xFFFF)
    with pytest.raises(DamagedError, match="too long"):
        file_version(BytesSource(data), path="x.dll")


@pytest.mark.parametrize(
    "layout",
    [
        pe.DOS_HEADER,
        pe.COFF_HEADER,
        pe.OPTIONAL_HEADER_32,
        pe.OPTIONAL_HEADER_64,
        pe.DATA_DIRECTORY,
        pe.SECTION_HEADER,
        pe.RESOURCE_DIRECTORY,
        pe.RESOURCE_ENTRY,
        pe.RESOURCE_DATA,
    ],
)
def test_the_hot_path_unpacks_as_declared(layout: object) -> None:
    fast = packed(layout)  # type: ignore[arg-type]
    data = random.Random(7).randbytes(fast.size)
    parsed = layout.parse(data)  # type: ignore[attr-defined]
    values = [value for name, value in parsed.items() if name != "_io" and value is not None]
    assert list(fast.unpack(data)) == values


@pytest.mark.data
def test_real_files_have_the_version_that_pefile_reads() -> None:
    folder = data_dir()
    if folder is None:
        pytest.skip("the collection of real files is not here (VHDTOOL_DATA)")
    compared = 0
    for path in (
        sorted(folder.glob("pe/**/*")) + sorted(folder.glob("cab/**/*.exe")) + sorted(folder.glob("cab/**/*.mui"))
    ):
        if not path.is_file():
            continue
        data = path.read_bytes()
        try:
            theirs = pefile.PE(data=data)
        except pefile.PEFormatError:
            with pytest.raises(VhdtoolError):
                file_version(BytesSource(data), path=path.name)
            continue
        fixed = getattr(theirs, "VS_FIXEDFILEINFO", None)
        ours = file_version(BytesSource(data), path=path.name)
        if fixed:
            high, low = fixed[0].FileVersionMS, fixed[0].FileVersionLS
            assert ours is not None
            assert ours.file == (high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF), path.name
            compared += 1
        else:
            assert ours is None, path.name
    assert compared >= 5
