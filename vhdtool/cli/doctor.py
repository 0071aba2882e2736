"""``vhdtool doctor``: what of this host works, and what is missing."""

from __future__ import annotations

import click

from vhdtool.cli.options import examples, output_options
from vhdtool.cli.output import Output
from vhdtool.errors import MissingSupportError


@click.command(epilog=examples("vhdtool doctor"))
@output_options
def doctor(*, output: Output) -> int:
    r"""Tell what of this host vhdtool can use.

    Readers for second opinions, the library that writes NTFS, and how well its
    process is shut in. Ends 6 when something is missing.
    """
    from vhdtool.report.doctor import doctor_blocks, doctor_document  # noqa: PLC0415  # --help does not need it

    document = doctor_document()
    output.emit(document, doctor_blocks)
    return 0 if document.complete else MissingSupportError.exit_code
