"""The documents of staging, built from a stage's plan, its receipt and its outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from vhdtool.disk.commit import Target
from vhdtool.errors import VhdtoolError
from vhdtool.guest.model import Finding, Guest
from vhdtool.guest.source import WindowsInstallation
from vhdtool.image import Image
from vhdtool.report.change import change_document
from vhdtool.report.document_stage import (
    CabOutcomeFact,
    CheckFact,
    OutcomeDocument,
    OutcomeFact,
    StageDocument,
    StagedPackageFact,
)
from vhdtool.report.encode import image_name
from vhdtool.staging.outcome import CabOutcome, StagedOutcome, read_outcome
from vhdtool.staging.plan import Reboot, StagePlan
from vhdtool.staging.preflight import Check, JudgedPackage
from vhdtool.transaction.transaction import Receipt

DWORD = 0xFFFFFFFF


def stage_document(
    command: Literal["stage", "apply"],
    image: str,
    stage: StagePlan,
    *,
    reboot: Reboot,
    target: Target | None = None,
    receipt: Receipt | None = None,
    saved_plan: str | None = None,
) -> StageDocument:
    """Build the document of ``vhdtool stage``; without a receipt nothing was written."""
    change = change_document(command, image, stage.plan, target=target, receipt=receipt)
    return StageDocument(
        "vhdtool.stage/1",
        command,
        change.image,
        stage.id,
        would_change=change.would_change,
        changed=change.changed,
        checks=tuple(_check(check) for check in stage.checks),
        packages=tuple(_package(one) for one in stage.packages),
        ways=() if stage.way is None else stage.way.names,
        way_reason=None if stage.way is None else stage.way.reason,
        reboot=reboot,
        guest_command=stage.command,
        install_commands=stage.installs,
        replaces=stage.replaces,
        notices=stage.notices,
        registry=change.registry,
        files=change.files,
        saved_plan=saved_plan,
        receipt=change.receipt,
    )


def _check(check: Check) -> CheckFact:
    return CheckFact(check.name, check.outcome, check.message, check.code, check.hint)


def _package(judged: JudgedPackage) -> StagedPackageFact:
    staged, package = judged.staged, judged.staged.package
    brought = package.integration_version
    return StagedPackageFact(
        source=staged.source,
        sha256=staged.sha256,
        size=staged.content.size,
        name=package.identity.name,
        kb=package.kb,
        version=package.identity.version_text,
        architecture=package.architecture,
        integration_version=None if brought is None else ".".join(map(str, brought)),
        trust=staged.trust,
        applies=judged.applies.answer,
        rule=judged.applies.rule,
        message=judged.applies.message,
        key=judged.applies.key,
        current=judged.currency.is_current,
        current_message=judged.currency.message,
        staged=not judged.currency.is_current,
    )


def outcome_document(image: Image, installation: WindowsInstallation) -> OutcomeDocument:
    """Build the document of ``vhdtool outcome``."""
    return OutcomeDocument(
        "vhdtool.outcome/1",
        image_name(image.path),
        installation.volume_index,
        installation.root,
        tuple(_outcome(one) for one in read_outcome(installation)),
    )


def _outcome(one: StagedOutcome) -> OutcomeFact:
    return OutcomeFact(
        id=one.id,
        title=one.title,
        state=one.state,
        reason=one.reason,
        ways=one.ways,
        staged_at=one.staged_at,
        attempts=one.attempts,
        started=one.started,
        ended=one.ended,
        waits=one.waits,
        packages=tuple(_cab(cab) for cab in one.cabs),
        version_before=one.version_before,
        version_staged=one.version_staged,
        version_now=one.version_now,
        log=one.log,
        evidence=one.evidence,
    )


def _cab(cab: CabOutcome) -> CabOutcomeFact:
    return CabOutcomeFact(
        cab.file,
        cab.title,
        cab.state,
        cab.code,
        None if cab.code is None else f"{cab.code & DWORD:#x}",
        cab.meaning,
        cab.attempts,
    )


def with_staged(image: Image, guests: Sequence[Guest]) -> tuple[Guest, ...]:
    """Put what is staged into the facts of the guests of an image, as :attr:`Image.guests` gives them.

    A guest whose stages can't be read gets none, and a finding that says why.
    """
    waiting = list(image.installations)
    found = []
    for guest in guests:
        place = next((one for one in waiting if one.volume_index == guest.volume and _is_of(one, guest)), None)
        if place is None:
            found.append(guest)
            continue
        waiting.remove(place)
        try:
            outcomes = read_outcome(place)
        except VhdtoolError as error:
            text = f"Could not read what is staged: {error} [{error.code}]"
            unread = Finding("evidence-unreadable", "medium", text, error.hint)
            found.append(replace(guest, findings=(*guest.findings, unread)))
            continue
        findings = tuple(finding for one in outcomes for finding in _findings(one))
        found.append(
            replace(guest, staged=tuple(one.staged for one in outcomes), findings=(*guest.findings, *findings))
        )
    return tuple(found)


def _is_of(installation: WindowsInstallation, guest: Guest) -> bool:
    """Whether the facts of a guest were read from this installation: its hives lie there."""
    start = f"{installation.root.rstrip('/')}/".lower()
    return not guest.hives or guest.hives[0].path.lower().startswith(start)


def _findings(outcome: StagedOutcome) -> Iterator[Finding]:
    if outcome.state in {"failed", "abandoned", "never-ran", "not-applicable"}:
        yield Finding(
            "staged-not-applied",
            "low" if outcome.state == "not-applicable" else "medium",
            f"{outcome.title} was staged, and is not installed ({outcome.state}): {outcome.reason}.",
            f"See why: vhdtool outcome IMAGE; take it out: vhdtool unstage IMAGE {outcome.id}",
        )
    elif outcome.state == "restart-pending":
        yield Finding(
            "staged-restart-pending", "info", f"{outcome.title} is installed, and waits for a restart.",
            "Start the guest once more.",
        )  # fmt: skip
