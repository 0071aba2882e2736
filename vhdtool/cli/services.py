"""``vhdtool services``."""

from __future__ import annotations

import click

from vhdtool.cli.options import (
    all_services_option,
    examples,
    guest_option,
    image_argument,
    output_options,
    parent_option,
)
from vhdtool.cli.output import Output


@click.group(epilog=examples("vhdtool services list server.vhdx"))
def services() -> None:
    r"""Services and drivers of the guest."""


@services.command("list", epilog=examples("vhdtool services list server.vhdx"))
@image_argument
@all_services_option
@guest_option
@parent_option
@output_options
def list_services(*, image: str, all_services: bool, guest: int | None, parent: str | None, output: Output) -> None:
    r"""List the integration services and drivers of the guest on IMAGE.

    Start is what the registry says; Override replaces it on the hardware that
    the guest last ran on; Effective is what Windows will act upon; Expected is
    what a healthy guest of this version has.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.inspection import services_document  # noqa: PLC0415
    from vhdtool.report.text_guest import services_blocks  # noqa: PLC0415

    with output.answering("vhdtool.services/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(services_document(opened, guest, all_services=all_services), services_blocks)
