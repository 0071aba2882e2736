"""``vhdtool cab find``: which packages fit a guest."""

from __future__ import annotations

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, guest_option, image_argument, output_options, parent_option
from vhdtool.cli.output import Output


@click.command(
    epilog=examples("vhdtool cab find server.vhdx vmguest", "vhdtool cab find server.vhdx update.cab --json")
)
@image_argument
@click.argument("places", metavar="DIR...", nargs=-1, required=True)
@guest_option
@parent_option
@output_options
def find(*, image: str, places: tuple[str, ...], guest: int | None, parent: str | None, output: Output) -> int:
    r"""Tell which packages below each DIR fit the guest on IMAGE.

    And what those would change there: versions of drivers, starts of services.
    A DIR may be a package too. Ends 1 when none fits.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.cab_find import cab_find_document  # noqa: PLC0415
    from vhdtool.report.text_cab_find import cab_find_blocks  # noqa: PLC0415

    with output.answering("vhdtool.cab-find/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        document = cab_find_document(opened, guest, places)
        output.emit(document, cab_find_blocks)
    return 0 if any(package.fits for package in document.packages) else failures.FINDINGS
