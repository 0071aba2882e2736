from __future__ import annotations

import hashlib
import struct

import pytest

from scripts.fixtures.signed_package import (
    SPC_INDIRECT_DATA,
    TRUST_LIST,
    Signing,
    indirect,
    sign_cabinet,
    signed_message,
)
from scripts.fixtures.stored_cabinet import stored_cabinet
from tests.data_files import data_file
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.package.authenticode import cabinet_digests, find_signature, indirect_digest, read_signature
from vhdtool.package.pkcs7 import read_signed_message

GENUINE = "cab/marcinbojko__hvintegrationservices/Windows6.{}-HyperVIntegrationServices-x64.cab"
FILES = {"one.txt": b"one" * 30000, "two.txt": b"two"}


@pytest.fixture(scope="module")
def cabinet() -> bytes:
    return sign_cabinet(stored_cabinet(FILES, signature_reserve=True))


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def matches(data: bytes) -> bool:
    source = BytesSource(data)
    place = find_signature(source)
    assert place is not None
    said = indirect_digest(read_signed_message(read_signature(source, place)))
    return cabinet_digests(source, place.offset, [said.algorithm])[said.algorithm] == said.digest


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sha1"),
    # what osslsigncode computes
    [("2", "1C2404022AC9C7BA9A819B9C7A37E305C9E1363F"), ("x", "0FA8FE1D2345F5B696CAC1B0B312B292F101A347")],
)
def test_genuine_cabinets(name: str, sha1: str):
    source = BytesSource(data_file(GENUINE.format(name)).read_bytes())
    place = find_signature(source)
    assert place is not None
    assert place.problems == ()
    assert place.offset + place.size == source.size
    message = read_signed_message(read_signature(source, place))
    computed = cabinet_digests(source, place.offset, ["sha1", "sha256"])
    assert computed["sha1"].hex().upper() == sha1
    assert indirect_digest(message).digest == computed["sha1"]
    assert indirect_digest(message.nested[0]).digest == computed["sha256"]


def test_a_cabinet_as_signed(cabinet: bytes):
    assert matches(cabinet)


def test_every_byte_of_the_cabinet_counts(cabinet: bytes):
    """A changed byte changes the digest, or is one of the header's fields that have one right value."""
    place = find_signature(BytesSource(cabinet))
    assert place is not None
    signed = indirect_digest(read_signed_message(read_signature(BytesSource(cabinet), place))).digest
    for offset in [*range(200), *range(200, place.offset, 997), place.offset - 1]:
        bad = BytesSource(changed(cabinet, offset, bytes([cabinet[offset] ^ 0x55])))
        try:
            found = find_signature(bad)
        except DamagedError as error:
            assert error.code == "signature-damaged"  # noqa: PT017  # one of three right answers
            continue
        if found is None:
            assert offset in {30, 36, 37}  # it says no more that it is signed
            continue
        differs = cabinet_digests(bad, place.offset, ["sha256"])["sha256"] != signed
        assert differs or found.problems, offset


@pytest.mark.parametrize(
    "field",
    [(4, "<I"), (34, "<H"), (38, "<B"), (39, "<B"), (40, "<I"), (52, "<I")],
)
def test_fields_that_the_digest_leaves_out_have_one_right_value(cabinet: bytes, field: tuple[int, str]):
    offset, form = field
    place = find_signature(BytesSource(changed(cabinet, offset, struct.pack(form, 7))))
    assert place is not None
    assert [(problem.code, problem.offset) for problem in place.problems] == [("header-changed", offset)]


def test_cabinets_without_signature():
    assert find_signature(BytesSource(stored_cabinet(FILES))) is None
    assert find_signature(BytesSource(stored_cabinet(FILES, signature_reserve=True))) is None
    assert find_signature(BytesSource(b"MSCF")) is None


@pytest.mark.parametrize("cut", [1, 8, 1000])
def test_a_signature_that_is_cut_off(cabinet: bytes, cut: int):
    with pytest.raises(DamagedError) as caught:
        find_signature(BytesSource(cabinet[:-cut]), path="a.cab")
    assert caught.value.code == "signature-damaged"
    assert caught.value.offset == 44


@pytest.mark.parametrize(("offset", "size"), [(0, 100), (59, 100), (0xFFFFFFFF, 0xFFFFFFFF), (60, 0x7FFFFFFF)])
def test_a_signature_that_is_said_to_stand_elsewhere(cabinet: bytes, offset: int, size: int):
    with pytest.raises(DamagedError):
        find_signature(BytesSource(changed(cabinet, 44, struct.pack("<II", offset, size))))


def test_something_between_the_cabinet_and_its_signature(cabinet: bytes):
    place = find_signature(BytesSource(cabinet))
    assert place is not None
    more = cabinet[: place.offset] + b"more" + cabinet[place.offset :]
    found = find_signature(BytesSource(changed(more, 44, struct.pack("<I", place.offset + 4))))
    assert found is not None
    assert [problem.offset for problem in found.problems] == [8]


def test_something_after_the_signature(cabinet: bytes):
    found = find_signature(BytesSource(cabinet + bytes(8)))
    assert found is not None
    assert [problem.offset for problem in found.problems] == [48]


def test_a_large_cabinet_is_read_piece_by_piece():
    class Counted(BytesSource):
        largest = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.largest = max(self.largest, length)
            return super().read_at(offset, length)

    data = bytes(5 << 20)
    source = Counted(data)
    covered = data[0:4] + data[8:34] + data[56:60] + data[60:]
    assert cabinet_digests(source, len(data), ["sha256"]) == {"sha256": hashlib.sha256(covered).digest()}
    assert source.largest <= 1 << 20


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        (TRUST_LIST, indirect("sha256", bytes(32)), "signature-damaged"),
        (SPC_INDIRECT_DATA, b"\x30\x00", "der-damaged"),
        (SPC_INDIRECT_DATA, indirect("sha256", bytes(20)), "der-damaged"),
        (SPC_INDIRECT_DATA, indirect("sha224", bytes(28)), "der-damaged"),
    ],
)
def test_signatures_of_something_else(kind: str, content: bytes, code: str):
    message = read_signed_message(signed_message(kind, content, Signing()))
    with pytest.raises(DamagedError) as caught:
        indirect_digest(message, path="a.cab")
    assert caught.value.code == code
    assert caught.value.path == "a.cab"
