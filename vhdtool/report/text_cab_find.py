"""``vhdtool cab find`` for people."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.report.blocks import Block, Cell, Heading, Line, Table
from vhdtool.report.document_cab_find import CabFindDocument, FoundPackageFact

_NONE = Cell("-", "dim")


def cab_find_blocks(document: CabFindDocument) -> Iterator[Block]:
    """Show the packages, those that fit first, and what these would change."""
    fitting = [package for package in document.packages if package.fits]
    yield Heading(document.image.path, f"{len(fitting)} of {len(document.packages)} packages fit")
    if document.packages:
        yield Table(
            ("Fits", "Package", "Version", "Architecture", "Why", "File"),
            tuple(
                (
                    Cell("yes", "good") if one.fits else Cell(_no(one), "dim"),
                    Cell(one.kb or one.name, "strong" if one.fits else ""),
                    Cell(one.version),
                    Cell(one.architecture),
                    Cell(one.current_message if one.current else one.message),
                    Cell(one.path),
                )
                for one in document.packages
            ),
            fold=frozenset({"Why", "File"}),
        )
    for package in fitting:
        yield from difference_blocks(package)
    for skipped in document.skipped:
        yield Line(Cell(f"{skipped.path}: {skipped.message} [{skipped.code}]", "dim"))


def _no(package: FoundPackageFact) -> str:
    return "current" if package.current else "no" if package.applies == "no" else "unknown"


def compared_blocks(package: FoundPackageFact) -> Iterator[Block]:
    """Show whether one package fits a guest, why, and what it would change there."""
    answer = Cell("It fits", "good") if package.fits else Cell(f"It does not fit ({_no(package)})", "warn")
    yield Line(answer)
    yield Line(Cell(package.message))
    yield Line(Cell(package.current_message))
    yield from difference_blocks(package)


def difference_blocks(package: FoundPackageFact) -> Iterator[Block]:
    """Show what one package would change in a guest."""
    yield Heading("It would change", package.path)
    rows = [("driver", one.inf, one.installed, one.brought) for one in package.drivers]
    rows += [("service", one.name, one.installed, one.brought) for one in package.services]
    if not rows:
        yield Line(Cell("no driver's version and no service's start", "dim"))
        return
    yield Table(
        ("Kind", "Name", "Now", "Then"),
        tuple(
            (Cell(kind), Cell(name, "strong"), Cell(now) if now else _NONE, Cell(then) if then else _NONE)
            for kind, name, now, then in rows
        ),
    )
