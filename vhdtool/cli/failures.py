"""How a command that fails ends: one message on stderr, and the exit code of docs/reference/errors.md."""

from __future__ import annotations

import os
import sys
import traceback

import click

from vhdtool.cli.terminal import ColorChoice, look_at
from vhdtool.errors import VhdtoolError

FINDINGS = 1
USAGE = 2
SOME_FAILED = 5
CANNOT_WRITE = 7
FAULT = 70
INTERRUPTED = 130

FAULT_CODE = "internal-fault"
COLOR_KEY = "vhdtool.color"
DEBUG_VARIABLE = "VHDTOOL_DEBUG"


def tell_error(error: VhdtoolError) -> None:
    """Print an error of ours, with what to do about it."""
    _tell(error.code, str(error), error.hint)
    _tell_traceback(error)


def tell_usage(error: click.ClickException) -> None:
    """Print what is wrong with the command line."""
    context = getattr(error, "ctx", None)
    hint = f"See: {context.command_path} --help" if context is not None else None
    _tell("usage", error.format_message(), hint)


def tell_closed_stdout() -> None:
    """Print that there is nowhere to print to."""
    _tell("cannot-write", "stdout is closed", "Send it somewhere: vhdtool ... > FILE")


def tell_fault(error: BaseException) -> None:
    """Print a fault of this program: one line, and the traceback for those who ask for it."""
    what = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
    _tell(
        FAULT_CODE,
        f"a fault of vhdtool itself: {what}",
        f"Run the same command with {DEBUG_VARIABLE}=1 and report what it prints. The image is untouched.",
    )
    _tell_traceback(error)


def tell_note(text: str) -> None:
    """Print something that the reader of a result should know."""
    from vhdtool.report.blocks import printable  # noqa: PLC0415  # only when there is something to say

    click.echo(f"vhdtool: note: {printable(text)}", err=True, color=_color())


def as_error(error: Exception) -> VhdtoolError:
    """Wrap a fault so that it can stand in a result document."""
    if isinstance(error, VhdtoolError):
        return error
    return VhdtoolError(FAULT_CODE, f"a fault of vhdtool itself: {type(error).__name__}: {error}")


def _tell(code: str, message: str, hint: str | None) -> None:
    from vhdtool.report.blocks import printable  # noqa: PLC0415  # only when there is something to say

    head = click.style(f"error[{code}]:", fg="red", bold=True)
    lines = [f"vhdtool: {head} {printable(message)}"]
    if hint:
        lines.append(f"  hint: {printable(hint)}")
    click.echo("\n".join(lines), err=True, color=_color())


def _tell_traceback(error: BaseException) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def _color() -> bool:
    context = click.get_current_context(silent=True)
    choice: ColorChoice = "auto" if context is None else context.meta.get(COLOR_KEY, "auto")
    return look_at(sys.stderr, choice).color
