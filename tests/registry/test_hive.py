from __future__ import annotations

import random
import struct

import pytest

from tests.data_files import data_file
from tests.registry.build_hive import NIL, build_hive, sealed
from tests.registry.build_log import dirt_log
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, InputError, UnsupportedError
from vhdtool.registry.hive import Hive

TREE = {
    "Select": {"Current": 1},
    r"ControlSet001\Services\vmbus": {"Start": 0, "ImagePath": "vmbus.sys"},
    **{f"Many\\Key{number:03}": {"n": number} for number in range(300)},
}
HIVE = build_hive(TREE)


class Counting(BytesSource):
    """Counts the bytes that are read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.count = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().read_at(offset, length)


def walked(raw: bytes) -> tuple[list[str], tuple[str, ...]]:
    """The paths of all keys, and the codes of the problems that were told."""
    hive = Hive.open(BytesSource(raw))
    found = []
    for key in hive.walk():
        found.append(key.path)
        for value in key.values():
            _ = value.data
    return found, tuple(problem.code for problem in hive.problems)


def test_a_clean_hive() -> None:
    hive = Hive.open(BytesSource(HIVE), path="SYSTEM")
    assert (hive.path, hive.state, hive.logs_applied, hive.problems) == ("SYSTEM", "clean", (), ())
    for path in (
        r"ControlSet001\Services\vmbus",
        r"\CONTROLSET001\services\VMBUS",
        "controlset001\\\\services\\vmbus\\",
    ):
        key = hive.key(path)
        assert key is not None
        value = key.value("start")
        assert value is not None
        assert value.data == 0
    assert hive.key("") is hive.root
    assert hive.key(r"ControlSet001\Services\vmbus2") is None
    assert hive.key(r"ControlSet009\Services\vmbus") is None


def test_a_clean_hive_never_reads_its_logs() -> None:
    log = Counting(dirt_log(HIVE, build_hive({"Other": {}})))
    hive = Hive.open(BytesSource(HIVE), [("SYSTEM.LOG1", log)])
    assert hive.state == "clean"
    assert log.count == 0


def test_walk_gives_every_key_once_parents_first() -> None:
    paths, problems = walked(HIVE)
    assert len(paths) == len(set(paths)) == 1 + 1 + 3 + 1 + 300
    assert paths.index("ControlSet001") < paths.index(r"ControlSet001\Services")
    assert problems == ()


def test_the_image_is_the_file() -> None:
    hive = Hive.open(BytesSource(HIVE))
    assert hive.image.read_at(0, hive.image.size) == HIVE


@pytest.mark.parametrize("raw", [b"", b"regf", bytes(8192), b"MZ" + bytes(8190), HIVE[:511], HIVE[4096:]])
def test_what_is_no_hive(raw: bytes) -> None:
    with pytest.raises(DamagedError) as caught:
        Hive.open(BytesSource(raw), path="SYSTEM")
    assert (caught.value.code, caught.value.path) == ("not-a-hive", "SYSTEM")


@pytest.mark.parametrize("kind", [1, 2, 6])
def test_a_log_is_no_hive(kind: int) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Hive.open(BytesSource(sealed(HIVE, type=kind)))
    assert caught.value.code == "hive-is-log"


@pytest.mark.parametrize(("major", "minor"), [(0, 5), (2, 0), (1, 0), (1, 1), (0xFFFFFFFF, 5)])
def test_other_versions(major: int, minor: int) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Hive.open(BytesSource(sealed(HIVE, major=major, minor=minor)))
    assert caught.value.code == "hive-version"


@pytest.mark.parametrize("minor", [2, 3, 4, 5, 6, 7])
def test_minor_versions(minor: int) -> None:
    assert walked(sealed(HIVE, minor=minor)) == walked(HIVE)


def test_a_wrong_checksum_is_told_and_the_hive_read() -> None:
    raw = bytearray(HIVE)
    raw[508] ^= 1
    hive = Hive.open(BytesSource(bytes(raw)))
    assert hive.state == "dirty"
    assert {problem.code for problem in hive.problems} == {"hive-dirty", "hive-base-block"}
    assert hive.key(r"ControlSet001\Services\vmbus") is not None


def test_without_logs_a_hive_that_was_not_written_to_its_end_is_dirty() -> None:
    hive = Hive.open(BytesSource(sealed(HIVE, primary=5, secondary=4)), path="SYSTEM")
    assert (hive.state, hive.logs_applied) == ("dirty", ())
    assert [(problem.code, problem.path) for problem in hive.problems] == [("hive-dirty", "SYSTEM")]


@pytest.mark.parametrize("root", [NIL, 0, 0x21, 0x7FFFFFF8, 0x1000])
def test_a_root_that_is_nowhere(root: int) -> None:
    with pytest.raises(DamagedError) as caught:
        Hive.open(BytesSource(sealed(HIVE, root=root)))
    assert caught.value.code.startswith("hive-")


@pytest.mark.parametrize("size", [0, 4096, 4097, 8192, len(HIVE), 1 << 20, 0x7FFFF000, 0xFFFFF000, 0xFFFFFFFF])
def test_a_size_of_the_bins_that_lies(size: int) -> None:
    try:
        paths, problems = walked(sealed(HIVE, hbins=size))
    except DamagedError as error:
        assert error.offset is not None  # noqa: PT017
    else:
        assert problems
        assert len(paths) <= 306


@pytest.mark.parametrize("step", range(1, 40))
def test_a_hive_that_is_cut_off(step: int) -> None:
    try:
        _, problems = walked(HIVE[: len(HIVE) * step // 40])
    except InputError as error:
        assert error.code in ("not-a-hive", "hive-truncated", "hive-cell-out-of-range")  # noqa: PT017
    else:
        assert "hive-truncated" in problems


def test_a_tail_behind_the_bins_does_not_matter() -> None:
    """Most files are longer than their hive."""
    assert walked(HIVE + b"\xaa" * 5000) == walked(HIVE)


def test_zeroed_pages_are_told() -> None:
    whole = walked(HIVE)
    for start in range(4096, len(HIVE), 512):
        if not any(HIVE[start : start + 512]):
            continue
        damaged = HIVE[:start] + bytes(512) + HIVE[start + 512 :]
        try:
            paths, problems = walked(damaged)
        except DamagedError:
            continue
        assert problems or paths == whole[0], hex(start)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bits_end_well(seed: int) -> None:
    source = random.Random(seed)
    raw = bytearray(HIVE)
    for _ in range(1 + seed % 5):
        raw[source.randrange(512, len(raw))] ^= 1 << source.randrange(8)
    try:
        paths, _ = walked(bytes(raw))
    except DamagedError:
        return
    assert len(paths) <= 306


def test_the_first_bin_where_it_does_not_belong_is_told() -> None:
    raw = bytearray(HIVE)
    raw[4096:4100] = b"nibh"
    assert "hive-bin" in walked(bytes(raw))[1]


def test_keys_as_deep_as_windows_allows_and_deeper() -> None:
    deep = "\\".join("d" * 512)
    assert Hive.open(BytesSource(build_hive({deep: {}}))).key(deep) is not None
    hive = Hive.open(BytesSource(build_hive({deep + "\\e": {}})))
    with pytest.raises(DamagedError) as caught:
        hive.key(deep + "\\e")
    assert caught.value.code == "hive-too-deep"
    assert sum(1 for _ in hive.walk()) == 513
    assert "hive-too-deep" in {problem.code for problem in hive.problems}


@pytest.mark.data
def test_a_lookup_reads_little_of_a_real_hive() -> None:
    """15 MB of Windows 10: Start of one service, and a name that is not there."""
    source = Counting(data_file("hives/fox-it__dissect.regf/SYSTEM.gz").read_bytes())
    hive = Hive.open(source)
    key = hive.key(r"ControlSet001\Services\vmbus")
    assert key is not None
    start = key.value("Start")
    assert start is not None
    assert start.data == 0
    assert source.count < 200_000
    assert hive.key(r"ControlSet001\Services\nosuchservice") is None
    assert source.count < 300_000


def test_a_list_of_values_that_many_keys_share_ends_in_bounds() -> None:
    """One list of 100 values, named by 300 keys: read, or refused, but never more than the hive's own size."""
    raw = bytearray(build_hive({**TREE, "Long": {f"v{number:03}": number for number in range(100)}}))
    hive = Hive.open(BytesSource(bytes(raw)))
    long = hive.key("Long")
    assert long is not None
    lists = raw[long.offset + 4 + 36 : long.offset + 4 + 44]
    many = hive.key("Many")
    assert many is not None
    for key in many.subkeys():
        raw[key.offset + 4 + 36 : key.offset + 4 + 44] = lists
    hive = Hive.open(BytesSource(bytes(raw)))
    count = refused = 0
    for key in hive.walk():
        try:
            count += sum(1 for _ in key.values())
        except DamagedError:
            refused += 1
    assert count < 200
    assert refused == 300
    (stored,) = struct.unpack_from("<I", lists)
    assert stored == 100
