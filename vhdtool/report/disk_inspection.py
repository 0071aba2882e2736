"""The documents about the container, built from an opened image."""

from __future__ import annotations

from typing import cast

from vhdtool.disk.audit import audit_disk
from vhdtool.disk.second_opinion import compare_with_readers
from vhdtool.disk.witness import OpinionReport
from vhdtool.errors import UsageError
from vhdtool.image import Image
from vhdtool.progress import SILENT, Progress
from vhdtool.report.document import ImageFormat, ImageType, LogState
from vhdtool.report.document_disk import (
    AuditFact,
    DiskInfoDocument,
    DiskMapDocument,
    DiskVerifyDocument,
    LayerFact,
    MapExtent,
    OpinionFact,
)
from vhdtool.report.encode import image_name
from vhdtool.report.inspection import image_fact


def disk_info_document(image: Image) -> DiskInfoDocument:
    """Build the document of ``vhdtool disk info``."""
    layers = tuple(
        LayerFact(
            path=layer.info.path,
            format=cast(ImageFormat, layer.info.format),
            type=cast(ImageType, layer.info.type),
            virtual_size=layer.info.virtual_size,
            file_size=layer.info.file_size,
            logical_sector_size=layer.info.logical_sector_size,
            physical_sector_size=layer.info.physical_sector_size,
            block_size=layer.info.block_size,
            identity=layer.info.identity,
            linkage=layer.info.linkage,
            log=cast(LogState | None, layer.info.log),
            creator=layer.info.creator,
            problems=layer.info.problems,
        )
        for layer in image.disk.layers
    )
    return DiskInfoDocument("vhdtool.disk-info/1", image_fact(image, image.disk.info.problems), layers)


def disk_map_document(image: Image, offset: int = 0, length: int | None = None) -> DiskMapDocument:
    """Build the document of ``vhdtool disk map``. Raises :class:`UsageError` ``outside-disk``."""
    size = image.disk.size
    if offset > size:
        raise UsageError("outside-disk", "the offset lies outside the disk", expected=f"at most {size}", found=offset)
    wanted = size - offset if length is None else min(length, size - offset)
    extents = tuple(
        MapExtent(extent.offset, extent.length, extent.kind, extent.layer, extent.file_offset)
        for extent in image.disk.extents(offset, wanted)
    )
    return DiskMapDocument(
        "vhdtool.disk-map/1",
        image_name(image.path),
        size,
        tuple(layer.info.path for layer in image.disk.layers),
        extents,
    )


def disk_verify_document(image: Image, progress: Progress = SILENT) -> DiskVerifyDocument:
    """Audit the structures, compare with other readers, and build the document of ``vhdtool disk verify``.

    A reader that can't open the chain for a fault of its own, and one that does not know the format (raw), do not
    count against the image. Raises what :func:`audit_disk` and :func:`compare_with_readers` raise.
    """
    audit = audit_disk(image.disk)
    opinions = compare_with_readers(image.disk, progress)
    raw = image.disk.info.format == "raw"
    content = all(one.agrees or (not one.opened and (one.known_fault is not None or raw)) for one in opinions)
    first, *further = (_opinion_fact(one) for one in opinions)
    return DiskVerifyDocument(
        "vhdtool.disk-verify/1",
        image_name(image.path),
        "ok" if audit.sound and content else "findings",
        AuditFact(audit.sound, audit.blocks, audit.tail_waste, audit.findings),
        first,
        tuple(further),
    )


def _opinion_fact(opinion: OpinionReport) -> OpinionFact:
    return OpinionFact(
        reader=opinion.reader,
        version=opinion.version,
        opened=opinion.opened,
        agrees=opinion.agrees,
        reason=opinion.reason,
        known_fault=opinion.known_fault,
        bytes_compared=opinion.bytes_compared,
        bytes_equal=opinion.bytes_equal,
        bytes_different=opinion.bytes_different,
        left_out=opinion.left_out,
        differences=opinion.differences,
    )
