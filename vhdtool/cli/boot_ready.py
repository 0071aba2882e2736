"""``vhdtool boot-ready``: will the guest find its disk on Hyper-V."""

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

FINDINGS = 1


@click.command(
    "boot-ready",
    epilog=examples("vhdtool boot-ready server.vhdx", "vhdtool boot-ready server.vhdx --fix --child new.vhdx"),
)
@image_argument
@click.option("--fix", is_flag=True, help="Make the drivers start as they must; with a target it is written.")
@click.option("--generation", type=click.IntRange(1, 2), help="Of the machine; else by the disk: MBR 1, GPT 2.")
@guest_option
@parent_option
@target_options
@output_options
def boot_ready(
    *,
    image: str,
    fix: bool,
    generation: int | None,
    guest: int | None,
    parent: str | None,
    choice: ChangeChoice,
    output: Output,
) -> int:
    r"""Tell whether the guest on IMAGE will start on Hyper-V.

    Looks at the drivers that its first disk needs: their start types, and
    StartOverride, which other hardware leaves behind. Ends 1 when one will
    not start and --fix with a target was not given.
    """
    if choice.target is not None and not fix:
        raise UsageError("targets", "a target belongs to --fix", hint="Add --fix, or leave the target out.")
    ready = True

    def planned(opened: Image) -> Planned:
        from vhdtool.report.service_change import plan_boot  # noqa: PLC0415  # --help does not need the readers

        nonlocal ready
        plan, boot = plan_boot(opened, guest, generation)
        ready = set(boot.generations) <= set(boot.ready_after if choice.target is not None else boot.ready_for)
        return Planned(plan, boot=boot)

    change_guest("boot-ready", Place(image, parent), choice, output, planned)
    return 0 if ready else FINDINGS
