"""``vhdtool diff`` for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.guest.difference import FactDifference
from vhdtool.report.blocks import Block, Cell, Heading, Line, Style, Table
from vhdtool.report.document_change import RegistryData
from vhdtool.report.document_diff import DiffDocument
from vhdtool.report.text_registry import shown_data

_STYLES: dict[str, Style] = {"added": "good", "removed": "bad", "changed": "warn"}
_LONGEST = 200


def diff_blocks(document: DiffDocument) -> Iterator[Block]:
    """Show what differs, a table for each part."""
    yield Heading(document.image.path, f"-> {document.other.path}")
    if document.same:
        yield Line(Cell("Nothing differs in what was compared.", "good"))
    for fact in document.identity:
        yield Line(Cell(_step(fact), "warn"))
    if document.services:
        yield Heading("Services")
        yield Table(
            ("Service", "Action", "Facts"),
            tuple(
                (Cell(row.name, "strong"), Cell(row.action, _STYLES[row.action]), Cell(_facts(row.facts)))
                for row in document.services
            ),
            fold=frozenset({"Facts"}),
        )
    yield from _registry_blocks(document)
    if document.files:
        yield Heading("Files")
        yield Table(
            ("Action", "Path", "Facts"),
            tuple(
                (
                    Cell(row.action, _STYLES[row.action]),
                    Cell(row.path + (f" ({row.below} files below)" if row.below else ""), "strong"),
                    Cell(_facts(row.facts)),
                )
                for row in document.files
            ),
            fold=frozenset({"Path", "Facts"}),
        )
    if document.left_out:
        yield Line(Cell(f"{document.left_out} more rows: see them with --limit", "warn"))
    for unread in document.unread:
        yield Line(Cell(f"not compared: {unread.what}: {unread.message} [{unread.code}]", "warn"))


def _registry_blocks(document: DiffDocument) -> Iterator[Block]:
    if not document.registry:
        return
    yield Heading("Registry")
    yield Table(
        ("Action", "Key", "Value", "Before", "After"),
        tuple(
            (
                Cell(row.action, _STYLES[row.action]),
                Cell(row.key + (f" ({row.below} keys and values)" if row.below else "")),
                Cell("-", "dim") if row.name is None else Cell(row.name or "(Default)", "strong"),
                Cell(_data(row.before)),
                Cell(_data(row.after)),
            )
            for row in document.registry
        ),
        fold=frozenset({"Key", "Before", "After"}),
    )


def _facts(facts: Sequence[FactDifference]) -> str:
    return "; ".join(_step(fact) for fact in facts) or "-"


def _step(fact: FactDifference) -> str:
    return f"{fact.name}: {_shown(fact.before)} -> {_shown(fact.after)}"


def _shown(value: str | int | bool | None) -> str:
    return "-" if value is None else str(value)


def _data(data: RegistryData | None) -> str:
    if data is None:
        return "-"
    shown = shown_data(data)
    return f"{data.type} {shown if len(shown) <= _LONGEST else shown[:_LONGEST] + '...'}"
