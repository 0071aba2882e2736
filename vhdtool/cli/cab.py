"""``vhdtool cab``: update packages, before they come near an image."""

from __future__ import annotations

from pathlib import Path

import click

from vhdtool.cli import failures
from vhdtool.cli.cab_find import find
from vhdtool.cli.options import examples, guest_option, output_options, parent_option
from vhdtool.cli.output import Output

_cab = click.argument("cab", metavar="CAB")
_parts = click.option("--part", "parts", metavar="FILE", multiple=True, help="The next file of a set, in order.")


@click.group(epilog=examples("vhdtool cab show windows6.2-hypervintegrationservices-x64.cab"))
def cab() -> None:
    r"""Update packages: .cab and .msu files."""


cab.add_command(find)


@cab.command(
    epilog=examples(
        "vhdtool cab show windows6.2-hypervintegrationservices-x64.cab",
        "vhdtool cab show update.cab --image server.vhdx",
    )
)
@_cab
@_parts
@click.option("--image", metavar="IMAGE", help="Tell what it would change in the guest on IMAGE too.")
@guest_option
@parent_option
@output_options
def show(
    *, cab: str, parts: tuple[str, ...], image: str | None, guest: int | None, parent: str | None, output: Output
) -> None:
    r"""Tell what the package CAB is, what it needs, and what it will bring.

    Drivers with their versions, services with their start types and triggers,
    files with their digests. Nothing is trusted for being shown: see verify.
    """
    from vhdtool.report.cab import show_document  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.text_cab import show_blocks  # noqa: PLC0415

    with output.answering("vhdtool.cab-show/1", cab):
        output.protect(*parts)
        if image is None:
            output.emit(show_document(cab, parts), show_blocks)
            return
        from vhdtool.image import open_image  # noqa: PLC0415  # without an image no guest is read

        with open_image(image, parent=parent) as opened:
            output.protect(*(layer.info.path for layer in opened.disk.layers))
            output.emit(show_document(cab, parts, opened, guest), show_blocks)


@cab.command(epilog=examples("vhdtool cab verify windows6.2-hypervintegrationservices-x64.cab"))
@_cab
@click.option("--trust-root", "roots", metavar="FILE", multiple=True, help="Trust this certificate too (PEM or DER).")
@_parts
@output_options
def verify(*, cab: str, roots: tuple[str, ...], parts: tuple[str, ...], output: Output) -> int:
    r"""Verify the package CAB, in four layers, each by itself.

    The cabinet's digest; its signature up to a root of Microsoft; its catalog,
    signed likewise; every file against its manifest. Ends 1 when any layer
    does not hold. Revocation is not looked up.
    """
    from vhdtool.report.cab import verify_document  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.text_cab import verify_blocks  # noqa: PLC0415

    with output.answering("vhdtool.cab-verify/1", cab):
        output.protect(*parts, *roots)
        document = verify_document(cab, roots, parts)
        output.emit(document, verify_blocks)
    return 0 if document.trusted else failures.FINDINGS


@cab.command(epilog=examples("vhdtool cab extract update.cab unpacked", "vhdtool cab extract update.cab . update.mum"))
@_cab
@click.argument("directory", metavar="DIR")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_parts
@output_options
def extract(*, cab: str, directory: str, names: tuple[str, ...], parts: tuple[str, ...], output: Output) -> int:
    r"""Copy the files of CAB into DIR: all of them, or those with a NAME.

    Nothing is overwritten, and no name leads out of DIR. Ends 5 when some
    files could not be unpacked.
    """
    from vhdtool.report.cab import extract_document  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.text_cab import extract_blocks  # noqa: PLC0415

    with output.answering("vhdtool.cab-extract/1", cab):
        output.protect(*parts)
        document = extract_document(cab, Path(directory), names, parts)
        output.emit(document, extract_blocks)
    return failures.SOME_FAILED if document.skipped else 0
