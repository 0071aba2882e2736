"""``disk info``, ``map``, ``verify`` and ``convert``, ``ls`` and ``extract`` for people."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Table, size
from vhdtool.report.document import ExtractDocument, LsDocument
from vhdtool.report.document_disk import (
    DiskInfoDocument,
    DiskMapDocument,
    DiskVerifyDocument,
    LayerFact,
    OpinionFact,
)
from vhdtool.report.text_guest import SEVERITY_STYLES, problem_blocks


def disk_info_blocks(document: DiskInfoDocument) -> Iterator[Block]:
    """Show each file of the chain."""
    for number, layer in enumerate(document.layers):
        yield Heading(layer.path, f"parent {number}" if number else "")
        yield Fields(tuple(_layer_fields(layer)))
    yield from problem_blocks(document.image.problems)


def _layer_fields(layer: LayerFact) -> Iterator[tuple[str, Cell]]:
    yield ("Format", Cell(layer.format))
    yield ("Type", Cell(layer.type))
    yield ("Virtual size", Cell(f"{size(layer.virtual_size)} ({layer.virtual_size} bytes)"))
    yield ("File size", Cell(f"{size(layer.file_size)} ({layer.file_size} bytes)"))
    yield ("Sector size", Cell(f"{layer.logical_sector_size} logical, {layer.physical_sector_size} physical"))
    if layer.block_size:
        yield ("Block size", Cell(size(layer.block_size)))
    if layer.log:
        yield ("Log", Cell("replayed in memory", "warn") if layer.log == "replayed" else Cell(layer.log))
    if layer.identity:
        yield ("Identity", Cell(layer.identity))
    if layer.linkage:
        yield ("Parent identity", Cell(", ".join(layer.linkage)))
    if layer.creator:
        yield ("Creator", Cell(layer.creator))


def disk_map_blocks(document: DiskMapDocument) -> Iterator[Block]:
    """Show which virtual ranges lie where."""
    yield Heading("Files")
    yield Fields(tuple((str(number), Cell(path)) for number, path in enumerate(document.files)))
    yield Heading("Ranges", "in bytes")
    yield Table(
        ("Offset", "Length", "Kind", "File", "FileOffset"),
        tuple(
            (
                Cell(str(extent.offset)),
                Cell(str(extent.length)),
                Cell(extent.kind, "" if extent.kind == "data" else "dim"),
                Cell("-" if extent.layer is None else str(extent.layer)),
                Cell("-" if extent.file_offset is None else str(extent.file_offset)),
            )
            for extent in document.extents
        ),
        right=frozenset({"Offset", "Length", "File", "FileOffset"}),
    )


def disk_verify_blocks(document: DiskVerifyDocument) -> Iterator[Block]:
    """Show what the audit found and what the other reader says."""
    audit = document.audit
    yield Heading("Structures", document.image.path)
    yield Fields(
        (
            ("Blocks", Cell(str(audit.blocks))),
            ("Space not used by anything", Cell(size(audit.tail_waste))),
            ("Verdict", Cell("sound", "good") if audit.sound else Cell("findings, see below", "bad")),
        )
    )
    for finding in audit.findings:
        place = "" if finding.offset is None else f" (at offset {finding.offset:#x})"
        yield Line(
            Cell(
                f"{finding.severity}: {finding.path}: {finding.message}{place} [{finding.code}]",
                SEVERITY_STYLES[finding.severity],
            )
        )
    for opinion in (document.second_opinion, *document.further_opinions):
        yield Heading("Second opinion", f"{opinion.reader} {opinion.version}")
        yield Fields(tuple(_opinion_fields(opinion)))


def _opinion_fields(opinion: OpinionFact) -> Iterator[tuple[str, Cell]]:
    if opinion.opened:
        yield ("Compared", Cell(f"{opinion.bytes_compared} bytes"))
        yield ("Equal", Cell(f"{opinion.bytes_equal} bytes", "good" if opinion.agrees else ""))
        if opinion.bytes_different:
            yield ("Different", Cell(f"{opinion.bytes_different} bytes", "bad"))
    else:
        yield ("Not opened", Cell(opinion.reason or "", "warn"))
    if opinion.known_fault:
        yield ("Its own fault", Cell(opinion.known_fault))
    for left_out in opinion.left_out:
        yield ("Left out", Cell(f"{left_out.bytes} bytes: {left_out.summary} [{left_out.fault}]"))
    for difference in opinion.differences:
        why = f": {difference.reason}" if difference.reason else ""
        yield ("Differs", Cell(f"{difference.length} bytes at offset {difference.offset:#x}{why}", "bad"))


def ls_blocks(document: LsDocument) -> Iterator[Block]:
    """Show a directory."""
    yield Table(
        ("Modified", "Kind", "Size", "Name"),
        tuple(
            (
                Cell(entry.modified or "-", "dim"),
                Cell(entry.kind + (f" ({entry.storage})" if entry.storage else "")),
                Cell(str(entry.size)),
                Cell(entry.name + (f" -> {entry.link_target}" if entry.link_target else ""), "strong"),
            )
            for entry in document.entries
        ),
        right=frozenset({"Size"}),
        fold=frozenset({"Name", "File"}),
    )


def extract_blocks(document: ExtractDocument) -> Iterator[Block]:
    """Show what was saved, and what was not."""
    yield Table(
        ("Size", "SHA-256", "File"),
        tuple((Cell(str(file.size)), Cell(file.sha256, "dim"), Cell(file.saved_as)) for file in document.files),
        right=frozenset({"Size"}),
        fold=frozenset({"Name", "File"}),
    )
    for skipped in document.skipped:
        yield Line(Cell(f"not saved: {skipped.path}: {skipped.message} [{skipped.code}]", "warn"))
