"""Where the results of ``vhdtool check`` go: beside tables and JSON, what other programs read of all images at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from vhdtool.cli.failures import COLOR_KEY
from vhdtool.cli.options import color_option
from vhdtool.cli.output import FORMATS, Output, Target, write_bytes, writing
from vhdtool.cli.terminal import ColorChoice

Command = TypeVar("Command", bound=Callable[..., Any])
WHOLE_FORMATS = ("sarif", "junit")


class CheckOutput(Output):
    """Also takes formats that are one document for all images: these are written when the last one is done."""

    def __init__(self, targets: Sequence[Target], color: ColorChoice = "auto") -> None:
        super().__init__(targets, color)
        self._wholes = tuple(target for target in self._targets if target.format in WHOLE_FORMATS)
        self._targets = tuple(target for target in self._targets if target.format not in WHOLE_FORMATS)

    def emit_wholes(self, encoders: dict[str, Callable[[], bytes]]) -> None:
        """Write the formats that are asked for, each as its encoder makes it."""
        for target in self._wholes:
            encoded = encoders[target.format]()
            if target.file is None:
                write_bytes(encoded)
            else:
                with writing(target.file):
                    self._file(target.file, "wb").write(encoded)


def _read_targets(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Target, ...]:
    targets = []
    for value in values:
        form, equals, file = value.partition("=")
        if form not in (*FORMATS, *WHOLE_FORMATS):
            raise click.BadParameter(f"{form!r} is not one of {', '.join((*FORMATS, *WHOLE_FORMATS))}.")
        if equals and not file:
            raise click.BadParameter("the file's name is missing after '='.")
        targets.append(Target(form, file or None))
    return tuple(targets)


def check_output_options(command: Command) -> Command:
    """Add ``-o``, ``--json`` and ``--color``, with the formats of :class:`CheckOutput`."""

    @click.option(
        "-o",
        "--format",
        "targets",
        callback=_read_targets,
        multiple=True,
        metavar="FORMAT[=FILE]",
        help="table, json, sarif or junit, to stdout or to FILE. May be repeated.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Short for -o json.")
    @color_option
    @functools.wraps(command)
    def with_output(*args: Any, targets: tuple[Target, ...], as_json: bool, **kwargs: Any) -> Any:
        wanted = dict.fromkeys([*targets, Target("json")] if as_json else targets)
        color = click.get_current_context().meta.get(COLOR_KEY, "auto")
        with CheckOutput(list(wanted), color) as output:
            return command(*args, output=output, **kwargs)

    return with_output  # type: ignore[return-value]  # it takes the command's own arguments, less one
