"""A policy's own rules over the result document: what a part of it must be.

No expression is evaluated: a rule is a path, an operation by its name and a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vhdtool.checks.model import Values, Verdict
from vhdtool.checks.node import Node
from vhdtool.checks.path import MISSING, NOTHING, Path, as_text
from vhdtool.checks.pattern import Pattern
from vhdtool.checks.version_order import compare_versions, version_order
from vhdtool.errors import InputError

OperandKind = Literal["none", "value", "list", "version", "pattern"]
Unknown = Literal["fail", "pass", "not-applicable"]
LONGEST_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Operation:
    """What a rule asks of a value. ``says`` goes between "must" and the operand."""

    operand: OperandKind
    says: str
    holds: Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """A path, an operation and its operand; ``unknown``: what to say of a part that the document does not know."""

    path: Path
    operation: str
    operand: Any
    unknown: Unknown = "fail"

    def examine(self, document: Node, _: Values) -> Iterator[Verdict]:
        """Look at every part that the path leads to."""
        nodes = list(self.path.nodes(document))
        if not nodes:
            yield Verdict("not-applicable", self.path.source, "There is nothing that this rule is about.")
        for node in nodes:
            yield self._verdict(node)

    def _verdict(self, node: Node) -> Verdict:
        operation = OPERATIONS[self.operation]
        existence = self.operation in {"present", "absent"}
        if node.value is NOTHING and not existence:
            return Verdict("not-applicable", node.place, "There is nothing that this rule is about.")
        if (node.value is MISSING or node.value is None) and not existence:
            return Verdict(self.unknown, node.place, f"{node.place} is not known.")
        try:
            holds = operation.holds(node.value, self.operand)
        except InputError as error:
            error.path = node.place
            raise
        operand = "" if operation.operand == "none" else f" {_shown(self.operand)}"
        if holds:
            return Verdict("pass", node.place, f"{node.place} is {_shown(node.value)}.")
        if existence:
            is_there = "is" if self.operation == "absent" else "is not"
            return Verdict("fail", node.place, f"{node.place} {is_there} there.")
        return Verdict(
            "fail", node.place, f"{node.place} is {_shown(node.value)}, and must {operation.says}{operand}."
        )  # fmt: skip


def is_version(value: Any) -> bool:
    """Whether a value can be compared by order."""
    return _order(value) is not None


def _shown(value: Any) -> str:
    if isinstance(value, Pattern):
        return value.source
    if isinstance(value, list | tuple):
        text = f"[{', '.join(as_text(one) for one in value[:20])}{', ...' if len(value) > 20 else ''}]"
    elif isinstance(value, dict):
        text = f"an object with {', '.join(map(str, value)) or 'nothing'}"
    else:
        text = as_text(value) if value != "" else "empty"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _order(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, str):
        return version_order(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return None


def _compared(value: Any, operand: Any, accepted: Callable[[int], bool]) -> bool:
    left, right = _order(value), _order(operand)
    return left is not None and right is not None and accepted(compare_versions(left, right))


def _equals(value: Any, operand: Any) -> bool:
    """Whether both are the same and of one kind: 1 is not true."""
    return isinstance(value, bool) == isinstance(operand, bool) and bool(value == operand)


def _among(value: Any, operands: Any) -> bool:
    return any(_equals(value, operand) for operand in operands)


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    return isinstance(value, list | tuple) and any(_equals(one, operand) for one in value)


def _matches(value: Any, pattern: Pattern) -> bool:
    return isinstance(value, str) and pattern.found_in(value)


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | list | tuple | dict) and len(value) == 0


def _is_present(value: Any) -> bool:
    return value is not MISSING and value is not NOTHING and value is not None


OPERATIONS: dict[str, Operation] = {
    "equals": Operation("value", "be", _equals),
    "not-equals": Operation("value", "not be", lambda value, operand: not _equals(value, operand)),
    "in": Operation("list", "be one of", _among),
    "not-in": Operation("list", "be none of", lambda value, operand: not _among(value, operand)),
    "at-least": Operation("version", "be at least", lambda a, b: _compared(a, b, lambda order: order >= 0)),
    "at-most": Operation("version", "be at most", lambda a, b: _compared(a, b, lambda order: order <= 0)),
    "above": Operation("version", "be above", lambda a, b: _compared(a, b, lambda order: order > 0)),
    "below": Operation("version", "be below", lambda a, b: _compared(a, b, lambda order: order < 0)),
    "matches": Operation("pattern", "match", _matches),
    "not-matches": Operation("pattern", "not match", lambda value, pattern: not _matches(value, pattern)),
    "contains": Operation("value", "contain", _contains),
    "not-contains": Operation("value", "not contain", lambda value, operand: not _contains(value, operand)),
    "empty": Operation("none", "be empty", lambda value, _: _is_empty(value)),
    "not-empty": Operation("none", "not be empty", lambda value, _: not _is_empty(value)),
    "present": Operation("none", "be there", lambda value, _: _is_present(value)),
    "absent": Operation("none", "not be there", lambda value, _: not _is_present(value)),
}
"""By their names in a policy."""
