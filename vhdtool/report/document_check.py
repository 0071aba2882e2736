"""The result documents of ``vhdtool check`` and ``vhdtool explain``. Rules as in :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.checks.model import Outcome
from vhdtool.checks.policy import FailOn
from vhdtool.guest.model import Severity
from vhdtool.report.document import ImageName

ExplanationKind = Literal["check", "finding", "obstacle", "disk-finding", "problem", "error"]


@dataclass(frozen=True, slots=True)
class AppliedWaiverFact:
    """Why a failure is accepted, and until the end of which day (UTC)."""

    reason: str
    expires: str


@dataclass(frozen=True, slots=True)
class CheckResultFact:
    """What a check says of one part of the document of inspect.

    ``place`` is the path into that document; ``subject`` names the part where places move: a service, a hive.
    ``counts``: it makes the whole fail.
    """

    code: str
    severity: Severity
    outcome: Outcome
    counts: bool
    place: str
    subject: str
    message: str
    fix: str | None
    waived: AppliedWaiverFact | None


@dataclass(frozen=True, slots=True)
class CheckCountsFact:
    """How many results of each kind. ``failed`` are those that no waiver accepts, ``counting`` those bad enough."""

    counting: int
    failed: int
    waived: int
    passed: int
    not_applicable: int


@dataclass(frozen=True, slots=True)
class PolicyWaiverFact:
    """A waiver of the policy. ``used``: how many failures of this image it accepts; an expired one accepts none."""

    code: str
    subject: str | None
    images: tuple[str, ...]
    reason: str
    expires: str
    expired: bool
    used: int


@dataclass(frozen=True, slots=True)
class PolicyFact:
    """The policy: its file and name, ``None`` for the built-in baseline alone; ``fail_on``: what fails the whole."""

    file: str | None
    name: str | None
    fail_on: FailOn
    checks: tuple[str, ...]
    waivers: tuple[PolicyWaiverFact, ...]


@dataclass(frozen=True, slots=True)
class CheckDocument:
    """``vhdtool check``: what a policy says of one image. The worst results come first."""

    schema: Literal["vhdtool.check/1"]
    image: ImageName
    policy: PolicyFact
    passed: bool
    counts: CheckCountsFact
    results: tuple[CheckResultFact, ...]


@dataclass(frozen=True, slots=True)
class ExplanationFact:
    """What a code means. ``exit_code`` is that of an error; ``severity`` what a check has where no policy sets it.

    ``messages`` and ``hints`` are the texts that it comes with; an ellipsis stands for what is known only when it
    happens. ``parameters`` are what a policy may set of a check.
    """

    code: str
    kind: ExplanationKind
    severity: Severity | None
    exit_code: int | None
    what: str
    why: str
    fix: str
    messages: tuple[str, ...]
    hints: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExplainDocument:
    """``vhdtool explain``: one code may be told as several kinds; each has its explanation."""

    schema: Literal["vhdtool.explain/1"]
    explanations: tuple[ExplanationFact, ...]
