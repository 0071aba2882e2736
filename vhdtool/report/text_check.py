"""``vhdtool check`` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Style, Table
from vhdtool.report.document_check import CheckCountsFact, CheckDocument, CheckResultFact
from vhdtool.report.text_guest import SEVERITY_STYLES


def check_blocks(document: CheckDocument) -> Iterator[Block]:
    """Show what failed, how to mend it, and in a line each what did not."""
    yield Heading(document.image.path, _summary(document.counts))
    failed = [one for one in document.results if one.outcome == "fail"]
    if failed:
        yield Table(("Severity", "Check", "Found"), tuple(_row(one) for one in failed), fold=frozenset({"Found"}))
    yield from _fixes([one for one in failed if one.waived is None])
    codes = [*_codes("Passed", document, "pass", "good"), *_codes("Not applicable", document, "not-applicable", "dim")]
    if codes:
        yield from (Line(Cell("")), Fields(tuple(codes)))
    for waiver in document.policy.waivers:
        if waiver.expired:
            text = f"The waiver of {waiver.code} expired on {waiver.expires} and does not count: {waiver.reason}"
            yield Line(Cell(text, "warn"))
    threshold = document.policy.fail_on
    if document.passed:
        below = f", none of {threshold} severity or worse" if document.counts.failed and threshold != "never" else ""
        yield Line(Cell(f"Passed{below}.", "good"))
    else:
        yield Line(Cell(f"Failed: {_number(document.counts.counting)} of {threshold} severity or worse.", "bad"))


def _summary(counts: CheckCountsFact) -> str:
    parts = [
        f"{count} {name}"
        for count, name in (
            (counts.failed, "failed"),
            (counts.waived, "waived"),
            (counts.passed, "passed"),
            (counts.not_applicable, "not applicable"),
        )
        if count or name == "failed"
    ]
    return ", ".join(parts)


def _row(one: CheckResultFact) -> tuple[Cell, ...]:
    style: Style = SEVERITY_STYLES[one.severity]
    if one.waived is not None:
        waived = f"{one.message} Waived until {one.waived.expires}: {one.waived.reason}"
        return Cell("waived", "dim"), Cell(one.code, "dim"), Cell(waived, "dim")
    return Cell(one.severity, style), Cell(one.code, "strong"), Cell(one.message)


def _fixes(failed: Sequence[CheckResultFact]) -> Iterator[Block]:
    """Each way out once, beside the checks that it is for."""
    ways: dict[str, dict[str, list[str]]] = {}
    for one in failed:
        if one.fix:
            ways.setdefault(one.fix, {}).setdefault(one.code, []).extend([one.subject] if one.subject else [])
    if ways:
        yield Line(Cell(""))
        rows = tuple((Cell(_names(codes)), Cell(fix)) for fix, codes in ways.items())
        yield Table(("For", "How to mend it"), rows, fold=frozenset({"For", "How to mend it"}))


def _names(codes: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(" ".join((code, ", ".join(dict.fromkeys(subjects)))).strip() for code, subjects in codes.items())


def _codes(title: str, document: CheckDocument, outcome: str, style: Style) -> Iterator[tuple[str, Cell]]:
    failed = {one.code for one in document.results if one.outcome == "fail"}
    codes = dict.fromkeys(one.code for one in document.results if one.outcome == outcome and one.code not in failed)
    if codes:
        yield (title, Cell(", ".join(codes), style))


def _number(count: int) -> str:
    return "one failure" if count == 1 else f"{count} failures"
