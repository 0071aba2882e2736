"""Package manifests: ``update.mum`` and the packages it contains, as servicing (CBS) reads them.

Source: the manifests of genuine packages for Windows 6.0 to 10.0; the format is not published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import UnsupportedError
from vhdtool.package.identity import AssemblyIdentity, VersionRules, read_identity
from vhdtool.package.xml_tree import XmlElement, parse_xml

UpdateKind = Literal["driver", "component", "package"]
_KB = re.compile(r"\bKB\s?(\d{5,8})\b", re.IGNORECASE)
_KB_LINK = re.compile(r"kbid=(\d{5,8})\b|/kb/(\d{5,8})\b|/help/(\d{5,8})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ParentRule:
    """A ``parent``: the package applies where one of ``alternatives`` is installed, in a version the rules accept.

    ``integrate``: delegate, separate, hidden …; ``disposition``: detect, staged, absent …, as written.
    """

    integrate: str | None
    disposition: str | None
    rules: VersionRules
    alternatives: tuple[AssemblyIdentity, ...]


@dataclass(frozen=True, slots=True)
class PackageUpdate:
    """One thing that an ``update`` brings: a driver (with ``inf`` and ``ranking``), a component, another package."""

    name: str
    display_name: str | None
    restart: str | None
    kind: UpdateKind
    identity: AssemblyIdentity
    inf: str | None
    ranking: str | None


@dataclass(frozen=True, slots=True)
class PackageManifest:
    """One .mum file. ``restart``: required, possible, or None where it says nothing.

    ``psf``: the store of patches that this update is delivered by too; the cabinet with whole files names it likewise.
    ``format``: how the cabinet holds its files, ``PSFX`` for patches; None where it says nothing.
    ``installer`` is the oldest servicing stack that installs it. ``deep``: it applies only where one of the packages
    that its updates bring applies too (``applicabilityEvaluation``).
    """

    identity: AssemblyIdentity
    kb: str | None
    description: str | None
    display_name: str | None
    company: str | None
    support: str | None
    release_type: str | None
    restart: str | None
    parents: tuple[ParentRule, ...]
    installer: AssemblyIdentity | None
    updates: tuple[PackageUpdate, ...]
    psf: str | None
    format: str | None
    deep: bool


def read_package_manifest(data: bytes, *, path: str) -> PackageManifest:
    """Read a .mum file.

    Raises:
        UnsupportedError: ``not-a-package-manifest``: it is XML, but not of a package.
        DamagedError: ``xml-damaged``, ``identity-damaged``.
        RefusedError: ``xml-forbidden``, ``xml-too-large``.
    """
    root = parse_xml(data, path=path)
    package, identity = root.first("package"), root.first("assemblyIdentity")
    if root.name != "assembly" or package is None or identity is None:
        raise UnsupportedError(
            "not-a-package-manifest",
            "not the manifest of a package",
            path=path,
            expected="assembly with assemblyIdentity and package",
            found=root.name,
            hint="The cabinet is no Windows update package, or one of a kind that is not known.",
        )
    installer = package.first("installerAssembly")
    extended = package.first("packageExtended")
    custom = package.first("customInformation")
    return PackageManifest(
        identity=read_identity(identity, path=path),
        kb=_kb(package.get("identifier"), root.get("description"), root.get("supportInformation")),
        description=root.get("description"),
        display_name=root.get("displayName"),
        company=root.get("company"),
        support=root.get("supportInformation"),
        release_type=package.get("releaseType"),
        restart=package.get("restart"),
        parents=tuple(_parent(parent, path) for parent in package.all("parent")),
        installer=None if installer is None else read_identity(installer, path=path),
        updates=tuple(one for update in package.all("update") for one in _updates(update, path)),
        psf=(package.get("psfName") or (extended.get("psfName") if extended is not None else None)) or None,
        format=None if custom is None else custom.get("PackageFormat"),
        deep=(package.get("applicabilityEvaluation") or "").lower() == "deep",
    )


def _parent(element: XmlElement, path: str) -> ParentRule:
    return ParentRule(
        integrate=element.get("integrate"),
        disposition=element.get("disposition"),
        rules=VersionRules(
            build=element.get("buildCompare"),
            revision=element.get("revisionCompare"),
            service=element.get("serviceCompare"),
            distribution=element.get("distributionCompare"),
        ),
        alternatives=tuple(read_identity(one, path=path) for one in element.all("assemblyIdentity")),
    )


def _updates(element: XmlElement, path: str) -> Iterator[PackageUpdate]:
    kinds: tuple[UpdateKind, ...] = ("driver", "component", "package")
    for kind in kinds:
        for brought in element.all(kind):
            for identity in brought.all("assemblyIdentity"):
                yield PackageUpdate(
                    name=element.get("name") or "",
                    display_name=element.get("displayName"),
                    restart=element.get("restart"),
                    kind=kind,
                    identity=read_identity(identity, path=path),
                    inf=brought.get("inf"),
                    ranking=brought.get("ranking"),
                )


def _kb(identifier: str | None, description: str | None, support: str | None) -> str | None:
    """``KB`` and a number, from whichever of the three says it first."""
    for text in (identifier, description):
        match = _KB.search(text or "")
        if match:
            return f"KB{match[1]}"
    link = _KB_LINK.search(support or "")
    return f"KB{next(filter(None, link.groups()))}" if link else None
