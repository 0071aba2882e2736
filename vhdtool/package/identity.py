"""The identities of packages, components and drivers, and how an installed version is held against a listed one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vhdtool.errors import DamagedError
from vhdtool.package.xml_tree import XmlElement

AssemblyVersion = tuple[int, int, int, int]
"""major, minor, build, revision, each 0 to 65535."""
LARGEST_PART = 0xFFFF
_UNTOLD = ""
NEUTRAL = "neutral"
_VERSION = re.compile(r"\s*(\d{1,5})\.(\d{1,5})\.(\d{1,5})\.(\d{1,5})\s*", re.ASCII)
_NAME = re.compile(r"[^~\\/\x00-\x1f]{1,256}")


@dataclass(frozen=True, slots=True)
class AssemblyIdentity:
    """What an ``assemblyIdentity`` says. ``language`` is ``neutral`` or a tag; ``type`` is ``driverUpdate`` or None."""

    name: str
    version: AssemblyVersion
    architecture: str
    language: str
    public_key_token: str
    build_type: str | None
    version_scope: str | None
    type: str | None

    @property
    def version_text(self) -> str:
        """The version with its dots."""
        return ".".join(map(str, self.version))

    @property
    def cbs_name(self) -> str:
        r"""The name of the key below ``Component Based Servicing\Packages``: a neutral language is left out."""
        language = "" if self.language.lower() == NEUTRAL else self.language
        return f"{self.name}~{self.public_key_token}~{self.architecture}~{language}~{self.version_text}"


@dataclass(frozen=True, slots=True)
class VersionRules:
    """The ``…Compare`` attributes of a ``parent``: EQ, GE, GT, LE, LT, or None where absent.

    ``build`` is for the third part of a version, ``revision`` for the fourth. ``service`` and ``distribution`` are for
    bits of the fourth part that Microsoft does not document.
    """

    build: str | None = None
    revision: str | None = None
    service: str | None = None
    distribution: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no attribute is there."""
        return (self.build, self.revision, self.service, self.distribution) == (None,) * 4

    def accept(self, installed: AssemblyVersion, listed: AssemblyVersion) -> bool | None:
        """Tell whether an installed version satisfies a listed one; None where that can't be told.

        Major and minor are always equal. Where no attribute is there, the installed version is not below the listed:
        6.3.0.0 is meant to match the packages of Windows 8.1 (6.3.9600.16384), so it can't mean equality. That is
        inferred from genuine packages, not documented. Where others are there and that for the build is not, a lower
        build is never meant, and a higher one can't be told. A rule on bits of the revision is decided where the
        revisions are equal, else not.
        """
        if installed[:2] != listed[:2]:
            return False
        if self.is_empty:
            return installed >= listed
        build = self.build
        if build is None:  # GE or EQ: cumulative updates of Windows 11 have revisionCompare="GE" alone
            build = "EQ" if installed[2] <= listed[2] else _UNTOLD
        checks = [_compare(build, installed[2], listed[2]), _compare(self.revision, installed[3], listed[3])]
        for operator in (self.service, self.distribution):
            equal = operator is None or installed[3] == listed[3]
            checks.append(_compare(operator, 0, 0) if equal else None)
        return False if False in checks else None if None in checks else True


def parse_assembly_version(text: str) -> AssemblyVersion | None:
    """Return the four numbers of a version; None where it has another form or a part above 65535."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, build, revision = map(int, match.groups())
    if max(major, minor, build, revision) > LARGEST_PART:
        return None
    return major, minor, build, revision


def read_identity(element: XmlElement, *, path: str) -> AssemblyIdentity:
    """Read an ``assemblyIdentity`` (or an element that carries its attributes).

    Raises:
        DamagedError: ``identity-damaged``: it has no name, or no version.
    """
    name = element.get("name") or ""
    text = element.get("version") or ""
    version = parse_assembly_version(text)
    if version is None or not _NAME.fullmatch(name):
        raise DamagedError(
            "identity-damaged",
            "an identity has no name" if not _NAME.fullmatch(name) else f"the identity of {name} has no version",
            path=path,
            expected="a name and a version of four numbers",
            found=f"{name!r}, {text!r}",
            hint="The package is damaged, or was not made for Windows servicing.",
        )
    return AssemblyIdentity(
        name=name,
        version=version,
        architecture=(element.get("processorArchitecture") or NEUTRAL).lower(),
        language=element.get("language") or NEUTRAL,
        public_key_token=(element.get("publicKeyToken") or "").lower(),
        build_type=element.get("buildType"),
        version_scope=element.get("versionScope"),
        type=element.get("type"),
    )


def _compare(operator: str | None, installed: int, listed: int) -> bool | None:
    """None where the operator is none that is known; True where there is none."""
    if operator is None:
        return True
    found = (installed > listed) - (installed < listed)
    accepted = {"EQ": {0}, "GE": {0, 1}, "GT": {1}, "LE": {0, -1}, "LT": {-1}}.get(operator)
    return None if accepted is None else found in accepted
