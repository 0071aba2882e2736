"""``vhdtool disk``: the container itself."""

from __future__ import annotations

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, image_argument, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.cli.progress import progress_bar


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


@disk.command(epilog=examples("vhdtool disk convert server.avhdx server.raw"))
@image_argument
@click.argument("out", metavar="OUT.raw")
@parent_option
@output_options
def convert(*, image: str, out: str, parent: str | None, output: Output) -> None:
    r"""Write IMAGE, with its whole chain, to the new raw file OUT.raw.

    Holes and zeros stay sparse. An existing file is not overwritten.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.disk_inspection import disk_convert_document  # noqa: PLC0415
    from vhdtool.report.text_disk import disk_convert_blocks  # noqa: PLC0415

    with output.answering("vhdtool.disk-convert/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(disk_convert_document(opened, out, progress_bar()), disk_convert_blocks)
