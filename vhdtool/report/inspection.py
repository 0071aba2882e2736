"""The documents about guests, built from an opened image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import UNSET, UnsetType

from vhdtool.errors import InputError, NotFoundError, Problem, VhdtoolError
from vhdtool.image import Image
from vhdtool.progress import SILENT, Progress
from vhdtool.report.document import (
    ImageFact,
    ImageFormat,
    ImageType,
    InspectDocument,
    LogState,
    ServicesDocument,
    VersionDocument,
    VolumeFact,
    VolumeStateFact,
)
from vhdtool.report.encode import image_name, name_bytes

if TYPE_CHECKING:
    from vhdtool.guest.source import Troubles, WindowsInstallation

_HASH_CHUNK = 1 << 20


def inspect_document(
    image: Image, *, all_services: bool = False, hashes: tuple[str, ...] | None = None
) -> InspectDocument:
    """Build the document of ``vhdtool inspect``; ``hashes`` are those of :func:`hash_layers`, when asked for."""
    with _input_of(image):
        guests = image.inspect_guests(all_services=True) if all_services else image.guests
        if _has_stages(image):
            from vhdtool.report.staged import with_staged  # noqa: PLC0415  # 60 ms that most guests need not cost

            guests = with_staged(image, guests)
    return InspectDocument(
        "vhdtool.inspect/1", image_fact(image, image.problems, hashes), _volumes(image), guests, image.findings
    )  # fmt: skip


def _has_stages(image: Image) -> bool:
    """Whether anything was ever staged in a guest; where that can't be read, whoever reads it shall tell."""
    from vhdtool.staging.stage_record import FOLDER  # noqa: PLC0415  # not for the other documents

    try:
        return any(one.filesystem.stat(one.path(FOLDER)) is not None for one in image.installations)
    except VhdtoolError:
        return True


def version_document(image: Image, guest: int | None = None) -> VersionDocument:
    """Build the document of ``vhdtool version``: reads only what the version needs."""
    from vhdtool.guest.advice import newer_exists  # noqa: PLC0415  # slow readers and tables, only when needed
    from vhdtool.guest.inspection import integration_version  # noqa: PLC0415
    from vhdtool.guest.source import Troubles, WindowsInstallation  # noqa: PLC0415
    from vhdtool.knowledge.integration_versions import newest_version  # noqa: PLC0415
    from vhdtool.report.integration_versions import newest_fact, shipped_facts  # noqa: PLC0415

    troubles = Troubles()
    with _input_of(image):
        system = image.system(guest)
        version = integration_version(system, troubles)
    windows = system if isinstance(system, WindowsInstallation) else None
    newest = newest_version(None if windows is None else _windows_version(windows))
    return VersionDocument(
        "vhdtool.version/1",
        image_name(image.path),
        system.volume_index,
        system.root,
        version,
        tuple(system.hives()),
        _problems(image, troubles),
        () if windows is None else shipped_facts(version.version),
        newest_fact(newest, newer_exists(version, newest)),
    )


def _windows_version(system: WindowsInstallation) -> tuple[int, ...] | None:
    from vhdtool.guest.windows import read_identity  # noqa: PLC0415

    try:
        software = system.optional_hive("SOFTWARE")
        return None if software is None else read_identity(software).numbers
    except VhdtoolError:  # the sources of the version have read this hive before, and told of it
        return None


def services_document(image: Image, guest: int | None = None, *, all_services: bool = False) -> ServicesDocument:
    """Build the document of ``vhdtool services list``."""
    from vhdtool.guest.inspection import list_services  # noqa: PLC0415  # slow readers, only when needed
    from vhdtool.guest.source import Troubles  # noqa: PLC0415

    troubles = Troubles()
    with _input_of(image):
        system = image.system(guest)
        services, drivers, every = list_services(system, all_services=all_services, troubles=troubles)
    return ServicesDocument(
        "vhdtool.services/1",
        image_name(image.path),
        system.volume_index,
        system.root,
        tuple(services),
        tuple(drivers),
        None if every is None else tuple(every),
        tuple(system.hives()),
        _problems(image, troubles),
    )


def _problems(image: Image, troubles: Troubles) -> tuple[Problem, ...]:
    """What was wrong and survived: in the containers, and in the guest, where a source could not be read."""
    unread = (
        Problem(trouble.error.code, f"could not read {trouble.what}: {trouble.error}", None, trouble.error.offset)
        for trouble in troubles.found
    )
    return (*image.problems, *unread)


@contextmanager
def _input_of(image: Image) -> Iterator[None]:
    """Tell of a missing part of the guest as of an input that can't be used: nobody asked for that part by name."""
    try:
        yield
    except NotFoundError as error:
        raise InputError(
            error.code,
            error.message,
            path=error.path or image.path,
            offset=error.offset,
            expected=error.expected,
            found=error.found,
            hint=error.hint,
        ) from error


def image_fact(image: Image, problems: tuple[Problem, ...], hashes: tuple[str, ...] | None = None) -> ImageFact:
    """Tell what the image file is, with the problems that belong to the question."""
    info = image.disk.info
    sha256: str | UnsetType = UNSET
    parents: tuple[str, ...] | UnsetType = UNSET
    if hashes is not None:
        sha256, parents = hashes[0], hashes[1:]
    return ImageFact(
        path=image.path,
        format=cast(ImageFormat, info.format),
        type=cast(ImageType, info.type),
        virtual_size=info.virtual_size,
        logical_sector_size=info.logical_sector_size,
        block_size=info.block_size,
        log=cast(LogState | None, info.log),
        parents=tuple(info.parents),
        problems=problems,
        path_b64=name_bytes(image.path),
        sha256=sha256,
        parents_sha256=parents,
    )


def hash_layers(image: Image, progress: Progress = SILENT) -> tuple[str, ...]:
    """Return the SHA-256 of the image file and of each parent, as they lie on the host, in hexadecimal."""
    return tuple(_hash_file(layer.info.path, progress) for layer in image.disk.layers)


def _hash_file(path: str, progress: Progress) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_HASH_CHUNK))
    try:
        with Path(path).open("rb", buffering=0) as file:
            progress.start(f"SHA-256 of {path}", Path(path).stat().st_size)
            try:
                while got := file.readinto(buffer):
                    digest.update(buffer[:got])
                    progress.advance(got)
            finally:
                progress.finish()
    except OSError as error:
        raise InputError("read-failed", f"can't read the file: {error.strerror}", path=path) from error
    return digest.hexdigest()


def _volumes(image: Image) -> tuple[VolumeFact, ...]:
    facts = []
    for volume in image.volumes:
        state = image.state(volume.index)
        facts.append(
            VolumeFact(
                index=volume.index,
                offset=volume.offset,
                size=volume.size,
                role=volume.role,
                filesystem=volume.filesystem,
                label=image.label(volume.index),
                state=VolumeStateFact(state.dirty, state.hibernated, state.encrypted, state.log),
                scheme=volume.scheme,
                type_id=volume.type_id,
                name=volume.name,
                encryption=volume.encryption,
                container=volume.container,
            )
        )
    return tuple(facts)
