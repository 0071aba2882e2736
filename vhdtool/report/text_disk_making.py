"""``disk create``, ``disk convert`` and ``disk merge`` for people."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.report.blocks import Block, Cell, Line, size
from vhdtool.report.document_disk import DiskConvertDocument, DiskCreateDocument, DiskMergeDocument
from vhdtool.report.text_change import receipt_blocks


def disk_create_blocks(document: DiskCreateDocument) -> Iterator[Block]:
    """Show what was made."""
    image = document.image
    kind = image.format if image.format == "raw" else f"{image.format.upper()} {image.type}"
    parent = f" over {image.parents[0]}" if image.parents else ""
    yield Line(
        Cell(
            f"{image.path}: {kind}, {size(image.virtual_size)}{parent}; the file has {size(document.file_size)}", "good"
        )
    )
    for note in document.notes:
        yield Line(Cell(f"note: {note}", "warn"))


def disk_convert_blocks(document: DiskConvertDocument) -> Iterator[Block]:
    """Show what was written."""
    kind = document.format if document.format == "raw" else f"{document.format.upper()} {document.type}"
    written = f"{size(document.virtual_size)}, of which {size(document.data_bytes)} written"
    yield Line(Cell(f"{document.output}: {kind}, {written}", "good"))


def disk_merge_blocks(document: DiskMergeDocument) -> Iterator[Block]:
    """Show what went, or would go, into the parent."""
    what = f"{size(document.merged_bytes)} of {document.image.path}"
    if document.receipt is not None:
        yield Line(Cell(f"{what} are now in {document.parent}", "good"))
        yield from receipt_blocks(document.receipt)
    elif not document.would_change:
        yield Line(Cell(f"Nothing to do: {document.parent} holds everything that {document.image.path} holds.", "good"))
    else:
        yield Line(Cell(f"{what} would go into {document.parent}."))
        yield Line(Cell("Nothing was written. To write it, add: --in-place.", "warn"))
    for note in document.notes:
        yield Line(Cell(f"note: {note}", "warn"))
