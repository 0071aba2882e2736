"""The packages that are to be staged: taken from cabinets and .msu files of the host, read and verified."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from vhdtool.bytesource import ByteSource, sha256_of
from vhdtool.disk.device import FileDevice
from vhdtool.errors import UsageError
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.package import Package, read_package
from vhdtool.package.trust_roots import TrustRoot
from vhdtool.package.verdict import INVALID
from vhdtool.package.verification import PackageVerification, verify_package
from vhdtool.staging.cabinet_file import package_cabinets

Trust = Literal["trusted", "untrusted", "tampered"]

TRUST_CODES = frozenset(
    {
        "untrusted-root", "stray-certificate", "expired", "not-yet-valid", "wrong-usage", "not-an-authority",
        "chain-too-long", "unknown-critical", "sha1-too-late", "signed-for-another-maker", "signed-in-the-future",
        "md5-refused",
    }
)  # fmt: skip
"""Problems that say whom a signature comes from is not to be relied on; every other says that bytes were changed."""
UNLISTED = "not-in-catalog"
LONGEST_NAME = 64
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class StagedPackage:
    """A servicing cabinet. ``sha256`` is that of the cabinet as it is staged.

    ``file`` is the host's file that it comes from, ``source`` names it with its place in that (``FILE!NAME``).
    """

    file: str
    source: str
    package: Package
    verification: PackageVerification
    content: ByteSource
    sha256: str

    @property
    def title(self) -> str:
        """What it is called: its article where it has one, and its version."""
        return f"{self.package.kb or self.package.identity.name} {self.package.identity.version_text}"

    @property
    def trust(self) -> Trust:
        """What the verification comes to."""
        return trust_of(self.verification)


def trust_of(verification: PackageVerification) -> Trust:
    """Tell what a verification comes to."""
    if verification.trusted:
        return "trusted"
    for layer in verification.layers:
        codes = {one.code for one in layer.problems} - TRUST_CODES
        if any(one.problems for one in layer.signatures):
            codes.discard(UNLISTED)  # what a catalog of nobody's lists does not count: that follows, and tells no more
        if layer.state == INVALID and codes:
            return "tampered"
    return "untrusted"


@contextmanager
def open_packages(paths: Sequence[str], trust_roots: Sequence[TrustRoot] = ()) -> Iterator[tuple[StagedPackage, ...]]:
    """Open cabinets and .msu files, in the order given; the files stay open until the block ends.

    Raises:
        UsageError: ``same-package-twice``.
        UnsupportedError: ``not-a-package``, ``package-delta``.
        VhdtoolError: as :meth:`Cabinet.open`, :func:`read_package` and :func:`verify_package`.
    """
    with ExitStack() as stack:
        found: dict[str, StagedPackage] = {}
        for path in paths:
            file = FileDevice(path)
            stack.callback(file.close)
            for one in _packages(file, path, trust_roots):
                if one.sha256 in found:
                    raise UsageError(
                        "same-package-twice",
                        f"this is the same package as {found[one.sha256].source}",
                        path=one.source,
                        hint="Name each package once.",
                    )
                found[one.sha256] = one
        yield tuple(found.values())


def _packages(file: FileDevice, path: str, trust_roots: Sequence[TrustRoot]) -> Iterator[StagedPackage]:
    for cabinet in package_cabinets(Cabinet.open(file, path=path)):
        package = read_package(cabinet)
        verification = verify_package(cabinet, trust_roots=trust_roots)
        yield StagedPackage(path, cabinet.path, package, verification, cabinet.source, sha256_of(cabinet.source))


def guest_names(packages: Sequence[StagedPackage]) -> tuple[str, ...]:
    """Name each cabinet's file in the guest: its own name in plain characters, with a number, in their order."""
    names = []
    for number, one in enumerate(packages, 1):
        inside = one.source.removeprefix(one.file).removeprefix("!")
        stem = PurePath((inside or one.file).replace("\\", "/")).name
        stem = _UNUSUAL.sub("-", re.sub(r"\.(cab|msu)$", "", stem, flags=re.IGNORECASE)).strip("-.")
        names.append(f"{number}-{stem[:LONGEST_NAME] or 'package'}.cab")
    return tuple(names)
