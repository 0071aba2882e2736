from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk.vhdx_files import MIB, codes, make, make_plain, opened, overwrite, stored, write_region_tables
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import ExtraRegion
from vhdtool.disk.vhdx_region import Region, encode_region_table, parse_region_table
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError
from vhdtool.layout import offset_of

UNKNOWN = UUID("99999999-9999-4999-8999-999999999999")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "plain.vhdx"
    make_plain(path)
    return path


def regions_of(path: Path) -> list[Region]:
    return list(parse_region_table(stored(path, fmt.REGION_TABLE_OFFSETS[0], fmt.REGION_TABLE_SIZE)))


def refused(path: Path) -> VhdtoolError:
    with pytest.raises(VhdtoolError) as caught, opened(path):
        pass
    return caught.value


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize(("place", "damage"), [(0, b"rego"), (8, b"\x01"), (40000, b"x"), (0, bytes(65536))])
def test_one_damaged_copy_is_survived_and_told(image: Path, copy: int, place: int, damage: bytes) -> None:
    overwrite(image, fmt.REGION_TABLE_OFFSETS[copy] + place, damage)
    with opened(image) as layer:
        (problem,) = layer.info.problems
        assert problem.code == "vhdx-region-table-copy-damaged"
        assert problem.offset == fmt.REGION_TABLE_OFFSETS[copy]
        assert [table.valid for table in layer.region_tables] == [copy != 0, copy != 1]
        assert layer.region_tables[1 - copy].used
        assert {region.name for region in layer.regions} == {"bat", "metadata"}


def test_both_damaged_is_an_error(image: Path) -> None:
    write_region_tables(image, bytes(fmt.REGION_TABLE_SIZE))
    error = refused(image)
    assert isinstance(error, DamagedError)
    assert (error.code, error.offset) == ("vhdx-region-tables-damaged", 196608)


def test_valid_copies_that_differ_use_the_first(image: Path) -> None:
    bat = regions_of(image)
    overwrite(image, fmt.REGION_TABLE_OFFSETS[1], encode_region_table([*bat, Region(UNKNOWN, 64 * MIB, MIB, False)]))
    with opened(image) as layer:
        assert codes(layer) == ["vhdx-region-tables-differ"]
        assert len(layer.regions) == 2


def test_an_unknown_optional_region_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "extra.vhdx"
    make(path, regions=[ExtraRegion(UNKNOWN, b"private")])
    with opened(path) as layer:
        assert codes(layer) == []
        assert [region.name for region in layer.regions] == ["metadata", "bat", None]


def test_an_unknown_required_region_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "extra.vhdx"
    make(path, regions=[ExtraRegion(UNKNOWN, required=True)])
    error = refused(path)
    assert isinstance(error, UnsupportedError)
    assert error.code == "vhdx-region-unknown-required"


Edit = Callable[[list[Region]], list[Region]]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda r: [replace(r[0], offset=r[0].offset + 4096), r[1]], "vhdx-region-location"),
        (lambda r: [replace(r[0], offset=0), r[1]], "vhdx-region-location"),
        (lambda r: [replace(r[0], length=4096), r[1]], "vhdx-region-location"),
        (lambda r: [replace(r[0], length=0), r[1]], "vhdx-region-location"),
        (lambda r: [r[0], replace(r[1], offset=r[0].offset)], "vhdx-region-overlap"),
        (lambda r: [r[0], replace(r[1], offset=MIB)], "vhdx-region-overlap"),  # over the log
        (lambda r: [*r, Region(UNKNOWN, r[0].offset - MIB, 3 * MIB, False)], "vhdx-region-overlap"),
        (lambda r: [*r, replace(r[0], offset=32 * MIB)], "vhdx-region-twice"),
        (lambda r: r[:1], "vhdx-region-missing"),
        (lambda r: r[1:], "vhdx-region-missing"),
        (lambda _: [], "vhdx-region-missing"),
        (lambda r: [replace(r[0], offset=1 << 62), r[1]], "truncated"),
        (lambda r: [replace(r[0], offset=(1 << 64) - MIB), r[1]], "truncated"),
        (lambda r: [r[0], replace(r[1], offset=1 << 62)], "vhdx-bat-truncated"),
    ],
)
def test_regions_that_lie(image: Path, edit: Edit, code: str) -> None:
    write_region_tables(image, encode_region_table(edit(regions_of(image))))
    error = refused(image)
    assert isinstance(error, DamagedError)
    assert error.code == code


@pytest.mark.parametrize("count", [2048, 0xFFFFFFFF])
def test_too_many_entries(image: Path, count: int) -> None:
    table = bytearray(stored(image, fmt.REGION_TABLE_OFFSETS[0], fmt.REGION_TABLE_SIZE))
    at = offset_of(fmt.REGION_TABLE_HEADER, "entry_count")
    table[at : at + 4] = count.to_bytes(4, "little")
    write_region_tables(image, fmt.sealed(bytes(table)))
    assert refused(image).code == "vhdx-region-tables-damaged"


def test_as_many_entries_as_allowed(image: Path) -> None:
    known = regions_of(image)
    extras = [Region(UUID(int=number + 1), (100 + number) * MIB, MIB, False) for number in range(2045)]
    write_region_tables(image, encode_region_table([*known, *extras]))
    with opened(image) as layer:
        assert len(layer.regions) == 2047


@pytest.mark.parametrize("size", [196608, 196608 + 100, 262144 + 65535])
def test_truncated(image: Path, size: int) -> None:
    with image.open("r+b") as file:
        file.truncate(size)
    assert refused(image).code == "truncated"
