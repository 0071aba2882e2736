"""``vhdtool reg add``, ``reg delete`` and ``reg import``: the registry, changed as REG.EXE changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vhdtool.cli.change import Place, Planned, change_guest
from vhdtool.cli.options import examples, guest_option, image_argument, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.cli.targets import ChangeChoice, target_options
from vhdtool.errors import UsageError

if TYPE_CHECKING:
    from vhdtool.image import Image

SPELLINGS = {
    "/v": "--value",
    "/ve": "--default-value",
    "/va": "--all-values",
    "/t": "--type",
    "/d": "--data",
    "/s": "--separator",
    "/f": "--force",
}
"""REG.EXE's options and ours."""


class RegChangeCommand(click.Command):
    """Takes REG.EXE's own spelling of the options: only these words, for a path may begin with ``/`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Translate what stands before ``--`` and is no option's value."""
        end = args.index("--") if "--" in args else len(args)
        words = []
        is_value = False
        for word in args[:end]:
            option = None if is_value else SPELLINGS.get(word.lower())
            words.append(word if option is None else option)
            is_value = words[-1] in {"--value", "--type", "--data", "--separator"} and not is_value
        return super().parse_args(ctx, words + args[end:])


_force = click.option("--force", is_flag=True, help="Accepted as REG.EXE has it; nothing is ever asked. Also: /f.")


@click.command(
    "add",
    cls=RegChangeCommand,
    epilog=examples(
        r'vhdtool reg add a.vhdx "HKLM\SOFTWARE\Ring" /v Number /t REG_DWORD /d 2',
        r'vhdtool reg add a.vhdx "HKLM\SOFTWARE\Ring" /ve /d Fast --child b.vhdx',
    ),
)
@image_argument
@click.argument("key", metavar="KEY")
@click.option("--value", metavar="NAME", help="The value's name. Also: /v NAME.")
@click.option("--default-value", is_flag=True, help="The default value. Also: /ve.")
@click.option("--type", "kind", metavar="TYPE", help="REG_SZ (default), REG_DWORD, ... Also: /t.")
@click.option("--data", metavar="DATA", help="The data, as REG.EXE takes it. Also: /d DATA.")
@click.option("--separator", metavar="TEXT", help=r"Between strings of REG_MULTI_SZ; \0. Also: /s.")
@_force
@guest_option
@parent_option
@target_options
@output_options
def add(
    *,
    image: str,
    key: str,
    value: str | None,
    default_value: bool,
    kind: str | None,
    data: str | None,
    separator: str | None,
    force: bool,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Add a key to the guest's registry, or set a value of it.

    KEY begins as in reg query. Keys above it are made where they are missing.
    A value that is there is replaced. Without a target nothing is written.
    """
    _ = force  # nothing is ever asked
    name = _name(value, default_value=default_value)

    def planned(opened: Image) -> Planned:
        from vhdtool.report.registry_change import plan_add  # noqa: PLC0415  # --help does not need the readers

        plan = plan_add(opened.installation(guest), key, name, kind=kind, data=data, separator=separator)
        return Planned(plan)

    change_guest("reg add", Place(image, parent), choice, output, planned)


@click.command(
    "delete",
    cls=RegChangeCommand,
    epilog=examples(
        r'vhdtool reg delete a.vhdx "HKLM\SOFTWARE\Ring" /v Number --child b.vhdx',
        r'vhdtool reg delete a.vhdx "HKLM\SOFTWARE\Ring" --in-place',
    ),
)
@image_argument
@click.argument("key", metavar="KEY")
@click.option("--value", metavar="NAME", help="Only this value. Also: /v NAME.")
@click.option("--default-value", is_flag=True, help="Only the default value. Also: /ve.")
@click.option("--all-values", is_flag=True, help="All values of the key, and not the key. Also: /va.")
@_force
@guest_option
@parent_option
@target_options
@output_options
def delete(
    *,
    image: str,
    key: str,
    value: str | None,
    default_value: bool,
    all_values: bool,
    force: bool,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Delete a key of the guest's registry with all below it, or values.

    What is not there need not be deleted: that ends 0. Without a target
    nothing is written.
    """
    _ = force  # nothing is ever asked
    name = _name(value, default_value=default_value)
    if all_values and name is not None:
        raise UsageError("reg-delete", "/va, /v and /ve exclude each other")

    def planned(opened: Image) -> Planned:
        from vhdtool.report.registry_change import plan_delete  # noqa: PLC0415  # --help does not need the readers

        return Planned(plan_delete(opened.installation(guest), key, name, all_values=all_values))

    change_guest("reg delete", Place(image, parent), choice, output, planned)


@click.command("import", epilog=examples("vhdtool reg import server.vhdx settings.reg --child new.vhdx"))
@image_argument
@click.argument("file", metavar="FILE.reg")
@guest_option
@parent_option
@target_options
@output_options
def import_file(
    *, image: str, file: str, guest: int | None, parent: str | None, choice: ChangeChoice, output: Output
) -> None:
    r"""Carry out FILE.reg, as the registry editor writes it, on the guest.

    All of the file or nothing of it. Without a target nothing is written.
    """

    def planned(opened: Image) -> Planned:
        from vhdtool.report.registry_change import plan_import  # noqa: PLC0415  # --help does not need the readers

        return Planned(plan_import(opened.installation(guest), file))

    output.protect(file)
    change_guest("reg import", Place(image, parent), choice, output, planned)


def _name(value: str | None, *, default_value: bool) -> str | None:
    if default_value and value is not None:
        raise UsageError("reg-value", "/v and /ve exclude each other")
    return "" if default_value else value
