"""``cab show``, ``cab verify`` and ``cab extract`` for people."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Style, Table, size
from vhdtool.report.document_cab import (
    CabExtractDocument,
    CabShowDocument,
    CabVerifyDocument,
    LayerFact,
    PackageFact,
    PackageServiceFact,
    VerifiedPackageFact,
)
from vhdtool.report.text_cab_find import compared_blocks
from vhdtool.report.text_guest import problem_blocks

_NONE = Cell("-", "dim")
_STATES: dict[str, Style] = {"valid": "good", "weak": "warn", "invalid": "bad", "missing": "bad", "unknown": "warn"}


def show_blocks(document: CabShowDocument) -> Iterator[Block]:
    """Show each package: what it is, what it needs, what it brings."""
    for package in document.packages:
        yield from _package_blocks(package)
    if document.guest_image is not None:
        for compared in document.compared or ():
            yield Heading(f"In {document.guest_image.path}", compared.kb or compared.name)
            yield from compared_blocks(compared)


def _package_blocks(package: PackageFact) -> Iterator[Block]:
    yield Heading(package.kb or package.name, package.description or "")
    yield Fields(tuple(_package_fields(package)))
    for rule in package.parents:
        compare = ", ".join(f"{name} {value}" for name, value in rule.compare.items())
        yield Heading("Needs one of", compare)
        for alternative in rule.alternatives:
            yield Line(Cell(alternative))
    if package.drivers:
        yield Heading("Drivers")
        yield Table(
            ("Inf", "Version", "Date", "Class", "Provider"),
            tuple(
                (
                    Cell(driver.inf, "strong"),
                    Cell(driver.version or "-"),
                    Cell(driver.released or "-", "dim"),
                    Cell(driver.driver_class or "-"),
                    Cell(driver.provider or "-"),
                )
                for driver in package.drivers
            ),
            drop=("Provider", "Class"),
        )
    if package.services:
        yield Heading("Services")
        yield Table(
            ("Name", "Start", "Trigger", "Type", "From", "On"),
            tuple(_service_row(service) for service in package.services),
            drop=("Type",),
        )
    total = sum(file.size or 0 for file in package.files)
    yield Heading("Files", f"{len(package.files)}, {size(total)}; --json lists them with their digests")
    yield from problem_blocks(package.problems)


def _package_fields(package: PackageFact) -> Iterator[tuple[str, Cell]]:
    yield ("Package", Cell(package.name, "strong"))
    yield ("Version", Cell(package.version))
    if package.integration_version:
        yield ("IntegrationServicesVersion", Cell(package.integration_version, "strong"))
    yield ("Architecture", Cell(package.architecture))
    if package.release_type:
        yield ("Release type", Cell(package.release_type))
    if package.restart:
        yield ("Restart", Cell(package.restart))
    yield ("File", Cell(package.path, "dim"))


def _service_row(service: PackageServiceFact) -> tuple[Cell, ...]:
    return (
        Cell(service.name, "strong"),
        Cell((service.start or "-") + (" (delayed)" if service.delayed else "")),
        Cell("yes" if service.triggers else "no", "" if service.triggers else "dim"),
        Cell(service.type or "-"),
        Cell(service.source),
        Cell(", ".join(service.releases)) if service.releases else _NONE,
    )


def verify_blocks(document: CabVerifyDocument) -> Iterator[Block]:
    """Show each layer and what is wrong in it."""
    for package in (*([document.wrapper] if document.wrapper else []), *document.packages):
        yield from _verified_blocks(package)
    yield Line(Cell("Trusted", "good") if document.trusted else Cell("NOT trusted", "bad"))


def _verified_blocks(package: VerifiedPackageFact) -> Iterator[Block]:
    yield Heading(package.path)
    yield Table(
        ("Layer", "State", "Checked", "What"),
        tuple(
            (
                Cell(layer.name, "strong"),
                Cell(layer.state, _STATES[layer.state]),
                Cell(str(layer.checked)),
                Cell(layer.message),
            )
            for layer in package.layers
        ),
        right=frozenset({"Checked"}),
        fold=frozenset({"What"}),
    )
    for layer in package.layers:
        yield from _layer_lines(layer)


def _layer_lines(layer: LayerFact) -> Iterator[Block]:
    for signature in layer.signatures:
        when = f", signed {signature.signed_at}" if signature.signed_at else ""
        root = f", root {signature.root}" if signature.root else ", no trusted root"
        text = f"{layer.name}, {signature.place}: {signature.digest} by {signature.signer or '?'}{when}{root}"
        yield Line(Cell(text, "dim" if signature.state in {"valid", "weak"} else "bad"))
    for problem in layer.problems:
        place = f"{problem.path}: " if problem.path else ""
        yield Line(Cell(f"[{problem.code}] {place}{problem.message}", "bad"))
    for note in layer.notes:
        place = f"{note.path}: " if note.path else ""
        yield Line(Cell(f"note: {place}{note.message} [{note.code}]", "dim"))


def extract_blocks(document: CabExtractDocument) -> Iterator[Block]:
    """Show what was saved."""
    yield Table(
        ("Size", "SHA-256", "File"),
        tuple((Cell(str(file.size)), Cell(file.sha256, "dim"), Cell(file.saved_as)) for file in document.files),
        right=frozenset({"Size"}),
        fold=frozenset({"File"}),
    )
    for skipped in document.skipped:
        yield Line(Cell(f"not saved: {skipped.path}: {skipped.message} [{skipped.code}]", "warn"))
