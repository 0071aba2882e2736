"""Algorithms of signatures, and the check of one signature with one public key (by the cryptography package)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vhdtool.errors import MissingSupportError

DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Names of digests by object identifier; the names are those of :mod:`hashlib`."""
_SIGNATURES = {
    "1.2.840.113549.1.1.1": ("rsa", None),
    "1.2.840.113549.1.1.4": ("rsa", "md5"),
    "1.2.840.113549.1.1.5": ("rsa", "sha1"),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.3.14.3.2.29": ("rsa", "sha1"),  # the old number of sha1WithRSA, in certificates of the 1990s
    "1.2.840.10045.2.1": ("ecdsa", None),
    "1.2.840.10045.4.1": ("ecdsa", "sha1"),
    "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
}
SMALLEST_RSA = 1024
"""Shortest RSA key that counts, in bits: what Windows blocks below (Microsoft Security Advisory 2661254)."""
LARGEST_RSA = 16384
"""Longest RSA key that is computed with, in bits: OpenSSL's own limit."""


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """``family``: rsa (PKCS#1 v1.5), ecdsa, or other. ``digest`` is None where the signer names it apart."""

    oid: str
    family: str
    digest: str | None


def signature_algorithm(oid: str) -> SignatureAlgorithm:
    """Return what an object identifier stands for; family ``other`` where it is not known here."""
    family, digest = _SIGNATURES.get(oid, ("other", None))
    return SignatureAlgorithm(oid, family, digest)


def signature_fits(
    public_key: bytes, algorithm: SignatureAlgorithm, digest: str, signature: bytes, data: bytes
) -> bool:
    """Whether ``signature`` over ``data`` was made with the private half of ``public_key`` (SubjectPublicKeyInfo).

    False also where the key is of another family, shorter or longer than the limits above, or can't be read.

    Raises:
        MissingSupportError: ``digest-not-allowed``: the host's policy does not let its crypto library use the digest.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415  # slow to import
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    kinds: dict[str, Any] = {
        "sha1": hashes.SHA1,
        "sha256": hashes.SHA256,
        "sha384": hashes.SHA384,
        "sha512": hashes.SHA512,
    }
    if digest not in kinds:
        return False
    try:
        _verify(public_key, algorithm.family, kinds[digest](), signature, data)
    except InvalidSignature:
        return False
    except UnsupportedAlgorithm as error:
        raise MissingSupportError(
            "digest-not-allowed",
            f"this host's cryptographic policy does not allow signatures with {digest} to be checked",
            hint="Check the package on another host, or allow the digest in the host's crypto policy.",
        ) from error
    return True


def _verify(public_key: bytes, family: str, digest: Any, signature: bytes, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415  # slow to import
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidSignature from error
    if family == "rsa" and isinstance(key, rsa.RSAPublicKey) and SMALLEST_RSA <= key.key_size <= LARGEST_RSA:
        key.verify(signature, data, padding.PKCS1v15(), digest)
    elif family == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(digest))
    else:
        raise InvalidSignature
