from __future__ import annotations

import pytest

from vhdtool.checks.node import Node
from vhdtool.checks.path import Path
from vhdtool.checks.pattern import Pattern
from vhdtool.checks.rule import OPERATIONS, Rule


def outcome(operation, operand, value, unknown="fail"):
    rule = Rule(Path("a.b"), operation, Pattern(operand) if operation.endswith("matches") else operand, unknown)
    (verdict,) = rule.examine(Node({"a": {} if value is ... else {"b": value}}), {})
    return verdict.outcome


CASES = [
    ("equals", "x", "x", "y"), ("equals", 512, 512, 4096), ("equals", True, True, 1), ("equals", 1, 1, True),
    ("not-equals", "x", "y", "x"), ("not-equals", False, True, False),
    ("in", ["a", 2], 2, "b"), ("in", [1], 1, True), ("not-in", ["a"], "b", "a"),
    ("at-least", "6.3.9600.18692", "6.3.9600.18692", "6.3.9600.9"), ("at-least", "6.3", "10.0", "6.2.99999"),
    ("at-least", "6.3", "6.3.0", "none"), ("at-least", 10, 10, 9), ("at-least", 10, "10.1", True),
    ("at-most", "6.3", "6.3.0.0", "6.3.0.1"), ("above", "6.3", "6.3.1", "6.3.0"), ("below", 5, 4, 5),
    ("matches", "^6[.]3", "6.3.9600", "16.3"), ("matches", "a", "cab", 7), ("not-matches", "a", "b", "a"),
    ("contains", "b", "abc", "ac"), ("contains", "b", ["b"], ["abc"]), ("contains", 1, [1], [True]),
    ("not-contains", "b", ["c"], ["b"]), ("empty", None, [], ["x"]), ("empty", None, "", "x"), ("empty", None, {}, 0),
    ("not-empty", None, "x", ""), ("present", None, False, None), ("present", None, "", ...), ("absent", None, None, 0),
    ("absent", None, ..., ""),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "operand", "good", "bad"), CASES)
def test_each_operation_where_it_holds_and_where_not(operation, operand, good, bad):
    assert outcome(operation, operand, good) == "pass"
    assert outcome(operation, operand, bad) == "fail"


def test_every_operation_is_among_these():
    assert {operation for operation, *_ in CASES} == set(OPERATIONS)


@pytest.mark.parametrize("unknown", ["fail", "pass", "not-applicable"])
@pytest.mark.parametrize("value", [None, ...])
def test_what_is_not_known_is_what_the_rule_says_it_is(unknown, value):
    assert outcome("equals", "x", value, unknown) == unknown
    assert outcome("not-equals", "x", value, unknown) == unknown


def test_a_rule_about_nothing_does_not_apply():
    rule = Rule(Path("guests[*].os"), "equals", 1)
    (verdict,) = rule.examine(Node({"guests": []}), {})
    assert verdict.outcome == "not-applicable"
    for operation, expected in (("equals", "not-applicable"), ("present", "fail"), ("absent", "pass")):
        rule = Rule(Path("guests[name=x]"), operation, None)
        (verdict,) = rule.examine(Node({"guests": [{"name": "y"}]}), {})
        assert verdict.outcome == expected


def test_long_values_are_told_shortened():
    (verdict,) = Rule(Path("a"), "equals", "x").examine(Node({"a": "y" * 10_000}), {})
    assert len(verdict.message) < 300
