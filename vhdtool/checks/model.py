"""What a check is, and what it says of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vhdtool.checks.node import Node
from vhdtool.guest.model import Severity

Outcome = Literal["pass", "fail", "not-applicable"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high")
"""From the least to the worst."""

ParameterKind = Literal["flag", "texts", "minimum-versions", "starts", "severity"]
Values = Mapping[str, Any]
"""The parameters of a check by their names, every one of them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of one part of a document.

    ``place`` is a path into it (``guests[0].services[1]``). ``subject`` names the part where places move: a service, a
    hive; empty where the part is the only one. ``fix``: how to mend this one, where that differs from the check's.
    """

    outcome: Outcome
    place: str
    message: str
    subject: str = ""
    fix: str | None = None


Examine = Callable[[Node, Values], Iterator[Verdict]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What of a check a policy may set."""

    name: str
    kind: ParameterKind
    default: Any
    what: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check. ``what``: what holds where it passes; ``why`` that matters; ``fix``: how to mend it.

    ``examine`` looks at a whole document. ``on``: it is part of the baseline; else a policy must ask for it.
    ``own``: a rule of the policy, no check of ours.
    """

    code: str
    severity: Severity
    what: str
    why: str
    fix: str
    examine: Examine
    parameters: tuple[Parameter, ...] = ()
    on: bool = True
    own: bool = False

    def defaults(self) -> dict[str, Any]:
        """The parameters as they are where no policy sets them."""
        return {parameter.name: parameter.default for parameter in self.parameters}


def is_at_least(severity: Severity, threshold: Severity) -> bool:
    """Whether one severity is as bad as another, or worse."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(threshold)
