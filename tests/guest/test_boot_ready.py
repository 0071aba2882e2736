from __future__ import annotations

import pytest

from tests.data_files import data_file
from tests.guest.changed_keys import changed
from tests.guest.guests import WINDOWS_7, WINDOWS_2012_R2, Keys, guest
from tests.guest.test_service_change import driver
from tests.guest.test_services import SERVICES, override
from vhdtool.errors import NotFoundError
from vhdtool.guest.boot_ready import BootDriverRow, BootReadyPlan, plan_boot_ready
from vhdtool.registry.operation import DeleteValue, SetValue

PLATFORM = ("ACPI", "pci", "intelide", "atapi", "partmgr", "disk", "volmgr", "mountmgr")
OURS = ("vmbus", "storvsc", "storflt")
ENVIRONMENT = r"ControlSet001\Control\Session Manager\Environment"


def healthy(*left_out: str) -> Keys:
    keys: Keys = {SERVICES: {}, ENVIRONMENT: {"PROCESSOR_ARCHITECTURE": "AMD64"}}
    for name in (*PLATFORM, *OURS):
        if name not in left_out:
            keys = {**keys, **driver(name, 0)}
    return keys


def plan(
    keys: Keys, software: Keys = WINDOWS_2012_R2, *, generation: int | None = None, without: tuple[str, ...] = ()
) -> BootReadyPlan:
    files = {f"Windows/System32/drivers/{name}.sys": b"" for name in (*PLATFORM, *OURS, "vpci") if name not in without}
    return plan_boot_ready(guest(keys, software, files), generation=generation)


def by_name(found: BootReadyPlan) -> dict[str, BootDriverRow]:
    return {row.name: row for row in found.items}


def test_a_guest_that_starts_everywhere() -> None:
    found = plan(healthy())
    assert found.ready
    assert (found.generations, found.ready_for, found.ready_after) == ((1, 2), (1, 2), (1, 2))
    assert found.operations == ()
    assert [row.name for row in found.items] == [*PLATFORM, *OURS]
    assert by_name(found)["vmbus"] == BootDriverRow(
        name="vmbus",
        display_name="Virtual Machine Bus",
        generations=(2,),
        location=rf"SYSTEM\{SERVICES}\vmbus",
        start="boot",
        override=None,
        effective="boot",
        file="/Windows/System32/drivers/vmbus.sys",
        file_present=True,
        ok=True,
        fixable=False,
        problems=(),
    )


@pytest.mark.parametrize(
    ("name", "ready_for"), [("vmbus", (1,)), ("storvsc", (1,)), ("atapi", (2,)), ("disk", ()), ("storflt", (1, 2))]
)
def test_an_override_keeps_a_driver_from_starting_and_is_removed(name: str, ready_for: tuple[int, ...]) -> None:
    keys = {**healthy(), **override(name, 3)}
    found = plan(keys)
    assert found.ready_for == ready_for
    assert found.ready == (ready_for == (1, 2))
    assert found.ready_after == (1, 2)
    row = by_name(found)[name]
    assert (row.start, row.override, row.effective, row.ok, row.fixable) == ("boot", 3, "manual", False, True)
    assert found.operations == (DeleteValue(rf"{SERVICES}\{name}\StartOverride", "0"),)
    again = plan(changed(keys, found.operations))
    assert again.ready
    assert again.operations == ()


def test_start_and_every_override_are_put_right() -> None:
    keys = {**healthy(), **driver("vmbus", 3), rf"{SERVICES}\vmbus\StartOverride": {"0": 4, "1": 3, "2": 0}}
    found = plan(keys)
    place = rf"{SERVICES}\vmbus"
    assert found.operations == (
        SetValue(place, "Start", 4, bytes(4)),
        DeleteValue(rf"{place}\StartOverride", "0"),
        DeleteValue(rf"{place}\StartOverride", "1"),
    )
    assert plan(changed(keys, found.operations)).ready


def test_an_override_that_makes_it_start_is_enough() -> None:
    found = plan({**healthy(), **driver("vmbus", 3), **override("vmbus", 0)})
    assert found.ready
    assert found.operations == ()


def test_a_driver_that_is_not_there_can_not_be_made_to_start() -> None:
    found = plan(healthy("storvsc"))
    assert (found.ready, found.ready_for, found.ready_after, found.operations) == (False, (1,), (1,), ())
    row = by_name(found)["storvsc"]
    assert (row.ok, row.fixable, row.start) == (False, False, None)
    assert "integration services package" in row.problems[0]
    found = plan({**healthy(), **override("vmbus", 3)}, without=("vmbus",))
    row = by_name(found)["vmbus"]
    assert (row.file_present, row.ok, row.fixable) == (False, False, False)
    assert row.problems[1] == "Its file is not there: /Windows/System32/drivers/vmbus.sys"
    assert found.ready_after == (1,)


def test_only_the_generation_that_is_asked_for_counts() -> None:
    keys = healthy("storvsc")
    assert plan(keys, generation=1).ready
    assert not plan(keys, generation=2).ready
    assert not plan(keys).ready


def test_windows_7_is_for_generation_1() -> None:
    found = plan({**healthy(), **driver("storvsc", 3)}, WINDOWS_7)
    assert found.generations == (1,)
    assert found.ready
    assert "storvsc" not in by_name(found)  # manual is what it has there
    assert not plan(healthy(), WINDOWS_7, generation=2).ready


@pytest.mark.parametrize(("name", "generations"), [("x86", (1,)), ("ARM64", (2,)), ("AMD64", (1, 2))])
def test_the_architecture_tells_the_generation(name: str, generations: tuple[int, ...]) -> None:
    assert plan({**healthy(), ENVIRONMENT: {"PROCESSOR_ARCHITECTURE": name}}).generations == generations


@pytest.mark.parametrize(
    ("written", "file"),
    [
        (r"system32\DRIVERS\disk.sys", "/Windows/system32/DRIVERS/disk.sys"),
        (r"\SystemRoot\System32\drivers\disk.sys", "/Windows/System32/drivers/disk.sys"),
        (r"%SystemRoot%\System32\drivers\disk.sys", "/Windows/System32/drivers/disk.sys"),
        (r"D:\elsewhere\disk.sys", None),
    ],
)
def test_where_a_driver_lies(written: str, file: str | None) -> None:
    keys = {**healthy(), rf"{SERVICES}\disk": {"Start": 0, "Type": 1, "ImagePath": written}}
    row = by_name(plan(keys))["disk"]
    assert (row.file, row.file_present) == (file, None if file is None else True)
    assert row.ok


def test_without_a_version_the_drivers_that_count_are_looked_at() -> None:
    installation = guest(healthy(), {"Other": {}})
    found = {row.name for row in plan_boot_ready(installation).items}
    assert {"vmbus", "storvsc", "disk"} <= found
    assert "storflt" not in found


def test_a_hive_without_a_control_set() -> None:
    with pytest.raises(NotFoundError) as raised:
        plan_boot_ready(guest({"Setup": {"SetupType": 0}}))
    assert raised.value.code == "no-control-set"


@pytest.mark.data
def test_a_real_windows_that_was_last_started_elsewhere() -> None:
    system = data_file("hives/fox-it__dissect.regf/SYSTEM.gz").read_bytes()
    software: Keys = {
        r"Microsoft\Windows NT\CurrentVersion": {
            "CurrentBuildNumber": "19041",
            "CurrentMajorVersionNumber": 10,
            "CurrentMinorVersionNumber": 0,
        }
    }
    names = ["acpi", "pci", "intelide", "atapi", "partmgr", "disk", "volmgr", "mountmgr", "volume"]
    files = {f"Windows/System32/drivers/{name}.sys": b"" for name in [*names, "vmbus", "storvsc", "vmstorfl", "bttflt"]}
    found = plan_boot_ready(guest(system, software, {**files, "Windows/System32/drivers/vpci.sys": b""}))
    assert found.ready_for == (1,)
    assert found.ready_after == (1, 2)
    ours = ["vmbus", "storvsc", "storflt", "bttflt", "vpci"]
    assert [row.name for row in found.items if not row.ok] == ours
    assert found.operations == tuple(DeleteValue(rf"{SERVICES}\{name}\StartOverride", "0") for name in ours)
