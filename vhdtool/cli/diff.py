"""``vhdtool diff``: what differs between two images."""

from __future__ import annotations

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, guest_option, output_options
from vhdtool.cli.output import Output


@click.command(
    epilog=examples("vhdtool diff server.vhdx serviced.vhdx", "vhdtool diff a.vhdx b.vhdx --only files --content")
)
@click.argument("image", metavar="A")
@click.argument("other", metavar="B")
@click.option(
    "--only",
    type=click.Choice(["services", "registry", "files"]),
    multiple=True,
    help="Only this part. May be repeated.",
)
@click.option("--path", metavar="PATH", default="/", help="Files below this directory of the guest only.")
@click.option("--content", is_flag=True, help="Compare the bytes of files too, not only size and time.")
@click.option("--limit", type=click.IntRange(min=1), default=10_000, help="Rows of each part; 10000.")
@guest_option
@output_options
def diff(
    *,
    image: str,
    other: str,
    only: tuple[str, ...],
    path: str,
    content: bool,
    limit: int,
    guest: int | None,
    output: Output,
) -> int:
    r"""Tell what differs between the guests on A and B.

    Services with their start types, keys and values of SYSTEM and SOFTWARE,
    files. Ends 0 when nothing differs and 1 when something does.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.diff import PARTS, DiffChoice, diff_document  # noqa: PLC0415
    from vhdtool.report.text_diff import diff_blocks  # noqa: PLC0415

    choice = DiffChoice(only or PARTS, path, content, limit, guest)
    with output.answering("vhdtool.diff/1", image), open_image(image) as one, open_image(other) as two:
        output.protect(*(layer.info.path for opened in (one, two) for layer in opened.disk.layers))
        document = diff_document(one, two, choice)
        output.emit(document, diff_blocks)
    return 0 if document.same else failures.FINDINGS
