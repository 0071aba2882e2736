"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from vhdtool.cli.failures import COLOR_KEY
from vhdtool.cli.output import FORMATS, Output, Target

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """Write the example lines that end a command's ``--help``."""
    title = "Examples" if len(lines) > 1 else "Example"
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in lines)])


def _read_targets(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Target, ...]:
    """Read each ``-o``: ``table`` or ``json``, each with ``=FILE``."""
    targets = []
    for value in values:
        form, equals, file = value.partition("=")
        if form not in FORMATS:
            raise click.BadParameter(f"{form!r} is not one of {', '.join(FORMATS)}.")
        if equals and not file:
            raise click.BadParameter("the file's name is missing after '='.")
        targets.append(Target(form, file or None))
    return tuple(targets)


def output_options(command: Command) -> Command:
    """Add ``-o``, ``--json`` and ``--color``; the command gets ``output``, closed for it when it ends."""

    @click.option(
        "-o",
        "--format",
        "targets",
        callback=_read_targets,
        multiple=True,
        metavar="FORMAT[=FILE]",
        help="table or json, to stdout or to FILE. May be repeated.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Short for -o json.")
    @color_option
    @functools.wraps(command)
    def with_output(*args: Any, targets: tuple[Target, ...], as_json: bool, **kwargs: Any) -> Any:
        wanted = dict.fromkeys([*targets, Target("json")] if as_json else targets)
        color = click.get_current_context().meta.get(COLOR_KEY, "auto")
        with Output(list(wanted), color) as output:
            return command(*args, output=output, **kwargs)

    return with_output  # type: ignore[return-value]  # it takes the command's own arguments, less one


def _set_color(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[COLOR_KEY] = value
    if value in {"always", "never"}:
        ctx.color = value == "always"


color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    expose_value=False,
    is_eager=True,
    callback=_set_color,
    help="Colours; auto: on a terminal, NO_COLOR and FORCE_COLOR heeded.",
)
image_argument = click.argument("image", metavar="IMAGE")
parent_option = click.option(
    "--parent", metavar="PATH", help="The parent of a differencing image, where its own links lead nowhere."
)
guest_option = click.option(
    "--guest", type=click.IntRange(min=0), metavar="N", help="Which Windows, where there are several (from 0)."
)
volume_option = click.option(
    "--volume", type=click.IntRange(min=0), metavar="N", help="Which volume, by its number in inspect."
)
all_services_option = click.option("--all-services", is_flag=True, help="List every service of the guest too.")
