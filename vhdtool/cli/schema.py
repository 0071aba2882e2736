"""``vhdtool schema``."""

from __future__ import annotations

import json

import click

from vhdtool.cli.options import examples
from vhdtool.cli.output import write_bytes


@click.command(epilog=examples("vhdtool schema inspect > inspect.schema.json"))
@click.argument("name", metavar="NAME")
def schema(name: str) -> None:
    r"""Print the JSON Schema of a command's --json.

    NAME is one of inspect, version, services, reg-query, ls, extract,
    disk-info, disk-map, disk-verify, disk-convert, evidence (the manifest of
    inspect --evidence-dir).
    """
    from vhdtool.report.schema import json_schema  # noqa: PLC0415  # --help does not need msgspec

    write_bytes(json.dumps(json_schema(name), indent=2).encode() + b"\n")
