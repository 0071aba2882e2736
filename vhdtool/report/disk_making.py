"""``disk create``, ``disk convert`` and ``disk merge``: new containers, and a child brought into its parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from vhdtool.disk.commit import Target
from vhdtool.disk.committing import OpinionOptions
from vhdtool.disk.convert import convert_image
from vhdtool.disk.create_image import create_image
from vhdtool.disk.image_shape import format_of_name
from vhdtool.disk.merge import merge_child
from vhdtool.errors import UsageError
from vhdtool.image import Image, open_image
from vhdtool.progress import SILENT, Progress
from vhdtool.report.change import commit_fact
from vhdtool.report.document import ImageFormat
from vhdtool.report.document_disk import DiskConvertDocument, DiskCreateDocument, DiskMergeDocument
from vhdtool.report.encode import image_name
from vhdtool.report.inspection import image_fact

Kind = Literal["fixed", "dynamic"]


@dataclass(frozen=True, slots=True)
class NewDisk:
    """What ``disk create`` was asked for; sizes in bytes, ``None`` where it was not said."""

    path: str
    size: int | None
    format: str | None
    kind: str | None
    block_size: int | None
    sector_size: int | None
    parent: str | None
    parent_windows_path: str | None


def disk_create_document(wanted: NewDisk) -> DiskCreateDocument:
    """Make a new image. Raises :class:`UsageError` ``disk-create`` and what :func:`create_image` raises."""
    form = _format(wanted.format, wanted.path)
    if wanted.parent is None and wanted.size is None:
        raise UsageError("disk-create", "a new disk needs a size", hint="As in --size 40G, or --parent IMAGE.")
    if wanted.parent is not None and wanted.kind is not None:
        raise UsageError("disk-create", "an image with a parent is differencing", hint="Leave --type out.")
    written = create_image(
        wanted.path,
        format=form,
        kind="differencing" if wanted.parent is not None else _kind(wanted.kind, form),
        virtual_size=wanted.size,
        block_size=wanted.block_size,
        logical_sector_size=wanted.sector_size,
        parent=wanted.parent,
        parent_windows_path=wanted.parent_windows_path,
    )
    with open_image(wanted.path, parent=wanted.parent) as image:
        fact = image_fact(image, image.disk.info.problems)
    return DiskCreateDocument("vhdtool.disk-create/1", fact, written.file_size, written.notes)


def disk_convert_document(
    image: Image,
    output: str,
    *,
    form: str | None = None,
    kind: str | None = None,
    block_size: int | None = None,
    progress: Progress = SILENT,
) -> DiskConvertDocument:
    """Write the disk to a new file, and build the document of ``vhdtool disk convert``.

    Raises what :func:`vhdtool.disk.convert.convert_image` raises.
    """
    chosen = _format(form, output)
    type_ = _kind(kind, chosen)
    done = convert_image(image.disk, output, format=chosen, kind=type_, block_size=block_size, progress=progress)
    return DiskConvertDocument(
        "vhdtool.disk-convert/1", image_name(image.path), done.path, chosen, type_, image.disk.size, done.written
    )


def disk_merge_document(
    child: str,
    target: Target | None,
    *,
    parent: str | None = None,
    remove_child: bool = False,
    opinions: OpinionOptions | None = None,
    progress: Progress = SILENT,
) -> DiskMergeDocument:
    """Bring a child into its parent, or without a target tell what would be done.

    Raises what :func:`vhdtool.disk.merge.merge_child` raises.
    """
    done = merge_child(child, target, parent=parent, remove_child=remove_child, opinions=opinions, progress=progress)
    receipt = None if done.committed is None or target is None else commit_fact(target, done.committed)
    return DiskMergeDocument(
        "vhdtool.disk-merge/1",
        image_name(child),
        done.parent,
        would_change=done.merged_bytes > 0,
        changed=done.changed,
        merged_bytes=done.merged_bytes,
        child_removed=done.child_removed,
        receipt=receipt,
        notes=done.notes,
    )


def _format(form: str | None, path: str) -> ImageFormat:
    return format_of_name(path) if form is None else cast(ImageFormat, form)


def _kind(kind: str | None, form: ImageFormat) -> Kind:
    """A raw image is a file as large as its disk: what is called fixed."""
    return cast(Kind, kind or ("fixed" if form == "raw" else "dynamic"))
