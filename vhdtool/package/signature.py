"""One signature judged: the signer's word on the content, the chain to a root, and the time it holds for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vhdtool.errors import DamagedError, Problem
from vhdtool.knowledge.trust_roots import sha1_accepted_before
from vhdtool.package.certificate_chain import LIFETIME_SIGNING, Chain, build_chain, check_strays
from vhdtool.package.countersignature import PKCS9, RFC3161, Countersignature, check_countersignatures
from vhdtool.package.pkcs7 import NESTED_SIGNATURE, SignedMessage, Signer, signer_fault
from vhdtool.package.trust_roots import CODE_SIGNING, TrustRoot

VALID, WEAK, INVALID = "valid", "weak", "invalid"
CLOCK_TOLERANCE = timedelta(days=1)
LATE_SHA1 = "sha1-too-late"


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    """What is to be said of one signature.

    ``state``: valid, weak (made with SHA-1, countersigned while that still counted) or invalid. ``chain`` names the
    certificates from the signer's to the root. ``signed_at`` is the countersigned time, None where there is none.
    ``countersignature``: pkcs9, rfc3161 or None.
    """

    place: str
    state: str
    digest: str
    signer: str | None
    chain: tuple[str, ...]
    root: str | None
    root_is_pinned: bool
    signed_at: datetime | None
    countersignature: str | None
    problems: tuple[Problem, ...]


def check_signatures(
    message: SignedMessage, roots: Sequence[TrustRoot], *, now: datetime, path: str | None = None
) -> tuple[SignatureVerdict, ...]:
    """Judge a message's signature and those nested in it, the outermost first."""
    return tuple(
        _check(one, signer, place, roots=roots, now=now, path=path)
        for place, one in named_messages(message)
        for signer in one.signers
    )


def named_messages(message: SignedMessage) -> Iterator[tuple[str, SignedMessage]]:
    """Yield a message and those nested in it, each with its name in reports: primary, nested 1, nested 2."""
    pending, number = [message], 0
    while pending:
        one = pending.pop(0)
        yield "primary" if number == 0 else f"nested {number}", one
        pending.extend(one.nested)
        number += 1


def combined_state(verdicts: Sequence[SignatureVerdict]) -> str:
    """Return the state of a file with these signatures.

    One that is broken breaks the file. One that is whole but made with SHA-1 too late proves nothing, and takes
    nothing from a better one beside it: Microsoft signed twice, for old and new systems, until 2019.
    """
    counting = [one for one in verdicts if {problem.code for problem in one.problems} != {LATE_SHA1}]
    states = {one.state for one in counting}
    if not counting or INVALID in states:
        return INVALID
    return VALID if VALID in states else WEAK


def _check(
    message: SignedMessage, signer: Signer, place: str, *, roots: Sequence[TrustRoot], now: datetime, path: str | None
) -> SignatureVerdict:
    problems: list[Problem] = []
    certificate = signer.certificate(message.certificates)
    if certificate is None:
        problems.append(Problem("certificate-missing", "the signer's certificate is not in the signature", path))
        return SignatureVerdict(place, INVALID, signer.digest, None, (), None, False, None, None, tuple(problems))
    try:
        fault = signer_fault(signer, certificate, message.content_type, message.content)
    except DamagedError as error:
        fault = error.message
    if fault is not None:
        problems.append(Problem("signature-mismatch", fault, path))
    problems += [
        Problem("unknown-attribute", f"the signature has an attribute {number} that nothing signs", path)
        for number in signer.unsigned
        if number not in {PKCS9, RFC3161, NESTED_SIGNATURE}
    ]
    if message.other_certificates:
        problems.append(Problem("stray-certificate", "the signature holds a certificate that is none of X.509", path))
    counters = check_countersignatures(message, signer, roots, path=path)
    late = [one for one in counters if {problem.code for problem in one.problems} == {LATE_SHA1}]
    problems += [problem for one in counters if one not in late for problem in one.problems]
    times = [(one.time, one) for one in counters if one.time is not None and not one.problems]
    at, counter = min(times, key=lambda pair: pair[0]) if times else (None, None)
    as_of = at
    if late and signer.digest == "sha1":
        as_of = late[0].time  # refused for its age below, and for nothing else
    elif at is None and problems:
        # refused already, for the counter signature: the time it states tells no further fault from this one's traces
        as_of = next((one.time for one in counters if one.time is not None), None)
    if LIFETIME_SIGNING in (certificate.extended_usages or ()):
        as_of = None
    chain = build_chain(
        certificate,
        message.certificates,
        roots,
        usage=CODE_SIGNING,
        at=now if as_of is None else as_of,
        is_now=as_of is None,
        path=path,
    )
    problems += chain.problems
    chains = [chain, *(one.chain for one in counters if one.chain is not None)]
    problems += check_strays(message.certificates, chains, roots, path=path)
    problems += _age(signer, chain, at, late, now=now, path=path)
    return SignatureVerdict(
        place=place,
        state=INVALID if problems else WEAK if _made_with_sha1(signer, chain, counter) else VALID,
        digest=signer.digest,
        signer=certificate.subject_name,
        chain=_names(chain),
        root=chain.root.certificate.subject_name if chain.root is not None else None,
        root_is_pinned=chain.root is not None and chain.root.pinned,
        signed_at=at,
        countersignature=counter.kind if counter is not None else None,
        problems=tuple(problems),
    )


def _age(
    signer: Signer,
    chain: Chain,
    at: datetime | None,
    late: Sequence[Countersignature],
    *,
    now: datetime,
    path: str | None,
) -> Iterator[Problem]:
    if signer.digest == "md5":
        yield Problem("md5-refused", "the signature is made with MD5", path)
    if at is not None and at > now + CLOCK_TOLERANCE:
        text = f"the signature is of {at:%Y-%m-%d}, and this machine's clock says {now:%Y-%m-%d}"
        yield Problem("signed-in-the-future", text, path)
    if signer.digest == "sha1" or chain.uses_sha1:
        limit = sha1_accepted_before()
        if at is None and not late:
            text = f"the signature is made with SHA-1, and nothing proves that it is older than {limit:%Y-%m-%d}"
            yield Problem(LATE_SHA1, text, path)
        elif at is None or at >= limit:
            when = at if at is not None else late[0].time
            yield Problem(LATE_SHA1, f"the signature of {when:%Y-%m-%d} is made with SHA-1", path)


def _made_with_sha1(signer: Signer, chain: Chain, counter: Countersignature | None) -> bool:
    return signer.digest == "sha1" or chain.uses_sha1 or (counter is not None and counter.uses_sha1)


def _names(chain: Chain) -> tuple[str, ...]:
    names = [one.subject_name for one in chain.certificates]
    if chain.root is not None and chain.root.certificate.sha256 != chain.certificates[-1].sha256:
        names.append(chain.root.certificate.subject_name)
    return tuple(names)
