from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tests.checks.documents import TODAY, finding, good, guest, judged, policy, service
from vhdtool.checks.baseline import BASELINE
from vhdtool.checks.policy import MAX_POLICY, baseline_policy, read_policy, with_choice
from vhdtool.errors import UsageError

RULE = """
[[rule]]
code = "os-2022"
what = "The guest is Windows Server 2022."
path = "guests[*].os.version"
op = "at-least"
value = "10.0.20348"
"""
WAIVER = """
[[waiver]]
code = "generalized"
reason = "It is a test machine."
expires = 2026-06-15
"""


def rule(**changed: str) -> str:
    lines = {"code": '"x"', "what": '"It is so."', "path": '"image.format"', "op": '"equals"', "value": '"vhdx"'}
    return "[[rule]]\n" + "\n".join(f"{name} = {value}" for name, value in (lines | changed).items() if value)


def test_an_empty_policy_is_the_baseline():
    assert policy("").checks == baseline_policy().checks
    assert policy('schema = "vhdtool.policy/1"').fail_on == "low"


def test_what_a_policy_chooses():
    chosen = policy(
        """
        name = "golden"
        fail-on = "high"
        baseline = false
        [checks.generalized]
        severity = "high"
        [checks.hives-clean]
        allow-recovered = false
        [checks.boot-ready]
        enabled = false
        """
    )
    assert [(one.check.code, one.check.severity) for one in chosen.checks] == [
        ("generalized", "high"), ("hives-clean", "medium"),
    ]  # fmt: skip
    assert chosen.checks[1].values == {"allow-recovered": False}
    assert (chosen.name, chosen.fail_on, chosen.file) == ("golden", "high", "policy.toml")


def test_a_check_can_be_left_out_of_the_baseline_or_added():
    codes = [one.check.code for one in policy("[checks.boot-ready]\nenabled = false").checks]
    assert "boot-ready" not in codes
    assert len(codes) == len(baseline_policy().checks) - 1
    chosen = with_choice(baseline_policy(), ["generalized", "generalized", "boot-ready"], ["staged-done"])
    codes = [one.check.code for one in chosen.checks]
    assert codes.count("generalized") == codes.count("boot-ready") == 1
    assert "staged-done" not in codes
    with pytest.raises(UsageError) as caught:
        with_choice(baseline_policy(), ["generalised"], [])
    assert (caught.value.code, caught.value.hint) == ("no-such-check", "Did you mean generalized?")


def test_own_rules():
    assert [one.verdict.outcome for one in judged(good(), RULE) if one.check.code == "os-2022"] == ["fail"]
    document = good()
    guest(document)["os"]["version"] = "10.0.20348.2113"
    assert [one.verdict.outcome for one in judged(document, RULE) if one.check.code == "os-2022"] == ["pass"]


def test_rules_that_need_every_service_say_so():
    assert not policy(RULE).all_services
    assert policy(rule(path='"guests[*].all_services[name=x].start"')).all_services


@pytest.mark.parametrize(
    ("text", "code", "place", "hint"),
    [
        ("[check.boot-ready]", "policy-key", "check", "Did you mean checks?"),
        ("failon = 'high'", "policy-key", "failon", "Did you mean fail-on?"),
        ("[checks.boot-redy]", "policy-key", "checks.boot-redy", "Did you mean boot-ready?"),
        ("[checks.hives-clean]\nallow-recoverd = true", "policy-key", "checks.hives-clean.allow-recoverd",
         "Did you mean allow-recovered?"),
        ("[checks.hives-clean]\nallow-recovered = 1", "policy-value", "checks.hives-clean.allow-recovered", ""),
        ("[checks.hives-clean]\nenabled = 'no'", "policy-value", "checks.hives-clean.enabled", ""),
        ("[checks.hives-clean]\nseverity = 'fatal'", "policy-value", "checks.hives-clean.severity", ""),
        ("[checks.install-state]\nallow = 'oobe'", "policy-value", "checks.install-state.allow", ""),
        ("[checks.install-state]\nallow = [1]", "policy-value", "checks.install-state.allow", ""),
        ("[checks.services-expected.expect]\nvmicvss = 'on'", "policy-value", "checks.services-expected.expect.vmicvss",
         ""),
        ("[checks.integration-version.minimum]\nwin77x = '1'", "policy-key",
         "checks.integration-version.minimum.win77x", ""),
        ("[checks.integration-version.minimum]\nany = 'new'", "policy-value", "checks.integration-version.minimum.any",
         ""),
        ("[checks.integration-version]\nminimum = 'new'", "policy-value", "checks.integration-version.minimum", ""),
        ("checks = 7", "policy-value", "checks", ""),
        ("[checks]\nboot-ready = 7", "policy-value", "checks.boot-ready", ""),
        ("rule = 7", "policy-value", "rule", ""),
        ("rule = [7]", "policy-value", "rule[0]", ""),
        ("fail-on = 'severe'", "policy-value", "fail-on", ""),
        ("schema = 'vhdtool.policy/2'", "policy-value", "schema", ""),
        ("name = ''", "policy-value", "name", ""),
        (rule(code='"Boot Ready"'), "policy-value", "rule[0].code", ""),
        (rule(code='"boot-ready"'), "policy-value", "rule[0].code", ""),
        (rule() + "\n" + rule(), "policy-value", "rule[1].code", ""),
        (rule(what=""), "policy-value", "rule[0] lacks what", ""),
        (rule(op=""), "policy-value", "rule[0] lacks op", ""),
        (rule(op='"equal"'), "policy-key", "rule[0].op.equal", "Did you mean equals?"),
        (rule(opp='"x"'), "policy-key", "rule[0].opp", "Did you mean op?"),
        (rule(value=""), "policy-value", "rule[0] lacks value", ""),
        (rule(value="['vhdx']"), "policy-value", "rule[0].value", ""),
        (rule(op='"in"'), "policy-value", "rule[0].value", ""),
        (rule(op='"at-least"'), "policy-value", "rule[0].value", ""),
        (rule(op='"present"'), "policy-value", "rule[0].value", ""),
        (rule(op='"matches"', value="3"), "policy-value", "rule[0].value", ""),
        (rule(op='"matches"', value='"(a"'), "pattern", "rule[0].value", ""),
        (rule(path='"image.fromat"'), "rule-path", "rule[0].path", "Did you mean format?"),
        (rule(path='"image["'), "rule-path", "rule[0].path", ""),
        (rule(unknown='"maybe"'), "policy-value", "rule[0].unknown", ""),
        (WAIVER.replace("reason", "raeson"), "policy-key", "waiver[0].raeson", "Did you mean reason?"),
        (WAIVER.replace('reason = "It is a test machine."', ""), "policy-value", "waiver[0] lacks reason", ""),
        (WAIVER.replace("It is a test machine.", " "), "policy-value", "waiver[0].reason", ""),
        (WAIVER.replace("expires = 2026-06-15", ""), "policy-value", "waiver[0] lacks expires", ""),
        (WAIVER.replace("2026-06-15", "'soon'"), "policy-value", "waiver[0].expires", ""),
        (WAIVER.replace("2026-06-15", "2026-06-15T12:00:00Z"), "policy-value", "waiver[0].expires", ""),
        (WAIVER.replace("generalized", "generalised"), "policy-key", "waiver[0].code", "Did you mean generalized?"),
        ("a = ", "policy-syntax", "", ""),
        ("a = 1\na = 2", "policy-syntax", "", ""),
        ("a = " + "[" * 5000, "policy-syntax", "", ""),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place_and_the_nearest_name(text, code, place, hint):
    with pytest.raises(UsageError) as caught:
        policy(text)
    error = caught.value
    assert (error.code, error.exit_code, error.path) == (code, 2, "policy.toml")
    assert place in error.message
    assert hint in (error.hint or "")


def test_files_that_are_no_text_or_too_large():
    for data, code in ((b"\xff\xfe", "policy-syntax"), (b"#" * (MAX_POLICY + 1), "policy-too-large")):
        with pytest.raises(UsageError) as caught:
            read_policy(data, "p")
        assert caught.value.code == code
    assert read_policy(b"\xef\xbb\xbfname = 'x'", "p").name == "x"


GENERALIZED = "[checks.generalized]\n"


@pytest.mark.parametrize(
    ("waiver", "accepted"),
    [
        ("", True),
        ("images = ['server.vhdx']", True),
        ("images = ['images/*']", True),
        ("images = ['*.vhd', 'other.vhdx']", False),
        ("subject = 'guests[0].os.install_state'", True),
        ("subject = 'another'", False),
    ],
)
def test_what_a_waiver_is_about(waiver, accepted):
    (one,) = [one for one in judged(good(), GENERALIZED + WAIVER + waiver) if one.check.code == "generalized"]
    assert (one.verdict.outcome, one.waiver is not None, one.is_failure) == ("fail", accepted, not accepted)


@pytest.mark.parametrize(("today", "accepted"), [(TODAY, True), (date(2026, 6, 16), False), (date(2020, 1, 1), True)])
def test_a_waiver_holds_to_the_end_of_its_day(today, accepted):
    found = judged(good(), GENERALIZED + WAIVER, today)
    assert [one.is_failure for one in found if one.check.code == "generalized"] == [not accepted]


def test_an_expired_waiver_does_not_hide_one_that_counts():
    text = GENERALIZED + WAIVER.replace("2026-06-15", "2020-01-01") + WAIVER
    (one,) = [one for one in judged(good(), text) if one.check.code == "generalized"]
    assert one.waiver is not None
    assert one.waiver.expires == TODAY


def test_a_waiver_for_one_service_leaves_the_others():
    document = good()
    for name in ("vmicvss", "vmicrdv"):
        service(document, name).update(status="disabled", effective_start="disabled")
    text = WAIVER.replace("generalized", "services-expected") + "subject = 'vmicrdv'"
    assert [one.verdict.subject for one in judged(document, text) if one.is_failure] == ["vmicvss"]


def test_severities_count_from_the_threshold_on():
    document = good()
    guest(document)["findings"] = [finding("boot-driver-missing", "high")]
    service(document, "storflt").update(status="missing", effective_start=None)
    failed = [one for one in judged(document) if one.is_failure]
    assert [one.check.severity for one in failed] == ["high", "low"]
    for threshold, count in (("info", 2), ("low", 2), ("medium", 1), ("high", 1), ("never", 0)):
        assert sum(one.counts(threshold) for one in failed) == count


def test_every_parameter_of_every_check_can_be_set():
    samples = {"flag": "true", "texts": "['x']", "minimum-versions": "'1.0'", "starts": "{x = 'auto'}",
               "severity": "'high'"}  # fmt: skip
    for check in BASELINE:
        lines = "\n".join(f"{one.name} = {samples[one.kind]}" for one in check.parameters)
        (chosen,) = policy(f"baseline = false\n[checks.{check.code}]\n{lines}").checks
        assert set(chosen.values) == {one.name for one in check.parameters}
        assert not check.parameters or chosen.values != check.defaults() or check.code == "hives-clean"


def test_the_policies_of_the_how_to_are_policies():
    text = (Path(__file__).parents[2] / "docs/howto.md").read_text(encoding="utf-8")
    written = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[checks." in block]
    assert written
    for block in written:
        assert policy(block).checks
