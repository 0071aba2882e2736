from __future__ import annotations

import pytest

from vhdtool.checks.version_order import compare_versions, version_order


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("6.3.9600.18692", (6, 3, 9600, 18692)),
        ("6.1.0-25-amd64", (6, 1, 0, 25)),
        ("5.14.0-427.13.1.el9_4.x86_64", (5, 14, 0, 427, 13, 1)),
        ("6.1-rc1", (6, 1)),
        ("v2.0", (2, 0)),
        (" 10 ", (10,)),
        ("unknown", None),
        ("", None),
        (".1", None),
    ],
)
def test_numbers_of_a_version(text, numbers):
    assert version_order(text) == numbers


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [((6, 3), (6, 3, 0), 0), ((6, 3, 1), (6, 3), 1), ((6, 2, 99), (6, 3), -1), ((10,), (9, 9), 1)],
)
def test_order(left, right, order):
    assert compare_versions(left, right) == order
    assert compare_versions(right, left) == -order
