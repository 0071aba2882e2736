"""``cab show``, ``cab verify`` and ``cab extract``: a package before it comes near an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import FileDevice
from vhdtool.errors import DamagedError, InputError, NotFoundError, RefusedError, UnsupportedError
from vhdtool.guest.model import START_NAMES
from vhdtool.package.cabinet import Cabinet, CabinetMember
from vhdtool.package.component_manifest import ServiceTrigger
from vhdtool.package.msu import is_update_wrapper
from vhdtool.package.package import Package, PackageService, read_package
from vhdtool.package.trust_roots import TrustRoot, read_trust_roots
from vhdtool.package.verdict import LayerVerdict
from vhdtool.package.verification import PackageVerification, verify_package
from vhdtool.report.document import SavedFile, SkippedFile
from vhdtool.report.document_cab import (
    CabExtractDocument,
    CabShowDocument,
    CabVerifyDocument,
    LayerFact,
    LayerState,
    PackageDriverFact,
    PackageFact,
    PackageFileFact,
    PackageServiceFact,
    ParentFact,
    SignatureFact,
    VerifiedPackageFact,
)
from vhdtool.report.encode import image_name
from vhdtool.report.host_files import exists, host_name, make_directory, save_file
from vhdtool.staging.cabinet_file import package_cabinets

if TYPE_CHECKING:
    from vhdtool.image import Image
    from vhdtool.report.document_cab_find import FoundPackageFact

WRAPPER_LAYERS = ("digest", "signature")
"""What an .msu has of its own: no catalog lists what is in it."""


@contextmanager
def opened_cabinet(path: str, parts: Sequence[str] = ()) -> Iterator[Cabinet]:
    """Open a cabinet file of the host, with the further files of its set."""
    files = [FileDevice(name) for name in (path, *parts)]
    try:
        yield Cabinet.open(files[0], path=path, next_parts=list(zip(parts, files[1:], strict=True)))
    finally:
        for file in files:
            file.close()


def show_document(
    path: str, parts: Sequence[str] = (), image: Image | None = None, guest: int | None = None
) -> CabShowDocument:
    """Tell what the packages in a cabinet or .msu are and bring; with an image, what they would change in its guest.

    Raises what reading them raises.
    """
    with opened_cabinet(path, parts) as cabinet:
        packages = [read_package(one) for one in package_cabinets(cabinet)]
    return CabShowDocument(
        "vhdtool.cab-show/1",
        image_name(path),
        tuple(_package_fact(one) for one in packages),
        None if image is None else image_name(image.path),
        None if image is None else tuple(_compared(packages, image, guest)),
    )


def _compared(packages: Sequence[Package], image: Image, guest: int | None) -> Iterator[FoundPackageFact]:
    from vhdtool.report.cab_find import found_package  # noqa: PLC0415  # without an image no guest is read
    from vhdtool.staging.guest_state import GuestState  # noqa: PLC0415

    state = GuestState(image.installation(guest))
    return (found_package(one, state) for one in packages)


def verify_document(path: str, trust_roots: Sequence[str] = (), parts: Sequence[str] = ()) -> CabVerifyDocument:
    """Verify the packages in a cabinet or .msu; ``trust_roots`` are files with further roots."""
    roots = [root for name in trust_roots for root in _read_roots(name)]
    with opened_cabinet(path, parts) as cabinet:
        packages = tuple(_verified(verify_package(one, trust_roots=roots)) for one in package_cabinets(cabinet))
        wrapper = None
        if is_update_wrapper(cabinet):
            wrapper = _verified(verify_package(cabinet, trust_roots=roots), WRAPPER_LAYERS)
    trusted = all(one.trusted for one in packages) and (wrapper is None or wrapper.trusted)
    return CabVerifyDocument("vhdtool.cab-verify/1", image_name(path), trusted, packages, wrapper)


def extract_document(
    path: str, directory: Path, names: Sequence[str] = (), parts: Sequence[str] = ()
) -> CabExtractDocument:
    """Copy files of a cabinet into ``directory``: all, or those that ``names`` tells.

    Nothing is overwritten, and nothing leads out of the directory; what is refused is refused before anything is
    written. Raises :class:`NotFoundError` ``no-such-file``, :class:`DamagedError` ``cabinet-name-twice``,
    :class:`vhdtool.errors.RefusedError` ``cabinet-unsafe-name``, ``exists``, ``link-in-the-way``,
    :class:`vhdtool.errors.OutputError`.
    """
    saved: list[SavedFile] = []
    skipped: list[SkippedFile] = []
    with opened_cabinet(path, parts) as cabinet:
        for member, target in _targets(cabinet, _chosen(cabinet, names), directory):
            try:
                source = cabinet.open_member(member)
            except (DamagedError, UnsupportedError) as error:
                skipped.append(SkippedFile(member.name, error.code, error.message))
                continue
            make_directory(target.parent)
            saved.append(save_file(MemberFile(member.name, source), target))
    return CabExtractDocument("vhdtool.cab-extract/1", image_name(path), tuple(saved), tuple(skipped))


@dataclass(frozen=True, slots=True)
class MemberFile:
    """A file of a cabinet, as what is saved on the host wants it: a :class:`vhdtool.fs.base.GuestFile`."""

    path: str
    source: ByteSource

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.source.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""
        return self.source.read_at(offset, length)

    def extents(self) -> tuple[()]:
        """It lies on no volume."""
        return ()


def _targets(cabinet: Cabinet, members: Sequence[CabinetMember], directory: Path) -> list[tuple[CabinetMember, Path]]:
    """Where each file goes, every one of them looked at first: a cabinet is refused whole, not halfway through."""
    targets: list[tuple[CabinetMember, Path]] = []
    folders: set[Path] = set()
    files: dict[str, None] = {}
    for member in members:
        target = directory.joinpath(*(host_name(part) for part in member.parts))
        cabinet.find(member.name)  # refuses a name that stands twice: on a host that folds case, one would be lost
        files[str(target).upper()] = None
        folders.update(target.parents[: len(member.parts) - 1])
        targets.append((member, target))
    for folder in folders:
        if str(folder).upper() in files:
            raise DamagedError(
                "cabinet-name-twice",
                f"{folder.relative_to(directory)} is a file and a folder in the cabinet",
                path=cabinet.path,
                hint="Do not use this cabinet: which of them counts differs from tool to tool.",
            )
        if folder.is_symlink():
            raise RefusedError(
                "link-in-the-way",
                "a symbolic link stands where a folder of the cabinet goes, and nothing is written through it",
                path=str(folder),
                hint="Name another place, or move it away first.",
            )
    for _, target in targets:
        if target.is_symlink() or target.exists():
            raise exists(target)
    return targets


def _chosen(cabinet: Cabinet, names: Sequence[str]) -> list[CabinetMember]:
    if not names:
        return list(cabinet.members)
    wanted = []
    for name in names:
        member = cabinet.find(name)
        if member is None:
            raise NotFoundError(
                "no-such-file", "the cabinet has no such file", path=cabinet.path, found=name,
                hint="See what is in it with: vhdtool cab show CAB --json",
            )  # fmt: skip
        wanted.append(member)
    return wanted


def _read_roots(path: str) -> tuple[TrustRoot, ...]:
    file = FileDevice(path)
    try:
        if file.size > 1 << 20:
            raise InputError("no-certificate", "the file is too large for certificates", path=path, found=file.size)
        return read_trust_roots(file.read_at(0, file.size), path=path)
    finally:
        file.close()


def _package_fact(package: Package) -> PackageFact:
    manifest = package.manifest
    return PackageFact(
        path=package.path,
        name=package.identity.name,
        version=package.identity.version_text,
        architecture=package.architecture,
        language=package.identity.language,
        kb=package.kb,
        description=manifest.description,
        release_type=manifest.release_type,
        restart=manifest.restart,
        integration_version=_dotted(package.integration_version),
        parents=tuple(
            ParentFact(
                rule.integrate,
                rule.disposition,
                {
                    name: value
                    for name in ("build", "revision", "service", "distribution")
                    if (value := getattr(rule.rules, name)) is not None
                },
                tuple(one.cbs_name for one in rule.alternatives),
            )
            for rule in package.parents
        ),
        drivers=tuple(
            PackageDriverFact(
                driver.inf,
                _dotted(driver.version),
                None if driver.released is None else driver.released.isoformat(),
                driver.driver_class,
                driver.provider,
                driver.ranking,
            )
            for driver in package.drivers
        ),
        services=tuple(_service_fact(service) for service in package.services),
        files=tuple(
            PackageFileFact(
                file.name,
                file.destination,
                file.component,
                file.size,
                file.digest_algorithm,
                None if file.digest is None else file.digest.hex(),
            )
            for file in package.files
        ),
        problems=package.problems,
    )


def _service_fact(service: PackageService) -> PackageServiceFact:
    start = service.start
    return PackageServiceFact(
        service.name,
        service.display_name,
        START_NAMES[start] if start is not None and 0 <= start < len(START_NAMES) else None,
        service.delayed,
        service.type,
        tuple(_trigger(trigger) for trigger in service.triggers),
        service.image_path,
        service.source,
        tuple(".".join(map(str, release)) for release in service.releases),
    )


def _trigger(trigger: ServiceTrigger) -> str:
    return " ".join(part for part in (trigger.action, trigger.type, trigger.subtype) if part)


def _dotted(version: Sequence[int] | None) -> str | None:
    return None if version is None else ".".join(map(str, version))


def _verified(verification: PackageVerification, names: Sequence[str] | None = None) -> VerifiedPackageFact:
    layers = [layer for layer in verification.layers if names is None or layer.name in names]
    return VerifiedPackageFact(
        verification.path, all(layer.holds for layer in layers), tuple(_layer_fact(layer) for layer in layers)
    )


def _layer_fact(layer: LayerVerdict) -> LayerFact:
    return LayerFact(
        name=layer.name,  # type: ignore[arg-type]  # one of the four of verify_package
        state=cast(LayerState, layer.state),
        message=layer.message,
        checked=layer.checked,
        signatures=tuple(
            SignatureFact(
                one.place,
                cast(LayerState, one.state),
                one.digest,
                one.signer,
                one.chain,
                one.root,
                one.root_is_pinned,
                None if one.signed_at is None else one.signed_at.isoformat(),
                one.countersignature,
            )
            for one in layer.signatures
        ),
        problems=layer.problems,
        notes=layer.notes,
    )
