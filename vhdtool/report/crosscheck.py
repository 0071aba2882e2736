"""The host's configuration held against the guest on the image: which image, which guest, and the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from vhdtool.errors import InputError, UsageError, VhdtoolError
from vhdtool.guest.model import Finding, Guest
from vhdtool.host.crosscheck import crosscheck
from vhdtool.host.fitness import refuse_vm_state
from vhdtool.host.vm_disks import DiskPlace, attached_as, find_disks
from vhdtool.host.vmconfig import VmConfig, read_vm_config
from vhdtool.image import Image, open_image
from vhdtool.report.document_crosscheck import CrosscheckDocument, VmDiskFact, VmFact
from vhdtool.report.encode import image_name

TRIED_SHOWN = 6
"""Places of one disk that are named where none is found."""


def read_machine(path: str) -> VmConfig:
    """Read the configuration of a machine.

    Raises what :func:`read_vm_config` raises, and :class:`InputError` ``vm-config-runtime`` for a runtime state, which
    says nothing of services.
    """
    config = read_vm_config(path)
    if config.format == "vmrs":
        beside = next(iter(sorted(Path(path).parent.glob(f"{_literal(Path(path).stem)}.[vV][mM][cC][xX]"))), None)
        named = f"{Path(path).stem}.vmcx" if beside is None else str(beside)
        raise InputError(
            "vm-config-runtime",
            "this is a machine's runtime state, which says nothing of its services",
            path=path,
            hint=f"Name the configuration: {named}",
        )
    return config


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def open_machine_disk(config: VmConfig, stack: ExitStack) -> Image:
    """Open the disk of a machine that has a guest, the first on its controllers; ``stack`` closes it.

    Raises :class:`InputError` ``vm-disk-not-found`` with what was tried, ``no-guest``, and the error of the disk where
    the only one that was found can't be read.
    """
    places = find_disks(config)
    failed: list[VhdtoolError] = []
    empty: list[str] = []
    for place in places:
        if place.path is None:
            continue
        try:
            with ExitStack() as attempt:
                image = attempt.enter_context(open_image(place.path))
                if image.guests:
                    stack.push(attempt.pop_all())
                    return image
                empty.append(place.path)
        except VhdtoolError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    if empty:
        raise InputError(
            "no-guest",
            "none of the machine's disks that were found has an operating system that can be read",
            path=config.path,
            found=", ".join(empty),
            hint="Name the image: vhdtool crosscheck IMAGE --vm CONFIG",
        )
    raise _not_found(config, places)


def _not_found(config: VmConfig, places: Sequence[DiskPlace]) -> InputError:
    if not places:
        return InputError(
            "vm-disk-not-found",
            "the machine has no disk",
            path=config.path,
            hint="Name the image: vhdtool crosscheck IMAGE --vm CONFIG",
        )
    tried = "; ".join(
        f"{place.disk.path}: {', '.join(_shown(place.tried)) or 'a path that is never followed'}" for place in places
    )
    return InputError(
        "vm-disk-not-found",
        f"none of the machine's disks is where its configuration leads from here; tried for {tried}",
        path=config.path,
        hint="Copy the disk beside the configuration, or name it: vhdtool crosscheck IMAGE --vm CONFIG",
    )


def _shown(tried: Sequence[str]) -> Sequence[str]:
    if len(tried) <= TRIED_SHOWN:
        return tried
    half = TRIED_SHOWN // 2
    return [*tried[:half], f"({len(tried) - TRIED_SHOWN} more)", *tried[-half:]]


def crosscheck_document(image: Image, config: VmConfig, guest: int | None) -> CrosscheckDocument:
    """Hold a machine's configuration against one guest of an image.

    Raises :class:`UsageError` ``ambiguous-guest``, ``no-such-guest``, :class:`InputError` ``no-guest``, and what
    reading the guest raises.
    """
    number, chosen = _guest(image, guest)
    places = find_disks(config)
    return CrosscheckDocument(
        schema="vhdtool.crosscheck/1",
        image=image_name(image.path),
        vm=_vm(config, places),
        guest=number,
        volume=chosen.volume,
        os=chosen.os,
        services=crosscheck(config, chosen),
        findings=tuple(_findings(image, config, places)),
        problems=(*config.problems, *image.problems),
    )


def _guest(image: Image, number: int | None) -> tuple[int, Guest]:
    guests = image.guests
    choices = "; ".join(
        f"--guest {at}: {one.os.product or one.os.family} on volume {one.volume}" for at, one in enumerate(guests)
    )
    if not guests:
        image.installation(number)  # it knows why there is none
        raise InputError("no-guest", "no guest on the image can be read", path=image.path)
    if number is None:
        if len(guests) > 1:
            raise UsageError(
                "ambiguous-guest", f"the image has {len(guests)} guests", path=image.path, hint=f"Say which: {choices}."
            )
        return 0, guests[0]
    if number >= len(guests):
        raise UsageError(
            "no-such-guest", f"the image has no guest {number}", path=image.path, hint=f"It has: {choices}."
        )
    return number, guests[number]


def _vm(config: VmConfig, places: Sequence[DiskPlace]) -> VmFact:
    return VmFact(
        path=config.path,
        format=config.format,
        name=config.name,
        id=config.id,
        generation=config.generation,
        version=config.version,
        is_checkpoint=config.is_checkpoint,
        saved_state=config.saved_state.answer,
        saved_state_location=config.saved_state.location,
        checkpoints=config.checkpoints.count,
        checkpoint_files=config.checkpoints.files,
        merge_pending=config.merge_pending,
        disks=tuple(
            VmDiskFact(
                place.disk.controller,
                place.disk.controller_number,
                place.disk.location,
                place.disk.type,
                place.disk.path,
                place.path,
            )
            for place in places
        ),
    )


def _findings(image: Image, config: VmConfig, places: Sequence[DiskPlace]) -> Iterator[Finding]:
    if attached_as(config, image.path, places) is None:
        yield Finding(
            "vm-disk-not-attached",
            "info",
            f"{image.path} is none of the disks that this machine's configuration names.",
            "Make sure that image and configuration belong together.",
        )
    try:
        refuse_vm_state(config, ())
    except VhdtoolError as error:
        yield Finding(
            error.code, "medium", f"{error.message}: a command that changes the disk refuses (--vm).", error.hint
        )
