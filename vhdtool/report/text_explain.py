"""``vhdtool explain`` for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from vhdtool.report.blocks import Block, Cell, Heading, Line, Table
from vhdtool.report.document_check import ExplainDocument, ExplanationFact

WIDTH = 78
_KINDS = {
    "check": "a check of vhdtool check",
    "finding": "a finding of vhdtool inspect",
    "obstacle": "an obstacle of vhdtool advise",
    "disk-finding": "a finding of vhdtool disk verify",
    "problem": "a problem that reading survived",
    "error": "an error",
}


def explain_blocks(document: ExplainDocument) -> Iterator[Block]:
    """Show what each code means, why it matters, and how to mend it."""
    for one in document.explanations:
        yield from _explanation(one)


def code_table_blocks(document: ExplainDocument) -> Iterator[Block]:
    """Show every code with what it says, in a line."""
    rows = tuple((Cell(one.code, "strong"), Cell(one.kind), Cell(one.what)) for one in document.explanations)
    yield Table(("Code", "Kind", "What"), rows, cut=frozenset({"What"}))


def _explanation(one: ExplanationFact) -> Iterator[Block]:
    detail = _KINDS[one.kind]
    if one.kind == "finding" and one.code == "vm-disk-not-attached":
        detail = "a finding of vhdtool crosscheck"
    if one.severity is not None:
        detail += f", severity {one.severity}"
    if one.exit_code is not None:
        detail += f", exit code {one.exit_code}"
    yield Heading(one.code, detail)
    yield from _paragraph(one.what)
    for title, text in (("Why", one.why), ("To mend it", one.fix)):
        if text:
            yield Line(Cell(""))
            yield Line(Cell(title, "strong"))
            yield from _paragraph(text)
    if one.parameters:
        yield Line(Cell(""))
        yield Line(Cell("In a policy", "strong"))
        yield Line(Cell(f"  [checks.{one.code}]"))
        for parameter in one.parameters:
            yield from _paragraph(parameter, hanging="  ")


def _paragraph(text: str, hanging: str = "") -> Iterator[Block]:
    for line in textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=f"  {hanging}"):
        yield Line(Cell(line))
