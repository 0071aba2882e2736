"""X.509 certificates, as the facts that a chain is built and judged from (RFC 5280)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vhdtool.package.der import reading, whole_element
from vhdtool.package.public_key import SignatureAlgorithm, signature_algorithm

MAX_CERTIFICATE = 64 << 10
"""Longest certificate that is read, in bytes; those that sign code stay below 3 KiB."""
KNOWN_EXTENSIONS = frozenset(
    {
        "2.5.29.14",  # subject key identifier
        "2.5.29.15",  # key usage
        "2.5.29.17",  # subject alternative name
        "2.5.29.19",  # basic constraints
        "2.5.29.31",  # CRL distribution points
        "2.5.29.32",  # certificate policies
        "2.5.29.35",  # authority key identifier
        "2.5.29.37",  # extended key usage
    }
)
"""Extensions that may be critical here: understood, or without a say in the signing of code."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. ``subject``, ``issuer``, ``public_key``, ``tbs`` and ``der`` are DER as it stands in the file.

    ``key_usage`` and ``extended_usages`` (dotted numbers) are None where the certificate has no such extension.
    """

    der: bytes = field(repr=False)
    tbs: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signature_algorithm: SignatureAlgorithm
    subject: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    subject_name: str
    issuer_name: str
    serial: int
    not_before: datetime
    not_after: datetime
    public_key: bytes = field(repr=False)
    is_authority: bool
    path_length: int | None
    key_usage: frozenset[str] | None
    extended_usages: frozenset[str] | None
    key_id: bytes | None = field(repr=False)
    unknown_critical: tuple[str, ...]
    sha256: bytes = field(repr=False)


def read_certificate(der: bytes, *, path: str | None = None) -> Certificate:
    """Read one certificate.

    Raises:
        DamagedError: ``der-damaged``: it is no certificate, or bytes follow it.
    """
    from asn1crypto import x509  # noqa: PLC0415  # slow to import

    what = "a certificate"
    whole_element(der, what, path, largest=MAX_CERTIFICATE)
    with reading(what, path):
        return _facts(x509.Certificate.load(der, strict=True), der)


def _facts(parsed: Any, der: bytes) -> Certificate:
    tbs = parsed["tbs_certificate"]
    constraints = parsed.basic_constraints_value
    usage = parsed.key_usage_value
    extended = parsed.extended_key_usage_value
    key_id = parsed.key_identifier_value
    algorithm = parsed["signature_algorithm"]
    if algorithm.dump() != tbs["signature"].dump():
        raise ValueError("it names two algorithms for its signature")
    if parsed["signature_value"].contents[:1] != b"\0":
        raise ValueError("its signature is no whole number of bytes")
    numbers = [one["extn_id"].dotted for one in tbs["extensions"]] if tbs["extensions"] else []
    if len(numbers) != len(set(numbers)):
        raise ValueError("an extension stands in it twice")
    length = constraints["path_len_constraint"].native if constraints is not None else None
    return Certificate(
        der=der,
        tbs=tbs.dump(),
        signature=parsed["signature_value"].native,
        signature_algorithm=signature_algorithm(algorithm["algorithm"].dotted),
        subject=tbs["subject"].dump(),
        issuer=tbs["issuer"].dump(),
        subject_name=_name(tbs["subject"]),
        issuer_name=_name(tbs["issuer"]),
        serial=int(tbs["serial_number"].native),
        not_before=parsed.not_valid_before,
        not_after=parsed.not_valid_after,
        public_key=tbs["subject_public_key_info"].dump(),
        is_authority=constraints is not None and bool(constraints["ca"].native),
        path_length=None if length is None else int(length),
        key_usage=None if usage is None else frozenset(usage.native),
        extended_usages=None if extended is None else frozenset(one.dotted for one in extended),
        key_id=None if key_id is None else bytes(key_id.native),
        unknown_critical=tuple(
            one["extn_id"].dotted
            for one in tbs["extensions"] or ()
            if one["critical"].native and one["extn_id"].dotted not in KNOWN_EXTENSIONS
        ),
        sha256=hashlib.sha256(der).digest(),
    )


def _name(name: Any) -> str:
    """The common name, or the whole name where there is none."""
    common = name.native.get("common_name")
    if isinstance(common, list):
        common = common[0]
    return str(common) if common else str(name.human_friendly)
