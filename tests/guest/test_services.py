from __future__ import annotations

import random
import uuid

import pytest

from tests.guest.guests import WINDOWS_7, WINDOWS_11, WINDOWS_2012_R2, Keys, RegistryData, guest
from vhdtool.errors import NotFoundError
from vhdtool.guest.inspection import list_services
from vhdtool.guest.model import START_NAMES, Service
from vhdtool.guest.source import Troubles

SERVICES = r"ControlSet001\Services"
HEARTBEAT_TRIGGER = "57164f39-9115-4e78-ab55-382f3bd5422d"


def service(name: str, start: int, **values: RegistryData) -> dict[str, dict[str, RegistryData]]:
    return {rf"{SERVICES}\{name}": {"Start": start, "Type": 0x20, "ImagePath": "svchost.exe -k ICService", **values}}


def trigger(name: str, guid: str, *, action: int = 1, kind: int = 1) -> dict[str, dict[str, RegistryData]]:
    values: dict[str, RegistryData] = {"Action": action, "Type": kind, "GUID": uuid.UUID(guid).bytes_le}
    return {rf"{SERVICES}\{name}\TriggerInfo\0": values}


def override(name: str, value: int, configuration: str = "0") -> dict[str, dict[str, RegistryData]]:
    return {rf"{SERVICES}\{name}\StartOverride": {configuration: value}}


def rows(system: Keys, software: Keys = WINDOWS_2012_R2) -> dict[str, Service]:
    services, drivers, every = list_services(guest({SERVICES: {}, **system}, software))
    assert every is None
    return {row.name: row for row in (*services, *drivers)}


def test_a_healthy_service_of_windows_8_and_later() -> None:
    row = rows({**service("vmicheartbeat", 3), **trigger("vmicheartbeat", HEARTBEAT_TRIGGER)})["vmicheartbeat"]
    assert row == Service(
        name="vmicheartbeat",
        display_name="Hyper-V Heartbeat Service",
        display_name_source="table",
        start="manual",
        start_value=3,
        delayed_auto_start=False,
        trigger_start=True,
        start_override=None,
        effective_start="manual",
        expected_start="manual",
        status="ok",
        evidence=(rf"SYSTEM\{SERVICES}\vmicheartbeat", rf"SYSTEM\{SERVICES}\vmicheartbeat\TriggerInfo"),
    )


@pytest.mark.parametrize("software", [WINDOWS_7, WINDOWS_2012_R2, WINDOWS_11], ids=["7", "2012 R2", "11"])
@pytest.mark.parametrize("start", range(5))
def test_every_start_value_against_the_expectation(software: Keys, start: int) -> None:
    keys = {**service("vmicheartbeat", start), **trigger("vmicheartbeat", HEARTBEAT_TRIGGER)}
    row = rows(keys, software)["vmicheartbeat"]
    expected = 2 if software is WINDOWS_7 else 3
    assert (row.start, row.expected_start) == (START_NAMES[start], START_NAMES[expected])
    assert row.status == ("ok" if start == expected else "disabled" if start == 4 else "wrong-start")


@pytest.mark.parametrize(
    ("keys", "trigger_start"),
    [
        ({}, False),
        (trigger("vmicheartbeat", HEARTBEAT_TRIGGER, action=2), False),
        (trigger("vmicheartbeat", str(uuid.UUID(int=random.getrandbits(128)))), True),
        (trigger("vmicheartbeat", HEARTBEAT_TRIGGER, kind=7), True),
        ({rf"{SERVICES}\vmicheartbeat\TriggerInfo\0": {"Action": 1, "Type": 1, "GUID": b"short"}}, True),
    ],
)
def test_a_service_without_its_own_start_trigger(keys: Keys, trigger_start: bool) -> None:
    row = rows({**service("vmicheartbeat", 3), **keys})["vmicheartbeat"]
    assert (row.status, row.trigger_start) == ("no-trigger", trigger_start)


def test_no_trigger_is_needed_where_the_service_starts_by_itself() -> None:
    row = rows(service("vmicheartbeat", 2, DelayedAutoStart=1), WINDOWS_7)["vmicheartbeat"]
    assert (row.status, row.delayed_auto_start, row.trigger_start) == ("ok", True, False)


@pytest.mark.parametrize(
    ("software", "name", "status", "expected"),
    [
        (WINDOWS_7, "vmicheartbeat", "missing", "auto"),
        (WINDOWS_7, "vmicguestinterface", "not-offered", None),
        (WINDOWS_7, "vmicvmsession", "not-offered", None),
        (WINDOWS_7, "bttflt", "not-offered", None),
        (WINDOWS_2012_R2, "vmicguestinterface", "missing", "manual"),
        (WINDOWS_2012_R2, "vmicvmsession", "not-offered", None),
        (WINDOWS_2012_R2, "vmbus", "missing", "boot"),
        (WINDOWS_2012_R2, "fcvsc", "not-offered", None),
        (WINDOWS_11, "vmicvmsession", "missing", "manual"),
        ({"Other": {}}, "vmicheartbeat", "unknown", None),
    ],
)
def test_a_row_exists_where_the_guest_lacks_the_service(
    software: Keys, name: str, status: str, expected: str | None
) -> None:
    row = rows({}, software)[name]
    assert (row.start, row.start_value, row.status, row.expected_start) == (None, None, status, expected)
    assert row.evidence == (rf"SYSTEM\{SERVICES}",)


def test_an_override_takes_the_place_of_the_start() -> None:
    row = rows({**service("vmbus", 0), **override("vmbus", 3)})["vmbus"]
    assert (row.start, row.start_override, row.effective_start, row.status) == ("boot", 3, "manual", "overridden")
    assert row.evidence[1] == rf"SYSTEM\{SERVICES}\vmbus\StartOverride\0"


def test_an_override_that_changes_nothing_is_no_fault() -> None:
    row = rows({**service("vmbus", 0), **override("vmbus", 0)})["vmbus"]
    assert (row.start_override, row.status) == (0, "ok")


def test_the_override_of_another_hardware_configuration_does_not_count() -> None:
    keys = {**service("vmbus", 0), **override("vmbus", 3), "HardwareConfig": {"LastId": 1}}
    assert rows(keys)["vmbus"].status == "ok"
    keys |= {rf"{SERVICES}\vmbus\StartOverride": {"0": 0, "1": 3}}
    assert rows(keys)["vmbus"].status == "overridden"


def test_the_hardware_profile_does_not_name_the_override() -> None:
    keys = {**service("vmbus", 0), **override("vmbus", 3), r"ControlSet001\Control\IDConfigDB": {"CurrentConfig": 1}}
    assert rows(keys)["vmbus"].status == "overridden"


def test_the_storage_driver_of_windows_7_depends_on_the_package() -> None:
    plain = rows(service("storvsc", 3), WINDOWS_7)["storvsc"]
    assert (plain.expected_start, plain.status) == ("manual", "ok")
    updated = rows({**service("storvsc", 3), **service("vmicheartbeat", 2)}, WINDOWS_7)["storvsc"]
    assert (updated.expected_start, updated.status) == ("boot", "wrong-start")
    in_box = service("vmicheartbeat", 2, ImagePath=r"%SystemRoot%\system32\vmicsvc.exe -feature Heartbeat")
    own = rows({**service("storvsc", 3), **in_box}, WINDOWS_7)["storvsc"]
    assert own.status == "ok"


@pytest.mark.parametrize("values", [{}, {"Start": "3"}, {"Start": 5}, {"Start": 0xFFFFFFFF}])
def test_a_start_that_means_nothing_is_unknown(values: dict[str, RegistryData]) -> None:
    row = rows({rf"{SERVICES}\vmicheartbeat": values})["vmicheartbeat"]
    assert (row.start, row.effective_start, row.status) == (None, None, "unknown")


def test_every_service_is_listed_once_and_what_is_no_service_is_not() -> None:
    keys = {
        **service("vmicheartbeat", 3),
        **service("Spooler", 2, DisplayName="Print Spooler", DelayedAutoStart=1),
        **service("RemoteRegistry", 4, DisplayName=r"@%SystemRoot%\system32\regsvc.dll,-1"),
        **service("LSI_SAS", 0, DisplayName="@lsi_sas.inf,%x%;LSI adapter"),
        **override("LSI_SAS", 3),
        rf"{SERVICES}\.NET Data Provider\Performance": {"Library": "netfxperf.dll"},
        rf"{SERVICES}\xmlprov": {"Type": 0x20},
    }
    _, _, every = list_services(guest({SERVICES: {}, **keys}), all_services=True)
    assert every is not None
    found = {row.name: (row.display_name, row.status, row.expected_start) for row in every}
    assert found == {
        "vmicheartbeat": ("Hyper-V Heartbeat Service", "no-trigger", "manual"),
        "Spooler": ("Print Spooler", "unknown", None),
        "RemoteRegistry": (None, "disabled", None),
        "LSI_SAS": ("LSI adapter", "overridden", None),
    }


def test_what_can_not_be_read_is_told() -> None:
    troubles = Troubles()
    services, _, _ = list_services(guest({SERVICES: {}}, b"no hive" * 1000), troubles=troubles)
    assert {row.status for row in services} == {"unknown"}
    assert [trouble.what for trouble in troubles.found] == ["the SOFTWARE hive"]


def test_without_a_control_set_there_are_no_services_to_list() -> None:
    with pytest.raises(NotFoundError) as caught:
        list_services(guest())
    assert caught.value.code == "no-control-set"
