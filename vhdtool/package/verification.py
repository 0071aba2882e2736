"""Verification of a package in four layers, each judged by itself.

=========  ==========================================================================================================
layer      what holds when it is valid
=========  ==========================================================================================================
digest     the cabinet's bytes are those its signatures are of
signature  its signatures were made by certificates that go back to a trusted root, at a time those were valid
catalog    its catalogs are signed likewise, and list every .mum and .manifest
payload    every file of a component has the digest that the component's manifest states
=========  ==========================================================================================================

Each layer rests on nothing but the bytes at hand, so that a changed byte shows in every layer that covers it: the
last ones name the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, Problem
from vhdtool.package.authenticode import (
    SignaturePlace,
    cabinet_digests,
    find_signature,
    indirect_digest,
    read_signature,
)
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.catalog_check import check_catalogs
from vhdtool.package.package_files import read_package_files
from vhdtool.package.payload_check import check_payload
from vhdtool.package.pkcs7 import SignedMessage, read_signed_message
from vhdtool.package.signature import check_signatures, combined_state, named_messages
from vhdtool.package.trust_roots import TrustRoot, microsoft_roots
from vhdtool.package.verdict import INVALID, MISSING, VALID, WEAK, LayerVerdict, combined_layer


@dataclass(frozen=True, slots=True)
class PackageVerification:
    """The four layers in order: digest, signature, catalog, payload."""

    path: str
    layers: tuple[LayerVerdict, ...]

    @property
    def trusted(self) -> bool:
        """Whether every layer holds: each is valid, or weak for its SHA-1."""
        return all(layer.holds for layer in self.layers)

    def layer(self, name: str) -> LayerVerdict:
        """Return one layer by its name."""
        return next(one for one in self.layers if one.name == name)


def verify_package(
    cabinet: Cabinet, *, trust_roots: Sequence[TrustRoot] = (), now: datetime | None = None
) -> PackageVerification:
    """Verify a package.

    Args:
        cabinet: The package, or any other cabinet: layers it lacks are ``missing``.
        trust_roots: Roots besides the pinned ones of Microsoft (:func:`vhdtool.package.trust_roots.read_trust_roots`).
        now: Today, by default of this machine's clock. It decides only where nothing states when a file was signed.

    Raises:
        MissingSupportError: ``roots-missing``, ``digest-not-allowed``.
        RefusedError: the cabinet's contents are beyond the limits of extraction; ``package-too-large``.
    """
    roots = (*microsoft_roots(), *trust_roots)
    moment = datetime.now(UTC) if now is None else now
    files = read_package_files(cabinet)
    return PackageVerification(
        cabinet.path,
        (
            *_check_parts(cabinet, roots, moment),
            check_catalogs(files, roots, now=moment),
            check_payload(files, path=cabinet.path),
        ),
    )


def _check_parts(cabinet: Cabinet, roots: Sequence[TrustRoot], now: datetime) -> tuple[LayerVerdict, LayerVerdict]:
    """Judge the layers digest and signature, of each file of a set by itself: what nobody signed counts as such."""
    judged = [_check_file(source, path, number, roots, now) for number, (path, source) in enumerate(cabinet.parts)]
    digests, signatures = zip(*judged, strict=True)
    return combined_layer(digests), combined_layer(signatures)


def _check_file(
    source: ByteSource, path: str, number: int, roots: Sequence[TrustRoot], now: datetime
) -> tuple[LayerVerdict, LayerVerdict]:
    try:
        place = find_signature(source, path=path, number_in_set=number)
        if place is None:
            text = f"{path}, a part of the set, is not signed" if number else "the cabinet is not signed"
            return LayerVerdict("digest", MISSING, text), LayerVerdict("signature", MISSING, text)
        message = read_signed_message(read_signature(source, place, path=path), path=path)
    except DamagedError as error:
        problem = Problem(error.code, error.message, path, error.offset)
        return (
            LayerVerdict("digest", INVALID, "the signature can't be read", problems=(problem,)),
            LayerVerdict("signature", INVALID, "the signature can't be read", problems=(problem,)),
        )
    digest = _check_digest(source, path, place, message)
    verdicts = check_signatures(message, roots, now=now, path=path)
    state = combined_state(verdicts)
    return digest, LayerVerdict(
        "signature",
        state,
        _SIGNATURE_TEXTS[state],
        problems=tuple(problem for one in verdicts for problem in one.problems),
        signatures=verdicts,
        checked=len(verdicts),
    )


_SIGNATURE_TEXTS = {
    VALID: "signed, and the chain ends at a trusted root",
    WEAK: "signed with SHA-1, while that still counted",
    INVALID: "the signature does not hold",
}


def _check_digest(source: ByteSource, path: str, place: SignaturePlace, message: SignedMessage) -> LayerVerdict:
    problems, stated = list(place.problems), []
    for name, one in named_messages(message):
        try:
            stated.append((name, indirect_digest(one, path=path)))
        except DamagedError as error:
            problems.append(Problem(error.code, f"{name} signature: {error.message}", path))
    computed = cabinet_digests(source, place.offset, {digest.algorithm for _, digest in stated})
    for name, digest in stated:
        if digest.algorithm == "md5":
            problems.append(Problem("md5-refused", f"{name} signature: the digest is made with MD5", path))
        elif computed[digest.algorithm] != digest.digest:
            text = f"{name} signature: the cabinet's {digest.algorithm} is not the one that was signed"
            problems.append(Problem("digest-mismatch", text, path))
    if problems:
        return LayerVerdict("digest", INVALID, "the cabinet was changed after it was signed", problems=tuple(problems))
    weak = all(digest.algorithm == "sha1" for _, digest in stated)
    names = " and ".join(digest.algorithm for _, digest in stated)
    return LayerVerdict("digest", WEAK if weak else VALID, f"the cabinet is as signed ({names})", checked=len(stated))
