"""``vhdtool stage``, ``apply``, ``outcome`` and ``unstage``: packages that a guest installs at its next start."""

from __future__ import annotations

import base64
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

import vhdtool
from vhdtool.cli.change import Place, Planned, change_guest
from vhdtool.cli.options import examples, guest_option, image_argument, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.cli.progress import progress_bar
from vhdtool.cli.targets import ChangeChoice, target_options
from vhdtool.errors import UsageError

if TYPE_CHECKING:
    from vhdtool.disk.commit import Target
    from vhdtool.image import Image
    from vhdtool.package.trust_roots import TrustRoot
    from vhdtool.staging.plan import Reboot, StageOptions, StagePlan
    from vhdtool.staging.saved_plan import SavedPlan
    from vhdtool.staging.staged_package import StagedPackage
    from vhdtool.staging.way import Via

SCHEMA = "vhdtool.stage/1"
MAX_ROOT_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be staged into what."""

    place: Place
    guest: int | None
    cabs: tuple[str, ...]
    options: StageOptions
    roots: tuple[TrustRoot, ...]


@click.command(
    epilog=examples(
        "vhdtool stage server.vhdx --cab Windows6.2-HyperVIntegrationServices-x64.cab",
        "vhdtool stage server.vhdx --cab update.cab --child updated.vhdx",
        "vhdtool stage server.vhdx --cab update.cab --in-place --plan plan.json",
    )
)
@image_argument
@click.option("--cab", "cabs", metavar="CAB", multiple=True, required=True, help=".cab or .msu; may be repeated.")
@click.option(
    "--via",
    type=click.Choice(["auto", "service", "setupcomplete"]),
    default="auto",
    help="What starts it in the guest; auto: by the guest's state.",
)
@click.option(
    "--reboot", type=click.Choice(["never", "if-needed"]), default="never", help="Restart the guest after it, or not."
)
@click.option("--allow-unsigned", is_flag=True, help="Take packages that nobody vouches for on my word.")
@click.option("--trust-root", "trust_roots", metavar="FILE", multiple=True, help="Trust this root too (PEM or DER).")
@click.option("--plan", "plan_file", metavar="FILE", help="Save the plan for `vhdtool apply`; write nothing else.")
@guest_option
@parent_option
@target_options
@output_options
def stage(
    *,
    image: str,
    cabs: tuple[str, ...],
    via: Via,
    reboot: Reboot,
    allow_unsigned: bool,
    trust_roots: tuple[str, ...],
    plan_file: str | None,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Put packages into the guest, to be installed at its next start.

    Each package is verified and held against the guest first. In the guest
    DISM installs it; see `vhdtool outcome` later. Without a target the plan is
    shown, and nothing is written.
    """
    from vhdtool.staging.plan import StageOptions  # noqa: PLC0415  # --help does not need the readers

    output.protect(*cabs, *trust_roots)
    roots = _roots(trust_roots)
    options = StageOptions(via, reboot, allow_unsigned, datetime.now(UTC).replace(microsecond=0))
    request = _Request(Place(image, parent), guest, cabs, options, roots)
    _run("stage", request, choice, output, plan_file=plan_file)


@click.command("apply", epilog=examples("vhdtool apply plan.json", "vhdtool apply plan.json --child updated.vhdx"))
@click.argument("plan", metavar="FILE")
@target_options
@output_options
def apply_plan(*, plan: str, choice: ChangeChoice, output: Output) -> None:
    r"""Carry out the plan in FILE, as `vhdtool stage --plan` saved it.

    Refused where the image, a package or the tool is no longer what the plan
    was made for. The target is the plan's, or one that is named here.
    """
    from vhdtool.disk.device import FileDevice  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.staging.saved_plan import MAX_PLAN_FILE, parse_plan, refuse_other_tool  # noqa: PLC0415

    with closing(FileDevice(plan)) as file:
        saved = parse_plan(file.read_at(0, min(file.size, MAX_PLAN_FILE)), plan)
    refuse_other_tool(saved, plan)
    target, opinion = choice.target, choice.single_opinion
    if target is None:
        target, opinion = _saved_target(saved), opinion or saved.single_opinion
    choice = ChangeChoice(target, opinion, choice.vm or saved.vm)
    output.protect(plan, *(one.path for one in saved.packages))
    _run("apply", _saved_request(saved), choice, output, saved=(saved, plan))


@click.command(epilog=examples("vhdtool outcome server.vhdx", "vhdtool outcome server.vhdx --json"))
@image_argument
@guest_option
@parent_option
@output_options
def outcome(*, image: str, guest: int | None, parent: str | None, output: Output) -> None:
    r"""Tell what became of the packages that were staged into IMAGE.

    Applied, restart pending, not applicable, failed (with code and log),
    waiting, never ran; and the versions found now.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.staged import outcome_document  # noqa: PLC0415
    from vhdtool.report.text_stage import outcome_blocks  # noqa: PLC0415

    with output.answering("vhdtool.outcome/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(outcome_document(opened, opened.installation(guest)), outcome_blocks)


@click.command(
    epilog=examples("vhdtool unstage server.vhdx kb3158626-0a1b2c3d", "vhdtool unstage a.vhdx ID --in-place")
)
@image_argument
@click.argument("stage_id", metavar="ID")
@guest_option
@parent_option
@target_options
@output_options
def unstage(
    *, image: str, stage_id: str, guest: int | None, parent: str | None, choice: ChangeChoice, output: Output
) -> None:
    r"""Take out of the guest what was staged under ID, and what it left.

    What the guest has installed stays installed. The ids: `vhdtool outcome`.
    Without a target nothing is written.
    """

    def planned(opened: Image) -> Planned:
        from vhdtool.staging.unstage import plan_unstage  # noqa: PLC0415  # --help does not need the readers

        return Planned(plan_unstage(opened.installation(guest), stage_id))

    change_guest("unstage", Place(image, parent), choice, output, planned)


def _run(
    command: Literal["stage", "apply"],
    request: _Request,
    choice: ChangeChoice,
    output: Output,
    *,
    plan_file: str | None = None,
    saved: tuple[SavedPlan, str] | None = None,
) -> None:
    """Verify, plan, and with a target carry it out; or save the plan."""
    from vhdtool.disk.committing import OpinionOptions  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.stage import stage_document  # noqa: PLC0415
    from vhdtool.report.text_stage import stage_blocks  # noqa: PLC0415
    from vhdtool.staging.plan import plan_stage  # noqa: PLC0415
    from vhdtool.staging.staged_package import open_packages  # noqa: PLC0415
    from vhdtool.transaction.transaction import Transaction, open_for_change  # noqa: PLC0415

    place = request.place
    target = choice.target if plan_file is None else None
    with (
        output.answering(SCHEMA, place.image),
        open_packages(request.cabs, request.roots) as packages,
        open_for_change(place.image, target, parent=place.parent, vm=choice.vm) as (opened, notes),
    ):
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        if saved is not None:
            _refuse_changed(saved[0], opened, request, packages)
        planned = plan_stage(opened, opened.installation(request.guest), packages, request.options)
        planned.refuse()
        if saved is not None:
            from vhdtool.staging.saved_plan import refuse_changed_plan  # noqa: PLC0415

            refuse_changed_plan(saved[0], planned, saved[1])
        receipt = None
        if target is not None and planned.plan.changes:
            opinions = OpinionOptions(choice.single_opinion)
            with Transaction(opened, planned.plan, opinions=opinions, progress=progress_bar()) as transaction:
                receipt = transaction.run(target, notes)
        if plan_file is not None:
            _save(plan_file, request, choice, opened, planned, packages)
        document = stage_document(
            command,
            place.image,
            planned,
            reboot=request.options.reboot,
            target=target,
            receipt=receipt,
            saved_plan=plan_file,
        )
        output.emit(document, stage_blocks)


def _roots(paths: tuple[str, ...]) -> tuple[TrustRoot, ...]:
    """Read the roots that the user adds."""
    if not paths:
        return ()
    from vhdtool.disk.device import FileDevice  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.package.trust_roots import read_trust_roots  # noqa: PLC0415

    found: list[TrustRoot] = []
    for path in paths:
        with closing(FileDevice(path)) as file:
            found += read_trust_roots(file.read_at(0, min(file.size, MAX_ROOT_FILE)), path=path)
    return tuple(found)


def _refuse_changed(saved: SavedPlan, opened: Image, request: _Request, packages: tuple[StagedPackage, ...]) -> None:
    from vhdtool.staging.saved_plan import (  # noqa: PLC0415  # only for a saved plan
        refuse_changed_hives,
        refuse_changed_image,
        refuse_changed_packages,
    )

    refuse_changed_image(saved, opened)
    refuse_changed_hives(saved, opened.installation(request.guest))
    refuse_changed_packages(saved, packages)


def _save(  # noqa: PLR0917  # everything that a plan rests on
    path: str,
    request: _Request,
    choice: ChangeChoice,
    opened: Image,
    planned: StagePlan,
    packages: tuple[StagedPackage, ...],
) -> None:
    from vhdtool.report.host_files import exists, output_error  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.staging.outcome import CREATED  # noqa: PLC0415
    from vhdtool.staging.saved_plan import (  # noqa: PLC0415
        SavedPlan,
        pin_hives,
        pin_layers,
        pin_packages,
        plan_bytes,
        plan_digest,
        saved_target,
    )

    options = request.options
    created = options.created or datetime.now(UTC)
    saved = SavedPlan(
        schema="vhdtool.stage-plan/1",
        tool=vhdtool.__version__,
        created=created.strftime(CREATED),
        image=request.place.image,
        parent=request.place.parent,
        guest=request.guest,
        via=options.via,
        reboot=options.reboot,
        allow_unsigned=options.allow_unsigned,
        trust_roots=tuple(base64.b64encode(root.certificate.der).decode() for root in request.roots),
        single_opinion=choice.single_opinion,
        vm=choice.vm,
        target=saved_target(choice.target),
        layers=pin_layers(opened),
        hives=pin_hives(opened.installation(request.guest)),
        packages=pin_packages(request.cabs, packages),
        plan=plan_digest(planned),
    )
    try:
        with Path(path).open("xb") as file:
            file.write(plan_bytes(saved))
    except FileExistsError as error:
        raise exists(Path(path)) from error
    except OSError as error:
        raise output_error(error, path) from error


def _saved_request(saved: SavedPlan) -> _Request:
    from vhdtool.package.trust_roots import read_trust_roots  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.staging.outcome import CREATED  # noqa: PLC0415
    from vhdtool.staging.plan import StageOptions  # noqa: PLC0415

    try:
        created = datetime.strptime(saved.created, CREATED).replace(tzinfo=UTC)
        roots = tuple(
            root for one in saved.trust_roots for root in read_trust_roots(base64.b64decode(one, validate=True))
        )
    except ValueError as error:
        raise UsageError("not-a-plan", f"the plan was changed by hand: {error}") from error
    options = StageOptions(saved.via, saved.reboot, saved.allow_unsigned, created)
    cabs = tuple(one.path for one in saved.packages)
    return _Request(Place(saved.image, saved.parent), saved.guest, cabs, options, roots)


def _saved_target(saved: SavedPlan) -> Target | None:
    from vhdtool.staging.saved_plan import target_of  # noqa: PLC0415  # --help does not need the readers

    return target_of(saved)
