"""What is shown to people, before anybody decides how: headings, fields, tables, lines.

The renderings of the documents build these; :func:`plain` writes them for pipes and files (full width, nothing cut,
stable), :mod:`vhdtool.report.styled` for terminals.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Style = Literal["", "strong", "good", "warn", "bad", "dim"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text and what it means to the reader."""

    text: str
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part; ``detail`` follows the title on the same line."""

    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """Names with values, one a line."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows. ``right`` names the columns of numbers.

    Where a terminal is too narrow, columns of ``fold`` go on in the next line, those of ``cut`` end in an ellipsis, and
    those of ``drop`` are left out, the first named first.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[str] = frozenset()
    fold: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text."""

    cell: Cell


Block = Heading | Fields | Table | Line


def printable(text: str) -> str:
    """Make a text from an image safe to print: control and formatting characters come out as escapes.

    A file name or a registry value can hold terminal commands, line breaks and marks that turn the writing direction.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str) -> int:
    """Count the columns that a text takes on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def size(count: int) -> str:
    """Write a number of bytes for people: ``40.0 GiB``."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:.1f} {unit}"


def plain(blocks: Iterable[Block]) -> Iterator[str]:
    """Write blocks as lines of plain text (without line ends)."""
    first = True
    for block in blocks:
        if isinstance(block, Heading):
            if not first:
                yield ""
            yield printable(f"{block.title}  {block.detail}" if block.detail else block.title)
        elif isinstance(block, Fields):
            names = max((width(name) for name, _ in block.rows), default=0)
            for name, cell in block.rows:
                yield f"{name}{' ' * (names - width(name))}  {printable(cell.text)}".rstrip()
        elif isinstance(block, Table):
            yield from _plain_table(block)
        else:
            yield printable(block.cell.text)
        first = False


def _plain_table(table: Table) -> Iterator[str]:
    rows = [tuple(printable(cell.text) for cell in row) for row in table.rows]
    widths = [max(width(row[at]) for row in [table.columns, *rows]) for at in range(len(table.columns))]
    for row in [table.columns, tuple("-" * width(name) for name in table.columns), *rows]:
        yield _aligned(row, widths, table)


def _aligned(row: Sequence[str], widths: Sequence[int], table: Table) -> str:
    parts = []
    for text, wide, column in zip(row, widths, table.columns, strict=True):
        pad = " " * (wide - width(text))
        parts.append(pad + text if column in table.right else text + pad)
    return "  ".join(parts).rstrip()
