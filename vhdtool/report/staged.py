"""What is staged in a guest, and what came of it: the document of ``outcome``, and its part of ``inspect``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vhdtool.errors import VhdtoolError
from vhdtool.guest.model import Finding, Guest
from vhdtool.guest.source import WindowsInstallation
from vhdtool.image import Image
from vhdtool.report.document_stage import CabOutcomeFact, OutcomeDocument, OutcomeFact
from vhdtool.report.encode import image_name
from vhdtool.staging.outcome import CabOutcome, StagedOutcome, read_outcome

DWORD = 0xFFFFFFFF


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
