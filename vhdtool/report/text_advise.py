"""``vhdtool advise`` for people."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Table
from vhdtool.report.document_advise import AdviseDocument, CellFact, MatrixRowFact, UpdateMatrixDocument
from vhdtool.report.text_guest import SEVERITY_STYLES


def advise_blocks(document: AdviseDocument) -> Iterator[Block]:
    """Show the answer, what to do, what stands in the way, and what each revision of the pages says."""
    where = "" if document.image is None else document.image.path
    yield Heading(f"{document.guest} on {document.host}", where)
    yield Fields(tuple(_fields(document)))
    yield Heading("What to do")
    for number, step in enumerate(document.steps, 1):
        yield Line(Cell(f"{number}. {step.text}"))
        if step.command is not None:
            yield Line(Cell(f"     {step.command}", "strong"))
    if document.obstacles:
        yield Heading("What stands in the way")
    for obstacle in document.obstacles:
        of = f" of {', '.join(obstacle.blocks)}" if obstacle.blocks else ""
        yield Line(
            Cell(f"{obstacle.severity}{of}: {obstacle.message} [{obstacle.code}]", SEVERITY_STYLES[obstacle.severity])
        )
        if obstacle.fix:
            yield Line(Cell(f"  fix: {obstacle.fix}", "dim"))
    if document.image is not None and not document.obstacles:
        yield Line(Cell("Nothing stands in the way.", "good"))
    if document.cells:
        yield Heading("What the pages say")
        yield Table(
            ("Used", "Revision", "Hosts", "Guest", "Mechanism", "Note"),
            tuple(_cell(cell) for cell in document.cells),
            fold=frozenset({"Hosts", "Note"}),
        )


def _fields(document: AdviseDocument) -> Iterator[tuple[str, Cell]]:
    if document.mechanism_name is None:
        yield ("Mechanism", Cell("none: the pages do not have this guest on this host", "warn"))
    else:
        yield ("Mechanism", Cell(document.mechanism_name, "strong"))
    used = next((cell for cell in document.cells if cell.used), None)
    if used is not None:
        if used.note and not used.excluded:
            yield ("Note", Cell(" ".join(filter(None, (used.note, used.footnote)))))
        yield ("According to", Cell(used.source))
    found = document.found
    if found is not None:
        parts = [part for part in (found.product, found.version, found.architecture) if part]
        yield ("Guest", Cell(", ".join(parts) or document.guest))
        yield (
            "IntegrationServicesVersion",
            Cell(found.integration_services) if found.integration_services else Cell("unknown", "warn"),
        )
    if document.newest is not None:
        yield ("Newest", Cell(document.newest.version or document.newest.note))


def _cell(cell: CellFact) -> tuple[Cell, ...]:
    return (
        Cell("yes", "good") if cell.used else Cell("-", "dim"),
        Cell(cell.revision),
        Cell(cell.hosts),
        Cell(cell.guest),
        Cell("not on this host" if cell.excluded else cell.mechanism_name, "warn" if cell.excluded else ""),
        Cell(cell.note, "dim"),
    )


def matrix_blocks(document: UpdateMatrixDocument) -> Iterator[Block]:
    """Show the tables."""
    for table in document.tables:
        yield Heading(f"Virtual machines on {', '.join(table.hosts)}", table.page)
        several = len(table.revisions) > 1
        columns = ("Guest", "Update mechanism", "Note", *(("Revision",) if several else ()))
        yield Table(
            columns,
            tuple(_row(row, [one.id for one in table.revisions], several=several) for row in table.rows),
            fold=frozenset({"Note"}),
        )
        for one in table.revisions:
            yield Line(Cell(f"  {one.id}: {one.hosts}. {one.source}", "dim"))
    if document.footnotes:
        yield Heading("Footnotes")
    for note in document.footnotes:
        yield Line(Cell(f"{note.mark} {note.text} {note.link}"))


def _row(row: MatrixRowFact, every: list[str], *, several: bool) -> tuple[Cell, ...]:
    note = row.note + (f" {row.footnote}" if row.footnote else "")
    if row.hosts is not None:
        note = f"{note} Only on {', '.join(row.hosts)}.".strip()
    cells = (Cell(row.guest, "strong"), Cell(row.mechanism_name), Cell(note))
    if not several:
        return cells
    if list(row.revisions) == every:
        return (*cells, Cell("all", "dim"))
    latest = every[-1] in row.revisions
    return (*cells, Cell(", ".join(row.revisions) + (", used" if latest else ""), "" if latest else "dim"))
