"""What the tests of signatures share: the test authority's roots, and a moment after its signers expired."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from scripts.fixtures.signed_package import SPC_INDIRECT_DATA, Signing, indirect, signed_message, trusted_root
from vhdtool.package.catalog import Catalog, listed_files, read_catalog_message
from vhdtool.package.pkcs7 import read_signed_message
from vhdtool.package.signature import SignatureVerdict, check_signatures
from vhdtool.package.trust_roots import TrustRoot, read_trust_roots

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CONTENT = indirect("sha256", bytes(range(32)))


def authority_roots() -> tuple[TrustRoot, ...]:
    return read_trust_roots(trusted_root())


def signature(how: Signing, nested: bytes | None = None) -> bytes:
    return signed_message(SPC_INDIRECT_DATA, CONTENT, how, nested)


def read_catalog(data: bytes, *, path: str | None = None) -> Catalog:
    """What a catalog lists, whoever signed it."""
    return listed_files(read_catalog_message(data, path=path), path=path)


def judged(
    how: Signing, *, nested: bytes | None = None, now: datetime = NOW, roots: Sequence[TrustRoot] | None = None
) -> tuple[SignatureVerdict, ...]:
    message = read_signed_message(signature(how, nested))
    return check_signatures(message, authority_roots() if roots is None else roots, now=now)


def codes(verdicts: Sequence[SignatureVerdict]) -> set[str]:
    return {problem.code for verdict in verdicts for problem in verdict.problems}
