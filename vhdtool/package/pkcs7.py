"""PKCS#7 / CMS SignedData, as Authenticode uses it: who signed what, with which certificates at hand.

Sources: RFC 2315 (PKCS#7, whose content is any DER value), RFC 5652 (CMS), and Microsoft, "Windows Authenticode
Portable Executable Signature Format" (nested signatures and counter signatures in unauthenticated attributes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vhdtool.errors import DamagedError
from vhdtool.package.certificate import Certificate, read_certificate
from vhdtool.package.der import reading, whole_element
from vhdtool.package.public_key import DIGESTS, SignatureAlgorithm, signature_algorithm, signature_fits

SIGNED_DATA = "1.2.840.113549.1.7.2"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
NESTED_SIGNATURE = "1.3.6.1.4.1.311.2.4.1"
TST_INFO = "1.2.840.113549.1.9.16.1.4"
MAX_CERTIFICATES = 64
MAX_SIGNERS = 8
MAX_ATTRIBUTES = 64
MAX_NESTED = 8
"""Most signatures nested in one, and the deepest nesting; genuine files have one nested signature."""

Attributes = Mapping[str, tuple[bytes, ...]]
"""Attributes by dotted number: each value as its DER."""


@dataclass(frozen=True, slots=True)
class Signer:
    """One SignerInfo. ``issuer`` and ``serial`` name its certificate, or else ``key_id`` does.

    ``signed_attributes`` is the DER that the signature covers, empty where it covers the content itself.
    """

    issuer: bytes | None = field(repr=False)
    serial: int | None
    key_id: bytes | None = field(repr=False)
    digest: str
    algorithm: SignatureAlgorithm
    signature: bytes = field(repr=False)
    signed_attributes: bytes = field(repr=False)
    signed: Attributes = field(repr=False)
    unsigned: Attributes = field(repr=False)

    def certificate(self, among: tuple[Certificate, ...]) -> Certificate | None:
        """Return the signer's certificate, or None where it is not among these."""
        for one in among:
            if self.key_id is not None:
                if one.key_id == self.key_id:
                    return one
            elif one.issuer == self.issuer and one.serial == self.serial:
                return one
        return None


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A SignedData. ``content`` is what the digests are taken over: the content's octets without their DER header.

    ``other_certificates``: what stands among the certificates and is none of X.509, as DER; time-stamp devices put
    attribute certificates there. Nothing in the chain vouches for them.
    """

    content_type: str
    content: bytes = field(repr=False)
    content_der: bytes = field(repr=False)
    certificates: tuple[Certificate, ...]
    other_certificates: tuple[bytes, ...] = field(repr=False)
    signers: tuple[Signer, ...]
    nested: tuple[SignedMessage, ...]


def read_signed_message(data: bytes, *, path: str | None = None) -> SignedMessage:
    """Read a SignedData with its nested signatures. ``data`` may end in zeros, as signatures in files are padded.

    Raises:
        DamagedError: ``der-damaged``, or ``signature-damaged``: something other than zeros follows it.
    """
    what = "the signature"
    whole = whole_element(data, what, path)
    if data[len(whole) :].strip(b"\0"):
        raise _damaged(f"bytes follow {what}", path, "zeros", f"{len(data) - len(whole)} other bytes")
    with reading(what, path):
        return _message(whole, path, MAX_NESTED)


def read_signer(data: bytes, *, path: str | None = None) -> Signer:
    """Read one SignerInfo, as a PKCS#9 counter signature holds it.

    Raises:
        DamagedError: ``der-damaged``, ``signature-damaged``.
    """
    from asn1crypto import cms  # noqa: PLC0415  # slow to import

    with reading("a counter signature", path):
        return _signer(cms.SignerInfo.load(data, strict=True), path)


def signer_fault(signer: Signer, certificate: Certificate, content_type: str | None, content: bytes) -> str | None:
    """Say what is wrong between a signer's signature, its certificate and the content; None where all fit.

    ``content_type`` None: the attribute is not compared (a PKCS#9 counter signature has none, or says "data").
    """
    if signer.signed_attributes:
        named = signer.signed.get(CONTENT_TYPE, ())
        if content_type is not None and [_oid(one) for one in named] != [content_type]:
            return "the signed type of the content is another"
        digests = signer.signed.get(MESSAGE_DIGEST, ())
        wanted = hashlib.new(signer.digest, content, usedforsecurity=False).digest()
        if [_octets(one) for one in digests] != [wanted]:
            return "the content is not what was signed"
        covered = signer.signed_attributes
    elif content_type is not None:
        return "the signer signed no attributes"
    else:
        covered = content
    if signer.algorithm.digest not in (None, signer.digest):
        return "the signer names two digests"
    if not signature_fits(certificate.public_key, signer.algorithm, signer.digest, signer.signature, covered):
        return f"the signature was not made by {certificate.subject_name}"
    return None


def _message(data: bytes, path: str | None, depth: int) -> SignedMessage:
    from asn1crypto import cms  # noqa: PLC0415  # slow to import

    outer = cms.ContentInfo.load(data, strict=True)
    if outer["content_type"].dotted != SIGNED_DATA:
        raise _damaged("the signature is no SignedData", path, SIGNED_DATA, outer["content_type"].dotted)
    parsed = outer["content"]
    inner = parsed["encap_content_info"]
    # RFC 5652 section 5.1: 1 for content as PKCS#7 had it, 3 for content of CMS, which here is a time stamp's
    _refuse_version(parsed["version"].native, "v3" if inner["content_type"].dotted == TST_INFO else "v1", path)
    content, content_der = _content(inner["content"])
    certificates = parsed["certificates"] or ()
    if len(certificates) > MAX_CERTIFICATES or not 0 < len(parsed["signer_infos"]) <= MAX_SIGNERS:
        raise _damaged(
            "the signature has too many parts",
            path,
            f"at most {MAX_CERTIFICATES} certificates, 1 to {MAX_SIGNERS} signers",
            f"{len(certificates)} certificates, {len(parsed['signer_infos'])} signers",
        )
    if parsed["crls"]:
        raise _damaged("the signature holds revocation lists, which nothing signs", path, "none", len(parsed["crls"]))
    signers = tuple(_signer(one, path) for one in parsed["signer_infos"])
    named = {_digest(one, path) for one in parsed["digest_algorithms"]}
    if named != {one.digest for one in signers}:
        raise _damaged("the signature lists other digests than its signers use", path)
    return SignedMessage(
        content_type=inner["content_type"].dotted,
        content=content,
        content_der=content_der,
        certificates=tuple(
            read_certificate(one.chosen.dump(), path=path) for one in certificates if one.name == "certificate"
        ),
        other_certificates=tuple(one.dump() for one in certificates if one.name != "certificate"),
        signers=signers,
        nested=_nested(signers, path, depth),
    )


def _nested(signers: tuple[Signer, ...], path: str | None, depth: int) -> tuple[SignedMessage, ...]:
    values = [value for signer in signers for value in signer.unsigned.get(NESTED_SIGNATURE, ())]
    if len(values) > depth:
        raise _damaged("signatures are nested without end", path, f"at most {MAX_NESTED}", f"more than {MAX_NESTED}")
    return tuple(_message(value, path, depth - len(values)) for value in values)


def _content(content: Any) -> tuple[bytes, bytes]:
    """The octets that are digested, and the whole value: PKCS#7 has any DER value, CMS wraps it in an octet string."""
    from asn1crypto import core, parser  # noqa: PLC0415  # slow to import

    if isinstance(content, core.Any):
        der = parser.parse(content.dump(), strict=True)[4]  # without its tag [0]
        return parser.parse(der, strict=True)[4], der
    if isinstance(content, core.Void):
        raise ValueError("it holds no content")
    octets = bytes(content)
    return octets, octets


def _signer(parsed: Any, path: str | None) -> Signer:
    sid = parsed["sid"]
    by_name = sid.name == "issuer_and_serial_number"
    _refuse_version(parsed["version"].native, "v1" if by_name else "v3", path)
    _refuse_parameters(parsed["signature_algorithm"], path)
    signed = parsed["signed_attrs"]
    covered = signed.dump() if signed else b""
    return Signer(
        issuer=sid.chosen["issuer"].dump() if by_name else None,
        serial=int(sid.chosen["serial_number"].native) if by_name else None,
        key_id=None if by_name else bytes(sid.chosen.native),
        digest=_digest(parsed["digest_algorithm"], path),
        algorithm=signature_algorithm(parsed["signature_algorithm"]["algorithm"].dotted),
        signature=bytes(parsed["signature"].native),
        # in the message they bear the tag [0]; the signature is over them as a SET OF (RFC 5652 section 5.4)
        signed_attributes=b"\x31" + covered[1:] if covered else b"",
        signed=_attributes(signed, path),
        unsigned=_attributes(parsed["unsigned_attrs"], path),
    )


def _attributes(parsed: Any, path: str | None) -> Attributes:
    found: dict[str, tuple[bytes, ...]] = {}
    if not parsed:
        return found
    if len(parsed) > MAX_ATTRIBUTES:
        raise _damaged("a signer has too many attributes", path, f"at most {MAX_ATTRIBUTES}", len(parsed))
    for attribute in parsed:
        number = attribute["type"].dotted
        if number in found:
            raise _damaged(f"a signer has the attribute {number} twice", path)
        found[number] = tuple(value.dump() for value in attribute["values"])
    return found


def _digest(algorithm: Any, path: str | None) -> str:
    _refuse_parameters(algorithm, path)
    number = algorithm["algorithm"].dotted
    if number not in DIGESTS:
        raise _damaged("the signature uses an unknown digest", path, ", ".join(DIGESTS.values()), number)
    return DIGESTS[number]


def _refuse_version(found: object, expected: str, path: str | None) -> None:
    if found != expected:
        raise _damaged("the signature's structure has another version than its content asks for", path, expected, found)


def _refuse_parameters(algorithm: Any, path: str | None) -> None:
    """None of the algorithms here has parameters, so that the field is left out or NULL."""
    parameters = algorithm["parameters"].dump()
    if parameters not in (b"", b"\x05\x00"):
        raise _damaged("an algorithm of the signature has parameters", path, "none", parameters[:16].hex())


def _oid(der: bytes) -> str:
    from asn1crypto import core  # noqa: PLC0415  # slow to import

    with reading("an attribute"):
        return str(core.ObjectIdentifier.load(der, strict=True).dotted)


def _octets(der: bytes) -> bytes:
    from asn1crypto import core  # noqa: PLC0415  # slow to import

    with reading("an attribute"):
        return bytes(core.OctetString.load(der, strict=True))


def _damaged(message: str, path: str | None, expected: object = None, found: object = None) -> DamagedError:
    return DamagedError(
        "signature-damaged",
        message,
        path=path,
        expected=expected,
        found=found,
        hint="The file is damaged: copy it again from where it came from.",
    )
