"""Cabinets in several parts."""

from __future__ import annotations

import random
import struct

import pytest

from scripts.fixtures.cab_files import LZX, MSZIP, STORED, CabFile, CabFolder, build_cab, build_set
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, InputError, RefusedError
from vhdtool.package.cabinet import MAX_PARTS, Cabinet

CHANCE = random.Random(7)
FILES = [CabFile(f"f{number}", CHANCE.randbytes(CHANCE.randrange(1, 60_000))) for number in range(9)]
FILES += [CabFile("nothing", b""), CabFile("last", b"last")]
NAMES = ("one.cab", "two.cab", "three.cab", "four.cab")


def parts(method: int, room: int = 75_000) -> list[bytes]:
    return build_set(CabFolder(FILES, method), room, NAMES)


def opened(cabs: list[bytes]) -> Cabinet:
    rest = [(name, BytesSource(data)) for name, data in zip(NAMES[1:], cabs[1:], strict=False)]
    return Cabinet.open(BytesSource(cabs[0]), path=NAMES[0], next_parts=rest)


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
@pytest.mark.parametrize("room", [72_001, 72_777, 75_000, 81_112])
def test_a_set_reads_as_one(method: int, room: int) -> None:
    cabinet = opened(parts(method, room))
    assert {member.name: data for member, data in cabinet.read_all()} == {file.name: file.data for file in FILES}
    assert [member.name for member in cabinet.members] == [file.name for file in FILES]
    assert cabinet.problems == ()
    assert {member.folder for member in cabinet.members} == {0}
    assert cabinet.read("last") == b"last"


def test_a_missing_next_part() -> None:
    cabinet = opened(parts(MSZIP)[:2])
    assert [(one.code, "three.cab" in one.message) for one in cabinet.problems] == [("cabinet-part-missing", True)]
    read: dict[str, bytes] = {}
    with pytest.raises(DamagedError) as caught:
        read.update((member.name, data) for member, data in cabinet.read_all())
    for file in FILES[:2]:
        assert cabinet.read(file.name) == file.data
    error = caught.value
    assert (error.code, error.path, error.expected) == ("cabinet-part-missing", "two.cab", "three.cab")


def test_a_missing_first_part() -> None:
    cabs = parts(MSZIP)
    cabinet = Cabinet.open(BytesSource(cabs[3]), path="four.cab")
    assert [one.code for one in cabinet.problems] == ["cabinet-part-missing"]
    assert cabinet.previous_name == "three.cab"
    with pytest.raises(DamagedError) as caught:
        cabinet.read("last")
    assert (caught.value.code, caught.value.expected) == ("cabinet-part-missing", "three.cab")


def test_parts_of_another_set_or_place() -> None:
    cabs = parts(MSZIP)
    other = build_set(CabFolder(FILES), 75_000, NAMES, set_id=1)
    for wrong in (other[1], cabs[2], cabs[0]):
        with pytest.raises(InputError) as caught:
            opened([cabs[0], wrong])
        assert (caught.value.code, caught.value.path) == ("cabinet-part-wrong", "two.cab")
        assert "two.cab" in (caught.value.hint or "")


def test_a_part_that_nothing_announces() -> None:
    """Else files could be put beside those of a cabinet that is signed, and whole without them."""
    whole = build_cab([CabFolder(FILES)], set_id=4711)
    cabs = parts(MSZIP)
    alone = bytearray(build_cab([CabFolder([CabFile("more", b"more")])], set_id=4711))
    alone[34] = 1
    for first, second in ((whole, cabs[1]), (whole, bytes(alone)), (cabs[0], bytes(alone))):
        with pytest.raises(InputError) as caught:
            opened([first, second])
        assert (caught.value.code, caught.value.path) == ("cabinet-part-wrong", "two.cab")


def test_a_folder_that_changes_its_method_between_parts() -> None:
    cabs = parts(MSZIP)
    start = struct.unpack_from("<I", cabs[1], 16)[0]
    changed = bytearray(cabs[1])
    changed[start - 2 : start] = bytes(2)  # the folder's method stands right before the file table
    with pytest.raises(DamagedError) as caught:
        opened([cabs[0], bytes(changed), *cabs[2:]])
    assert (caught.value.code, caught.value.path) == ("cabinet-damaged", "two.cab")


def test_a_set_without_end() -> None:
    cab = build_cab([CabFolder(FILES)])
    with pytest.raises(RefusedError) as caught:
        Cabinet.open(BytesSource(cab), path="a", next_parts=[("b", BytesSource(cab))] * MAX_PARTS)
    assert caught.value.code == "cabinet-too-large"


def test_a_damaged_fragment_is_found_where_it_lies() -> None:
    cabs = parts(MSZIP)
    broken = bytearray(cabs[1])
    broken[-500] ^= 1  # in the last block, which goes on in the third part
    with pytest.raises(DamagedError) as caught:
        for _ in opened([cabs[0], bytes(broken), *cabs[2:]]).read_all():
            pass
    assert (caught.value.code, caught.value.path) == ("cabinet-checksum", "two.cab")
