"""``vhdtool crosscheck`` for people, in columns named as Get-VMIntegrationService names them."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.host.crosscheck import OUTCOMES, CrossRow
from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Style, Table
from vhdtool.report.document_crosscheck import CrosscheckDocument, VmFact
from vhdtool.report.text_guest import SEVERITY_STYLES, problem_blocks

_NONE = Cell("-", "dim")
_OUTCOME_STYLES: dict[str | None, Style] = {None: "", "info": "dim", "low": "warn", "medium": "warn", "high": "bad"}
_ENABLED = {
    "on": Cell("True", "good"),
    "off": Cell("False", "warn"),
    "absent": Cell("absent", "dim"),
    "no-switch": Cell("no switch", "dim"),
}


def crosscheck_blocks(document: CrosscheckDocument) -> Iterator[Block]:
    """Show the machine, then each service on both sides, then what to do."""
    yield from _machine(document.vm)
    yield Heading("Integration services", f"{document.os.product or document.os.family} on {document.image.path}")
    yield Table(
        ("VMName", "Name", "Enabled", "Guest", "Start", "Status", "AtNextStart"),
        tuple(_row(document.vm, row) for row in document.services),
        cut=frozenset({"VMName"}),
        drop=("VMName", "Status"),
    )
    told = [row for row in document.services if row.severity is not None]
    if told or document.findings:
        yield Heading("Findings")
    for row in told:
        yield Line(Cell(f"{row.severity}: {row.message}", SEVERITY_STYLES[row.severity or "info"]))
        if row.fix:
            yield Line(Cell(f"  {row.fix}", "dim"))
    for finding in document.findings:
        text = f"{finding.severity}: {finding.message} [{finding.code}]"
        yield Line(Cell(text, SEVERITY_STYLES[finding.severity]))
        if finding.fix:
            yield Line(Cell(f"  {finding.fix}", "dim"))
    yield from problem_blocks(document.problems)


def _machine(vm: VmFact) -> Iterator[Block]:
    detail = [f"configuration {vm.version}"] if vm.version else []
    if vm.generation:
        detail.insert(0, f"generation {vm.generation}")
    yield Heading(vm.name or vm.path, ", ".join(detail))
    rows = [("Id", Cell(vm.id) if vm.id else _NONE)]
    rows.append(("SavedState", Cell(vm.saved_state, "bad" if vm.saved_state == "yes" else "")))
    count = vm.checkpoints if vm.checkpoints is not None else len(vm.checkpoint_files)
    rows.append(("Checkpoints", Cell(str(count), "warn" if count or vm.checkpoint_files else "")))
    for disk in vm.disks:
        place = f"{disk.controller} {disk.controller_number}:{disk.location}"
        rows.append((place, Cell(disk.path if disk.found is None else f"{disk.path} ({disk.found})")))
    yield Fields(tuple(rows))


def _row(vm: VmFact, row: CrossRow) -> tuple[Cell, ...]:
    return (
        Cell(vm.name or "-"),
        Cell(row.name, "strong"),
        _ENABLED[row.host],
        Cell(row.guest_name) if row.guest_name else _NONE,
        Cell(row.guest_start) if row.guest_start else _NONE,
        Cell(row.guest_status),
        Cell(OUTCOMES[row.outcome], "good" if row.outcome == "runs" else _OUTCOME_STYLES[row.severity]),
    )
