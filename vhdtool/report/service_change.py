"""Plans of ``services set`` and ``boot-ready``, on the guest that the user means."""

from __future__ import annotations

from collections.abc import Sequence

from vhdtool.errors import RefusedError
from vhdtool.guest.boot_ready import plan_boot_ready
from vhdtool.guest.linux_advice import linux_advice
from vhdtool.guest.service_change import ServiceRow, plan_service_starts
from vhdtool.image import Image
from vhdtool.report.document_change import BootReadyFact
from vhdtool.transaction.plan import Plan
from vhdtool.transaction.plan_registry import plan_registry


def plan_services(
    image: Image, guest: int | None, requests: Sequence[tuple[str, str]], *, force: bool, restore_triggers: bool
) -> tuple[Plan, tuple[ServiceRow, ...]]:
    """Plan start types. Raises :class:`RefusedError` ``linux-guest``, and what the plan raises."""
    if not image.installations:
        _refuse_linux(image, requests)
    installation = image.installation(guest)
    plan = plan_service_starts(installation, requests, force=force, restore_triggers=restore_triggers)
    return plan_registry(installation, "SYSTEM", plan.operations), plan.rows


def plan_boot(image: Image, guest: int | None, generation: int | None = None) -> tuple[Plan, BootReadyFact]:
    """Plan what makes a guest start on virtual machines of a generation; else of the one that its disk is made for.

    Windows starts from an MBR disk by BIOS alone, which generation 1 has, and from a GPT disk by UEFI alone, which
    generation 2 has (Microsoft, "Windows and GPT FAQ").
    """
    installation = image.installation(guest)
    by_table = {"mbr": 1, "gpt": 2}.get(image.volume_table.scheme)
    plan = plan_boot_ready(installation, generation=generation or by_table)
    fact = BootReadyFact(plan.generations, plan.ready_for, plan.ready_after, plan.items)
    return plan_registry(installation, "SYSTEM", plan.operations), fact


def _refuse_linux(image: Image, requests: Sequence[tuple[str, str]]) -> None:
    for system in image.linux_installations:
        advice = linux_advice(system.tree, requests)
        if advice is not None:
            raise RefusedError(
                "linux-guest",
                "the guest is a Linux, whose services are set from inside",
                path=image.path,
                hint=f"In the running guest: {advice}",
            )
