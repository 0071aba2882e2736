"""From a signer's certificate to a root: building the chain and judging it (RFC 5280 section 6, for one purpose).

No revocation lists are asked: nothing here goes to the network, and the authorities behind these packages publish
none that outlive their certificates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from vhdtool.errors import Problem
from vhdtool.package.certificate import Certificate
from vhdtool.package.public_key import signature_fits
from vhdtool.package.trust_roots import CODE_SIGNING, TIME_STAMPING, TrustRoot, roots_for

MAX_DEPTH = 8
"""Most certificates from the signer to the root; genuine chains have three or four."""
MAX_CHECKS = 64
"""Most signatures computed for one chain: what bounds a set of certificates that all bear one name."""

PURPOSES = {CODE_SIGNING: "1.3.6.1.5.5.7.3.3", TIME_STAMPING: "1.3.6.1.5.5.7.3.8"}
ANY_PURPOSE = "2.5.29.37.0"
LIFETIME_SIGNING = "1.3.6.1.4.1.311.10.3.13"
"""A signer with it signs for the certificate's own lifetime only, countersigned or not (Authenticode, 2008)."""
SYSTEM_COMPONENT = "1.3.6.1.4.1.311.10.3.6"
HARDWARE_MAKERS = frozenset({"1.3.6.1.4.1.311.10.3.5", "1.3.6.1.4.1.311.10.3.5.1", "1.3.6.1.4.1.311.10.3.39"})
"""Microsoft signs drivers of other makers with these, under the same roots as Windows itself."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain from the signer's certificate to the root, and what is wrong with it (nothing: it holds).

    ``certificates`` begins with the signer's and ends below the root, or with the last one found where ``root`` is
    None. ``uses_sha1``: one of the signatures below the root is made with it.
    """

    certificates: tuple[Certificate, ...]
    root: TrustRoot | None
    problems: tuple[Problem, ...]
    uses_sha1: bool


def build_chain(
    signer: Certificate,
    others: Sequence[Certificate],
    roots: Sequence[TrustRoot],
    *,
    usage: str,
    at: datetime,
    is_now: bool = False,
    path: str | None = None,
) -> Chain:
    """Find a chain from ``signer`` over ``others`` to one of ``roots`` and judge it as of ``at``.

    ``usage``: code-signing or time-stamping. ``is_now``: ``at`` is no countersigned time but the present. The first
    chain without fault is taken, else the first that reaches a root, else the longest beginning.
    """
    search = _Search(others, roots_for(roots, usage))
    best: Chain | None = None
    for certificates, root in search.paths((signer,)):
        chain = _judge(certificates, root, usage=usage, at=at, is_now=is_now, path=path)
        if not chain.problems:
            return chain
        if best is None or (best.root is None and chain.root is not None):
            best = chain
    if best is None:  # no path at all: only where the bound on checks was met at once
        best = _judge((signer,), None, usage=usage, at=at, is_now=is_now, path=path)
    return best


def check_strays(
    certificates: Sequence[Certificate], used: Sequence[Chain], roots: Sequence[TrustRoot], *, path: str | None = None
) -> Iterator[Problem]:
    """Report the certificates of a signature that no chain uses and no certificate at hand has issued.

    Nothing depends on them, but nothing vouches for them either: in a genuine signature there are none, in a damaged
    one they are what is left of those that were needed, or were not.
    """
    known = {one.sha256 for chain in used for one in chain.certificates} | {one.certificate.sha256 for one in roots}
    issuers = [*certificates, *(root.certificate for root in roots)]
    search = _Search((), ())
    for one in certificates:
        if one.sha256 in known or one.signature_algorithm.digest == "md5":
            continue
        if not any(issuer.subject == one.issuer and search.signed(one, issuer) for issuer in issuers):
            yield Problem("stray-certificate", f"nobody at hand issued the certificate of {one.subject_name}", path)


class _Search:
    """The paths from a certificate upwards, depth first, each signature checked before it is followed."""

    def __init__(self, others: Sequence[Certificate], roots: Sequence[TrustRoot]) -> None:
        self._others = others
        self._roots = roots
        self._checks = 0

    def paths(self, below: tuple[Certificate, ...]) -> Iterator[tuple[tuple[Certificate, ...], TrustRoot | None]]:
        """Yield each way on from the last of these, with the root it ends at."""
        last = below[-1]
        for root in self._roots:
            if root.certificate.sha256 == last.sha256:
                yield below[:-1] if len(below) > 1 else below, root
                return
        for root in self._roots:
            if root.certificate.subject == last.issuer and self.signed(last, root.certificate):
                yield below, root
        found = False
        if len(below) < MAX_DEPTH:
            for other in self._others:
                if other.subject == last.issuer and other not in below and self.signed(last, other):
                    found = True
                    yield from self.paths((*below, other))
        if not found:
            yield below, None

    def signed(self, certificate: Certificate, issuer: Certificate) -> bool:
        """Whether one issued the other; False without looking once the bound is met."""
        self._checks += 1
        if self._checks > MAX_CHECKS:
            return False
        algorithm = certificate.signature_algorithm
        if algorithm.digest == "md5":
            return True  # followed, and refused by name: it is not computed
        return algorithm.digest is not None and signature_fits(
            issuer.public_key, algorithm, algorithm.digest, certificate.signature, certificate.tbs
        )


def _judge(
    certificates: tuple[Certificate, ...],
    root: TrustRoot | None,
    *,
    usage: str,
    at: datetime,
    is_now: bool,
    path: str | None,
) -> Chain:
    problems: list[Problem] = []
    if root is None:
        last = certificates[-1]
        problems.append(_no_root(last, path))
    elif root.pinned and usage == CODE_SIGNING:
        problems += _other_maker(certificates[0], path)
    above = [root.certificate] if root is not None and root.certificate.sha256 != certificates[-1].sha256 else []
    for depth, certificate in enumerate([*certificates, *above]):
        is_root = root is not None and certificate.sha256 == root.certificate.sha256
        problems += _validity(certificate, at, is_now, path)
        problems += _usage(certificate, depth, usage, is_root, path)
        if not is_root:
            problems += _soundness(certificate, path)
    signed = [one for one in certificates if root is None or one.sha256 != root.certificate.sha256]
    return Chain(certificates, root, tuple(problems), any(one.signature_algorithm.digest == "sha1" for one in signed))


def _no_root(last: Certificate, path: str | None) -> Problem:
    if last.issuer == last.subject:
        text = f"{last.subject_name} signed itself and is not among the trusted roots"
    else:
        text = f"{last.subject_name} is issued by {last.issuer_name}, which is not among the trusted roots"
    return Problem("untrusted-root", text, path)


def _other_maker(signer: Certificate, path: str | None) -> Iterator[Problem]:
    usages = signer.extended_usages or frozenset()
    if usages & HARDWARE_MAKERS and SYSTEM_COMPONENT not in usages:
        yield Problem(
            "signed-for-another-maker",
            f"{signer.subject_name} signs drivers of other makers, not packages of Windows",
            path,
        )


def _validity(certificate: Certificate, at: datetime, is_now: bool, path: str | None) -> Iterator[Problem]:
    name, moment = certificate.subject_name, "now" if is_now else f"when signed, {at:%Y-%m-%d}"
    if at < certificate.not_before:
        yield Problem("not-yet-valid", f"{name} is valid from {certificate.not_before:%Y-%m-%d}, not {moment}", path)
    if at > certificate.not_after:
        yield Problem("expired", f"{name} was valid until {certificate.not_after:%Y-%m-%d}, not {moment}", path)


def _usage(certificate: Certificate, depth: int, usage: str, is_root: bool, path: str | None) -> Iterator[Problem]:
    name, purposes = certificate.subject_name, certificate.extended_usages
    if purposes is None:
        fits = depth > 0 or is_root  # an authority without the extension serves all; a signer has to say what for
    else:
        fits = PURPOSES[usage] in purposes or (depth > 0 and ANY_PURPOSE in purposes)
    if not fits:
        yield Problem("wrong-usage", f"{name} is not for {usage}", path)
    allowed = certificate.key_usage
    if depth == 0:
        if allowed is not None and not allowed & {"digital_signature", "non_repudiation"}:
            yield Problem("wrong-usage", f"the key of {name} is not for signatures", path)
        return
    if allowed is not None and "key_cert_sign" not in allowed:
        yield Problem("wrong-usage", f"the key of {name} is not for signing certificates", path)
    if is_root:
        return
    if not certificate.is_authority:
        yield Problem("not-an-authority", f"{name} is no authority, yet issued a certificate", path)
    if certificate.path_length is not None and depth - 1 > certificate.path_length:
        yield Problem("chain-too-long", f"{name} allows {certificate.path_length} authorities below it", path)


def _soundness(certificate: Certificate, path: str | None) -> Iterator[Problem]:
    if certificate.signature_algorithm.digest == "md5":
        yield Problem("md5-refused", f"{certificate.subject_name} is signed with MD5", path)
    for number in certificate.unknown_critical:
        yield Problem("unknown-critical", f"{certificate.subject_name} has a critical extension {number}", path)
