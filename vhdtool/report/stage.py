"""The document of staging, built from a stage's plan and its receipt."""

from __future__ import annotations

from typing import Literal

from vhdtool.disk.commit import Target
from vhdtool.report.change import change_document
from vhdtool.report.document_stage import (
    CheckFact,
    StageDocument,
    StagedPackageFact,
)
from vhdtool.staging.plan import Reboot, StagePlan
from vhdtool.staging.preflight import Check, JudgedPackage
from vhdtool.transaction.transaction import Receipt

DWORD = 0xFFFFFFFF


def stage_document(
    command: Literal["stage", "apply"],
    image: str,
    stage: StagePlan,
    *,
    reboot: Reboot,
    target: Target | None = None,
    receipt: Receipt | None = None,
    saved_plan: str | None = None,
) -> StageDocument:
    """Build the document of ``vhdtool stage``; without a receipt nothing was written."""
    change = change_document(command, image, stage.plan, target=target, receipt=receipt)
    return StageDocument(
        "vhdtool.stage/1",
        command,
        change.image,
        stage.id,
        would_change=change.would_change,
        changed=change.changed,
        checks=tuple(_check(check) for check in stage.checks),
        packages=tuple(_package(one) for one in stage.packages),
        ways=() if stage.way is None else stage.way.names,
        way_reason=None if stage.way is None else stage.way.reason,
        reboot=reboot,
        guest_command=stage.command,
        install_commands=stage.installs,
        replaces=stage.replaces,
        notices=stage.notices,
        registry=change.registry,
        files=change.files,
        saved_plan=saved_plan,
        receipt=change.receipt,
    )


def _check(check: Check) -> CheckFact:
    return CheckFact(check.name, check.outcome, check.message, check.code, check.hint)


def _package(judged: JudgedPackage) -> StagedPackageFact:
    staged, package = judged.staged, judged.staged.package
    brought = package.integration_version
    return StagedPackageFact(
        source=staged.source,
        sha256=staged.sha256,
        size=staged.content.size,
        name=package.identity.name,
        kb=package.kb,
        version=package.identity.version_text,
        architecture=package.architecture,
        integration_version=None if brought is None else ".".join(map(str, brought)),
        trust=staged.trust,
        applies=judged.applies.answer,
        rule=judged.applies.rule,
        message=judged.applies.message,
        key=judged.applies.key,
        current=judged.currency.is_current,
        current_message=judged.currency.message,
        staged=not judged.currency.is_current,
    )
