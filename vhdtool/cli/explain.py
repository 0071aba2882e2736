"""``vhdtool explain``."""

from __future__ import annotations

import click

from vhdtool.cli.options import examples, output_options
from vhdtool.cli.output import Output


@click.command(
    epilog=examples(
        "vhdtool explain boot-driver-overridden",
        "vhdtool explain volume-dirty hive-dirty",
        "vhdtool explain integration-version --json",
    )
)
@click.argument("codes", metavar="[CODE]...", nargs=-1)
@output_options
def explain(*, codes: tuple[str, ...], output: Output) -> None:
    r"""Tell what a code means: of a check, a finding, a problem or an error.

    What it says, why it matters, how to mend it, and for an error the exit
    code. Without CODE every code is listed.
    """
    from vhdtool.report.explain import explain_document  # noqa: PLC0415  # --help does not need the texts
    from vhdtool.report.text_explain import code_table_blocks, explain_blocks  # noqa: PLC0415

    output.emit(explain_document(codes), explain_blocks if codes else code_table_blocks)
