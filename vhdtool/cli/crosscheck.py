"""``vhdtool crosscheck``: the host's side against the guest's."""

from __future__ import annotations

from contextlib import ExitStack

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, guest_option, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.errors import UsageError


@click.command(
    epilog=examples(
        "vhdtool crosscheck server.vhdx --vm 282874FC-59D6.vmcx",
        'vhdtool crosscheck --vm "Virtual Machines/282874FC-59D6.xml" --json',
    )
)
@click.argument("image", metavar="[IMAGE]", required=False)
@click.option("--vm", metavar="CONFIG", required=True, help="The machine's .vmcx, or .xml up to 2012 R2.")
@guest_option
@parent_option
@output_options
def crosscheck(*, image: str | None, vm: str, guest: int | None, parent: str | None, output: Output) -> int:
    r"""Hold a machine's configuration on the host against the guest on IMAGE.

    Tells for each integration service whether it is on at either side, and what
    happens when the machine starts. Without IMAGE, the machine's disk is looked
    for by the paths in CONFIG. Ends 1 when the two sides do not fit.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.crosscheck import crosscheck_document, open_machine_disk, read_machine  # noqa: PLC0415
    from vhdtool.report.text_crosscheck import crosscheck_blocks  # noqa: PLC0415

    if image is None and parent is not None:
        raise UsageError("parent-without-image", "--parent belongs to an IMAGE", hint="Name the image too.")
    output.protect(vm)
    with output.answering("vhdtool.crosscheck/1", vm if image is None else image), ExitStack() as stack:
        config = read_machine(vm)
        if image is None:
            opened = open_machine_disk(config, stack)
        else:
            opened = stack.enter_context(open_image(image, parent=parent))
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        document = crosscheck_document(opened, config, guest)
        output.emit(document, crosscheck_blocks)
    return failures.FINDINGS if any(row.mismatch for row in document.services) else 0
