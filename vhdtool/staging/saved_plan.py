"""A stage's plan in a file, pinned to the image and the packages it was made for.

What is saved is the request, its pins and the digest of the plan that came of it. Applying makes the plan again, on the
image as it is then, and refuses where anything differs: the plan that is carried out is the one that was shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import msgspec

import vhdtool
from vhdtool.bytesource import sha256_of
from vhdtool.disk.commit import Target, TargetKind
from vhdtool.disk.device import FileDevice, Layer
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.errors import InputError, RefusedError
from vhdtool.guest.source import WindowsInstallation
from vhdtool.image import Image
from vhdtool.registry.operation import SetValue
from vhdtool.staging.plan import Reboot, StagePlan
from vhdtool.staging.staged_package import StagedPackage
from vhdtool.staging.way import Via
from vhdtool.transaction.plan import Plan

MAX_PLAN_FILE = 16 << 20
PINNED_HIVES = ("SYSTEM", "SOFTWARE")


@dataclass(frozen=True, slots=True)
class PinnedLayer:
    """One file of the image's chain. ``identity``: DataWriteGuid or unique id. Sizes in bytes.

    ``table``: SHA-256 of the block table (BAT); ``sequence``: that of the current header; None where the format has
    none. ``modified``: the file's time in ns, only where it has no block table.
    """

    format: str
    virtual_size: int
    file_size: int
    identity: str | None
    table: str | None
    sequence: int | None
    modified: int | None


@dataclass(frozen=True, slots=True)
class PinnedHive:
    """A hive by the two sequence numbers of its file's base block."""

    name: str
    primary: int
    secondary: int


@dataclass(frozen=True, slots=True)
class PinnedPackage:
    """A cabinet or .msu as it was named, and the SHA-256 of each package in it that was planned."""

    path: str
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SavedTarget:
    """Where the change shall go, as :class:`vhdtool.disk.commit.Target`."""

    kind: TargetKind
    path: str | None
    parent_windows_path: str | None
    journal: bool
    fold: bool
    no_children: bool
    children_folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A saved plan. ``created``: the time that the stage's record will tell. ``trust_roots``: DER in base64.

    ``vm``: the configuration of the machine that must be off and without checkpoints, where one was named.
    """

    schema: Literal["vhdtool.stage-plan/1"]
    tool: str
    created: str
    image: str
    parent: str | None
    guest: int | None
    via: Via
    reboot: Reboot
    allow_unsigned: bool
    trust_roots: tuple[str, ...]
    single_opinion: bool
    vm: str | None
    target: SavedTarget | None
    layers: tuple[PinnedLayer, ...]
    hives: tuple[PinnedHive, ...]
    packages: tuple[PinnedPackage, ...]
    plan: str


def pin_layers(image: Image) -> tuple[PinnedLayer, ...]:
    """Pin each file of the chain."""
    return tuple(_layer(layer, file) for layer, file in zip(image.disk.layers, image.disk.files, strict=True))


def _layer(layer: Layer, file: FileDevice) -> PinnedLayer:
    info = layer.info
    place: tuple[int, int] | None = None
    sequence: int | None = None
    if isinstance(layer, VhdxLayer):
        place = layer.bat_range
        sequence = next((one.header.sequence_number for one in layer.headers if one.current), None)
    elif isinstance(layer, VhdLayer) and layer.bat is not None:
        place = layer.bat.offset, layer.bat.length
    return PinnedLayer(
        format=info.format,
        virtual_size=info.virtual_size,
        file_size=info.file_size,
        identity=info.identity,
        table=None if place is None else sha256_of(file, *place),
        sequence=sequence,
        modified=None if place is not None else _modified(info.path),
    )


def _modified(path: str) -> int:
    """When a file without a block table was written last: nothing inside it tells that it was."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise InputError("cannot-open", f"can't read the file: {error.strerror}", path=path) from error


def pin_hives(installation: WindowsInstallation) -> tuple[PinnedHive, ...]:
    """Pin the hives that staging reads and writes."""
    found = []
    for name in PINNED_HIVES:
        head = installation.hive(name).file.read_at(0, 12)
        found.append(
            PinnedHive(name, int.from_bytes(head[4:8], "little"), int.from_bytes(head[8:12], "little"))
        )  # fmt: skip
    return tuple(found)


def pin_packages(paths: tuple[str, ...], packages: tuple[StagedPackage, ...]) -> tuple[PinnedPackage, ...]:
    """Pin the packages by the file they came from."""
    return tuple(PinnedPackage(path, tuple(one.sha256 for one in packages if one.file == path)) for path in paths)


def plan_digest(stage: StagePlan) -> str:
    """Sum a plan up: what is written where, and with which contents."""
    digest = hashlib.sha256()
    for line in _lines(stage.plan):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _lines(plan: Plan) -> Iterator[str]:
    for file in plan.files:
        security = None if file.security is None else file.security.hex()
        yield "\t".join(map(str, (file.volume, file.action, file.path, file.changes, file.sha256, file.size, security)))
    for change in plan.registry:
        operation = change.operation
        stored = (operation.type, operation.data.hex()) if isinstance(operation, SetValue) else ()
        before = None if change.before is None else (change.before.type, change.before.data.hex())
        what = (type(operation).__name__, operation.key, getattr(operation, "name", None), *stored)
        yield "\t".join(map(str, (change.volume, change.root, change.hive, *what, before, change.changes)))


def plan_bytes(saved: SavedPlan) -> bytes:
    """Encode a saved plan, in lines for people to read."""
    return msgspec.json.format(msgspec.json.encode(saved), indent=1) + b"\n"


def parse_plan(data: bytes, path: str) -> SavedPlan:
    """Read a saved plan. Raises :class:`InputError` ``not-a-plan``."""
    try:
        return msgspec.json.decode(data, type=SavedPlan)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "not-a-plan",
            "the file is no saved plan of vhdtool",
            path=path,
            found=str(error),
            hint="Make one: vhdtool stage IMAGE --cab CAB --plan FILE",
        ) from error


def refuse_other_tool(saved: SavedPlan, path: str) -> None:
    """Refuse a plan of another version of this program. Raises :class:`RefusedError` ``plan-of-other-version``."""
    if saved.tool != vhdtool.__version__:
        raise RefusedError(
            "plan-of-other-version",
            "the plan was made by another version of vhdtool, and this one might do something else",
            path=path,
            expected=vhdtool.__version__,
            found=saved.tool,
            hint="Make the plan again: vhdtool stage IMAGE --cab CAB --plan FILE",
        )


def refuse_changed_image(saved: SavedPlan, image: Image) -> None:
    """Refuse an image that is no longer the one the plan was made for. Raises :class:`RefusedError` ``plan-stale``."""
    now = pin_layers(image)
    if len(now) != len(saved.layers):
        raise _stale("its chain has another number of files", image.path, len(saved.layers), len(now))
    for number, (before, after) in enumerate(zip(saved.layers, now, strict=True)):
        place = (image.path, *image.disk.info.parents)[number]
        for one in fields(PinnedLayer):
            wanted, found = getattr(before, one.name), getattr(after, one.name)
            if wanted != found:
                raise _stale(_LAYER_TEXTS[one.name], place, wanted, found)


def refuse_changed_hives(saved: SavedPlan, installation: WindowsInstallation) -> None:
    """Refuse a guest whose hives were written since. Raises :class:`RefusedError` ``plan-stale``."""
    for before, after in zip(saved.hives, pin_hives(installation), strict=True):
        if before != after:
            raise _stale(
                f"the {after.name} hive was written since",
                installation.path(f"System32/config/{after.name}"),
                f"sequence numbers {before.primary} and {before.secondary}",
                f"{after.primary} and {after.secondary}",
            )


def refuse_changed_packages(saved: SavedPlan, packages: tuple[StagedPackage, ...]) -> None:
    """Refuse packages that are not those of the plan. Raises :class:`RefusedError` ``plan-stale``."""
    now = pin_packages(tuple(one.path for one in saved.packages), packages)
    for before, after in zip(saved.packages, now, strict=True):
        if before != after:
            raise _stale(
                "the package is another file now", before.path, ", ".join(before.sha256), ", ".join(after.sha256)
            )


def refuse_changed_plan(saved: SavedPlan, stage: StagePlan, path: str) -> None:
    """Refuse where the plan comes out differently. Raises :class:`RefusedError` ``plan-stale``."""
    found = plan_digest(stage)
    if found != saved.plan:
        raise _stale("what would be done is no longer what the plan says", path, saved.plan, found)


_LAYER_TEXTS = {
    "format": "it has another format",
    "virtual_size": "its virtual disk has another size",
    "file_size": "the file has another size",
    "identity": "its disk was written since (DataWriteGuid or unique id)",
    "table": "its block table was written since",
    "sequence": "its header was written since",
    "modified": "the file was written since",
}


def _stale(text: str, path: str, expected: object, found: object) -> RefusedError:
    return RefusedError(
        "plan-stale",
        f"this is not what the plan was made for: {text}",
        path=path,
        expected=expected,
        found=found,
        hint="Make the plan again, and look at it: vhdtool stage IMAGE --cab CAB --plan FILE",
    )


def saved_target(target: Target | None) -> SavedTarget | None:
    """Keep a target in a plan."""
    if target is None:
        return None
    return SavedTarget(**{one.name: getattr(target, one.name) for one in fields(SavedTarget)})


def target_of(saved: SavedPlan) -> Target | None:
    """Return the target that a plan keeps."""
    if saved.target is None:
        return None
    return Target(**{one.name: getattr(saved.target, one.name) for one in fields(SavedTarget)})
