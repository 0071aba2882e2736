"""The layer of the payload: every file of a component has the digest that the component's manifest states."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.package.cabinet import member_key
from vhdtool.package.msu import delta_sign
from vhdtool.package.package_files import MANIFEST, PackageFile, PackageFiles
from vhdtool.package.package_limits import DescriptionLimits
from vhdtool.package.verdict import INVALID, MISSING, UNKNOWN, VALID, WEAK, LayerVerdict

LAYER = "payload"


def check_payload(files: PackageFiles, *, path: str) -> LayerVerdict:
    """Judge the payload of the package at ``path``: the files in folders named like the manifests at the top.

    Raises:
        RefusedError: ``package-too-large``.
    """
    manifests = files.of_kind(MANIFEST)
    problems = list(files.problems)
    unknown: list[Problem] = []
    limits = DescriptionLimits(path)
    sign = delta_sign(files.files)
    if sign is not None:
        unknown.append(_delta(files.files[sign].name))
    checked: set[str] = set()
    weak = False
    for manifest in manifests:
        try:
            for name, algorithm, digest in _stated(manifest, limits):
                key = member_key(name)
                present = files.files.get(key)
                checked.add(key)
                weak = weak or algorithm == "sha1"
                if digest is None or algorithm is None:
                    unknown.append(Problem("digest-unknown", "its manifest states no digest of it", name))
                elif present is None:
                    if not unknown and key not in files.unread:
                        problems.append(Problem("file-missing", "its manifest lists it, the cabinet lacks it", name))
                elif present.digests.get(algorithm) != digest and present.is_patch:
                    unknown.append(_delta(present.name))
                elif present.digests.get(algorithm) != digest:
                    problems.append(
                        Problem("payload-mismatch", f"its {algorithm} is not what its manifest states", name)
                    )
        except DamagedError as error:
            problems.append(Problem(error.code, error.message, manifest.name, error.offset))
        except UnsupportedError as error:
            unknown.append(Problem(error.code, error.message, manifest.name))
    notes = [] if unknown else list(_unlisted(files, checked))
    state = _state(files, manifests, problems, unknown, weak)
    return LayerVerdict(LAYER, state, _text(state, len(checked)), tuple(problems), (*unknown, *notes), (), len(checked))


def _delta(name: str) -> Problem:
    return Problem("package-delta", "the payload is stored as differences to other files", name)


def _stated(manifest: PackageFile, limits: DescriptionLimits) -> Iterator[tuple[str, str | None, bytes | None]]:
    """The files that a manifest lists: name in the cabinet, algorithm and digest."""
    from vhdtool.package.component_manifest import read_component_manifest  # noqa: PLC0415  # slow to import

    limits.take_manifest(manifest.content or b"")
    parsed = read_component_manifest(manifest.content or b"", path=manifest.name)
    limits.take_named(len(parsed.files))
    folder = manifest.name[: -len(MANIFEST)]
    for file in parsed.files:
        yield f"{folder}\\{file.stored_name}", file.digest_algorithm, file.digest


def _unlisted(files: PackageFiles, checked: set[str]) -> Iterator[Problem]:
    for name, file in files.files.items():
        if file.content is None and name not in checked:
            yield Problem(
                "file-unlisted", "no manifest lists it: nothing but the cabinet's signature covers it", file.name
            )


def _state(
    files: PackageFiles,
    manifests: tuple[PackageFile, ...],
    problems: list[Problem],
    unknown: list[Problem],
    weak: bool,
) -> str:
    if problems:
        return INVALID
    if unknown:
        return UNKNOWN
    if not manifests:
        return MISSING
    return WEAK if weak else VALID


def _text(state: str, count: int) -> str:
    return {
        VALID: f"{count} files are as their manifests state",
        WEAK: f"{count} files are as their manifests state, by SHA-1 in part",
        INVALID: "files are not as their manifests state",
        UNKNOWN: "not every file can be compared with its manifest",
        MISSING: "the cabinet has no component manifests",
    }[state]
