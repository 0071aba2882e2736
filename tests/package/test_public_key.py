"""One signature and one key: what counts as a signature at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from scripts.fixtures.test_authority import lasting_signer
from vhdtool.package import public_key
from vhdtool.package.public_key import signature_algorithm, signature_fits

RSA, RSA_SHA256, ECDSA, PSS = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11", "1.2.840.10045.2.1", "1.2.3"
DATA = b"what is signed"


def der(key: object) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))  # type: ignore[attr-defined]


def fits(key: bytes, oid: str, digest: str, signature: bytes, data: bytes = DATA) -> bool:
    return signature_fits(key, signature_algorithm(oid), digest, signature, data)


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384"])
def test_rsa(digest: str):
    key, signature = der(lasting_signer().key), lasting_signer().sign(DATA, digest)
    assert fits(key, RSA, digest, signature)
    assert not fits(key, RSA, digest, signature, DATA + b"!")
    assert not fits(key, RSA, digest, signature[:-1])
    assert not fits(key, RSA, "sha512", signature)
    assert not fits(key, ECDSA, digest, signature)
    assert not fits(key, PSS, digest, signature)


def test_ecdsa():
    own, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signature = own.sign(DATA, ec.ECDSA(hashes.SHA256()))
    assert fits(der(own), ECDSA, "sha256", signature)
    assert not fits(der(other), ECDSA, "sha256", signature)
    assert not fits(der(own), RSA, "sha256", signature)


@pytest.mark.parametrize("digest", ["md5", "md2", ""])
def test_digests_that_do_not_count(digest: str):
    assert not fits(der(lasting_signer().key), RSA, digest, bytes(256))


@pytest.mark.parametrize("key", [b"", b"\x30\x00", bytes(200)])
def test_what_is_no_key(key: bytes):
    assert not fits(key, RSA_SHA256, "sha256", bytes(256))


@pytest.mark.parametrize(("name", "bits"), [("SMALLEST_RSA", 2049), ("LARGEST_RSA", 2047)])
def test_keys_of_a_length_that_does_not_count(name: str, bits: int, monkeypatch: pytest.MonkeyPatch):
    """The test keys have 2048 bits, and Windows blocks those below 1024."""
    assert public_key.SMALLEST_RSA == 1024
    key, signature = der(lasting_signer().key), lasting_signer().sign(DATA, "sha256")
    assert fits(key, RSA, "sha256", signature)
    monkeypatch.setattr(public_key, name, bits)
    assert not fits(key, RSA, "sha256", signature)
