from __future__ import annotations

from tests.cli.harness import run
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms

DEMO = "demo.vhdx"


def services(*arguments: str) -> dict[str, dict[str, object]]:
    result = run("services", "list", *arguments, "--json")
    assert (result.code, result.stderr) == (0, "")
    assert_conforms(result.json, "services")
    return {service["name"]: service for service in [*result.json["services"], *result.json["drivers"]]}


def test_what_only_the_log_says_is_told():
    told = services(str(fixture_file(DEMO)))
    assert told["vmickvpexchange"]["start"] == "disabled"
    assert told["vmickvpexchange"]["status"] == "disabled"
    assert told["vmicheartbeat"]["start"] == "manual"
    assert told["vmicheartbeat"]["trigger_start"] is True
    assert told["vmicheartbeat"]["status"] == "ok"


def test_override_decides_what_is_effective():
    storvsc = services(str(fixture_file(DEMO)))["storvsc"]
    assert (storvsc["start_value"], storvsc["start_override"], storvsc["effective_start"]) == (0, 3, "manual")
    assert storvsc["status"] == "overridden"


def test_child_says_other_than_its_parent():
    child = services(str(fixture_file("windows-guest.vhdx").with_name(fixture_file("windows-guest-child.vhdx").name)))
    assert (child["vmicvss"]["start"], child["vmicguestinterface"]["start"]) == ("disabled", "auto")
    parent = services(str(fixture_file("windows-guest.vhdx")))
    assert (parent["vmicvss"]["start"], parent["vmicguestinterface"]["start"]) == ("manual", "manual")


def test_columns_are_those_that_windows_people_know():
    text = run("services", "list", str(fixture_file(DEMO))).text
    header = next(line for line in text.splitlines() if line.startswith("Name"))
    assert header.split() == [
        "Name", "DisplayName", "Start", "Trigger", "Override", "Effective", "Expected", "Status",
    ]  # fmt: skip
    assert "Hyper-V Heartbeat Service" in text


def test_all_services():
    without = run("services", "list", str(fixture_file(DEMO)), "--json").json
    every = run("services", "list", str(fixture_file(DEMO)), "--all-services", "--json").json
    assert without["all_services"] is None
    assert_conforms(every, "services")
    names = {service["name"] for service in every["all_services"]}
    assert {"vmicheartbeat", "storvsc"} <= names
    assert "All services" in run("services", "list", str(fixture_file(DEMO)), "--all-services").text
