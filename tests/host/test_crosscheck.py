"""Every combination of the two sides, against what Microsoft's page says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.host.machines import DATA_EXCHANGE, GUEST_INTERFACE, HEARTBEAT, RDV, VSS, machine, place_machine
from vhdtool.guest.model import Guest, IntegrationServices, OperatingSystem, Service
from vhdtool.host.crosscheck import OUTCOMES, CrossRow, crosscheck
from vhdtool.host.vmconfig import VmConfig, read_vm_config
from vhdtool.knowledge.integration import integration_services

NAMES = tuple(one.name for one in integration_services())


def service(name: str, start: str | None = "manual", status: str = "ok", *, evidence: tuple[str, ...] = ()) -> Service:
    value = None if start is None else ("boot", "system", "auto", "manual", "disabled").index(start)
    return Service(name, name, "table", start, value, False, True, None, start, "manual", status, evidence)  # type: ignore[arg-type]


def guest(*services: Service, family: str = "windows", drivers: tuple[Service, ...] = ()) -> Guest:
    known = {one.name: one for one in services}
    if family == "windows":
        known = {name: service(name) for name in NAMES} | known
    system = OperatingSystem(family, None, "6.3.9600", None, "amd64", "complete", 1, (), None)  # type: ignore[arg-type]
    versions = IntegrationServices(None, None, "none", ())
    return Guest(0, system, versions, tuple(known.values()), drivers, (), (), ())


def configured(tmp_path, **options) -> VmConfig:
    return read_vm_config(place_machine(tmp_path, machine(**options)))


def rows(config: VmConfig, found: Guest) -> dict[str, CrossRow]:
    return {row.guest_name or row.name: row for row in crosscheck(config, found)}


# Microsoft, Manage Hyper-V Integration Services: a service that starts in the guest and is off in Hyper-V is stopped;
# one that is stopped in the guest and on in Hyper-V is started again; one that is disabled can't be started.
@pytest.mark.parametrize(
    ("host", "start", "status", "expected"),
    [
        ("on", "manual", "ok", ("runs", None)),
        ("on", "auto", "ok", ("runs", None)),
        ("on", "auto", "wrong-start", ("runs", None)),
        ("on", "disabled", "disabled", ("cannot-start", "medium")),
        ("on", "disabled", "overridden", ("cannot-start", "medium")),
        ("on", "manual", "no-trigger", ("not-started", "medium")),
        ("on", None, "missing", ("guest-lacks-it", "medium")),
        ("on", None, "not-offered", ("guest-lacks-it", "info")),
        ("on", None, "unknown", ("unknown", "low")),
        ("on", "manual", "unknown", ("runs", None)),
        ("off", "manual", "ok", ("stopped-by-host", "medium")),
        ("off", "auto", "ok", ("stopped-by-host", "medium")),
        ("off", "disabled", "disabled", ("off", None)),
        ("off", None, "missing", ("off", None)),
        ("off", None, "unknown", ("off", None)),
        ("absent", "manual", "ok", ("host-lacks-it", "info")),
        ("absent", "disabled", "disabled", ("off", None)),
        ("absent", None, "not-offered", ("off", None)),
    ],
)
def test_both_sides(tmp_path, host, start, status, expected):
    severity = expected[1]
    config = configured(
        tmp_path, off=(HEARTBEAT,) if host == "off" else (), without=(HEARTBEAT,) if host == "absent" else ()
    )
    row = rows(config, guest(service("vmicheartbeat", start, status)))["vmicheartbeat"]
    assert (row.host, row.guest_start, row.outcome, row.severity) == (host, start, *expected)
    assert row.id == HEARTBEAT
    assert (row.message is None) == (severity is None)
    assert row.mismatch == (severity not in {None, "info"})
    assert row.outcome in OUTCOMES


def test_the_guest_service_interface_is_off_by_default(tmp_path):
    row = rows(configured(tmp_path), guest())["vmicguestinterface"]
    assert (row.host, row.outcome, row.severity, row.mismatch) == ("off", "stopped-by-host", "info", False)
    assert OUTCOMES[row.outcome] == "stopped by the host"
    assert rows(configured(tmp_path, off=(), on=(GUEST_INTERFACE,)), guest())["vmicguestinterface"].outcome == "runs"


def test_services_without_a_switch(tmp_path):
    config = configured(tmp_path)
    assert {name: rows(config, guest())[name].outcome for name in ("vmicrdv", "vmicvmsession")} == {
        "vmicrdv": "runs",
        "vmicvmsession": "runs",
    }
    old = guest(service("vmicrdv", None, "not-offered"), service("vmicvmsession", None, "not-offered"))
    found = rows(config, old)
    assert {found["vmicrdv"].outcome, found["vmicvmsession"].outcome} == {"not-applicable"}
    assert found["vmicvmsession"].host == "no-switch"
    assert rows(configured(tmp_path, without=(RDV,)), guest())["vmicrdv"].outcome == "host-lacks-it"
    stopped = guest(service("vmicvmsession", "disabled", "disabled"))
    assert rows(config, stopped)["vmicvmsession"].outcome == "cannot-start"


def test_the_fixes_name_the_service_by_its_id(tmp_path):
    config = configured(tmp_path, off=(VSS, DATA_EXCHANGE))
    found = rows(
        config, guest(service("vmicheartbeat", "disabled", "disabled"), service("vmicshutdown", "manual", "no-trigger"))
    )
    assert found["vmicvss"].fix == (
        f"On the host: Get-VMIntegrationService -VMName 'Büro''s VM' | Where-Object Id -like '*{VSS}' | "
        "Enable-VMIntegrationService"
    )
    assert found["vmicheartbeat"].fix == "vhdtool services set IMAGE vmicheartbeat=manual --child NEW"
    assert found["vmicshutdown"].fix == "vhdtool services set IMAGE vmicshutdown=manual --restore-triggers --child NEW"
    assert "Windows Update" in (found["vmickvpexchange"].message or "")
    assert "Windows Update" not in (found["vmicvss"].message or "")


def test_a_linux_guest(tmp_path):
    found = guest(
        service("hv_kvp_daemon", "auto"),
        service("hv_vss_daemon", "disabled", "disabled", evidence=("/usr/lib/systemd/system/hypervvssd.service",)),
        service("hv_fcopy_daemon", None, "not-offered"),
        service("hv_fcopy_uio_daemon", None, "missing"),
        family="linux",
        drivers=(service("hv_utils", "boot"),),
    )
    result = {row.id: row for row in crosscheck(configured(tmp_path, off=(HEARTBEAT,), on=(GUEST_INTERFACE,)), found)}
    assert (result[DATA_EXCHANGE].guest_name, result[DATA_EXCHANGE].outcome) == ("hv_kvp_daemon", "runs")
    assert (result[VSS].outcome, result[VSS].fix) == ("cannot-start", "In the guest: systemctl enable hypervvssd")
    assert (result[GUEST_INTERFACE].guest_name, result[GUEST_INTERFACE].outcome) == (
        "hv_fcopy_uio_daemon",
        "guest-lacks-it",
    )
    assert "install" in (result[GUEST_INTERFACE].fix or "")
    assert (result[HEARTBEAT].guest_name, result[HEARTBEAT].outcome) == ("hv_utils", "stopped-by-host")
    assert (result[RDV].guest_name, result[RDV].outcome) == (None, "not-applicable")


def test_a_linux_guest_without_the_module_or_without_facts(tmp_path):
    config = configured(tmp_path)
    lacking = guest(family="linux", drivers=(service("hv_utils", None, "missing"),))
    found = {row.id: row for row in crosscheck(config, lacking)}
    assert found[HEARTBEAT].outcome == "guest-lacks-it"
    assert "hv_utils" in (found[HEARTBEAT].fix or "")
    assert found[DATA_EXCHANGE].outcome == "unknown"
    blank = {row.id: row.outcome for row in crosscheck(config, replace(lacking, drivers=()))}
    assert blank[HEARTBEAT] == "unknown"
