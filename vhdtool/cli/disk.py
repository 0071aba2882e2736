"""``vhdtool disk``: the container itself."""

from __future__ import annotations

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, image_argument, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.cli.progress import progress_bar
from vhdtool.cli.sizes import read_size


@click.group(epilog=examples("vhdtool disk info server.vhdx"))
def disk() -> None:
    r"""The disk image as a container: VHDX, VHD, raw."""


@disk.command(epilog=examples("vhdtool disk info server.avhdx"))
@image_argument
@parent_option
@output_options
def info(*, image: str, parent: str | None, output: Output) -> None:
    r"""Tell format, sizes, log and chain of IMAGE."""
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.disk_inspection import disk_info_document  # noqa: PLC0415
    from vhdtool.report.text_disk import disk_info_blocks  # noqa: PLC0415

    with output.answering("vhdtool.disk-info/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(disk_info_document(opened), disk_info_blocks)


@disk.command("map", epilog=examples("vhdtool disk map server.avhdx"))
@image_argument
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="BYTES", help="Begin at this virtual offset.")
@click.option("--length", type=click.IntRange(min=0), metavar="BYTES", help="End after so many bytes.")
@parent_option
@output_options
def map_disk(*, image: str, offset: int, length: int | None, parent: str | None, output: Output) -> None:
    r"""Tell which virtual ranges of IMAGE come from which file of its chain."""
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.disk_inspection import disk_map_document  # noqa: PLC0415
    from vhdtool.report.text_disk import disk_map_blocks  # noqa: PLC0415

    with output.answering("vhdtool.disk-map/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(disk_map_document(opened, offset, length), disk_map_blocks)


@disk.command(epilog=examples("vhdtool disk verify server.vhdx"))
@image_argument
@parent_option
@output_options
def verify(*, image: str, parent: str | None, output: Output) -> int:
    r"""Audit the structures of IMAGE, and compare its bytes with another reader.

    Every allocated block of the chain is read by pyvhdi too. Ends 1 when a
    structure is not as it should be, or when the readers differ.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.disk_inspection import disk_verify_document  # noqa: PLC0415
    from vhdtool.report.text_disk import disk_verify_blocks  # noqa: PLC0415

    with output.answering("vhdtool.disk-verify/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        document = disk_verify_document(opened, progress_bar())
        output.emit(document, disk_verify_blocks)
    return failures.FINDINGS if document.verdict == "findings" else 0


FORMATS = click.Choice(["vhdx", "vhd", "raw"])
_block_size = click.option("--block-size", metavar="SIZE", callback=read_size, help="Of a payload block: 1M to 256M.")


@disk.command(
    epilog=examples(
        "vhdtool disk convert server.avhdx server.raw", "vhdtool disk convert server.vhd server.vhdx --type dynamic"
    )
)
@image_argument
@click.argument("out", metavar="OUT")
@click.option("--to", "form", type=FORMATS, help="The new file's format; else its suffix tells it.")
@click.option("--type", "kind", type=click.Choice(["dynamic", "fixed"]), help="dynamic (default); raw is fixed.")
@_block_size
@parent_option
@output_options
def convert(
    *,
    image: str,
    out: str,
    form: str | None,
    kind: str | None,
    block_size: int | None,
    parent: str | None,
    output: Output,
) -> None:
    r"""Write IMAGE, with its whole chain, to the new file OUT.

    OUT is a .vhdx, .vhd or raw image. Holes and zeros stay sparse. An existing
    file is not overwritten.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.disk_making import disk_convert_document  # noqa: PLC0415
    from vhdtool.report.text_disk_making import disk_convert_blocks  # noqa: PLC0415

    with output.answering("vhdtool.disk-convert/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        document = disk_convert_document(
            opened, out, form=form, kind=kind, block_size=block_size, progress=progress_bar()
        )
        output.emit(document, disk_convert_blocks)


@disk.command(
    epilog=examples(
        "vhdtool disk create data.vhdx --size 40G", "vhdtool disk create checkpoint.avhdx --parent server.vhdx"
    )
)
@click.argument("path", metavar="PATH")
@click.option("--size", metavar="SIZE", callback=read_size, help="Of the disk: 40G, 512M. A child has its parent's.")
@click.option("--to", "form", type=FORMATS, help="The file's format; else its suffix tells it.")
@click.option("--type", "kind", type=click.Choice(["dynamic", "fixed"]), help="dynamic (default); raw is fixed.")
@_block_size
@click.option("--sector-size", type=click.Choice(["512", "4096"]), help="Logical; 512 (default), VHDX also 4096.")
@click.option("--parent", metavar="PATH", help="Make a differencing child of this image.")
@click.option("--parent-windows-path", metavar="PATH", help=r"The parent's path on the Windows host (C:\vm\a.vhdx).")
@output_options
def create(
    *,
    path: str,
    size: int | None,
    form: str | None,
    kind: str | None,
    block_size: int | None,
    sector_size: str | None,
    parent: str | None,
    parent_windows_path: str | None,
    output: Output,
) -> None:
    r"""Make the new, empty disk image PATH.

    An existing file is not overwritten.
    """
    from vhdtool.report.disk_making import NewDisk, disk_create_document  # noqa: PLC0415  # --help does not need it
    from vhdtool.report.text_disk_making import disk_create_blocks  # noqa: PLC0415

    wanted = NewDisk(
        path, size, form, kind, block_size, int(sector_size) if sector_size else None, parent, parent_windows_path
    )
    with output.answering("vhdtool.disk-create/1", path):
        output.emit(disk_create_document(wanted), disk_create_blocks)


@disk.command(epilog=examples("vhdtool disk merge checkpoint.avhdx --in-place"))
@image_argument
@click.option("--in-place", is_flag=True, help="Do it; without this, what would be done is told.")
@click.option("--remove-child", is_flag=True, help="Remove IMAGE when its parent holds everything.")
@click.option("--no-children", is_flag=True, help="My word that the parent has no other children.")
@click.option("--children", metavar="DIR", multiple=True, help="Look for other children of the parent in DIR too.")
@click.option("--journal", is_flag=True, help="On a fixed VHD parent: a journal instead of a copy.")
@click.option("--single-opinion", is_flag=True, help="Go on where no other reader can confirm a byte.")
@parent_option
@output_options
def merge(
    *,
    image: str,
    in_place: bool,
    remove_child: bool,
    no_children: bool,
    children: tuple[str, ...],
    journal: bool,
    single_opinion: bool,
    parent: str | None,
    output: Output,
) -> None:
    r"""Write what the differencing IMAGE holds into its parent.

    All or nothing, as every change in place. IMAGE reads the same afterwards
    and is no longer needed. A parent with other children is refused.
    """
    from vhdtool.disk.commit import Target  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.disk.committing import OpinionOptions  # noqa: PLC0415
    from vhdtool.report.disk_making import disk_merge_document  # noqa: PLC0415
    from vhdtool.report.text_disk_making import disk_merge_blocks  # noqa: PLC0415

    target = Target("in-place", journal=journal, no_children=no_children, children_folders=children)
    with output.answering("vhdtool.disk-merge/1", image):
        output.protect(image)
        document = disk_merge_document(
            image,
            target if in_place else None,
            parent=parent,
            remove_child=remove_child,
            opinions=OpinionOptions(single_opinion),
            progress=progress_bar(),
        )
        output.emit(document, disk_merge_blocks)
