"""Every built-in check: a document on which it fires, and one on which it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.checks.documents import NEWEST, finding, good, guest, judged, outcomes, service, told
from tests.guest.linux_guests import debian, inspected
from vhdtool.checks.baseline import BASELINE
from vhdtool.checks.model import SEVERITIES
from vhdtool.checks.policy_table import CODE
from vhdtool.errors import InputError

Change = Callable[[dict[str, Any]], object]
ON = {
    "generalized": "[checks.generalized]",
    "fast-startup-off": "[checks.fast-startup-off]",
    "no-findings": "[checks.no-findings]",
}
"""Checks that a policy must ask for."""


def set_in(*path: object, to: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


def add_finding(code: str, severity: str = "medium", message: str = "So it is.") -> Change:
    return lambda document: guest(document)["findings"].append(finding(code, severity, message))


def service_is(name: str, status: str, start: str | None = None) -> Change:
    def change(document: dict[str, Any]) -> None:
        service(document, name).update(status=status, effective_start=start)

    return change


def make_linux(document: dict[str, Any]) -> None:
    guest(document)["os"].update(family="linux", version="6.1.0-25-amd64", product="Debian GNU/Linux 12 (bookworm)")


OS = ("guests", 0, "os")
STATE = ("volumes", 2, "state")
PROBLEM = {"code": "vhdx-log-pending", "message": "not closed", "path": "x", "offset": 0}
HIVE = "/Windows/System32/config/SYSTEM"
CASES: list[tuple[str, Change, str, str]] = [
    # check, what is done to a good document, where the check fires, for what
    ("guest-found", set_in("guests", to=[]), "guests", ""),
    ("image-sound", set_in("image", "problems", to=[PROBLEM]), "image.problems[0]", "vhdx-log-pending"),
    ("facts-complete", add_finding("evidence-unreadable"), "guests[0].findings[0]", "evidence-unreadable"),
    ("facts-complete", set_in("findings", to=[finding("volume-encrypted")]), "findings[0]", "volume-encrypted"),
    ("filesystem-clean", set_in(*STATE, "dirty", to=True), "volumes[2].state.dirty", "volume 2"),
    ("not-hibernated", set_in(*STATE, "hibernated", to=True), "volumes[2].state.hibernated", "volume 2"),
    ("boot-ready", add_finding("boot-driver-overridden", "high", "storvsc has Start 0."), "guests[0].findings[0]",
     "storvsc"),
    ("boot-ready", add_finding("initramfs-missing", "high"), "guests[0].findings[0]", "initramfs-missing"),
    ("integration-version", set_in("guests", 0, "integration_services", "version", to="6.3.9600.18692"),
     "guests[0].integration_services.version", ""),
    ("integration-version", set_in("guests", 0, "integration_services", "version", to=None),
     "guests[0].integration_services.version", ""),
    ("version-sources-agree", set_in("guests", 0, "integration_services", "agreement", to="conflict"),
     "guests[0].integration_services.agreement", ""),
    ("services-expected", service_is("vmicvss", "disabled", "disabled"), "guests[0].services[4]", "vmicvss"),
    ("services-expected", service_is("vmicvss", "missing"), "guests[0].services[4]", "vmicvss"),
    ("services-expected", service_is("vmicvss", "no-trigger", "manual"), "guests[0].services[4]", "vmicvss"),
    ("services-expected", service_is("vmicvss", "overridden", "auto"), "guests[0].services[4]", "vmicvss"),
    ("services-expected", service_is("vmicvss", "wrong-start", "auto"), "guests[0].services[4]", "vmicvss"),
    ("drivers-expected", service_is("storflt", "overridden", "manual"), "guests[0].drivers[2]", "storflt"),
    ("install-state", set_in(*OS, "install_state", to="oobe"), "guests[0].os.install_state", ""),
    ("generalized", lambda document: None, "guests[0].os.install_state", ""),
    ("no-pending-work", set_in(*OS, "pending", to=["a file to be renamed"]), "guests[0].os.pending[0]",
     "a file to be renamed"),
    ("staged-done", set_in("guests", 0, "staged", to=[{"id": "20260101-1", "package": "KB1", "state": "staged"}]),
     "guests[0].staged[0]", "20260101-1"),
    ("staged-done", set_in("guests", 0, "staged", to=[{"id": "20260101-1", "package": "KB1", "state": "failed"}]),
     "guests[0].staged[0]", "20260101-1"),
    ("hives-clean", set_in("guests", 0, "hives", to=[{"path": HIVE, "state": "dirty", "logs": []}]),
     "guests[0].hives[0]", HIVE),
    ("fast-startup-off", set_in(*OS, "fast_startup", to=True), "guests[0].os.fast_startup", ""),
    ("no-findings", add_finding("old-installation", "medium"), "guests[0].findings[0]", "old-installation"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "change", "place", "subject"), CASES)
def test_where_it_fires(code, change, place, subject):
    document = good()
    change(document)
    assert ("fail", place, subject) in told(document, code, ON.get(code, ""))


def test_every_check_fires_somewhere():
    assert {code for code, *_ in CASES} == {check.code for check in BASELINE}


@pytest.mark.parametrize("check", BASELINE, ids=lambda check: check.code)
def test_where_it_does_not_fire(check):
    document = good()
    if check.code == "generalized":
        guest(document)["os"]["install_state"] = "generalized"
    assert outcomes(document, check.code, ON.get(check.code, "")) == {"pass"}


def test_a_good_guest_passes_the_baseline():
    verdicts = judged(good())
    assert {one.verdict.outcome for one in verdicts} == {"pass"}
    assert {one.check.code for one in verdicts} == {check.code for check in BASELINE if check.on}
    assert all(one.verdict.message for one in verdicts)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("filesystem-clean", set_in(*STATE, "dirty", to=None)),
        ("not-hibernated", set_in(*STATE, "hibernated", to=None)),
        ("fast-startup-off", set_in(*OS, "fast_startup", to=None)),
        ("install-state", set_in(*OS, "install_state", to="unknown")),
        ("version-sources-agree", set_in("guests", 0, "integration_services", "agreement", to="single")),
        ("integration-version", set_in(*OS, "version", to="10.0.20348")),
        ("integration-version", set_in(*OS, "version", to=None)),
        ("integration-version", make_linux),
        ("services-expected", set_in("guests", 0, "services", to=[])),
        ("boot-ready", set_in("guests", 0, "drivers", to=[])),
        ("boot-ready", service_is("vmbus", "unknown")),
        ("hives-clean", set_in("guests", 0, "hives", to=[])),
        *((check.code, set_in("guests", to=[])) for check in BASELINE if check.code in {"boot-ready", "generalized"}),
    ],
)
def test_where_nothing_can_be_said(code, change):
    document = good()
    change(document)
    assert outcomes(document, code, ON.get(code, "")) == {"not-applicable"}


def test_what_is_less_severe_does_not_keep_a_guest_from_booting():
    document = good()
    add_finding("boot-driver-not-boot-start", "low", "storflt starts as manual")(document)
    assert outcomes(document, "boot-ready") == {"pass"}


def test_a_boot_driver_is_told_once():
    document = good()
    service_is("storvsc", "overridden", "manual")(document)
    add_finding("boot-driver-overridden", "high", "storvsc has Start 0 but")(document)
    failed = [one.check.code for one in judged(document) if one.verdict.outcome == "fail"]
    assert failed == ["boot-ready"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ('minimum = "6.3.9600.20000"', "fail"),
        (f'minimum = "{NEWEST}"', "pass"),
        ('minimum = { windows = "6.3" }', "pass"),
        ('minimum = { windows = "99", "Windows Server 2012 R2" = "6.3" }', "pass"),
        ('minimum = { any = "1", 2012r2 = "99" }', "fail"),
        ('minimum = { linux = "99" }', "not-applicable"),
        ('minimum = { 2016 = "99" }', "not-applicable"),
    ],
)
def test_the_least_version_of_a_guest(parameters, expected):
    assert outcomes(good(), "integration-version", f"[checks.integration-version]\n{parameters}") == {expected}


def test_the_least_version_of_a_linux_is_compared_by_its_numbers():
    document = good()
    make_linux(document)
    guest(document)["integration_services"]["version"] = "6.1.0-25-amd64"
    for minimum, expected in (("5.10", "pass"), ("6.1.0-25", "pass"), ("6.1.0-26", "fail"), ("6.10", "fail")):
        text = f'[checks.integration-version.minimum]\nlinux = "{minimum}"'
        assert outcomes(document, "integration-version", text) == {expected}, minimum


def test_an_unknown_version_is_not_enough():
    document = good()
    guest(document)["integration_services"]["version"] = None
    assert outcomes(document, "integration-version", '[checks.integration-version]\nminimum = "1"') == {"fail"}


def test_starts_that_a_policy_asks_for():
    text = '[checks.services-expected]\nexpect = { vmicvss = "disabled" }'
    assert told(good(), "services-expected", text) == [("fail", "guests[0].services[4]", "vmicvss")]
    document = good()
    service_is("vmicvss", "disabled", "disabled")(document)
    assert outcomes(document, "services-expected", text) == {"pass"}
    assert outcomes(document, "services-expected", '[checks.services-expected]\nignore = ["vmicvss"]') == {"pass"}


def test_the_way_out_of_a_service():
    document = good()
    service(document, "vmicvss").update(status="disabled", effective_start="disabled", expected_start="manual")
    service(document, "storflt").update(status="missing", effective_start=None)
    guest(document)["findings"] = [finding("service-disabled", "medium", "vmicvss is disabled."),
                                   finding("boot-driver-missing", "low", "storflt is not installed.")]  # fmt: skip
    fixes = {one.verdict.subject: one.verdict.fix for one in judged(document) if one.is_failure}
    assert fixes == {
        "vmicvss": "vhdtool services set IMAGE vmicvss=manual",
        "storflt": "Mend boot-driver-missing.",
    }


def test_a_linux_is_checked_by_the_same_rules():
    document = good()
    document["guests"] = [msgspec.json.decode(msgspec.json.encode(inspected(debian())))]
    assert {one.verdict.outcome for one in judged(document)} == {"pass", "not-applicable"}
    assert outcomes(document, "boot-ready") == outcomes(document, "services-expected") == {"pass"}
    bare = {path: content for path, content in debian().items() if "hv_kvp_daemon" not in str(path)}
    document["guests"] = [msgspec.json.decode(msgspec.json.encode(inspected(bare)))]
    failed = [one.verdict for one in judged(document) if one.is_failure]
    assert [one.subject for one in failed] == ["hv_kvp_daemon"]
    assert "hyperv-daemons" in (failed[0].fix or "")


def test_recovered_hives_where_they_are_not_accepted():
    document = good()
    guest(document)["hives"][0]["state"] = "recovered"
    assert outcomes(document, "hives-clean") == {"pass"}
    assert outcomes(document, "hives-clean", "[checks.hives-clean]\nallow-recovered = false") == {"fail"}


@pytest.mark.parametrize(
    ("code", "change", "parameters"),
    [
        ("image-sound", set_in("image", "problems", to=[PROBLEM]), 'allow = ["vhdx-log-pending"]'),
        ("facts-complete", add_finding("evidence-unreadable"), 'allow = ["evidence-unreadable"]'),
        ("install-state", set_in(*OS, "install_state", to="oobe"), 'allow = ["oobe"]'),
        ("staged-done", set_in("guests", 0, "staged", to=[{"id": "1", "package": "KB1", "state": "staged"}]),
         'allow = ["staged"]'),
        ("no-findings", add_finding("old-installation"), 'ignore = ["old-installation"]'),
        ("no-findings", add_finding("old-installation"), 'at-least = "high"'),
    ],
)  # fmt: skip
def test_what_a_policy_accepts(code, change, parameters):
    document = good()
    change(document)
    assert outcomes(document, code, f"[checks.{code}]") == {"fail"}
    assert outcomes(document, code, f"[checks.{code}]\n{parameters}") == {"pass"}


def test_each_of_two_guests_is_looked_at():
    document = good()
    document["guests"].append({**good()["guests"][0], "volume": 3})
    document["guests"][1]["os"]["pending"] = ["work"]
    found = told(document, "no-pending-work")
    assert found == [("fail", "guests[1].os.pending[0]", "work"), ("pass", "guests[0].os.pending", "")]


@pytest.mark.parametrize(
    "change",
    [
        set_in("guests", to=7),
        set_in("guests", 0, to="a guest"),
        set_in("guests", 0, "os", to=[]),
        set_in(*OS, "pending", to=[3]),
        set_in(*OS, "fast_startup", to="yes"),
        set_in("volumes", 2, "state", "dirty", to=1),
        set_in("image", to=None),
        set_in("guests", 0, "findings", to=[{"severity": "fatal"}]),
        set_in("guests", 0, "integration_services", "evidence", to=[1]),
        set_in("schema", to="vhdtool.inspect/2"),
        set_in("schema", to=None),
    ],
)
def test_what_inspect_never_writes_is_an_error_and_no_crash(change):
    document = good()
    change(document)
    with pytest.raises(InputError) as caught:
        judged(document, "\n".join(ON.values()))
    assert caught.value.code == "not-an-inspect-document"


def test_fields_of_another_version_may_be_missing():
    document = good()
    for part in ("hives", "staged", "findings", "drivers"):
        del guest(document)[part]
    for volume in document["volumes"]:
        del volume["state"]["hibernated"]
    assert {one.verdict.outcome for one in judged(document)} == {"pass", "not-applicable"}


def test_records_say_everything_that_explain_tells():
    codes = [check.code for check in BASELINE]
    assert len(codes) == len(set(codes))
    for check in BASELINE:
        assert CODE.fullmatch(check.code)
        assert check.severity in SEVERITIES
        assert len(check.what) > 15
        assert len(check.why) > 15
        assert len(check.fix) > 15
