"""The result documents of staging. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.guest.model import StagedState
from vhdtool.report.document import ImageName
from vhdtool.report.document_change import FileChangeFact, ReceiptFact, RegistryChangeFact

Answer = Literal["yes", "no", "unknown"]
WayName = Literal["service", "setupcomplete"]


@dataclass(frozen=True, slots=True)
class CheckFact:
    """One check before staging. ``code`` is that of the error where it refuses; ``hint`` says what to do."""

    name: str
    outcome: Literal["ok", "warn", "refuse"]
    message: str
    code: str | None
    hint: str | None


@dataclass(frozen=True, slots=True)
class StagedPackageFact:
    """A package that was named. ``staged`` is false where the guest is current, and it is left out.

    ``trust``: trusted, untrusted (nobody that is trusted vouches for it), tampered. ``key``: what in the guest decided
    that it applies.
    """

    source: str
    sha256: str
    size: int
    name: str
    kb: str | None
    version: str
    architecture: str
    integration_version: str | None
    trust: Literal["trusted", "untrusted", "tampered"]
    applies: Answer
    rule: str
    message: str
    key: str | None
    current: bool | None
    current_message: str
    staged: bool


@dataclass(frozen=True, slots=True)
class StageDocument:
    """``vhdtool stage`` and ``vhdtool apply``: the checks, the plan, and with a target the receipt.

    ``id`` names the stage, None where no package is left to stage. ``ways`` that start it, first to last, and why
    (``way_reason``). ``guest_command`` is what the service starts in the guest, ``install_commands`` what that runs for
    each package. ``replaces``: older stages that go. ``notices``: what people should know before. ``saved_plan``: the
    file that the plan was saved to.
    """

    schema: Literal["vhdtool.stage/1"]
    command: Literal["stage", "apply"]
    image: ImageName
    id: str | None
    would_change: bool
    changed: bool
    checks: tuple[CheckFact, ...]
    packages: tuple[StagedPackageFact, ...]
    ways: tuple[WayName, ...]
    way_reason: str | None
    reboot: Literal["never", "if-needed"]
    guest_command: str | None
    install_commands: tuple[str, ...]
    replaces: tuple[str, ...]
    notices: tuple[str, ...]
    registry: tuple[RegistryChangeFact, ...]
    files: tuple[FileChangeFact, ...]
    saved_plan: str | None
    receipt: ReceiptFact | None


@dataclass(frozen=True, slots=True)
class CabOutcomeFact:
    """What became of one package. ``code`` is what DISM or pkgmgr ended with, signed; None: it never did."""

    file: str
    title: str
    state: str
    code: int | None
    code_hex: str | None
    meaning: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class OutcomeFact:
    """What became of one stage. ``reason`` says why; ``waits``: its service is there, and will start it (again).

    Times as the guest's clock had them, ``staged_at`` in UTC. The versions are those of the integration services.
    """

    id: str
    title: str
    state: StagedState
    reason: str
    ways: tuple[str, ...]
    staged_at: str | None
    attempts: int
    started: str | None
    ended: str | None
    waits: bool
    packages: tuple[CabOutcomeFact, ...]
    version_before: str | None
    version_staged: str | None
    version_now: str | None
    log: tuple[str, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutcomeDocument:
    """``vhdtool outcome``: everything that is staged in a guest, or was, and what became of it."""

    schema: Literal["vhdtool.outcome/1"]
    image: ImageName
    volume: int
    root: str
    stages: tuple[OutcomeFact, ...]
