"""``vhdtool``: the root command. Every other file here is loaded when its command is asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

import vhdtool
from vhdtool.cli import failures
from vhdtool.cli.options import color_option
from vhdtool.cli.output import flush_stdout
from vhdtool.errors import VhdtoolError

HELP_WIDTH = 80

COMMANDS = {
    "inspect": "vhdtool.cli.inspect:inspect",
    "version": "vhdtool.cli.version:version",
    "advise": "vhdtool.cli.advise:advise",
    "services": "vhdtool.cli.services:services",
    "reg": "vhdtool.cli.reg:reg",
    "ls": "vhdtool.cli.files:ls",
    "cat": "vhdtool.cli.files:cat",
    "extract": "vhdtool.cli.files:extract",
    "put": "vhdtool.cli.file_change:put",
    "mkdir": "vhdtool.cli.file_change:mkdir",
    "rm": "vhdtool.cli.file_change:rm",
    "boot-ready": "vhdtool.cli.boot_ready:boot_ready",
    "diff": "vhdtool.cli.diff:diff",
    "crosscheck": "vhdtool.cli.crosscheck:crosscheck",
    "check": "vhdtool.cli.check:check",
    "cab": "vhdtool.cli.cab:cab",
    "stage": "vhdtool.cli.stage:stage",
    "apply": "vhdtool.cli.stage:apply_plan",
    "outcome": "vhdtool.cli.stage:outcome",
    "unstage": "vhdtool.cli.stage:unstage",
    "disk": "vhdtool.cli.disk:disk",
    "recover": "vhdtool.cli.recover:recover",
    "doctor": "vhdtool.cli.doctor:doctor",
    "explain": "vhdtool.cli.explain:explain",
    "schema": "vhdtool.cli.schema:schema",
}
"""Where each command lives, in the order of ``--help``."""

EPILOG = """\b
Example:
  vhdtool inspect server.vhdx

\b
Exit codes:
  0  done                            5  some of several failed
  1  not there; check, verify found  6  a library is missing
  2  wrong usage                     7  failed, image untouched
  3  the input can't be used         8  failed, image changed
  4  refused                        70  a fault of vhdtool
                                   130  interrupted
"""


class RootGroup(click.Group):
    """Loads a command when it is asked for, and turns every end of one into its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in their order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; return the exit code."""
        try:
            result = super().invoke(ctx)
            flush_stdout()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except VhdtoolError as error:
            failures.tell_error(error)
            if error.exit_code == failures.CANNOT_WRITE:
                _drop_stdout()  # what is still buffered would end Python with 120
            return error.exit_code
        except BrokenPipeError:  # whoever read has seen enough: `vhdtool ls IMAGE | head`
            _drop_stdout()
            return 0
        except KeyboardInterrupt:
            return failures.INTERRUPTED
        except Exception as error:  # the boundary: whatever comes here is a fault of ours, exit 70
            failures.tell_fault(error)
            return failures.FAULT
        return result if isinstance(result, int) else 0


@click.group(
    cls=RootGroup,
    no_args_is_help=False,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@color_option
@click.version_option(vhdtool.__version__, message="%(prog)s %(version)s")
@click.pass_context
def vhdtool_command(ctx: click.Context) -> int:
    """Read and service Hyper-V disk images of stopped machines.

    Nothing is written without --child, --output or --in-place.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return failures.USAGE
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if sys.stdout is None:  # started with a closed stdout: Python has nothing to write to then
        failures.tell_closed_stdout()
        return failures.CANNOT_WRITE
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names from an image may not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        result = vhdtool_command.main(
            args=None if arguments is None else list(arguments), prog_name="vhdtool", standalone_mode=False
        )
    except click.ClickException as error:
        failures.tell_usage(error)
        return failures.USAGE
    except (click.Abort, KeyboardInterrupt):
        return failures.INTERRUPTED
    except VhdtoolError as error:
        failures.tell_error(error)
        return error.exit_code
    return result if isinstance(result, int) else 0


def _drop_stdout() -> None:
    """Let what is still buffered go nowhere, so that the end of the process does not complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
