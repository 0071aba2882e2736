"""``vhdtool reg query``: the registry, asked as REG.EXE is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from vhdtool.cli import failures
from vhdtool.cli.options import examples, guest_option, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.cli.reg_change import add, delete, import_file
from vhdtool.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from vhdtool.report.document import RegistryKey, RegQueryDocument
    from vhdtool.report.registry_query import RegistryAnswer

SPELLINGS = {"/v": "--value", "/ve": "--default-value", "/s": "--recursive"}
"""REG.EXE's options and ours."""


class RegCommand(click.Command):
    """Takes REG.EXE's own spelling of the options: only these words, for a path may begin with ``/`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Translate what stands before ``--``."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [SPELLINGS.get(word.lower(), word) for word in args[:end]] + args[end:])


@click.group(epilog=examples(r'vhdtool reg query server.vhdx "HKLM\SYSTEM\Select"'))
def reg() -> None:
    r"""The registry of the guest."""


for _command in (add, delete, import_file):
    reg.add_command(_command)


@reg.command(
    cls=RegCommand,
    epilog=examples(
        r'vhdtool reg query server.vhdx "HKLM\SYSTEM\Select" /v Current',
        r"vhdtool reg query SYSTEM ControlSet001\Services\vmbus --recursive",
    ),
)
@click.argument("image", metavar="IMAGE-OR-HIVE")
@click.argument("key", metavar="KEY")
@click.option("--value", metavar="NAME", help="Only this value. Also: /v NAME.")
@click.option("--default-value", is_flag=True, help="Only the default value. Also: /ve.")
@click.option("--recursive", is_flag=True, help="All keys below too. Also: /s.")
@guest_option
@parent_option
@output_options
def query(
    *,
    image: str,
    key: str,
    value: str | None,
    default_value: bool,
    recursive: bool,
    guest: int | None,
    parent: str | None,
    output: Output,
) -> None:
    r"""Show a registry key of the guest on IMAGE, or of a hive file.

    KEY begins with HKLM\SYSTEM, HKLM\SOFTWARE, HKLM\SAM, HKLM\SECURITY or
    HKU\.DEFAULT; CurrentControlSet is followed. In a hive file it may also
    begin at the root. Ends 1 when the key or value is absent, as REG.EXE.
    """
    if default_value and value is not None:
        raise UsageError("reg-query", "/v and /ve exclude each other")
    wanted = "" if default_value else value
    with (
        output.answering("vhdtool.reg-query/1", image),
        _ask(path=image, key=key, value=wanted, recursive=recursive, guest=guest, parent=parent) as answer,
    ):
        _tell_recovery(answer)
        keys = _at_least_one(answer.keys, key, wanted)
        show_subkeys = wanted is None and not recursive
        if output.json:
            output.emit_lines(
                _document(image, answer, keys, output), lambda document: _lines(document.keys, subkeys=show_subkeys)
            )
        else:
            output.emit_stream(_lines(keys, subkeys=show_subkeys))
        for problem in answer.problems():
            failures.tell_note(f"{problem.message} [{problem.code}]")


@contextmanager
def _ask(
    *, path: str, key: str, value: str | None, recursive: bool, guest: int | None, parent: str | None
) -> Iterator[RegistryAnswer]:
    from vhdtool.report.registry_query import (  # noqa: PLC0415  # --help does not need the readers
        looks_like_hive,
        query_hive_file,
        query_installation,
    )

    if looks_like_hive(path):
        if guest is not None or parent is not None:
            raise UsageError("reg-query", "--guest and --parent belong to an image", found="a hive file", path=path)
        with query_hive_file(path, key, value=value, recursive=recursive) as answer:
            yield answer
        return
    from vhdtool.image import open_image  # noqa: PLC0415

    with open_image(path, parent=parent) as image:
        yield query_installation(image.installation(guest), key, value=value, recursive=recursive)


def _tell_recovery(answer: RegistryAnswer) -> None:
    hive = answer.hive
    if hive.state == "recovered":
        failures.tell_note(f"{hive.path} was dirty and is recovered in memory from {', '.join(hive.logs)}")
    elif hive.state == "dirty":
        failures.tell_note(f"{hive.path} is dirty and its logs can't repair it: the answer may be stale")


def _at_least_one(keys: Iterable[RegistryKey], key: str, value: str | None) -> Iterator[RegistryKey]:
    found = False
    for one in keys:
        found = True
        yield one
    if not found:
        raise NotFoundError("no-such-value", f"no key at or below it has the value {value!r}", found=key)


def _document(image: str, answer: RegistryAnswer, keys: Iterable[RegistryKey], output: Output) -> RegQueryDocument:
    from vhdtool.report.document import RegQueryDocument  # noqa: PLC0415
    from vhdtool.report.encode import encoded, image_name  # noqa: PLC0415

    if not output.text:  # a whole hive has millions of values: only their JSON is kept
        keys = (encoded(key) for key in keys)
    listed = tuple(keys)  # problems are found while reading
    return RegQueryDocument("vhdtool.reg-query/1", image_name(image), answer.hive, listed, answer.problems())


def _lines(keys: Iterable[RegistryKey], *, subkeys: bool) -> Iterator[str]:
    from vhdtool.report.text_registry import registry_lines  # noqa: PLC0415

    for key in keys:
        yield from registry_lines(key, subkeys=subkeys)
    yield ""
