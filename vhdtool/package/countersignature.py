"""Counter signatures: a time-stamp authority's word on when a signature was there.

Two kinds stand in the unauthenticated attributes of a signer: PKCS#9 (RFC 2985 section 5.3.6: a SignerInfo over the
signature, whose certificates are those of the message) and RFC 3161 tokens (a SignedData of their own around a
TSTInfo with the digest of the signature).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vhdtool.errors import DamagedError, Problem
from vhdtool.knowledge.trust_roots import sha1_accepted_before
from vhdtool.package.certificate import Certificate
from vhdtool.package.certificate_chain import Chain, build_chain, check_strays
from vhdtool.package.der import reading
from vhdtool.package.pkcs7 import TST_INFO, SignedMessage, Signer, read_signed_message, read_signer, signer_fault
from vhdtool.package.public_key import DIGESTS
from vhdtool.package.trust_roots import TIME_STAMPING, TrustRoot

PKCS9, RFC3161 = "1.2.840.113549.1.9.6", "1.3.6.1.4.1.311.3.3.1"
DATA = "1.2.840.113549.1.7.1"
SIGNING_TIME = "1.2.840.113549.1.9.5"
SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
MAX_COUNTERSIGNATURES = 8
_ATTRIBUTE_CERTIFICATE, _SEQUENCE = b"\xa1", b"\x30"
"""The tag of an attribute certificate among certificates, and its own, which it is digested with."""


@dataclass(frozen=True, slots=True)
class Countersignature:
    """One counter signature. ``kind``: pkcs9 or rfc3161. ``time`` and ``chain`` are None where it can't be read."""

    kind: str
    time: datetime | None
    signer: str | None
    chain: Chain | None
    uses_sha1: bool
    problems: tuple[Problem, ...]


def check_countersignatures(
    message: SignedMessage, signer: Signer, roots: Sequence[TrustRoot], *, path: str | None = None
) -> tuple[Countersignature, ...]:
    """Check each counter signature of a signer as of the time it states; none: an empty tuple."""
    values = [(PKCS9, value) for value in signer.unsigned.get(PKCS9, ())]
    values += [(RFC3161, value) for value in signer.unsigned.get(RFC3161, ())]
    checked: list[Countersignature] = []
    for number, value in values[:MAX_COUNTERSIGNATURES]:
        check = _check_pkcs9 if number == PKCS9 else _check_rfc3161
        kind = "pkcs9" if number == PKCS9 else "rfc3161"
        try:
            checked.append(check(value, message, signer, roots, path))
        except DamagedError as error:
            problem = Problem("countersignature-damaged", f"the {kind} counter signature: {error.message}", path)
            checked.append(Countersignature(kind, None, None, None, False, (problem,)))
    if len(values) > MAX_COUNTERSIGNATURES:
        problem = Problem("countersignature-damaged", "there are too many counter signatures", path)
        checked.append(Countersignature("pkcs9", None, None, None, False, (problem,)))
    return tuple(checked)


def _check_pkcs9(
    value: bytes, message: SignedMessage, signer: Signer, roots: Sequence[TrustRoot], path: str | None
) -> Countersignature:
    counter = read_signer(value, path=path)
    times = counter.signed.get(SIGNING_TIME, ())
    with reading("the signing time", path):
        stated = [_time(one) for one in times]
    if len(stated) != 1:
        raise _damaged("it states no time", path)
    return _judge(
        "pkcs9",
        stated[0],
        counter,
        message.certificates,
        content_type=DATA,
        content=signer.signature,
        roots=roots,
        path=path,
    )


def _check_rfc3161(
    value: bytes, message: SignedMessage, signer: Signer, roots: Sequence[TrustRoot], path: str | None
) -> Countersignature:
    token = read_signed_message(value, path=path)
    if token.content_type != TST_INFO or len(token.signers) != 1:
        raise _damaged("it is no time-stamp token", path)
    with reading("the time stamp", path):
        moment, digest, imprint = _tst_info(token.content)
    if digest is None:
        raise _damaged("it uses an unknown digest", path)
    counter = token.signers[0]
    certificates = (*token.certificates, *message.certificates)
    found = _judge(
        "rfc3161",
        moment,
        counter,
        certificates,
        content_type=TST_INFO,
        content=token.content,
        roots=roots,
        path=path,
    )
    problems = list(found.problems)
    if found.chain is not None:
        problems += check_strays(token.certificates, [found.chain], roots, path=path)
    if hashlib.new(digest, signer.signature, usedforsecurity=False).digest() != imprint:
        problems.append(_mismatch("the time stamp is of another signature", path))
    certificate = counter.certificate(certificates)
    named = _named(counter, path)
    if certificate is not None and (not named or not all(_is(certificate.der, one[0]) for one in named)):
        problems.append(_mismatch("the time stamp names another certificate as its signer's", path))
    vouched = [one for listed in named for one in listed]
    for other in token.other_certificates:
        whole = _SEQUENCE + other[1:] if other.startswith(_ATTRIBUTE_CERTIFICATE) else b""
        if not any(_is(whole, one) for one in vouched):
            text = "the time stamp holds an attribute certificate that its signer did not name"
            problems.append(Problem("stray-certificate", text, path))
    if digest == "md5":
        problems.append(Problem("md5-refused", "the time stamp is made with MD5", path))
    sha1 = found.uses_sha1 or digest == "sha1"
    return Countersignature(
        found.kind, moment, found.signer, found.chain, sha1, _late_sha1(sha1, moment, problems, path)
    )


def _judge(
    kind: str,
    moment: datetime,
    counter: Signer,
    certificates: tuple[Certificate, ...],
    *,
    content_type: str,
    content: bytes,
    roots: Sequence[TrustRoot],
    path: str | None,
) -> Countersignature:
    certificate = counter.certificate(certificates)
    if certificate is None:
        raise _damaged("its certificate is missing", path)
    problems: list[Problem] = []
    fault = signer_fault(counter, certificate, content_type, content)
    if fault is not None:
        problems.append(_mismatch(fault, path))
    chain = build_chain(certificate, certificates, roots, usage=TIME_STAMPING, at=moment, path=path)
    problems += chain.problems
    if counter.digest == "md5":
        problems.append(Problem("md5-refused", "the counter signature is made with MD5", path))
    sha1 = counter.digest == "sha1" or chain.uses_sha1
    late = _late_sha1(sha1, moment, problems, path) if kind == "pkcs9" else tuple(problems)
    return Countersignature(kind, moment, certificate.subject_name, chain, sha1, late)


def _late_sha1(sha1: bool, moment: datetime, problems: list[Problem], path: str | None) -> tuple[Problem, ...]:
    if sha1 and moment >= sha1_accepted_before():
        text = f"the counter signature of {moment:%Y-%m-%d} is made with SHA-1"
        return (*problems, Problem("sha1-too-late", text, path))
    return tuple(problems)


def _tst_info(content: bytes) -> tuple[datetime, str | None, bytes]:
    from asn1crypto import tsp  # noqa: PLC0415  # slow to import

    info = tsp.TSTInfo.load(content, strict=True)
    imprint = info["message_imprint"]
    digest = DIGESTS.get(imprint["hash_algorithm"]["algorithm"].dotted)
    return info["gen_time"].native, digest, bytes(imprint["hashed_message"].native)


def _named(counter: Signer, path: str | None) -> list[list[tuple[str, bytes]]]:
    """The digests in the attributes that tie the token to its certificates (RFC 2634, RFC 5035): each signed list.

    The first of a list is of the signer's certificate; more are of others, attribute certificates too.
    """
    from asn1crypto import tsp  # noqa: PLC0415  # slow to import

    kinds: tuple[tuple[str, Any], ...] = (
        (SIGNING_CERTIFICATE, tsp.SigningCertificate),
        (SIGNING_CERTIFICATE_V2, tsp.SigningCertificateV2),
    )
    named = []
    with reading("the signing certificate attribute", path):
        for number, kind in kinds:
            for value in counter.signed.get(number, ()):
                listed = []
                for one in kind.load(value, strict=True)["certs"]:
                    newer = number == SIGNING_CERTIFICATE_V2
                    digest = DIGESTS[one["hash_algorithm"]["algorithm"].dotted] if newer else "sha1"
                    listed.append((digest, bytes(one["cert_hash"].native)))
                if not listed:
                    raise ValueError("it names none")
                named.append(listed)
    return named


def _is(der: bytes, named: tuple[str, bytes]) -> bool:
    digest, value = named
    return hashlib.new(digest, der, usedforsecurity=False).digest() == value


def _time(der: bytes) -> datetime:
    from asn1crypto import cms  # noqa: PLC0415  # slow to import

    moment = cms.Time.load(der, strict=True).native
    if not isinstance(moment, datetime):
        raise ValueError("it is no time")
    return moment


def _mismatch(text: str, path: str | None) -> Problem:
    return Problem("countersignature-mismatch", text, path)


def _damaged(text: str, path: str | None) -> DamagedError:
    return DamagedError(
        "signature-damaged", text, path=path, hint="The file is damaged: copy it again from where it came from."
    )
