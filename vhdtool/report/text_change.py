"""Plans and receipts for people: what changes, from what to what, and how to go back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.guest.service_change import ServiceRow, StartState
from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Table, size
from vhdtool.report.document_change import (
    BootReadyFact,
    ChangeDocument,
    FileChangeFact,
    ReceiptFact,
    RecoverDocument,
    RegistryChangeFact,
    RegistryData,
)
from vhdtool.report.text_registry import shown_data

_NONE = Cell("-", "dim")
_ACTIONS = {"put": "put", "make-directory": "make directory", "remove": "remove"}


def change_blocks(document: ChangeDocument) -> Iterator[Block]:
    """Show what changes, and what was written or how to have it written."""
    if document.services is not None:
        yield Heading("Services")
        yield _service_table(document.services)
    if document.boot is not None:
        yield from _boot_blocks(document.boot)
    if document.registry:
        yield Heading("Registry")
        yield _registry_table(document.registry)
    if document.files:
        yield Heading("Files")
        yield _file_table(document.files)
    if document.receipt is not None:
        yield from receipt_blocks(document.receipt)
    else:
        yield Line(_nothing_written(document))


def _nothing_written(document: ChangeDocument) -> Cell:
    if document.would_change:
        fix = "--fix and " if document.boot is not None else ""
        return Cell(f"Nothing was written. To write it, add {fix}--child PATH, --output PATH or --in-place.", "warn")
    if document.boot is not None and set(document.boot.generations) - set(document.boot.ready_for):
        return Cell("Registry values alone can't make it ready: see the problems above.", "bad")
    return Cell("Nothing to do: it is so already.", "good")


def _service_table(services: Sequence[ServiceRow]) -> Table:
    return Table(
        ("Name", "DisplayName", "Start", "Effective", "Note"),
        tuple(
            (
                Cell(service.name, "strong" if service.changes else ""),
                Cell(service.display_name) if service.display_name else _NONE,
                _step(_start(service.before), _start(service.after)),
                _step(service.before.effective, service.after.effective),
                Cell("; ".join(service.notes)) if service.notes else _NONE,
            )
            for service in services
        ),
        cut=frozenset({"DisplayName"}),
        fold=frozenset({"Note"}),
        drop=("DisplayName",),
    )


def _start(state: StartState) -> str | None:
    """As ``services list`` shows it."""
    if state.start is None:
        return None
    return state.start + (" (delayed)" if state.delayed else " (trigger)" if state.triggers else "")


def _boot_blocks(boot: BootReadyFact) -> Iterator[Block]:
    yield Heading("Boot on Hyper-V")
    yield Fields(
        tuple(
            (
                f"Generation {generation}",
                Cell("ready", "good")
                if generation in boot.ready_for
                else Cell("not ready; the changes below make it so", "warn")
                if generation in boot.ready_after
                else Cell("not ready", "bad"),
            )
            for generation in boot.generations
        )
    )
    yield Table(
        ("Driver", "Start", "Override", "Effective", "File", "Needed for", "Problem"),
        tuple(
            (
                Cell(driver.name, "strong"),
                Cell(driver.start) if driver.start else _NONE,
                Cell(str(driver.override)) if driver.override is not None else _NONE,
                Cell(driver.effective) if driver.effective else _NONE,
                Cell({True: "present", False: "missing", None: "-"}[driver.file_present]),
                Cell(", ".join(f"generation {number}" for number in driver.generations) or "-"),
                Cell("; ".join(driver.problems), "" if driver.ok else "bad") if driver.problems else _NONE,
            )
            for driver in boot.drivers
        ),
        fold=frozenset({"Problem"}),
    )


def _step(before: str | None, after: str | None) -> Cell:
    if before == after:
        return Cell(after or "-", "dim")
    return Cell(f"{before or '-'} -> {after or '-'}", "good")


def _registry_table(changes: Sequence[RegistryChangeFact]) -> Table:
    return Table(
        ("Action", "Key", "Value", "Before", "After"),
        tuple(
            (
                Cell(change.action if change.changes else f"{change.action} (is so)", "" if change.changes else "dim"),
                Cell(change.key + (f" ({change.below} keys and values)" if change.below else "")),
                Cell(change.name or "(Default)") if change.name is not None else _NONE,
                _data(change.before),
                _data(change.after),
            )
            for change in changes
        ),
        fold=frozenset({"Key", "Before", "After"}),
    )


def _data(data: RegistryData | None) -> Cell:
    if data is None:
        return _NONE
    shown = shown_data(data)
    return Cell(f"{data.type} {shown if len(shown) <= 200 else shown[:200] + '...'}")


def _file_table(changes: Sequence[FileChangeFact]) -> Table:
    return Table(
        ("Action", "Path", "Before", "After", "Source"),
        tuple(
            (
                Cell(_ACTIONS[change.action] + ("" if change.changes else " (is so)"), "" if change.changes else "dim"),
                Cell(change.path, "strong" if change.changes else ""),
                Cell(size(change.size_before)) if change.size_before is not None else _NONE,
                Cell(size(change.size)) if change.size is not None else _NONE,
                Cell(change.source) if change.source else _NONE,
            )
            for change in changes
        ),
        right=frozenset({"Before", "After"}),
        fold=frozenset({"Path", "Source"}),
    )


def receipt_blocks(receipt: ReceiptFact) -> Iterator[Block]:
    """Show what was written, who confirmed it, and the way back."""
    yield Heading("Written", receipt.path)
    yield Fields(tuple(_receipt_fields(receipt)))
    yield Heading("Confirmed by")
    yield Table(
        ("Reader", "Read", "Confirmed", "Not asked, for its own faults"),
        tuple(
            (
                Cell(f"{reader.reader} {reader.version}".rstrip()),
                Cell(reader.subject),
                Cell(str(reader.confirmed)),
                Cell(", ".join(reader.left_out)) if reader.left_out else _NONE,
            )
            for reader in receipt.confirmed_by
        ),
        right=frozenset({"Confirmed"}),
        fold=frozenset({"Not asked, for its own faults"}),
    )
    for note in receipt.notes:
        yield Line(Cell(f"note: {note}", "warn"))


def _receipt_fields(receipt: ReceiptFact) -> Iterator[tuple[str, Cell]]:
    yield ("Target", Cell(receipt.target))
    yield ("Blocks", Cell(str(receipt.blocks)))
    yield ("Bytes written", Cell(f"{size(receipt.bytes_written)} ({receipt.bytes_written} bytes)"))
    if receipt.file_size_before is None:
        yield ("File size", Cell(size(receipt.file_size)))
    else:
        yield ("File size", Cell(f"{size(receipt.file_size_before)} -> {size(receipt.file_size)}"))
    yield (
        "Changed",
        Cell(f"{receipt.changed_bytes} bytes of the disk; {receipt.sampled_bytes} unchanged ones compared"),
    )
    if receipt.unconfirmed:
        yield ("Unconfirmed", Cell(f"{receipt.unconfirmed} bytes, by --single-opinion", "bad"))
    if receipt.writers:
        yield ("Files written by", Cell(", ".join(receipt.writers)))
    yield ("Undo", Cell(receipt.undo, "strong"))


def recover_blocks(document: RecoverDocument) -> Iterator[Block]:
    """Show what was done to bring an image to rest."""
    if not document.steps:
        yield Line(Cell(f"{document.image.path}: nothing to recover", "good"))
    for step in document.steps:
        yield Line(Cell(f"{document.image.path}: {step.action}, {size(step.bytes_written)} written", "good"))
        for note in step.notes:
            yield Line(Cell(f"note: {note}", "warn"))
    for note in document.notes:
        yield Line(Cell(f"note: {note}", "warn"))
