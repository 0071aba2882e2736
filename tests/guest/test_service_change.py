from __future__ import annotations

import pytest

from tests.data_files import data_file
from tests.guest.changed_keys import changed
from tests.guest.guests import WINDOWS_7, WINDOWS_11, WINDOWS_2012_R2, Keys, guest
from tests.guest.test_services import HEARTBEAT_TRIGGER, SERVICES, override, rows, service, trigger
from vhdtool.errors import NotFoundError, RefusedError, UsageError, VhdtoolError
from vhdtool.guest.service_change import WORDS, ServicePlan, ServiceRow, StartState, plan_service_starts
from vhdtool.registry.operation import DeleteKey, DeleteValue, SetValue

HEARTBEAT = rf"{SERVICES}\vmicheartbeat"
WINDOWS_10_2004 = "hives/fox-it__dissect.regf/SYSTEM.gz"


def driver(name: str, start: int, **values: int) -> Keys:
    return {rf"{SERVICES}\{name}": {"Start": start, "Type": 1, "ImagePath": rf"System32\drivers\{name}.sys", **values}}


def plan(system: Keys, *requests: str, software: Keys = WINDOWS_2012_R2, **options: bool) -> ServicePlan:
    wanted = [(name, word) for name, _, word in (request.rpartition("=") for request in requests)]
    return plan_service_starts(guest({SERVICES: {}, **system}, software), wanted, **options)


def row_of(found: ServicePlan) -> ServiceRow:
    (row,) = found.rows
    return row


def fails(kind: type[VhdtoolError], code: str, system: Keys, *requests: str, **options: bool) -> VhdtoolError:
    with pytest.raises(kind) as raised:
        plan(system, *requests, **options)
    assert raised.value.code == code
    return raised.value


def dword(key: str, name: str, number: int) -> SetValue:
    return SetValue(key, name, 4, number.to_bytes(4, "little"))


@pytest.mark.parametrize("word", [word for word in WORDS if word not in {"boot", "system"}])
@pytest.mark.parametrize("start", range(2, 5))
@pytest.mark.parametrize("delayed", [None, 0, 1])
def test_what_is_asked_for_is_what_windows_acts_upon(word: str, start: int, delayed: int | None) -> None:
    values = {} if delayed is None else {"DelayedAutostart": delayed}
    keys = {**service("vmicheartbeat", start, **values), **trigger("vmicheartbeat", HEARTBEAT_TRIGGER)}
    found = plan(keys, f"vmicheartbeat={word}")
    after = changed({SERVICES: {}, **keys}, found.operations)
    fact = rows(after)["vmicheartbeat"]
    wanted = "auto" if word == "delayed" else word
    assert (fact.start, fact.effective_start, fact.delayed_auto_start) == (wanted, wanted, word == "delayed")
    row = row_of(found)
    assert (row.after.start, row.after.effective, row.after.delayed) == (wanted, wanted, word == "delayed")
    assert row.changes == bool(found.operations)
    again = plan(after, f"vmicheartbeat={word}")
    assert again.operations == ()
    assert not row_of(again).changes
    assert row_of(again).before == row.after


def test_a_plain_change() -> None:
    keys = {**service("vmicheartbeat", 4), **trigger("vmicheartbeat", HEARTBEAT_TRIGGER)}
    found = plan(keys, "VMICHEARTBEAT=manual")
    assert found.operations == (dword(HEARTBEAT, "Start", 3),)
    assert row_of(found) == ServiceRow(
        name="vmicheartbeat",
        display_name="Hyper-V Heartbeat Service",
        kind="service",
        location=rf"SYSTEM\{HEARTBEAT}",
        before=StartState("disabled", delayed=False, override=None, effective="disabled", triggers=1),
        after=StartState("manual", delayed=False, override=None, effective="manual", triggers=1),
        expected="manual",
        changes=True,
        notes=(),
    )


# the output of Get-VMIntegrationService in Microsoft, "Manage Hyper-V Integration Services"
HOST_NAMES = {
    "Guest Service Interface": "vmicguestinterface",
    "Heartbeat": "vmicheartbeat",
    "Key-Value Pair Exchange": "vmickvpexchange",
    "Shutdown": "vmicshutdown",
    "Time Synchronization": "vmictimesync",
    "VSS": "vmicvss",
}


@pytest.mark.parametrize("asked", [*HOST_NAMES, "key-value  pair exchange", "Hyper-V Data Exchange Service"])
def test_the_names_of_the_host(asked: str) -> None:
    expected = HOST_NAMES.get(asked, "vmickvpexchange")
    keys: Keys = {path: values for name in HOST_NAMES.values() for path, values in service(name, 3).items()}
    assert row_of(plan(keys, f"{asked}=auto")).name == expected


def test_several_services_in_one_plan() -> None:
    keys = {**service("vmicheartbeat", 4), **service("vmicvss", 3)}
    found = plan(keys, "Heartbeat=auto", "vmicvss=manual", "vmicheartbeat=auto")
    assert [(row.name, row.changes) for row in found.rows] == [("vmicheartbeat", True), ("vmicvss", False)]
    assert len(found.operations) == 1


def test_an_override_that_would_win_is_removed_and_said() -> None:
    keys = {**service("vmicheartbeat", 3), **override("vmicheartbeat", 4)}
    found = plan(keys, "vmicheartbeat=manual")
    assert found.operations == (DeleteValue(rf"{HEARTBEAT}\StartOverride", "0"),)
    row = row_of(found)
    assert (row.before.effective, row.after.effective, row.after.override) == ("disabled", "manual", None)
    place = rf"SYSTEM\{HEARTBEAT}\StartOverride\0"
    assert row.notes[0] == f"{place} is removed: it would make it disabled, whatever Start says."
    assert rows(changed({SERVICES: {}, **keys}, found.operations))["vmicheartbeat"].effective_start == "manual"


def test_an_override_of_other_hardware_or_that_says_the_same_is_left_alone() -> None:
    keys = {**service("vmicheartbeat", 2), **override("vmicheartbeat", 4, "1")}
    assert plan(keys, "vmicheartbeat=auto").operations == ()
    keys = {**service("vmicheartbeat", 4), **override("vmicheartbeat", 3)}
    found = plan(keys, "vmicheartbeat=manual")
    assert found.operations == (dword(HEARTBEAT, "Start", 3),)
    assert row_of(found).after.override == 3


def test_a_start_of_another_type_is_written_anew() -> None:
    keys = {HEARTBEAT: {"START": b"\x03\0\0\0", "ImagePath": "x", "Type": 0x20}}
    assert plan(keys, "vmicheartbeat=manual").operations == (dword(HEARTBEAT, "START", 3),)


def test_manual_without_a_trigger_is_said() -> None:
    (note,) = row_of(plan(service("vmicheartbeat", 4), "vmicheartbeat=manual")).notes
    assert "--restore-triggers" in note
    assert row_of(plan(service("vmicheartbeat", 4), "vmicheartbeat=auto")).notes == ()
    assert row_of(plan(service("vmicheartbeat", 4), "vmicheartbeat=manual", software=WINDOWS_7)).notes == ()


def test_lost_triggers_are_restored() -> None:
    keys = service("vmicheartbeat", 3)
    found = plan(keys, "vmicheartbeat=manual", restore_triggers=True)
    after = changed({SERVICES: {}, **keys}, found.operations)
    assert (
        after[rf"{HEARTBEAT}\TriggerInfo\0"]
        == trigger("vmicheartbeat", HEARTBEAT_TRIGGER)[rf"{HEARTBEAT}\TriggerInfo\0"]
    )
    assert rows(after)["vmicheartbeat"].status == "ok"
    row = row_of(found)
    assert (row.before.triggers, row.after.triggers, row.changes) == (0, 1, True)
    assert row.notes == ("Its triggers become those of an untouched Windows of this version.",)
    again = plan(after, "vmicheartbeat=manual", restore_triggers=True)
    assert (again.operations, row_of(again).notes) == ((), ())


def test_bent_triggers_are_restored_exactly() -> None:
    place = rf"{HEARTBEAT}\TriggerInfo"
    keys: Keys = {
        **service("vmicheartbeat", 3),
        rf"{place}\0": {"Action": 2, "Type": 1, "Data0": b"x", "guid": b"y"},
        rf"{place}\7": {"Action": 1, "Type": 4},
    }
    found = plan(keys, "vmicheartbeat=manual", restore_triggers=True)
    assert found.operations[:2] == (DeleteKey(rf"{place}\7"), DeleteValue(rf"{place}\0", "Data0"))
    values = [(one.name, one.type) for one in found.operations if isinstance(one, SetValue)]
    assert values == [("Action", 4), ("GUID", 3)]


def test_triggers_are_kept_where_nobody_asks() -> None:
    keys = {**service("vmicheartbeat", 3), **trigger("vmicheartbeat", HEARTBEAT_TRIGGER)}
    assert all("TriggerInfo" not in one.key for one in plan(keys, "vmicheartbeat=disabled").operations)


@pytest.mark.parametrize(
    ("software", "name"),
    [(WINDOWS_11, "vmicheartbeat"), (WINDOWS_7, "vmicheartbeat"), (WINDOWS_2012_R2, "vmicvmsession")],
    ids=["11", "7", "2012 R2"],
)
def test_triggers_that_nobody_recorded_are_refused(software: Keys, name: str) -> None:
    installation = guest({SERVICES: {}, **service(name, 3)}, software)
    with pytest.raises(RefusedError) as raised:
        plan_service_starts(installation, [(name, "manual")], restore_triggers=True)
    assert (raised.value.code, raised.value.exit_code) == ("triggers-unknown", 4)


def test_other_services_and_drivers_need_force() -> None:
    keys = {**service("W32Time", 3), **driver("storvsc", 3), **driver("amdsata", 3)}
    assert fails(RefusedError, "not-an-integration-service", keys, "w32time=disabled").exit_code == 4
    error = fails(RefusedError, "driver-start", keys, "storvsc=boot")
    assert error.exit_code == 4
    assert "boot-ready" in str(error.hint)
    fails(RefusedError, "driver-start", keys, "amdsata=boot")
    forced = plan(keys, "w32time=disabled", "storvsc=boot", "amdsata=system", force=True)
    assert [(row.name, row.kind, row.after.start) for row in forced.rows] == [
        ("W32Time", "service", "disabled"),
        ("storvsc", "driver", "boot"),
        ("amdsata", "driver", "system"),
    ]
    fails(RefusedError, "triggers-unknown", keys, "w32time=auto", force=True, restore_triggers=True)


def test_starts_that_can_not_be() -> None:
    keys = {**service("vmicvss", 3), **driver("vmbus", 0)}
    assert fails(UsageError, "start-word", keys, "vmicvss=automatic").exit_code == 2
    fails(UsageError, "start-not-possible", keys, "vmicvss=boot")
    fails(UsageError, "start-not-possible", keys, "vmicvss=system", force=True)
    fails(UsageError, "start-not-possible", keys, "vmbus=delayed", force=True)
    fails(UsageError, "service-twice", keys, "vmicvss=auto", "VSS=manual")


@pytest.mark.parametrize("name", ["vmicvss", "vmicshutdwon", "", "a\\b", "Tcpip"])
def test_a_service_that_is_not_there(name: str) -> None:
    keys: Keys = {**service("vmicshutdown", 3), rf"{SERVICES}\Tcpip": {"Comment": "no service"}}
    error = fails(NotFoundError, "no-such-service", keys, f"{name}=auto", force=True)
    assert error.exit_code == 1
    expected = {"vmicvss": "5.2", "vmicshutdwon": "vmicshutdown"}.get(name, "")
    assert expected in str(error.hint)


def test_a_hive_without_a_control_set() -> None:
    with pytest.raises(NotFoundError) as raised:
        plan_service_starts(guest({"Setup": {"SetupType": 0}}), [("vmicvss", "auto")])
    assert raised.value.code == "no-control-set"


def test_only_the_control_set_in_use_is_changed() -> None:
    keys = {"Select": {"Current": 2}, **service("vmicvss", 3)}
    keys |= {path.replace("ControlSet001", "ControlSet002"): values for path, values in service("vmicvss", 4).items()}
    (operation,) = plan(keys, "vmicvss=manual").operations
    assert operation.key == r"ControlSet002\Services\vmicvss"


@pytest.mark.data
def test_the_recorded_triggers_are_those_of_a_real_windows() -> None:
    """Restoring them on the hive that they were recorded from changes nothing, byte for byte."""
    software = {**WINDOWS_11}
    (key,) = software
    software[key] = {**software[key], "CurrentBuild": "19041", "CurrentBuildNumber": "19041"}
    installation = guest(data_file(WINDOWS_10_2004).read_bytes(), software)
    names = [*HOST_NAMES.values(), "vmicrdv", "vmicvmsession"]
    found = plan_service_starts(installation, [(name, "manual") for name in names], restore_triggers=True)
    assert found.operations == ()
    assert [row.name for row in found.rows] == names
    assert all((row.before.triggers, row.after.triggers) == (1, 1) for row in found.rows)
