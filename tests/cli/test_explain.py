from __future__ import annotations

import pytest

from tests.cli.harness import run
from tests.report.conformity import assert_conforms
from vhdtool.checks.baseline import BASELINE


def explained(*codes: str) -> list[dict]:
    result = run("explain", *codes, "--json")
    assert (result.code, result.stderr) == (0, "")
    assert_conforms(result.json, "explain")
    return result.json["explanations"]


def test_a_check():
    (one,) = explained("integration-version")
    assert (one["kind"], one["severity"], one["exit_code"]) == ("check", "medium", None)
    assert any(parameter.startswith("minimum: ") for parameter in one["parameters"])
    text = run("explain", "integration-version").text
    for words in ("severity medium", "Why", "To mend it", "[checks.integration-version]", one["what"]):
        assert words in text


def test_a_finding():
    (one,) = explained("boot-driver-overridden")
    assert one["kind"] == "finding"
    assert "StartOverride" in one["what"]
    assert "0x7B" in one["why"]
    assert "boot-ready IMAGE --fix" in one["fix"]


def test_an_error_has_its_exit_code_messages_and_hint():
    (one,) = explained("is-a-parent")
    assert (one["kind"], one["exit_code"]) == ("error", 4)
    assert one["messages"]
    assert "exit code 4" in run("explain", "is-a-parent").text


def test_one_code_of_several_kinds():
    assert [one["kind"] for one in explained("hive-dirty")] == ["finding", "problem", "error", "error"]
    assert {one["exit_code"] for one in explained("hive-dirty")} == {None, 3, 4}


def test_several_codes_and_all_of_them():
    assert [one["code"] for one in explained("generalized", "no-guest", "generalized")] == [
        "generalized", "no-guest", "no-guest",
    ]  # fmt: skip
    everything = explained()
    assert len(everything) > 500
    assert {check.code for check in BASELINE} <= {one["code"] for one in everything}
    lines = run("explain").text.splitlines()
    assert len(lines) == len(everything) + 2


@pytest.mark.parametrize(
    ("code", "nearest"),
    [
        ("hive-drity", "hive-dirty"),
        ("volume_dirty", "volume-dirty"),
        ("pending-servicing", "servicing-pending"),
        ("E1234", "vhdtool explain alone"),
        ("\x1b[31m", "vhdtool explain alone"),
        ("x" * 100_000, "vhdtool explain alone"),
    ],
)
def test_an_unknown_code(code, nearest):
    result = run("explain", code)
    assert (result.code, result.stdout) == (2, b"")
    assert "error[unknown-code]" in result.stderr
    assert nearest in result.stderr


def test_codes_as_they_are_printed():
    assert explained("[No-Guest]")[0]["code"] == "no-guest"


def test_text_fits_a_terminal_and_help_has_examples():
    text = run("explain", *(check.code for check in BASELINE)).text
    assert max(map(len, text.splitlines())) <= 80
    assert "vhdtool explain boot-driver-overridden" in run("explain", "--help").text
