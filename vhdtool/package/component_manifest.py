"""Component manifests: the files, services and dependencies of one component or driver package.

Source: the manifests of genuine packages; the format is not published.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.package.identity import AssemblyIdentity, read_identity
from vhdtool.package.xml_tree import XmlElement, parse_xml

SERVICES_CATEGORY = "Microsoft.Windows.Categories.Services"
START_VALUES = {"boot": 0, "system": 1, "auto": 2, "delayedauto": 2, "demand": 3, "disabled": 4}
"""``start`` of a service as the SCM's value."""
DIGEST_METHODS = {
    "http://www.w3.org/2000/09/xmldsig#sha1": "sha1",
    "http://www.w3.org/2000/09/xmldsig#sha256": "sha256",
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
}
IDENTITY_TRANSFORM = "urn:schemas-microsoft-com:HashTransforms.Identity"
_COMPRESSED = (b"DCM\x01", b"DCN\x01", b"DCD\x01", b"DCS\x01", b"DCH\x01", b"DCX\x01")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A ``file``. Its content lies in the cabinet below a folder named like the manifest, as ``stored_name``.

    ``digest_algorithm`` is sha1, sha256, or None where the digest is absent or made in another way.
    """

    name: str
    source_name: str | None
    destination: str | None
    digest_algorithm: str | None
    digest: bytes | None
    is_inf: bool

    @property
    def stored_name(self) -> str:
        """The name of its content."""
        return self.source_name or self.name


@dataclass(frozen=True, slots=True)
class ServiceTrigger:
    """A ``serviceTrigger``, as written; ``subtype`` is the GUID in lower case without braces, or the text as it is."""

    action: str
    type: str
    subtype: str | None


@dataclass(frozen=True, slots=True)
class ManifestService:
    """A ``serviceData``. ``start`` is the SCM's value 0 to 4, None where it is absent or unknown."""

    name: str
    display_name: str | None
    start: int | None
    delayed: bool
    type: str | None
    image_path: str | None
    account: str | None
    triggers: tuple[ServiceTrigger, ...]


@dataclass(frozen=True, slots=True)
class ComponentManifest:
    """One .manifest file. ``dependencies``: the components it needs or brings."""

    identity: AssemblyIdentity
    files: tuple[ManifestFile, ...]
    services: tuple[ManifestService, ...]
    dependencies: tuple[AssemblyIdentity, ...]


def read_component_manifest(data: bytes, *, path: str) -> ComponentManifest:
    """Read a .manifest file.

    Raises:
        UnsupportedError: ``manifest-compressed``: it is packed as in an installed Windows; ``not-a-manifest``.
        DamagedError: ``xml-damaged``, ``identity-damaged``, ``manifest-damaged``.
        RefusedError: ``xml-forbidden``, ``xml-too-large``.
    """
    if data.startswith(_COMPRESSED):
        raise UnsupportedError(
            "manifest-compressed",
            f"the manifest is compressed ({data[:3].decode()})",
            path=path,
            offset=0,
            expected="XML",
            found=data[:4].hex(),
            hint="What it describes can't be shown: such manifests are patches against files of an installed Windows.",
        )
    root = parse_xml(data, path=path)
    identity = root.first("assemblyIdentity")
    if root.name != "assembly" or identity is None:
        raise UnsupportedError(
            "not-a-manifest",
            "not the manifest of a component",
            path=path,
            expected="assembly with assemblyIdentity",
            found=root.name,
            hint="The cabinet is no Windows update package, or one of a kind that is not known.",
        )
    return ComponentManifest(
        identity=read_identity(identity, path=path),
        files=tuple(_file(file, path) for file in root.all("file")),
        services=tuple(_services(root)),
        dependencies=tuple(
            read_identity(one, path=path)
            for one in root.below("dependency", "dependentAssembly", "assemblyIdentity")
            if one.get("version")
        ),
    )


def _file(element: XmlElement, path: str) -> ManifestFile:
    name = element.get("name")
    if not name:
        raise _damaged("a file has no name", path)
    algorithm, digest = _digest(element, path)
    return ManifestFile(
        name=name,
        source_name=element.get("sourceName") or None,
        destination=element.get("destinationPath"),
        digest_algorithm=algorithm,
        digest=digest,
        is_inf=element.first("infFile") is not None,
    )


def _digest(element: XmlElement, path: str) -> tuple[str | None, bytes | None]:
    for found in element.all("hash"):
        transforms = [one.get("Algorithm") for one in found.below("Transforms", "Transform")]
        method, value = found.first("DigestMethod"), found.first("DigestValue")
        algorithm = DIGEST_METHODS.get((method.get("Algorithm") or "") if method is not None else "")
        if algorithm is None or value is None or any(one != IDENTITY_TRANSFORM for one in transforms):
            continue
        try:
            digest = base64.b64decode("".join(value.text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise _damaged(f"the digest of {element.get('name')} is no base64", path) from error
        if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
            raise _damaged(f"the digest of {element.get('name')} has the wrong length", path)
        return algorithm, digest
    return None, None


def _services(root: XmlElement) -> Iterator[ManifestService]:
    for membership in root.below("memberships", "categoryMembership"):
        category = membership.first("id")
        if category is None or category.get("name") != SERVICES_CATEGORY:
            continue
        for service in membership.below("categoryInstance", "serviceData"):
            start = (service.get("start") or "").lower()
            yield ManifestService(
                name=service.get("name") or "",
                display_name=service.get("displayName"),
                start=START_VALUES.get(start),
                delayed=start == "delayedauto",
                type=service.get("type"),
                image_path=service.get("imagePath"),
                account=service.get("objectName"),
                triggers=tuple(_trigger(one) for one in service.all("serviceTrigger")),
            )


def _trigger(element: XmlElement) -> ServiceTrigger:
    subtype = element.get("subtype")
    with suppress(ValueError):  # some triggers name what they wait for in words
        subtype = str(UUID(subtype)) if subtype else None
    return ServiceTrigger(element.get("action") or "", element.get("type") or "", subtype)


def _damaged(message: str, path: str) -> DamagedError:
    return DamagedError(
        "manifest-damaged",
        message,
        path=path,
        hint="The package is damaged: copy it again from where it came from.",
    )
