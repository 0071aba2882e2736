from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.disk.vhdx_files import IDENTITY, codes, make, make_plain, opened, overwrite, pattern, read, stored
from vhdtool.bytesource import BytesSource
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.vhdx_header import encode_header, looks_like_vhdx, parse_header, read_creator, read_headers
from vhdtool.errors import DamagedError, InputError, UnsupportedError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "plain.vhdx"
    make_plain(path)
    return path


def edit(path: Path, slot: int, **fields: object) -> None:
    header = parse_header(stored(path, fmt.HEADER_OFFSETS[slot], fmt.HEADER_SIZE))
    overwrite(path, fmt.HEADER_OFFSETS[slot], encode_header(replace(header, **fields)))  # type: ignore[arg-type]


def test_the_higher_sequence_number_is_current(image: Path) -> None:
    with opened(image) as layer:
        assert [copy.header.sequence_number for copy in layer.headers] == [1, 2]
        assert [copy.current for copy in layer.headers] == [False, True]
        assert layer.data_write_guid == IDENTITY.data_write
        assert layer.file_write_guid == IDENTITY.file_write
        assert codes(layer) == []


def test_sequence_numbers_are_unsigned(image: Path) -> None:
    edit(image, 0, sequence_number=1 << 63, data_write_guid=IDENTITY.file_write)
    with opened(image) as layer:
        assert layer.data_write_guid == IDENTITY.file_write


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("damage", [bytes(4096), b"\xff" * 4096, b"head", b"head" + bytes(100)])
def test_one_damaged_copy_is_survived_and_told(image: Path, slot: int, damage: bytes) -> None:
    overwrite(image, fmt.HEADER_OFFSETS[slot] + (2000 if damage == b"head" else 0), damage)
    with opened(image) as layer:
        (problem,) = layer.info.problems
        assert (problem.code, problem.offset) == ("vhdx-header-copy-damaged", fmt.HEADER_OFFSETS[slot])
        assert [copy.valid for copy in layer.headers] == [slot != 0, slot != 1]
        assert layer.headers[1 - slot].current
        assert read(layer, 1 << 20, 64) == pattern(1, 64)


@pytest.mark.parametrize("byte", [0, 4, 8, 31, 100, 4095])
def test_any_flipped_bit_breaks_a_header(image: Path, byte: int) -> None:
    at = fmt.HEADER_OFFSETS[1] + byte
    overwrite(image, at, bytes([stored(image, at, 1)[0] ^ 1]))
    with opened(image) as layer:
        assert not layer.headers[1].valid


def test_both_damaged_is_an_error(image: Path) -> None:
    for offset in fmt.HEADER_OFFSETS:
        overwrite(image, offset + 50, b"damage")
    with pytest.raises(DamagedError) as caught, opened(image):
        pass
    assert (caught.value.code, caught.value.offset) == ("vhdx-headers-damaged", 65536)


def test_equal_headers_as_disk2vhd_writes_them(image: Path) -> None:
    edit(image, 1, sequence_number=1)
    with opened(image) as layer:
        assert codes(layer) == []


def test_equal_numbers_with_other_contents_take_the_first(image: Path) -> None:
    edit(image, 1, sequence_number=1, data_write_guid=IDENTITY.virtual_disk)
    with opened(image) as layer:
        assert layer.data_write_guid == IDENTITY.data_write
        assert codes(layer) == ["vhdx-headers-equal-sequence"]


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_another_version_is_refused(image: Path, version: int) -> None:
    edit(image, 0, version=version)
    edit(image, 1, version=version)
    with pytest.raises(UnsupportedError) as caught, opened(image):
        pass
    assert caught.value.code == "vhdx-version-unsupported"


@pytest.mark.parametrize("size", [8, 600, 65536, 65536 + 4095, 131072 + 1])
def test_a_truncated_header_section(image: Path, size: int) -> None:
    source = BytesSource(stored(image, 0, size))
    assert looks_like_vhdx(source)
    with pytest.raises(DamagedError) as caught:
        read_headers(source, path="cut.vhdx")
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("data", [b"", b"vhdx", b"vhdxfil\0" + bytes(600), b"conectix" + bytes(600)])
def test_what_is_no_vhdx(data: bytes) -> None:
    assert not looks_like_vhdx(BytesSource(data))
    with pytest.raises(InputError) as caught:
        read_creator(BytesSource(data))
    assert caught.value.code == "not-vhdx"


@pytest.mark.parametrize(
    ("stored_name", "expected"),
    [
        ("Microsoft Windows 10.0.18363.0".encode("utf-16-le"), "Microsoft Windows 10.0.18363.0"),
        (b"", None),
        (b"\x00\xd8" * 256, "�" * 256),
        ("x".encode("utf-16-le") * 256, "x" * 256),
    ],
)
def test_creator(stored_name: bytes, expected: str | None) -> None:
    assert read_creator(BytesSource(b"vhdxfile" + stored_name.ljust(512, b"\0"))) == expected


def test_a_creator_that_is_too_long_is_cut(tmp_path: Path) -> None:
    make(tmp_path / "long.vhdx", creator="y" * 300)
    assert read_creator(BytesSource(stored(tmp_path / "long.vhdx", 0, 600))) == "y" * 255
