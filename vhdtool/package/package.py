r"""A servicing package: what a cabinet will bring into a guest, read without unpacking its payload to anywhere.

The cabinet's ``update.mum`` names the package, what it applies to, and what it brings; the .mum files beside it are
packages it contains. Components and drivers are described by .manifest files; each has its payload below a folder of
its own name. Services come from manifests and from the drivers' INF files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from vhdtool.errors import InputError, Problem, UnsupportedError
from vhdtool.knowledge.integration import integration_devices
from vhdtool.package.cabinet import Cabinet, CabinetMember, member_key
from vhdtool.package.component_manifest import ComponentManifest, ServiceTrigger, read_component_manifest
from vhdtool.package.identity import AssemblyIdentity, AssemblyVersion
from vhdtool.package.inf import DriverInf, WindowsRelease, read_inf
from vhdtool.package.msu import PACKAGE_MANIFEST, delta_error, is_update_wrapper, refuse_delta
from vhdtool.package.mum import PackageManifest, PackageUpdate, ParentRule, read_package_manifest
from vhdtool.package.package_limits import DescriptionLimits

SERVICE_TYPES = {
    1: "kernelDriver",
    2: "fileSystemDriver",
    16: "win32OwnProcess",
    32: "win32ShareProcess",
}
"""The SCM's types as manifests call them."""
PATCH_FORMAT = "PSFX"
_MANIFEST = ".MANIFEST"


@dataclass(frozen=True, slots=True)
class PackageDriver:
    """A driver that the package brings. ``released`` and ``version`` are its DriverVer, None where it has none.

    ``ranking`` is how it competes with others for a device: normal, force, currentDevices …; None where no update
    names it. ``stored_name`` is the INF's name in the cabinet.
    """

    inf: str
    identity: AssemblyIdentity
    driver_class: str | None
    provider: str | None
    released: date | None
    version: AssemblyVersion | None
    ranking: str | None
    stored_name: str


@dataclass(frozen=True, slots=True)
class PackageService:
    """A service or driver service that the package makes. ``start`` is the SCM's value 0 to 4, None where not told.

    ``source`` is the INF or the component it comes from. ``releases``: the versions of Windows, of those the package
    applies to, that get it so; empty: all.
    """

    name: str
    display_name: str | None
    start: int | None
    delayed: bool
    type: str | None
    image_path: str | None
    account: str | None
    triggers: tuple[ServiceTrigger, ...]
    source: str
    releases: tuple[WindowsRelease, ...]


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A payload file that a manifest names. ``size`` is None where the cabinet does not hold it."""

    name: str
    destination: str | None
    component: str
    manifest: str
    stored_name: str
    size: int | None
    digest_algorithm: str | None
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class Package:
    """What a servicing cabinet is and brings.

    ``contained``: the packages in it besides its own. ``updates``, ``drivers``, ``services`` and ``files`` are those of
    all of them. ``integration_version``: the version of the integration services it brings, as a guest computes it from
    the drivers of its devices: the lowest; None where it brings none.
    """

    path: str
    manifest: PackageManifest
    contained: tuple[PackageManifest, ...]
    components: tuple[AssemblyIdentity, ...]
    drivers: tuple[PackageDriver, ...]
    services: tuple[PackageService, ...]
    files: tuple[PackageFile, ...]
    integration_version: AssemblyVersion | None
    problems: tuple[Problem, ...]

    @property
    def identity(self) -> AssemblyIdentity:
        """Who it is."""
        return self.manifest.identity

    @property
    def kb(self) -> str | None:
        """The article of Microsoft's knowledge base: ``KB`` and a number."""
        return self.manifest.kb

    @property
    def architecture(self) -> str:
        """For which processors: amd64, x86, arm64."""
        return self.identity.architecture

    @property
    def parents(self) -> tuple[ParentRule, ...]:
        """What must be installed for it to apply: one alternative of each."""
        return self.manifest.parents

    @property
    def updates(self) -> tuple[PackageUpdate, ...]:
        """What it and the packages in it bring, each distinct one once."""
        return tuple(dict.fromkeys(one for manifest in (self.manifest, *self.contained) for one in manifest.updates))

    def inside(self, manifest: PackageManifest) -> tuple[PackageManifest, ...]:
        """Return the packages of this cabinet that the updates of one of its packages bring."""
        named = {one.identity.cbs_name.upper() for one in manifest.updates if one.kind == "package"}
        return tuple(one for one in self.contained if one.identity.cbs_name.upper() in named)


def read_package(cabinet: Cabinet) -> Package:
    """Read what a servicing cabinet brings.

    A manifest or INF that can't be read is a problem of the package and the rest is told; its ``update.mum`` must be
    readable.

    Raises:
        UnsupportedError: ``package-delta``: it holds patches; ``not-a-package``: it is an .msu, or no update at all;
            ``not-a-package-manifest``.
        DamagedError: as :meth:`Cabinet.read_all` and :func:`read_package_manifest`.
        RefusedError: likewise; ``package-too-large``.
    """
    _refuse_other(cabinet)
    reading = _Reading(cabinet)
    contents = cabinet.read_all([member.name for member in reading.wanted()])
    manifest: PackageManifest | None = None
    for member, data in contents:
        if member.key == member_key(PACKAGE_MANIFEST):
            manifest = reading.package(data, f"{cabinet.path}!{member.name}")
        else:
            reading.take(member, data)
    if manifest is None:
        raise _not_a_package(cabinet)
    files = tuple(reading.files())
    _refuse_patches(cabinet, manifest, files)
    packages = (manifest, *reading.packages)
    drivers = tuple(reading.drivers(packages))
    return Package(
        path=cabinet.path,
        manifest=manifest,
        contained=tuple(reading.packages),
        components=tuple(component.identity for _, component in reading.components),
        drivers=drivers,
        services=tuple(reading.services(packages)),
        files=files,
        integration_version=_integration_version(drivers),
        problems=(*cabinet.problems, *reading.problems),
    )


class _Reading:
    """What was read of the cabinet so far."""

    def __init__(self, cabinet: Cabinet) -> None:
        self._cabinet = cabinet
        self.limits = DescriptionLimits(cabinet.path)
        self.packages: list[PackageManifest] = []
        self.components: list[tuple[str, ComponentManifest]] = []  # with the manifest's name in the cabinet
        self.infs: dict[str, DriverInf] = {}  # by key in the cabinet
        self.problems: list[Problem] = []

    def wanted(self) -> tuple[CabinetMember, ...]:
        """The files that describe: no payload but the INFs."""
        described: dict[str, CabinetMember] = {}
        infs: dict[str, CabinetMember] = {}
        for member in self._cabinet.members:
            if member.key.endswith((".MUM", _MANIFEST)) and "\\" not in member.key:
                described.setdefault(member.key, member)
            elif member.key.endswith(".INF"):
                infs.setdefault(member.key, member)
        self.limits.take_sizes((one.size for one in described.values()), (one.size for one in infs.values()))
        return (*described.values(), *infs.values())

    def take(self, member: CabinetMember, data: bytes) -> None:
        path = f"{self._cabinet.path}!{member.name}"
        try:
            if member.key.endswith(".MUM"):
                self.packages.append(self.package(data, path))
            elif member.key.endswith(_MANIFEST):
                self.limits.take_manifest(data)
                component = read_component_manifest(data, path=path)
                self.limits.take_named(len(component.files))
                self.components.append((member.name, component))
            else:
                self.infs[member.key] = read_inf(data, path=path)
        except InputError as error:
            self.problems.append(Problem(error.code, error.message, path, error.offset))

    def package(self, data: bytes, path: str) -> PackageManifest:
        self.limits.take_manifest(data)
        manifest = read_package_manifest(data, path=path)
        self.limits.take_named(len(manifest.updates) + sum(len(rule.alternatives) for rule in manifest.parents))
        return manifest

    def drivers(self, packages: Sequence[PackageManifest]) -> Iterator[PackageDriver]:
        rankings = {
            one.inf.upper(): one.ranking for package in packages for one in package.updates if one.inf is not None
        }
        for name, component, inf in self._inf_components():
            described = self.infs.get(member_key(name))
            file = name.rpartition("\\")[2]
            yield PackageDriver(
                inf=file,
                identity=component.identity,
                driver_class=described.driver_class if described else None,
                provider=described.provider if described else None,
                released=described.released if described else None,
                version=described.version if described else None,
                ranking=rankings.get(inf.upper()),
                stored_name=name,
            )

    def services(self, packages: Sequence[PackageManifest]) -> Iterator[PackageService]:
        for _, component in self.components:
            for one in component.services:
                yield PackageService(
                    name=one.name,
                    display_name=one.display_name,
                    start=one.start,
                    delayed=one.delayed,
                    type=one.type,
                    image_path=one.image_path,
                    account=one.account,
                    triggers=one.triggers,
                    source=component.identity.name,
                    releases=(),
                )
        releases = sorted(
            {one.version[:2] for package in packages for rule in package.parents for one in rule.alternatives}
        )
        for name, component, _ in self._inf_components():
            described = self.infs.get(member_key(name))
            if described is not None:
                yield from _inf_services(described, component.identity, name.rpartition("\\")[2], releases)

    def files(self) -> Iterator[PackageFile]:
        for manifest, component in self.components:
            for file in component.files:
                stored_name = _stored(manifest, file.stored_name)
                members = self._cabinet.find_all(stored_name)
                yield PackageFile(
                    name=file.name,
                    destination=file.destination,
                    component=component.identity.name,
                    manifest=manifest,
                    stored_name=members[0].name if members else stored_name,
                    size=members[0].size if members else None,
                    digest_algorithm=file.digest_algorithm,
                    digest=file.digest,
                )

    def _inf_components(self) -> Iterator[tuple[str, ComponentManifest, str]]:
        """The INFs that manifests name: name in the cabinet, the component, name in the guest."""
        for manifest, component in self.components:
            for file in component.files:
                if file.is_inf:
                    yield _stored(manifest, file.stored_name), component, file.name


def _inf_services(
    inf: DriverInf, identity: AssemblyIdentity, source: str, releases: Sequence[WindowsRelease]
) -> Iterator[PackageService]:
    """The services of an INF, on those Windows releases the package applies to; on all where it names none."""
    made = {release: set(inf.services_on(identity.architecture, release)) for release in releases}
    for one in inf.services:
        on = tuple(release for release, services in made.items() if one in services)
        if releases and not on:
            continue
        yield PackageService(
            name=one.name,
            display_name=one.display_name,
            start=one.start,
            delayed=False,
            type=None if one.type is None else SERVICE_TYPES.get(one.type, f"{one.type:#x}"),
            image_path=one.binary,
            account=None,
            triggers=(),
            source=source,
            releases=() if len(on) == len(releases) else on,
        )


def _stored(manifest: str, name: str) -> str:
    return f"{manifest[: -len(_MANIFEST)]}\\{name}"


def _integration_version(drivers: Sequence[PackageDriver]) -> AssemblyVersion | None:
    infs = {inf.lower() for device in integration_devices() if device.counts for inf in device.packages}
    return min((one.version for one in drivers if one.version and one.inf.lower() in infs), default=None)


def _refuse_other(cabinet: Cabinet) -> None:
    refuse_delta(cabinet)
    if cabinet.find(PACKAGE_MANIFEST) is None:
        raise _not_a_package(cabinet)


def _refuse_patches(cabinet: Cabinet, manifest: PackageManifest, files: Sequence[PackageFile]) -> None:
    """Refuse a package whose manifest says that its files are patches, where the cabinet does not hold them whole."""
    if (manifest.format or "").upper() == PATCH_FORMAT:
        raise delta_error(cabinet.path, f"PackageFormat {manifest.format}")
    if manifest.psf is not None and any(one.size is None for one in files):
        raise delta_error(cabinet.path, manifest.psf)


def _not_a_package(cabinet: Cabinet) -> UnsupportedError:
    wrapper = is_update_wrapper(cabinet)
    return UnsupportedError(
        "not-a-package",
        "an update package around a cabinet, not the cabinet itself"
        if wrapper
        else "the cabinet is no Windows update package",
        path=cabinet.path,
        expected=PACKAGE_MANIFEST,
        found="cabinets in it" if wrapper else f"{len(cabinet.members)} other files",
        hint="Take the cabinet out of it first." if wrapper else "Name a cabinet that DISM /Add-Package would take.",
    )
