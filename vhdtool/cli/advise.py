"""``vhdtool advise``: how a guest gets its integration services on a host."""

from __future__ import annotations

import click

from vhdtool.cli.options import examples, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.errors import UsageError


@click.command(
    epilog=examples(
        'vhdtool advise server.vhdx --host "Windows Server 2016"',
        "vhdtool advise --guest win7 --host 2022",
        "vhdtool advise --matrix --host 2012r2",
    )
)
@click.argument("image", metavar="[IMAGE]", required=False)
@click.option("--host", metavar="NAME", help="The host: Windows Server 2016, 2016, ws2016, win10.")
@click.option(
    "--guest", metavar="NAME|N", help="Without IMAGE: the guest by its name. With it: which Windows (from 0)."
)
@click.option("--matrix", is_flag=True, help="Print the tables; with --host those for it alone.")
@parent_option
@output_options
def advise(
    *, image: str | None, host: str | None, guest: str | None, matrix: bool, parent: str | None, output: Output
) -> None:
    r"""Tell how a guest gets its integration services on a host.

    What to do, step by step, and what on IMAGE stands in the way. Microsoft's
    pages say it differently over the years: each is told, and which is used.
    """
    if matrix:
        if image is not None or guest is not None:
            raise UsageError("matrix-alone", "--matrix prints the tables, and looks at no guest", hint="Leave it out.")
        _matrix(host, output)
    elif host is None:
        raise UsageError(
            "host-missing", "the host is missing", hint='Name it: --host "Windows Server 2016"; see --matrix.'
        )
    elif image is not None:
        _image(image, _place(guest), host, parent, output)
    elif guest is not None:
        _named(guest, host, output)
    else:
        raise UsageError("guest-missing", "the guest is missing", hint="Name an image, or a guest: --guest win7")


def _place(guest: str | None) -> int | None:
    if guest is None:
        return None
    if not guest.isascii() or not guest.isdecimal():
        raise UsageError(
            "guest-number",
            "with an image, --guest is the place of a Windows on it, from 0",
            found=repr(guest),
            hint="The image tells which guest it is: leave --guest out.",
        )
    return int(guest)


def _matrix(host: str | None, output: Output) -> None:
    from vhdtool.report.advise import host_named, matrix_document  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.text_advise import matrix_blocks  # noqa: PLC0415

    output.emit(matrix_document(None if host is None else host_named(host)), matrix_blocks)


def _named(guest: str, host: str, output: Output) -> None:
    from vhdtool.report.advise import host_named, named_guest_document  # noqa: PLC0415
    from vhdtool.report.text_advise import advise_blocks  # noqa: PLC0415

    output.emit(named_guest_document(host_named(host), guest), advise_blocks)


def _image(image: str, guest: int | None, host: str, parent: str | None, output: Output) -> None:
    from vhdtool.image import open_image  # noqa: PLC0415
    from vhdtool.report.advise import host_named, image_document  # noqa: PLC0415
    from vhdtool.report.text_advise import advise_blocks  # noqa: PLC0415

    with output.answering("vhdtool.advise/1", image):
        found = host_named(host)
        with open_image(image, parent=parent) as opened:
            output.protect(*(layer.info.path for layer in opened.disk.layers))
            output.emit(image_document(opened, guest, found), advise_blocks)
