from __future__ import annotations

import time

import pytest

from tests.data_files import data_file
from tests.oracle.test_registry import SOUND as REAL
from tests.registry.build_hive import build_hive, sealed
from tests.registry.hive_faults import FAULTS, SOUND, Fault, faulty
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.check import WARNING_CODES, check_hive

OFFREG = (  # written by offreg.dll, which does not mark the root
    "hives/ColinFinck__nt-hive/",
    "hives/EricZimmerman__Registry/SECURITYNoRoot",
    "hives/microsoft__openvmm/imc.hiv",
)


def codes(raw: bytes) -> list[str]:
    return [problem.code for problem in check_hive(BytesSource(raw), path="SYSTEM")]


def test_a_sound_hive_has_nothing_wrong() -> None:
    assert check_hive(BytesSource(SOUND)) == ()
    assert codes(SOUND + b"\xaa" * 5000) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_found(fault: Fault) -> None:
    problems = check_hive(BytesSource(faulty(fault)), path="SYSTEM")
    assert [problem for problem in problems if problem.code.startswith(fault.code)], problems
    assert all(problem.path == "SYSTEM" for problem in problems)


@pytest.mark.parametrize(("lists", "leaf", "minor"), [("lh", 20, 5), ("lf", 507, 3), ("li", 7, 4), ("li", 1012, 5)])
def test_all_kinds_of_lists_are_sound(lists: str, leaf: int, minor: int) -> None:
    tree = {f"Many\\Schlüssel{number}": {"v": number, "": "x" * number} for number in range(200)}
    assert codes(build_hive({**tree, "Ключ\\ß": {"Größe": 1}}, lists=lists, leaf=leaf, minor=minor)) == []


def test_data_that_would_be_big_in_a_later_version() -> None:
    """Before version 1.4 long data lies in one cell; from then on it must not."""
    raw = build_hive({"Key": {"long": b"x" * 20_000}}, minor=3)
    assert codes(raw) == []
    assert "hive-big-data" in codes(sealed(raw, minor=5))


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_genuine_hives_are_sound(name: str) -> None:
    found = set(codes(data_file(name).read_bytes()))
    if name.endswith("RecoveredHive_Windows10"):
        assert found == {"hive-cell-orphan"}  # Windows left eight cells behind when it recovered it
    elif name.startswith(OFFREG):
        assert found == {"hive-root-flag"}
    elif "dfwinreg" in name:
        assert found == {"hive-max-name-length"}
    else:
        assert found == set()
    assert found <= WARNING_CODES | {"hive-cell-orphan"}


@pytest.mark.data
@pytest.mark.parametrize("name", ["BadListHive", "BadSubkeyHive", "CompHive", "TruncatedHive"])
def test_hives_that_were_damaged_on_purpose(name: str) -> None:
    assert codes(data_file(f"hives/yarp/{name}").read_bytes())


def test_what_is_no_hive() -> None:
    assert codes(b"") == codes(bytes(8192)) == ["not-a-hive"]


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_ends_in_findings(seed: int) -> None:
    import random  # noqa: PLC0415

    source = random.Random(seed)
    raw = bytearray(SOUND)
    for _ in range(1 + seed % 7):
        place = source.randrange(len(raw))
        raw[place : place + 4] = source.randbytes(4)
    started = time.monotonic()
    try:
        problems = check_hive(BytesSource(bytes(raw)))
    except DamagedError as error:
        pytest.fail(f"raised {error!r}")
    assert len(problems) <= 1000
    assert time.monotonic() - started < 2
