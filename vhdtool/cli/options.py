"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from vhdtool.cli.failures import COLOR_KEY
from vhdtool.cli.output import FORMATS, Output, Target

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """Write the example lines that end a command's ``--help``."""
    title = "Examples" if len(lines) > 1 else "Example"
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in lines)])


def output_options_of(kind: type[Output], formats: Sequence[str]) -> Callable[[Command], Command]:
    """Make the decorator that adds ``-o`` with some formats, ``--json`` and ``--color``.

    The command gets ``output``, one of that kind, closed for it when it ends.
    """
    named = " or ".join([", ".join(formats[:-1]), formats[-1]])

    def read_targets(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Target, ...]:
        targets = []
        for value in values:
            form, equals, file = value.partition("=")
            if form not in formats:
                raise click.BadParameter(f"{form!r} is not one of {', '.join(formats)}.")
            if equals and not file:
                raise click.BadParameter("the file's name is missing after '='.")
            targets.append(Target(form, file or None))
        return tuple(targets)

    def decorate(command: Command) -> Command:
        @click.option(
            "-o",
            "--format",
            "targets",
            callback=read_targets,
            multiple=True,
            metavar="FORMAT[=FILE]",
            help=f"{named}, to stdout or to FILE. May be repeated.",
        )
        @click.option("--json", "as_json", is_flag=True, help="Short for -o json.")
        @color_option
        @functools.wraps(command)
        def with_output(*args: Any, targets: tuple[Target, ...], as_json: bool, **kwargs: Any) -> Any:
            wanted = dict.fromkeys([*targets, Target("json")] if as_json else targets)
            color = click.get_current_context().meta.get(COLOR_KEY, "auto")
            with kind(list(wanted), color) as output:
                return command(*args, output=output, **kwargs)

        return with_output  # type: ignore[return-value]  # it takes the command's own arguments, less one

    return decorate


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
output_options = output_options_of(Output, FORMATS)
"""``-o table|json``, for every command that shows something."""
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
