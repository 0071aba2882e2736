"""The runner's result: what it writes is read, anything else ends with one error."""

from __future__ import annotations

import random

import pytest

from vhdtool.errors import DamagedError
from vhdtool.staging.result_file import CabResult, ToldValue, parse_kvp_value, parse_result

RESULT = (
    b"vhdtool-result 1\r\nid=kb1-aa\r\ncab=1 applied 0 1 1-a.cab\r\ncab=2 failed -2146498525 3 2-b.cab\r\n"
    b"state=failed\r\nend=kb1-aa\r\n"
)


def test_a_result_is_read():
    result = parse_result(RESULT, path="x")
    assert (result.id, result.state, result.attempts) == ("kb1-aa", "failed", 3)
    assert result.cabs == (CabResult("1-a.cab", "applied", 0, 1), CabResult("2-b.cab", "failed", -2146498525, 3))
    assert result.cabs[1].meaning == "the guest needs a newer servicing stack update first"


def test_a_package_that_was_not_tried_has_no_code():
    (cab,) = parse_result(
        b"vhdtool-result 1\nid=kb1-aa\ncab=1 staged - 0 1-a.cab\nstate=staged\nend=kb1-aa\n", path="x"
    ).cabs
    assert (cab.code, cab.meaning, cab.attempts) == (None, None, 0)


def test_cut_off_anywhere_it_is_damaged():
    for length in range(len(RESULT) - 2):
        with pytest.raises(DamagedError) as caught:
            parse_result(RESULT[:length], path="result.txt")
        assert (caught.value.code, caught.value.path) == ("stage-result-damaged", "result.txt")


@pytest.mark.parametrize(
    "wrong",
    [
        RESULT.replace(b"result 1", b"result 2"),
        RESULT.replace(b"end=kb1-aa", b"end=kb1-ab"),
        RESULT.replace(b"id=kb1-aa", b"id=..\\x"),
        RESULT.replace(b"state=failed", b"state=splendid"),
        RESULT.replace(b"state=failed", b"state=failed\r\nstate=applied"),
        RESULT.replace(b"cab=1 applied 0", b"cab=1 applied 99999999999"),
        RESULT.replace(b"1-a.cab", b"../a.cab"),
        RESULT.replace(b"1-a.cab", b"\xe9.cab"),
        RESULT + b"more=1\r\n",
        bytes(1000),
    ],
)
def test_what_the_runner_does_not_write(wrong):
    with pytest.raises(DamagedError, match="the runner's result"):
        parse_result(wrong, path="x")


def test_random_changes_never_end_otherwise(record_property):
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    chance = random.Random(seed)
    for _ in range(2000):
        data = bytearray(RESULT)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            parse_result(bytes(data), path="x")
        except DamagedError as error:
            assert error.code == "stage-result-damaged"  # noqa: PT017  # both ends are right: it is about any third


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kb1-aa;applied;0", ToldValue("kb1-aa", "applied", 0)),
        ("kb1-aa;not-applicable;-2146498530", ToldValue("kb1-aa", "not-applicable", -2146498530)),
        ("kb1-aa;abandoned;-", ToldValue("kb1-aa", "abandoned", None)),
        ("kb1-aa;never-ran;0", None),
        ("kb1-aa;0", None),
        ("", None),
        (";;", None),
        ("kb1-aa;applied;0;" + "x" * 10_000, None),
    ],
)
def test_the_value_that_the_host_reads(text, told):
    assert parse_kvp_value(text) == told
