"""``vhdtool ls``, ``cat`` and ``extract``: the files of a guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, guest_option, image_argument, output_options, parent_option, volume_option
from vhdtool.cli.output import Output, write_bytes
from vhdtool.errors import UsageError

if TYPE_CHECKING:
    from vhdtool.image import Image
    from vhdtool.report.guest_files import GuestPlace


@click.command(
    epilog=examples("vhdtool ls server.vhdx /Windows/System32/config", "vhdtool ls server.vhdx --volume 0 /EFI")
)
@image_argument
@click.argument("path", metavar="[PATH]", default="/")
@volume_option
@guest_option
@parent_option
@output_options
def ls(*, image: str, path: str, volume: int | None, guest: int | None, parent: str | None, output: Output) -> None:
    r"""List the directory PATH of the guest, or the root."""
    from vhdtool.report.guest_files import ls_document  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.text_disk import ls_blocks  # noqa: PLC0415

    with (
        output.answering("vhdtool.ls/1", image),
        _place(image=image, path=path, volume=volume, guest=guest, parent=parent) as (opened, place),
    ):
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(ls_document(opened, place), ls_blocks)


@click.command(epilog=examples("vhdtool cat server.vhdx /Windows/win.ini"))
@image_argument
@click.argument("path", metavar="PATH")
@volume_option
@guest_option
@parent_option
def cat(*, image: str, path: str, volume: int | None, guest: int | None, parent: str | None) -> None:
    r"""Write the file PATH of the guest to stdout, byte for byte."""
    from vhdtool.report.host_files import read_chunks  # noqa: PLC0415  # --help does not need the readers

    with _place(image=image, path=path, volume=volume, guest=guest, parent=parent) as (_, place):
        for chunk in read_chunks(place.filesystem.open(place.path)):
            write_bytes(chunk)


@click.command(epilog=examples("vhdtool extract server.vhdx /Windows/System32/config hives"))
@image_argument
@click.argument("path", metavar="PATH")
@click.argument("directory", metavar="DIR")
@volume_option
@guest_option
@parent_option
@output_options
def extract(
    *, image: str, path: str, directory: str, volume: int | None, guest: int | None, parent: str | None, output: Output
) -> int:
    r"""Copy the file or directory PATH of the guest into DIR.

    Nothing is overwritten, links are not followed. Ends 5 when some files of a
    directory could not be read.
    """
    from vhdtool.report.guest_files import extract_document  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.text_disk import extract_blocks  # noqa: PLC0415

    with (
        output.answering("vhdtool.extract/1", image),
        _place(image=image, path=path, volume=volume, guest=guest, parent=parent) as (opened, place),
    ):
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        document = extract_document(opened, place, Path(directory))
        output.emit(document, extract_blocks)
    return failures.SOME_FAILED if document.skipped else 0


@contextmanager
def _place(
    *, image: str, path: str, volume: int | None, guest: int | None, parent: str | None
) -> Iterator[tuple[Image, GuestPlace]]:
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.guest_files import find_place  # noqa: PLC0415

    if volume is not None and guest is not None:
        raise UsageError("place", "--volume and --guest exclude each other")
    with open_image(image, parent=parent) as opened:
        yield opened, find_place(opened, path, volume=volume, guest=guest)
