"""What every command that changes a guest does: plan, and with a target carry the plan out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vhdtool.cli.output import Output
from vhdtool.cli.progress import progress_bar
from vhdtool.cli.targets import ChangeChoice

if TYPE_CHECKING:
    from vhdtool.guest.service_change import ServiceRow
    from vhdtool.image import Image
    from vhdtool.report.document_change import BootReadyFact
    from vhdtool.transaction.plan import Plan

SCHEMA = "vhdtool.change/1"


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it is about where that is more than files and values."""

    plan: Plan
    services: Sequence[ServiceRow] | None = None
    boot: BootReadyFact | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The image a command works on, as the user named it."""

    image: str
    parent: str | None


def change_guest(
    command: str, place: Place, choice: ChangeChoice, output: Output, make_plan: Callable[[Image], Planned]
) -> None:
    """Make the plan, carry it out where a target was chosen, and show both."""
    from vhdtool.disk.committing import OpinionOptions  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.change import change_document  # noqa: PLC0415
    from vhdtool.report.text_change import change_blocks  # noqa: PLC0415
    from vhdtool.transaction.transaction import Transaction, open_for_change  # noqa: PLC0415

    target = choice.target
    with (
        output.answering(SCHEMA, place.image),
        open_for_change(place.image, target, parent=place.parent, vm=choice.vm) as (opened, notes),
    ):
        output.protect(*(layer.info.path for layer in opened.disk.layers))
        planned = make_plan(opened)
        receipt = None
        if target is not None and planned.plan.changes:
            opinions = OpinionOptions(choice.single_opinion)
            with Transaction(opened, planned.plan, opinions=opinions, progress=progress_bar()) as transaction:
                receipt = transaction.run(target, notes)
        document = change_document(
            command,
            place.image,
            planned.plan,
            target=target,
            receipt=receipt,
            services=planned.services,
            boot=planned.boot,
        )
        output.emit(document, change_blocks)
