"""``vhdtool version``."""

from __future__ import annotations

import click

from vhdtool.cli.options import examples, guest_option, image_argument, output_options, parent_option
from vhdtool.cli.output import Output


@click.command(epilog=examples("vhdtool version server.vhdx"))
@image_argument
@guest_option
@parent_option
@output_options
def version(*, image: str, guest: int | None, parent: str | None, output: Output) -> None:
    r"""Tell the integration services version of the guest on IMAGE.

    With the source it was read from, and whether the other sources agree.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.inspection import version_document  # noqa: PLC0415
    from vhdtool.report.text_guest import version_blocks  # noqa: PLC0415

    with output.answering("vhdtool.version/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(version_document(opened, guest), version_blocks)
