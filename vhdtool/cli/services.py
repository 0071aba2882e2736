"""``vhdtool services``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vhdtool.cli.change import Place, Planned, change_guest
from vhdtool.cli.options import (
    all_services_option,
    examples,
    guest_option,
    image_argument,
    output_options,
    parent_option,
)
from vhdtool.cli.output import Output
from vhdtool.cli.targets import ChangeChoice, target_options
from vhdtool.errors import UsageError

if TYPE_CHECKING:
    from vhdtool.image import Image


@click.group(
    epilog=examples(
        "vhdtool services list server.vhdx",
        "vhdtool services set server.vhdx vmicvss=manual --child new.vhdx",
    )
)
def services() -> None:
    r"""Services and drivers of the guest."""


@services.command("list", epilog=examples("vhdtool services list server.vhdx"))
@image_argument
@all_services_option
@guest_option
@parent_option
@output_options
def list_services(*, image: str, all_services: bool, guest: int | None, parent: str | None, output: Output) -> None:
    r"""List the integration services and drivers of the guest on IMAGE.

    Start is what the registry says; Override replaces it on the hardware that
    the guest last ran on; Effective is what Windows will act upon; Expected is
    what a healthy guest of this version has.
    """
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.inspection import services_document  # noqa: PLC0415
    from vhdtool.report.text_guest import services_blocks  # noqa: PLC0415

    with output.answering("vhdtool.services/1", image), open_image(image, parent=parent) as opened:
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        output.emit(services_document(opened, guest, all_services=all_services), services_blocks)


@services.command(
    "set",
    epilog=examples(
        "vhdtool services set server.vhdx vmickvpexchange=auto",
        'vhdtool services set a.vhdx "Guest Service Interface=manual" --child b.vhdx',
        "vhdtool services set a.vhdx vmicvss=manual --restore-triggers --in-place",
    ),
)
@image_argument
@click.argument("starts", metavar="NAME=START...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Drivers and services that are not integration services too.")
@click.option("--restore-triggers", is_flag=True, help="Give the services the start triggers of a healthy guest.")
@guest_option
@parent_option
@target_options
@output_options
def set_services(
    *,
    image: str,
    starts: tuple[str, ...],
    force: bool,
    restore_triggers: bool,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> None:
    r"""Set the start types of the guest's services.

    NAME is the guest's name (vmicheartbeat) or that of Get-VMIntegrationService
    ("Heartbeat"). START is auto, delayed, manual or disabled; for drivers boot
    or system too. Without a target the change is shown and nothing is written.
    """
    requests = [_request(start) for start in starts]

    def planned(opened: Image) -> Planned:
        from vhdtool.report.service_change import plan_services  # noqa: PLC0415  # --help does not need the readers

        plan, rows = plan_services(opened, guest, requests, force=force, restore_triggers=restore_triggers)
        return Planned(plan, rows)

    change_guest("services set", Place(image, parent), choice, output, planned)


def _request(text: str) -> tuple[str, str]:
    name, equals, start = text.rpartition("=")
    if not equals or not name.strip():
        raise UsageError(
            "service-start", "this names no service and start type", found=repr(text), hint="As in: vmicvss=manual"
        )
    return name.strip(), start.strip().lower()
