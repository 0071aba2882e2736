"""What must be in a hive after several operations: the last word counts."""

from __future__ import annotations

from vhdtool.registry.expected_hive import ExpectedKey, ExpectedValue, expected_hive
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, SetValue

ONE = b"\1\0\0\0"
TWO = b"\2\0\0\0"


def test_the_last_value_counts():
    operations = [SetValue("A\\B", "v", 4, ONE), SetValue("a\\b", "V", 1, TWO), DeleteValue("A\\B", "w")]
    expected = expected_hive(operations)
    assert set(expected.values) == {
        ExpectedValue(("a", "b"), "V", 1, TWO),
        ExpectedValue(("A", "B"), "w", None),
    }
    assert expected.keys == (ExpectedKey(("A", "B"), present=True),)


def test_a_deleted_key_takes_all_below_it():
    operations = [SetValue("A\\B", "v", 4, ONE), CreateKey("A\\B\\C"), SetValue("AB", "v", 4, ONE), DeleteKey("a")]
    expected = expected_hive(operations)
    assert expected.values == (ExpectedValue(("AB",), "v", 4, ONE),)
    assert set(expected.keys) == {ExpectedKey(("a",), present=False), ExpectedKey(("AB",), present=True)}


def test_a_key_that_was_made_anew_has_nothing_else():
    operations = [
        DeleteKey("A"),
        SetValue("A\\B", "v", 4, ONE),
        SetValue("A\\B", "w", 4, ONE),
        DeleteValue("A\\B", "w"),
    ]
    expected = expected_hive(operations)
    assert set(expected.keys) == {
        ExpectedKey(("A",), True, True, frozenset(), frozenset({"B"})),
        ExpectedKey(("A", "B"), True, True, frozenset({"V"}), frozenset()),
    }
    assert len(expected.values) == 2
    again = expected_hive([*operations, DeleteKey("A\\B")])
    assert set(again.keys) == {
        ExpectedKey(("A",), True, True, frozenset(), frozenset()),
        ExpectedKey(("A", "B"), present=False),
    }
    assert again.values == ()


def test_the_root_and_empty_parts():
    expected = expected_hive([SetValue("", "v", 4, ONE), CreateKey("\\A\\\\B\\")])
    assert expected.values == (ExpectedValue((), "v", 4, ONE),)
    assert expected.keys == (ExpectedKey(("A", "B"), present=True),)
    assert expected_hive([]).keys == ()
