from __future__ import annotations

import hashlib
import random

import pytest
from asn1crypto import core

from scripts.fixtures.signed_package import SPC_INDIRECT_DATA, TRUST_LIST, Signing, catalog, signed_message
from tests.data_files import data_file
from tests.package.signing import read_catalog
from vhdtool.errors import DamagedError

ONE, TWO, THREE = b"the first file", b"the second file", b"a file that is not listed"


def digests(data: bytes) -> dict[str, bytes]:
    return {"sha1": hashlib.sha1(data, usedforsecurity=False).digest(), "sha256": hashlib.sha256(data).digest()}


@pytest.mark.parametrize(
    ("algorithms", "strongest"),
    [(("sha1",), "sha1"), (("sha256",), "sha256"), (("sha1", "sha256"), "sha256")],
)
def test_members_by_their_digests(algorithms: tuple[str, ...], strongest: str):
    found = read_catalog(catalog([ONE, TWO], algorithms=algorithms))
    assert len(found.members) == 2 * len(algorithms)
    assert found.lists(digests(ONE)) == found.lists(digests(TWO)) == strongest
    assert found.lists(digests(THREE)) is None
    assert found.lists({}) is None


def test_the_name_of_a_member_is_not_its_digest():
    """The tag may be anything, as in catalogs with SHA-1 members, where it is text: the attribute counts."""
    blob = catalog([ONE])
    digest = digests(ONE)["sha256"]
    first = blob.index(digest)
    retagged = blob[:first] + digests(THREE)["sha256"] + blob[first + 32 :]
    found = read_catalog(retagged)
    assert found.lists(digests(ONE)) == "sha256"
    assert found.lists(digests(THREE)) is None


def test_an_empty_catalog_lists_nothing():
    found = read_catalog(catalog([]))
    assert found.members == frozenset()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "members"),
    # counted with `openssl asn1parse`: the attributes with SpcIndirectData
    [
        ("cat/Velocidex__go-pe/ntexe.cat", 9),
        ("cat/fox-it__dissect.target/catroot_file_hint.cat", 34),
        ("cat/fox-it__dissect.target/catroot_package_name.cat", 3),
        ("cat/fox-it__dissect.target/catroot_package_name_2.cat", 1),
    ],
)
def test_genuine_catalogs(name: str, members: int):
    assert len(read_catalog(data_file(name).read_bytes()).members) == members


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (SPC_INDIRECT_DATA, b"\x30\x00"),
        (TRUST_LIST, b"\x30\x00"),
        (TRUST_LIST, core.SequenceOf([core.Integer(7)] * 3, spec=core.Integer).dump()),
    ],
)
def test_messages_that_are_no_catalog(kind: str, content: bytes):
    with pytest.raises(DamagedError) as caught:
        read_catalog(signed_message(kind, content, Signing()), path="update.cat")
    assert caught.value.code in {"catalog-damaged", "der-damaged"}
    assert caught.value.path == "update.cat"


def test_a_list_of_roots_is_no_catalog():
    """Microsoft's list of trusted roots has the same structure, and another usage."""
    blob = catalog([ONE])
    usage = core.ObjectIdentifier("1.3.6.1.4.1.311.12.1.1").dump()
    with pytest.raises(DamagedError) as caught:
        read_catalog(blob.replace(usage, core.ObjectIdentifier("1.3.6.1.4.1.311.10.3.9").dump()))
    assert caught.value.code in {"catalog-damaged", "der-damaged"}


def test_damaged_catalogs_are_refused_or_read():
    blob = catalog([ONE, TWO])
    rng = random.Random(3)
    for _ in range(400):
        bad = bytearray(blob)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            read_catalog(bytes(bad))
        except DamagedError as error:
            assert error.code in {"catalog-damaged", "der-damaged", "signature-damaged"}  # noqa: PT017
