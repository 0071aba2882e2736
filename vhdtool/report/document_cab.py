"""The result documents about packages: ``vhdtool cab``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import Problem
from vhdtool.report.document import ImageName, SavedFile, SkippedFile
from vhdtool.report.document_cab_find import FoundPackageFact

LayerState = Literal["valid", "weak", "invalid", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class ParentFact:
    """What must be installed for the package to apply: one of ``alternatives``, in a version that ``compare`` accepts.

    Each alternative is written as the servicing stack writes it: name, token, architecture, language, version, with
    ``~`` between.
    """

    integrate: str | None
    disposition: str | None
    compare: dict[str, str]
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PackageDriverFact:
    """A driver that the package brings, by the DriverVer of its INF: date (ISO 8601) and version."""

    inf: str
    version: str | None
    released: str | None
    driver_class: str | None
    provider: str | None
    ranking: str | None


@dataclass(frozen=True, slots=True)
class PackageServiceFact:
    """A service or driver service that the package makes. ``start`` as in ``services list``; ``source`` its INF.

    ``releases``: the Windows versions that get it so, of those the package is for; empty: all of them.
    """

    name: str
    display_name: str | None
    start: str | None
    delayed: bool
    type: str | None
    triggers: tuple[str, ...]
    image_path: str | None
    source: str
    releases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PackageFileFact:
    """A payload file: where it goes, its size in bytes, and the digest that its manifest states."""

    name: str
    destination: str | None
    component: str
    size: int | None
    digest_algorithm: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class PackageFact:
    """What one servicing package is and brings. ``path``: the cabinet, or the .msu, ``!`` and the cabinet inside it.

    ``integration_version``: the integration services version that a guest will tell once it is installed.
    """

    path: str
    name: str
    version: str
    architecture: str
    language: str
    kb: str | None
    description: str | None
    release_type: str | None
    restart: str | None
    integration_version: str | None
    parents: tuple[ParentFact, ...]
    drivers: tuple[PackageDriverFact, ...]
    services: tuple[PackageServiceFact, ...]
    files: tuple[PackageFileFact, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class CabShowDocument:
    """``vhdtool cab show``. An .msu may hold several packages. ``image`` names the cabinet file.

    ``guest_image``: the image of ``--image``; ``compared``: the same packages against its guest. None without it.
    """

    schema: Literal["vhdtool.cab-show/1"]
    image: ImageName
    packages: tuple[PackageFact, ...]
    guest_image: ImageName | None
    compared: tuple[FoundPackageFact, ...] | None


@dataclass(frozen=True, slots=True)
class SignatureFact:
    """One signature. ``chain`` names the certificates up to the root; ``signed_at`` is the countersigned time, UTC.

    ``root_is_pinned``: the root is one of Microsoft's that vhdtool knows, and not one of --trust-root.
    """

    place: str
    state: LayerState
    digest: str
    signer: str | None
    chain: tuple[str, ...]
    root: str | None
    root_is_pinned: bool
    signed_at: str | None
    countersignature: str | None


@dataclass(frozen=True, slots=True)
class LayerFact:
    """One layer of the verification, judged by itself.

    ``weak``: it holds, by SHA-1 alone. ``checked`` counts the signatures or files that were looked at. Each problem's
    ``path`` names the file at fault.
    """

    name: Literal["digest", "signature", "catalog", "payload"]
    state: LayerState
    message: str
    checked: int
    signatures: tuple[SignatureFact, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class VerifiedPackageFact:
    """The four layers of one cabinet; ``trusted`` where each is valid or weak."""

    path: str
    trusted: bool
    layers: tuple[LayerFact, ...]


@dataclass(frozen=True, slots=True)
class CabVerifyDocument:
    """``vhdtool cab verify``. ``trusted``: every package is, and the command ends 0; else it ends 1.

    ``wrapper``: the layers of the .msu around them that it has, ``None`` for a plain cabinet.
    """

    schema: Literal["vhdtool.cab-verify/1"]
    image: ImageName
    trusted: bool
    packages: tuple[VerifiedPackageFact, ...]
    wrapper: VerifiedPackageFact | None


@dataclass(frozen=True, slots=True)
class CabExtractDocument:
    """``vhdtool cab extract``: what was saved, and what was not."""

    schema: Literal["vhdtool.cab-extract/1"]
    image: ImageName
    files: tuple[SavedFile, ...]
    skipped: tuple[SkippedFile, ...]
