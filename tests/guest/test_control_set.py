from __future__ import annotations

import pytest

from tests.guest.guests import guest, hive
from vhdtool.guest.control_set import current_control_set


@pytest.mark.parametrize(
    ("select", "sets", "expected"),
    [
        ({"Current": 2, "Default": 1}, (1, 2), 2),
        ({"Current": 7, "Default": 3, "LastKnownGood": 1}, (1, 3), 3),
        ({"Current": 0, "LastKnownGood": 2}, (1, 2), 2),
        ({"Current": "1"}, (1,), 1),
        ({"Current": 4000000000}, (1,), 1),
        ({}, (1,), 1),
        ({"Current": 1}, (), None),
    ],
)
def test_the_control_set_that_select_names(select: dict[str, int], sets: tuple[int, ...], expected: int | None) -> None:
    keys = {"Select": select, **{f"ControlSet{number:03d}\\Services": {} for number in sets}}
    found = current_control_set(guest(hive(keys)).hive("SYSTEM"))
    assert (None if found is None else found.number) == expected
    if found is not None:
        assert found.location == f"SYSTEM\\ControlSet{expected:03d}"
        assert found.key("Services") is not None
        assert found.key(r"Services\none\such") is None
