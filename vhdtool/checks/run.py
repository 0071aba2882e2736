"""Runs the checks of a policy over one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from vhdtool.checks.model import SEVERITIES, Check, Verdict, is_at_least
from vhdtool.checks.node import Node
from vhdtool.checks.policy import FailOn, Policy
from vhdtool.checks.waiver import Waiver
from vhdtool.errors import InputError

INSPECT_SCHEMA = "vhdtool.inspect/1"
MOST_VERDICTS = 20_000


@dataclass(frozen=True, slots=True)
class Judged:
    """What a check said of a part, and the waiver that accepts it."""

    check: Check
    verdict: Verdict
    waiver: Waiver | None = None

    @property
    def is_failure(self) -> bool:
        """Whether it failed and nothing accepts that."""
        return self.verdict.outcome == "fail" and self.waiver is None

    def counts(self, fail_on: FailOn) -> bool:
        """Whether it is a failure that is bad enough."""
        return self.is_failure and fail_on != "never" and is_at_least(self.check.severity, fail_on)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a policy on one document."""

    image: str
    judged: tuple[Judged, ...]
    policy: Policy

    def passed(self, fail_on: FailOn) -> bool:
        """Whether no failure counts."""
        return not any(one.counts(fail_on) for one in self.judged)


def run_checks(document: Mapping[str, Any], policy: Policy, today: date) -> Run:
    """Run every check of a policy; the worst come first, and what failed before what did not.

    ``document`` is what inspect writes, as plain values. Raises :class:`InputError` ``not-an-inspect-document`` and
    what a rule's path or pattern raises.
    """
    node = Node(document)
    schema = node.text("schema")
    if schema != INSPECT_SCHEMA:
        raise node.misfit(f"the schema {INSPECT_SCHEMA}")
    image = node.child("image").text("path") or ""
    judged: list[Judged] = []
    for chosen in policy.checks:
        for verdict in chosen.check.examine(node, chosen.values):
            waiver = _waiver(policy, chosen.check, verdict, image, today) if verdict.outcome == "fail" else None
            judged.append(Judged(chosen.check, verdict, waiver))
            if len(judged) > MOST_VERDICTS:
                raise InputError(
                    "rule-path-too-wide",
                    f"the checks say more than {MOST_VERDICTS} things of the document",
                    found=f"most by {chosen.check.code}",
                    hint="Name fewer parts in the rule's path: [name=...] in the place of [*].",
                )
    order = {"fail": 0, "pass": 1, "not-applicable": 2}
    judged.sort(key=lambda one: (order[one.verdict.outcome], -SEVERITIES.index(one.check.severity)))
    return Run(image, tuple(judged), policy)


def _waiver(policy: Policy, check: Check, verdict: Verdict, image: str, today: date) -> Waiver | None:
    covering = (one for one in policy.waivers if one.covers(check.code, verdict, image))
    return next((one for one in covering if not one.has_expired(today)), None)
