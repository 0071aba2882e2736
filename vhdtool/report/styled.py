"""Blocks on a terminal, drawn by rich. Imported only when a table goes to a terminal or colours were asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from vhdtool.report.blocks import Block, Cell, Fields, Heading, Style, Table, printable, width

_INDENT, _GAP, _LEAST = 2, 2, 10
"""Columns before a table, between its columns, and that a column which may be cut keeps at least."""

_STYLES: dict[Style, str] = {
    "": "",
    "strong": "bold",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "dim": "dim",
}


def draw(blocks: Iterable[Block], file: TextIO, *, color: bool, columns: int | None) -> None:
    """Write blocks to ``file``; ``columns`` is its width, ``None`` for that of the terminal."""
    console = Console(
        file=file,
        force_terminal=True,
        color_system="standard" if color else None,
        no_color=not color,
        width=columns,
        highlight=False,
        emoji=False,
        markup=False,
    )
    first = True
    for block in blocks:
        if isinstance(block, Heading):
            if not first:
                console.print()
            console.print(_heading(block, color=color), soft_wrap=True)
        elif isinstance(block, Fields):
            console.print(Padding(_fields(block, color=color), (0, 0, 0, _INDENT)))
        elif isinstance(block, Table):
            room = console.width - _INDENT
            fitted = _fitted(block, room)
            console.print(Padding(_table(fitted, room, color=color), (0, 0, 0, _INDENT)))
            left_out = [name for name in block.columns if name not in fitted.columns]
            if left_out:
                told = Cell(f"Left out, the terminal is too narrow: {', '.join(left_out)}", "dim")
                console.print(Padding(_text(told, color=color), (0, 0, 0, _INDENT)))
        else:
            console.print(_text(block.cell, color=color), soft_wrap=True)
        first = False


def _text(cell: Cell, *, color: bool) -> Text:
    return Text(printable(cell.text), style=_STYLES[cell.style] if color else "")


def _heading(block: Heading, *, color: bool) -> Text:
    text = Text(printable(block.title), style="bold" if color else "")
    if block.detail:
        text.append("  " + printable(block.detail), style="not bold dim" if color else "")
    return text


def _fields(block: Fields, *, color: bool) -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="dim" if color else "", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, cell in block.rows:
        grid.add_row(name, _text(cell, color=color))
    return grid


def _table(block: Table, room: int, *, color: bool) -> RichTable:
    table = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold" if color else "")
    widths = _widths(block, room)
    for at, name in enumerate(block.columns):
        kept = widths is not None and name not in block.fold
        table.add_column(
            name,
            justify="right" if name in block.right else "left",
            overflow="ellipsis" if kept else "fold",
            no_wrap=kept,
            min_width=widths[at] if widths is not None and kept else None,
            max_width=widths[at] if widths is not None and kept else None,
        )
    for row in block.rows:
        table.add_row(*(_text(cell, color=color) for cell in row))
    return table


def _fitted(block: Table, room: int) -> Table:
    """Leave out as many of the columns that may go as it takes."""
    for name in block.drop:
        if _widths(block, room) is not None:
            break
        gone = block.columns.index(name)
        block = replace(
            block,
            columns=tuple(column for column in block.columns if column != name),
            rows=tuple((*row[:gone], *row[gone + 1 :]) for row in block.rows),
        )
    return block


def _widths(block: Table, room: int) -> list[int] | None:
    """The columns' widths where they fit after the ``cut`` ones gave way; ``None`` where cells must be folded."""
    widths = [
        max(width(printable(text)) for text in (name, *(row[at].text for row in block.rows)))
        for at, name in enumerate(block.columns)
    ]
    least = [
        min(wide, _LEAST) if name in block.cut | block.fold else wide
        for name, wide in zip(block.columns, widths, strict=True)
    ]
    room -= _GAP * (len(widths) - 1)
    if sum(least) > room:
        return None
    for at, name in enumerate(block.columns):
        if name in block.cut:
            others = sum(widths) - widths[at]
            widths[at] = max(least[at], min(widths[at], room - others))
    return widths
