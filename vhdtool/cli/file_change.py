"""``vhdtool put``, ``mkdir`` and ``rm``: files into a guest, and out of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vhdtool.cli.change import Place, Planned, change_guest
from vhdtool.cli.options import examples, guest_option, image_argument, output_options, parent_option, volume_option
from vhdtool.cli.output import Output
from vhdtool.cli.targets import ChangeChoice, target_options
from vhdtool.errors import UsageError

if TYPE_CHECKING:
    from vhdtool.image import Image
    from vhdtool.report.guest_files import GuestPlace


@click.command(
    epilog=examples(
        "vhdtool put server.vhdx unattend.xml /Windows/Panther/ --child new.vhdx",
        "vhdtool put server.vhdx agent.exe C:/Tools/agent.exe --in-place",
    )
)
@image_argument
@click.argument("source", metavar="SRC")
@click.argument("path", metavar="DST")
@volume_option
@guest_option
@parent_option
@target_options
@output_options
def put(
    *,
    image: str,
    source: str,
    path: str,
    volume: int | None,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Put the host's file SRC into the guest as DST.

    DST is a file's path, or a directory: then the file keeps its name. A file
    that is there is replaced and keeps its permissions; a new one takes those
    of its directory. Without a target nothing is written.
    """
    from vhdtool.disk.device import FileDevice  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.transaction.plan_files import plan_put  # noqa: PLC0415

    with closing(FileDevice(source)) as content:

        def planned(opened: Image) -> Planned:
            place = _place(opened, path, volume, guest)
            there = place.filesystem.stat(place.path)
            wanted = place.path
            if path.endswith(("/", "\\")) or (there is not None and there.kind == "directory"):
                wanted = f"{place.path.rstrip('/')}/{Path(source).name}"
            return Planned(plan_put(place.filesystem, place.volume, wanted, content, source=source))

        output.protect(source)
        change_guest("put", Place(image, parent), choice, output, planned)


@click.command(epilog=examples("vhdtool mkdir server.vhdx /Tools/logs --parents --child new.vhdx"))
@image_argument
@click.argument("path", metavar="PATH")
@click.option("--parents", is_flag=True, help="Make the directories above it too.")
@volume_option
@guest_option
@parent_option
@target_options
@output_options
def mkdir(
    *,
    image: str,
    path: str,
    parents: bool,
    volume: int | None,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Make the directory PATH in the guest.

    One that is there already is left as it is. Without a target nothing is
    written.
    """
    from vhdtool.transaction.plan_files import plan_make_directory  # noqa: PLC0415  # --help does not need it

    def planned(opened: Image) -> Planned:
        place = _place(opened, path, volume, guest)
        return Planned(plan_make_directory(place.filesystem, place.volume, place.path, parents=parents))

    change_guest("mkdir", Place(image, parent), choice, output, planned)


@click.command(epilog=examples("vhdtool rm server.vhdx /Windows/Panther/unattend.xml --in-place"))
@image_argument
@click.argument("path", metavar="PATH")
@click.option("--recursive", is_flag=True, help="A directory, with all below it.")
@volume_option
@guest_option
@parent_option
@target_options
@output_options
def rm(
    *,
    image: str,
    path: str,
    recursive: bool,
    volume: int | None,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Remove the file, link or empty directory PATH from the guest.

    Links are removed, never followed. Nothing there: nothing to do. Without a
    target nothing is written.
    """
    from vhdtool.transaction.plan_files import plan_remove  # noqa: PLC0415  # --help does not need it

    def planned(opened: Image) -> Planned:
        place = _place(opened, path, volume, guest)
        return Planned(plan_remove(place.filesystem, place.volume, place.path, recursive=recursive))

    change_guest("rm", Place(image, parent), choice, output, planned)


def _place(opened: Image, path: str, volume: int | None, guest: int | None) -> GuestPlace:
    from vhdtool.report.guest_files import find_place  # noqa: PLC0415  # --help does not need the readers

    if volume is not None and guest is not None:
        raise UsageError("place", "--volume and --guest exclude each other")
    return find_place(opened, path, volume=volume, guest=guest)
