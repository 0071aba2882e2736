from __future__ import annotations

import functools
import time
import tracemalloc

import pytest
from asn1crypto import parser

from scripts.fixtures.signed_package import SPC_INDIRECT_DATA, TRUST_LIST, Signing, catalog, signed_message
from tests.package.signing import read_catalog
from vhdtool.errors import DamagedError
from vhdtool.package.der import MAX_CHILDREN, MAX_DEPTH, MAX_SIZE, elements, reading, whole_element
from vhdtool.package.pkcs7 import read_signed_message

EMPTY = b"\x30\x00"


def sequence(content: bytes) -> bytes:
    return parser.emit(0, 1, 16, content)


def refused(data: bytes, **how: int) -> DamagedError:
    with pytest.raises(DamagedError) as caught:
        whole_element(data, "a thing", "a.der", **how)
    assert caught.value.code == "der-damaged"
    assert caught.value.path == "a.der"
    assert caught.value.hint
    return caught.value


def test_the_element_without_what_follows():
    inner = sequence(EMPTY + b"\x04\x03abc")
    assert whole_element(inner + b"more", "a thing") == inner
    assert list(elements(inner[2:])) == [EMPTY, b"\x04\x03abc"]
    long = sequence(b"\x04\x82\x01\x00" + bytes(256))
    assert whole_element(long, "a thing") == long


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x01",
        b"\x30\x82\x01",
        b"\x30\x80\0\0",  # a length left open
        b"\x30\x85\0\0\0\0\0",  # a length of five bytes
        b"\x3f\x81\x01\0",  # a tag of more than one byte
        sequence(b"\x04\x05abc"),  # an element that reaches beyond the one it is in
        sequence(b"\x04"),
        sequence(b"\x30\x80"),
    ],
)
def test_what_is_no_der(data: bytes):
    refused(data)


def test_too_long():
    assert len(whole_element(sequence(b"\x04\x82\x03\xe8" + bytes(1000)), "a thing", largest=1008)) == 1008
    refused(sequence(b"\x04\x82\x03\xe8" + bytes(1000)), largest=1007)


def test_too_deep_and_too_many():
    nested = b""
    for _ in range(MAX_DEPTH):
        nested = sequence(nested)
    assert whole_element(nested, "a thing") == nested
    refused(sequence(nested))
    assert whole_element(sequence(EMPTY * MAX_CHILDREN), "a thing")
    refused(sequence(EMPTY * (MAX_CHILDREN + 1)))


@pytest.mark.parametrize(
    "error",
    [
        ValueError(""),
        TypeError("a\nb"),
        KeyError("x"),
        IndexError(),
        AttributeError("y"),
        OverflowError(),
        RecursionError(),
    ],
)
def test_what_the_parser_raises_is_one_error(error: Exception):
    with pytest.raises(DamagedError) as caught, reading("a thing", "a.der"):
        raise error
    assert caught.value.code == "der-damaged"
    assert "\n" not in caught.value.message


@functools.cache
def crowds() -> dict[str, bytes]:
    """Messages of the largest size that are all small elements, in each place that may hold many."""
    many = EMPTY * ((MAX_SIZE - 20_000) // 2)
    plain = signed_message(SPC_INDIRECT_DATA, EMPTY, Signing(stamps=()))
    octets = parser.emit(0, 0, 4, many)
    return {
        "at the top": sequence(many),
        "in the content": signed_message(SPC_INDIRECT_DATA, sequence(many), Signing(stamps=())),
        "in the list": signed_message(TRUST_LIST, sequence(sequence(b"") + sequence(many)), Signing(stamps=())),
        "in octets": signed_message(TRUST_LIST, sequence(octets), Signing(stamps=())),
        "behind": plain + many,
    }


@pytest.mark.parametrize("place", ["at the top", "in the content", "in the list", "in octets", "behind"])
def test_crowds_of_small_elements_cost_little(place: str):
    data = crowds()[place]
    tracemalloc.start()
    started = time.monotonic()
    for read in (read_signed_message, read_catalog):
        try:
            read(data)
        except DamagedError as error:
            assert error.code in {"der-damaged", "signature-damaged", "catalog-damaged"}  # noqa: PT017
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * MAX_SIZE
    assert time.monotonic() - started < 60


def test_a_catalog_may_list_more_files_than_other_lists_hold():
    count = MAX_CHILDREN + 10
    assert len(read_catalog(catalog([str(number).encode() for number in range(count)])).members) == count
