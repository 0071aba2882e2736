"""Does a package apply to a guest: yes, no or unknown, always with the rule and the key that decided.

A package applies where each of its parents is installed, in one of the versions that are listed for it; that is what
servicing (CBS) itself asks. What a parent without compare rules means is inferred
(:meth:`vhdtool.package.identity.VersionRules.accept`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vhdtool.guest import version_cbs
from vhdtool.guest.version import version_numbers, version_text
from vhdtool.guest.version_cbs import KEY as PACKAGES_KEY
from vhdtool.knowledge.sha2_support import sha2_updates
from vhdtool.package.identity import NEUTRAL
from vhdtool.package.mum import PackageManifest, ParentRule
from vhdtool.package.package import Package
from vhdtool.package.verification import PackageVerification
from vhdtool.staging.guest_state import GuestState, InstalledPackage

Answer = Literal["yes", "no", "unknown"]

INTEGRATION_PACKAGE = "MICROSOFT-HYPER-V-INTEGRATION-SERVICES-PACKAGE"
"""How the names of the standalone integration services packages begin."""
FIRST_WITHOUT_PACKAGE = (10, 0)
"""From Windows 10 and Server 2016 on, integration services come with Windows Update alone."""
DETECTED = frozenset({None, "detect", "staged"})
ABSENT = "absent"
MAX_NAMED = 4
MAX_DEPTH = 16
"""Deepest nesting of packages in packages that is followed; genuine updates have three."""
BUILD = 3
"""How many parts of the version of a built-in package count."""
WEAK_DIGESTS = frozenset({"md5", "sha1"})


@dataclass(frozen=True, slots=True)
class Applicability:
    """Whether a package applies.

    ``rule``: architecture, built-in, parent, contained, no-parent, no-packages, unknown-rule. ``key``: the registry key
    that decided, None where none did. ``fix``: the way out of a no.
    """

    answer: Answer
    rule: str
    message: str
    key: str | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Currency:
    """Whether the guest has what a package brings, or newer: True, False, or None where it can't be told.

    ``by_servicing``: servicing lists the package; else versions of drivers were compared.
    """

    is_current: bool | None
    message: str
    key: str | None = None
    by_servicing: bool = False


def is_integration_package(package: Package) -> bool:
    """Whether this is a standalone package of the integration services."""
    return package.identity.name.upper().startswith(INTEGRATION_PACKAGE)


def judge(package: Package, guest: GuestState) -> Applicability:
    """Tell whether a package applies to a guest."""
    if package.architecture != NEUTRAL and guest.architecture not in {None, package.architecture}:
        return Applicability(
            "no",
            "architecture",
            f"the package is for {package.architecture}, the guest is {guest.architecture}",
            rf"{guest.control_set.location}\Control\Session Manager\Environment",
            f"Take the package for {guest.architecture}.",
        )
    if guest.numbers is not None and guest.numbers >= FIRST_WITHOUT_PACKAGE and is_integration_package(package):
        return Applicability(
            "no",
            "built-in",
            f"the integration services of {guest.identity.product or 'this Windows'} are built in",
            r"SOFTWARE\Microsoft\Windows NT\CurrentVersion",
            "Nothing to stage: Windows Update keeps them current.",
        )
    if not package.parents:
        return Applicability("unknown", "no-parent", "the package names nothing that must be installed for it")
    if guest.packages_key is None:
        return Applicability("unknown", "no-packages", "the guest lists no servicing packages to compare with")
    return _Judgement(package, guest).of(package.manifest, MAX_DEPTH)


class _Judgement:
    """Judges the packages of one cabinet, each once."""

    def __init__(self, package: Package, guest: GuestState) -> None:
        self._package = package
        self._guest = guest
        self._known: dict[str, Applicability] = {}

    def of(self, manifest: PackageManifest, depth: int) -> Applicability:
        """Whether a package applies: its parents, and where it says so, at least one of the packages that it brings."""
        name = manifest.identity.cbs_name
        if name not in self._known:
            self._known[name] = Applicability("unknown", "contained", f"{name} contains itself")
            self._known[name] = self._judged(manifest, depth)
        return self._known[name]

    def _judged(self, manifest: PackageManifest, depth: int) -> Applicability:
        name = manifest.identity.name
        verdicts = [_parent(rule, self._guest) for rule in manifest.parents]
        verdicts = verdicts or [Applicability("yes", "no-parent", f"{name} asks for nothing")]
        found = _worst(verdicts)
        inside = self._package.inside(manifest) if manifest.deep else ()
        if found.answer != "yes" or not inside:
            return found
        if depth == 0:
            return Applicability("unknown", "contained", f"{name} is nested too deep")
        contained = [self.of(one, depth - 1) for one in inside]
        best = next((one for answer in ("yes", "unknown") for one in contained if one.answer == answer), contained[0])
        if best.answer == "yes":
            return found
        return replace(best, rule="contained", message=f"nothing that it brings applies: {best.message}")


def _worst(verdicts: Sequence[Applicability]) -> Applicability:
    return next((one for answer in ("no", "unknown") for one in verdicts if one.answer == answer), verdicts[0])


def _parent(rule: ParentRule, guest: GuestState) -> Applicability:
    if rule.disposition not in DETECTED and rule.disposition != ABSENT:
        return Applicability("unknown", "unknown-rule", f"a parent's disposition {rule.disposition!r} is not known")
    maybe: InstalledPackage | None = None
    for listed in rule.alternatives:
        for found in guest.versions_of(listed):
            if not found.installed and rule.disposition != "staged":
                continue
            accepted = rule.rules.accept(found.version, listed.version)
            if accepted:
                return _found(rule, found, listed.version_text)
            if accepted is None:
                maybe = maybe or found
    if maybe is not None:
        return Applicability(
            "unknown", "unknown-rule", f"{maybe.name} is compared in a way that is not documented", maybe.location
        )
    names = _named(rule)
    if rule.disposition == ABSENT:
        return Applicability("yes", "parent", f"none of these is installed, as it must be: {names}")
    return Applicability(
        "no",
        "parent",
        f"none of the packages that it is for is installed: {names}",
        rf"SOFTWARE\{PACKAGES_KEY}",
        "See what the package is for: vhdtool cab show CAB; find one that fits: vhdtool cab find IMAGE DIR",
    )


def _found(rule: ParentRule, found: InstalledPackage, listed: str) -> Applicability:
    if rule.disposition == ABSENT:
        text = f"{found.name} is installed, and must not be"
        return Applicability("no", "parent", text, found.location, "This package is for another Windows.")
    return Applicability("yes", "parent", f"{found.name} is installed, {listed} or later is asked for", found.location)


def _named(rule: ParentRule) -> str:
    """The alternatives of a parent, as far as a line holds them."""
    names = tuple(dict.fromkeys(f"{one.name} {one.version[0]}.{one.version[1]}" for one in rule.alternatives))
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def currency(package: Package, guest: GuestState) -> Currency:
    """Tell whether the guest already has what a package brings, or newer: by servicing, else by driver versions."""
    for found in guest.versions_of(package.identity):
        if found.installed and found.version >= package.identity.version:
            return Currency(True, f"{found.name} is installed", found.location, by_servicing=True)
    compared = list(_drivers(package, guest))
    older = [one for one in compared if not one.is_current]
    if older:
        return older[0]
    by_version = _integration(package, guest, sure=bool(compared))
    if by_version is not None:
        return by_version
    if compared and len(compared) == len([one for one in package.drivers if one.version]):
        return Currency(True, f"all {len(compared)} drivers are of its version or newer", compared[0].key)
    return Currency(None, "no version in the guest tells")


def _integration(package: Package, guest: GuestState, *, sure: bool) -> Currency | None:
    """Compare versions of the integration services; ``sure``: drivers were compared, and none is older."""
    stated, brought = guest.integration, package.integration_version
    installed = version_numbers(stated.version)
    if brought is None or installed is None:
        return None
    best = next(one for one in stated.evidence if one.source == stated.source)
    text = f"the guest has {version_text(installed)}, the package brings {version_text(brought)}"
    # the revision of a built-in package is its own (guest.version.StatedVersion.precision)
    built_in = best.source == version_cbs.SOURCE and best.note is not None
    if built_in and installed[:BUILD] == brought[:BUILD]:
        return Currency(None, f"{text}, and that of a built-in package says nothing of its drivers", best.location)
    if installed < brought:
        return Currency(False, text, best.location)
    return Currency(True, text, best.location) if sure or stated.agreement != "conflict" else None


def _drivers(package: Package, guest: GuestState) -> Iterator[Currency]:
    for driver in package.drivers:
        found = None if driver.version is None else guest.driver(driver.inf)
        if found is not None and driver.version is not None:
            installed, key = found
            text = f"{driver.inf} {version_text(installed)} is there, the package brings {version_text(driver.version)}"
            yield Currency(installed >= driver.version, text, key)


def sha2_support(guest: GuestState) -> Applicability | None:
    """Tell whether a guest accepts signatures that are made with SHA-256 alone; None where Windows always did."""
    wanted = [row for row in sha2_updates() if guest.numbers is not None and guest.numbers[:2] in row.windows]
    if not wanted:
        return None
    for row in wanted:
        for start in (f"Package_for_{row.kb}~", f"Package_for_{row.kb}_"):
            for found in guest.packages(start):
                if found.installed:
                    return Applicability("yes", "sha2", f"{row.kb} is installed", found.location)
    names = " or ".join(row.kb for row in wanted)
    if guest.packages_key is None:
        return Applicability("unknown", "sha2", f"the package is signed with SHA-256 alone; {names} may be missing")
    return Applicability(
        "no",
        "sha2",
        f"the package is signed with SHA-256 alone, and the guest has no update that accepts it ({names})",
        fix=f"Install {names} in the guest first, or stage a package that is signed with SHA-1 too.",
    )


def sha2_ready(verification: PackageVerification, guest: GuestState) -> Applicability | None:
    """Tell whether a guest accepts the package's kind of signature; None where that is no question.

    A question it is where every signature of the cabinet, or of its catalogs, is made with SHA-2, and Windows needs an
    update to know these.
    """
    return sha2_support(guest) if _sha2_alone(verification) else None


def _sha2_alone(verification: PackageVerification) -> bool:
    for name in ("signature", "catalog"):
        signatures = verification.layer(name).signatures
        if signatures and all(one.digest not in WEAK_DIGESTS for one in signatures):
            return True
    return False
