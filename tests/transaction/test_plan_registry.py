from __future__ import annotations

import pytest

from tests.guest.guests import SELECT, WINDOWS_2012_R2, guest
from vhdtool.errors import UsageError
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue
from vhdtool.registry.value_data import REG_DWORD, REG_SZ
from vhdtool.transaction.plan import StoredValue
from vhdtool.transaction.plan_registry import plan_registry

SERVICE = r"ControlSet001\Services\vmicvss"
SYSTEM = {**SELECT, SERVICE: {"Start": 3, "Type": 32}, rf"{SERVICE}\TriggerInfo\0": {"Type": 1, "Action": 1}}


def dword(number: int) -> bytes:
    return number.to_bytes(4, "little")


def planned(*operations: RegistryOperation):
    return plan_registry(guest(SYSTEM, WINDOWS_2012_R2), "system", operations)


def test_before_and_after_of_a_value():
    (change,) = planned(SetValue(SERVICE, "Start", REG_DWORD, dword(4))).registry
    assert change.before == StoredValue(REG_DWORD, dword(3))
    assert change.changes
    assert (change.hive, change.root) == ("SYSTEM", "/Windows")


@pytest.mark.parametrize(
    "operation",
    [
        SetValue(SERVICE.upper(), "START", REG_DWORD, dword(3)),
        DeleteValue(SERVICE, "Absent"),
        DeleteValue(r"No\Such\Key", "Absent"),
        CreateKey(rf"{SERVICE}\triggerinfo"),
        DeleteKey(r"No\Such"),
    ],
)
def test_what_is_so_already_changes_nothing(operation):
    plan = planned(operation)
    assert not plan.changes
    assert plan.volumes == ()


def test_another_type_with_the_same_bytes_is_a_change():
    assert planned(SetValue(SERVICE, "Start", REG_SZ, dword(3))).changes


def test_each_operation_sees_those_before_it():
    first, second, third, fourth = planned(
        SetValue(r"New\Key", "A", REG_DWORD, dword(1)),
        SetValue(r"NEW\KEY", "a", REG_DWORD, dword(2)),
        CreateKey("new"),
        DeleteValue(r"New\Key", "A"),
    ).registry
    assert first.before is None
    assert second.before == StoredValue(REG_DWORD, dword(1))
    assert not third.changes
    assert fourth.before == StoredValue(REG_DWORD, dword(2))


def test_deleted_key_takes_everything_below_with_it():
    deleted, again, value, anew, start = planned(
        DeleteKey(SERVICE),
        DeleteKey(SERVICE),
        DeleteValue(rf"{SERVICE}\TriggerInfo\0", "Type"),
        CreateKey(SERVICE),
        SetValue(SERVICE, "Start", REG_DWORD, dword(3)),
    ).registry
    assert deleted.changes
    assert deleted.below == 2 + 2 + 2  # Start, Type; TriggerInfo, 0; Type, Action
    assert not again.changes
    assert not value.changes
    assert anew.changes
    assert start.before is None
    assert start.changes


def test_created_key_goes_with_the_key_above_it():
    plan = planned(CreateKey(r"New\Key"), DeleteKey("New"), CreateKey(r"New\Key"))
    assert [change.changes for change in plan.registry] == [True, True, True]


def test_root_can_not_be_deleted():
    with pytest.raises(UsageError) as caught:
        planned(DeleteKey(""))
    assert caught.value.code == "delete-root"
