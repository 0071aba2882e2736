"""``vhdtool recover``: bring an image to rest after an interruption."""

from __future__ import annotations

import click

from vhdtool.cli.options import examples, image_argument, output_options
from vhdtool.cli.output import Output
from vhdtool.cli.progress import progress_bar


@click.command(epilog=examples("vhdtool recover server.vhdx"))
@image_argument
@output_options
def recover(*, image: str, output: Output) -> None:
    r"""Finish or roll back what an interruption left in IMAGE.

    A pending VHDX log, of whatever program, is replayed into the file; an
    interrupted change of vhdtool is finished or taken back. An image at rest
    is not written to.
    """
    from vhdtool.disk.recover import recover_image  # noqa: PLC0415  # --help does not need it
    from vhdtool.disk.write_lock import lock_for_writing  # noqa: PLC0415
    from vhdtool.report.recovery import recover_document  # noqa: PLC0415
    from vhdtool.report.text_change import recover_blocks  # noqa: PLC0415

    with output.answering("vhdtool.recover/1", image), lock_for_writing(image) as lock:
        output.protect(image)
        steps = recover_image(image, progress=progress_bar())
        output.emit(recover_document(image, steps, lock.notes), recover_blocks)
