from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in
from tests.cli.harness import run
from tests.report.conformity import assert_conforms


@pytest.fixture
def demo(tmp_path) -> Path:
    """Its storvsc has a StartOverride of 3; its SYSTEM hive is dirty and its VHDX log pending."""
    return image_in(tmp_path, "demo.vhdx")


def test_override_keeps_a_guest_from_its_disk(demo, tmp_path):
    before = digests(tmp_path)
    result = run("boot-ready", str(demo), "--json")
    assert result.code == 1
    assert_conforms(result.json, "change")
    assert (result.json["boot"]["ready_for"], result.json["boot"]["ready_after"]) == ([], [2])
    storvsc = next(driver for driver in result.json["boot"]["drivers"] if driver["name"] == "storvsc")
    assert (storvsc["start"], storvsc["override"], storvsc["effective"], storvsc["ok"]) == ("boot", 3, "manual", False)
    assert digests(tmp_path) == before


def test_fix_into_a_new_image_leaves_it_ready(demo, tmp_path):
    fixed = tmp_path / "fixed.vhdx"
    document = changed("boot-ready", demo, "--fix", "--output", fixed)
    assert document["changed"]
    again = run("boot-ready", str(fixed), "--json")
    assert (again.code, again.json["boot"]["ready_for"]) == (0, [2])
    facts = run("services", "list", str(fixed), "--json").json
    assert facts["hives"][0]["state"] == "clean"
    kvp = next(row for row in facts["services"] if row["name"] == "vmickvpexchange")
    assert kvp["start"] == "disabled", "what only the hive's log said is kept"


def test_pending_log_stands_in_the_way_of_a_child_and_recover_clears_it(demo, tmp_path):
    before = digests(tmp_path)
    result = run("boot-ready", str(demo), "--fix", "--child", str(tmp_path / "child.vhdx"))
    assert result.code == 4
    assert "recover" in result.stderr
    assert digests(tmp_path) == before
    result = run("recover", str(demo), "--json")
    assert result.code == 0, result.stderr
    assert_conforms(result.json, "recover")
    assert result.json["changed"]
    assert [step["action"] for step in result.json["steps"]] == ["replayed"]
    at_rest = digests(tmp_path)
    assert run("recover", str(demo), "--json").json["steps"] == []
    assert digests(tmp_path) == at_rest
    assert changed("boot-ready", demo, "--fix", "--child", tmp_path / "child.vhdx")["changed"]


def test_pending_log_is_replayed_in_place_as_a_step_that_is_told(demo):
    document = changed("boot-ready", demo, "--fix", "--in-place")
    assert any("log" in note for note in document["receipt"]["notes"])
    assert run("boot-ready", str(demo)).code == 0
    assert run("disk", "verify", str(demo)).code == 0


def test_target_needs_fix(demo):
    assert run("boot-ready", str(demo), "--in-place").code == 2


def test_generation_can_be_named(demo):
    assert run("boot-ready", str(demo), "--generation", "1", "--json").json["boot"]["generations"] == [1]
