"""Staging for people: the checks, the plan, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.guest.model import StagedState
from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Style, Table, size
from vhdtool.report.document_change import ChangeDocument
from vhdtool.report.document_stage import CheckFact, OutcomeDocument, OutcomeFact, StageDocument, StagedPackageFact
from vhdtool.report.text_change import change_blocks

_NONE = Cell("-", "dim")
_OUTCOMES: dict[str, Style] = {"ok": "good", "warn": "warn", "refuse": "bad"}
_STATES: dict[StagedState, Style] = {
    "applied": "good",
    "staged": "",
    "restart-pending": "warn",
    "not-applicable": "warn",
    "failed": "bad",
    "abandoned": "bad",
    "never-ran": "bad",
    "unknown": "warn",
}


def stage_blocks(document: StageDocument) -> Iterator[Block]:
    """Show the checks, what would be done, and what was written."""
    yield Heading("Packages")
    yield _packages(document.packages)
    yield Heading("Checks")
    yield _checks(document.checks)
    for check in document.checks:
        if check.hint and check.outcome != "ok":
            yield Line(Cell(f"  {check.name}: {check.hint}", "dim"))
    if document.guest_command is not None:
        yield Heading("In the guest", document.id or "")
        yield Fields(tuple(_plan_rows(document)))
        for notice in document.notices:
            yield Line(Cell(f"note: {notice}", "warn"))
    yield from change_blocks(_change(document))
    if document.saved_plan is not None:
        yield Line(Cell(f"The plan is in {document.saved_plan}. Run it: vhdtool apply {document.saved_plan}", "strong"))


def _plan_rows(document: StageDocument) -> Iterator[tuple[str, Cell]]:
    yield ("Started by", Cell(", then ".join(document.ways)))
    yield ("Why so", Cell(document.way_reason or ""))
    yield ("Command", Cell(document.guest_command or ""))
    for command in document.install_commands:
        yield ("That runs", Cell(command))
    yield ("Restart", Cell("never" if document.reboot == "never" else "once, where a package needs it"))
    if document.replaces:
        yield ("Replaces", Cell(", ".join(document.replaces), "warn"))


def _packages(packages: Sequence[StagedPackageFact]) -> Table:
    return Table(
        ("Package", "Version", "Architecture", "Size", "Signature", "Applies", "Note"),
        tuple(
            (
                Cell(one.kb or one.name, "strong" if one.staged else "dim"),
                Cell(one.version),
                Cell(one.architecture),
                Cell(size(one.size)),
                Cell(one.trust, "good" if one.trust == "trusted" else "bad"),
                Cell(one.applies, {"yes": "good", "no": "bad"}.get(one.applies, "warn")),  # type: ignore[arg-type]
                Cell(one.message if one.staged else f"left out: {one.current_message}"),
            )
            for one in packages
        ),
        right=frozenset({"Size"}),
        fold=frozenset({"Note"}),
    )


def _checks(checks: Sequence[CheckFact]) -> Table:
    return Table(
        ("Check", "Outcome", "What was found"),
        tuple(
            (
                Cell(check.name),
                Cell(check.outcome + (f" [{check.code}]" if check.code else ""), _OUTCOMES[check.outcome]),
                Cell(check.message),
            )
            for check in checks
        ),
        fold=frozenset({"What was found"}),
    )


def _change(document: StageDocument) -> ChangeDocument:
    """The part of the document that every change has."""
    return ChangeDocument(
        "vhdtool.change/1",
        document.command,
        document.image,
        would_change=document.would_change,
        changed=document.changed,
        services=None,
        boot=None,
        registry=document.registry,
        files=document.files,
        receipt=document.receipt,
    )


def outcome_blocks(document: OutcomeDocument) -> Iterator[Block]:
    """Show each stage and what became of it."""
    if not document.stages:
        yield Line(Cell(f"{document.image.path}: nothing is staged in {document.root}", "dim"))
    for stage in document.stages:
        yield from _outcome_blocks(stage)


def _outcome_blocks(stage: OutcomeFact) -> Iterator[Block]:
    yield Heading(stage.title, stage.id)
    rows = [("State", Cell(f"{stage.state}: {stage.reason}", _STATES[stage.state]))]
    rows.append(("Staged", Cell(stage.staged_at or "unknown")))
    if stage.started or stage.attempts:
        rows.append(("Attempts", Cell(str(stage.attempts))))
        rows.append(("Ran", Cell(f"{stage.started or '?'} to {stage.ended or '?'}")))
    if stage.version_staged:
        versions = f"{stage.version_before or 'unknown'} before, {stage.version_staged} staged"
        rows.append(("IntegrationServicesVersion", Cell(f"{versions}, {stage.version_now or 'unknown'} now")))
    rows.append(("Will start again", Cell("yes" if stage.waits else "no")))
    yield Fields(tuple(rows))
    if stage.packages:
        yield Table(
            ("Package", "State", "Code", "Meaning", "Attempts"),
            tuple(
                (
                    Cell(one.title),
                    Cell(one.state),
                    Cell(f"{one.code} ({one.code_hex})") if one.code is not None else _NONE,
                    Cell(one.meaning) if one.meaning else _NONE,
                    Cell(str(one.attempts)),
                )
                for one in stage.packages
            ),
            right=frozenset({"Attempts"}),
            fold=frozenset({"Meaning"}),
        )
    for line in stage.log:
        yield Line(Cell(f"  {line}", "dim"))
    if stage.state != "staged":
        yield Line(Cell(f"Take it out: vhdtool unstage IMAGE {stage.id}", "dim"))
