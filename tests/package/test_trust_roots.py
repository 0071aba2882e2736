from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from scripts.fixtures.test_authority import root, stranger_root
from vhdtool.errors import DamagedError, InputError, MissingSupportError
from vhdtool.knowledge.trust_roots import PinnedRoot, pinned_roots
from vhdtool.package import trust_roots
from vhdtool.package.trust_roots import MAX_ADDED, microsoft_roots, read_trust_roots, roots_for


def pem(*certificates: bytes) -> bytes:
    return b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in certificates)


def test_every_pinned_root_is_there_under_its_name():
    by_digest = {one.certificate.sha256: one for one in microsoft_roots()}
    assert by_digest.keys() == {pin.sha256 for pin in pinned_roots()}
    for pin in pinned_roots():
        assert by_digest[pin.sha256].certificate.subject_name == pin.name
        assert by_digest[pin.sha256].pinned


def test_few_roots_are_pinned_and_each_signed_itself():
    assert len(microsoft_roots()) == 4
    for one in microsoft_roots():
        assert one.certificate.subject == one.certificate.issuer
        assert one.certificate.is_authority
    assert [one.certificate.subject_name for one in microsoft_roots() if "code-signing" not in one.usages] == [
        "Microsoft Time Stamp Root Certificate Authority 2014"
    ]


def test_a_root_that_the_bundle_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch):
    lacking = (*pinned_roots(), PinnedRoot("Nobody's Root", bytes(32), frozenset(), "none"))
    monkeypatch.setattr(trust_roots, "pinned_roots", lambda: lacking)
    with pytest.raises(MissingSupportError) as caught:
        microsoft_roots.__wrapped__()
    assert caught.value.code == "roots-missing"
    assert "Nobody's Root" in caught.value.message


def test_roots_of_the_user():
    for data, count in (
        (root().certificate, 1),
        (pem(root().certificate), 1),
        (b"text\n" + pem(root().certificate, stranger_root().certificate), 2),
    ):
        added = read_trust_roots(data, path="roots.pem")
        assert len(added) == count
        assert added[0].certificate.der == root().certificate
        assert not added[0].pinned
        assert roots_for(added, "code-signing") == roots_for(added, "time-stamping") == added


@pytest.mark.parametrize("data", [b"", b"no certificate", b"\xff" * 100, pem(root().certificate) * (MAX_ADDED + 1)])
def test_files_without_a_usable_number_of_certificates(data: bytes):
    with pytest.raises(InputError) as caught:
        read_trust_roots(data, path="roots.pem")
    assert caught.value.code == "no-certificate"
    assert caught.value.path == "roots.pem"


@pytest.mark.parametrize(
    "data",
    [
        root().certificate[:-1],
        root().certificate + b"\0",
        b"\x30\x80",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    ],
)
def test_files_that_hold_a_damaged_certificate(data: bytes):
    with pytest.raises(DamagedError) as caught:
        read_trust_roots(data, path="roots.pem")
    assert caught.value.code == "der-damaged"
