from __future__ import annotations

from tests.cli.changing import changed, image_in
from tests.cli.harness import run
from tests.report.conformity import assert_conforms


def test_child_against_its_parent(tmp_path):
    child = image_in(tmp_path, "windows-guest-child.vhdx")
    result = run("diff", str(tmp_path / "windows-guest.vhdx"), str(child), "--content", "--json")
    assert result.code == 1
    assert_conforms(result.json, "diff")
    services = {row["name"]: {fact["name"]: fact["after"] for fact in row["facts"]} for row in result.json["services"]}
    assert services == {
        "vmicvss": {"start": "disabled", "effective": "disabled"},
        "vmicguestinterface": {"start": "auto", "effective": "auto"},
    }
    assert [(row["name"], row["before"]["data"], row["after"]["data"]) for row in result.json["registry"]] == [
        ("Start", 3, 2),
        ("Start", 3, 4),
    ]
    assert [row["path"] for row in result.json["files"]] == ["/Windows/System32/config/SYSTEM"]


def test_same_image_does_not_differ(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    other = image_in(tmp_path, "windows-guest.vhd")
    result = run("diff", str(image), str(other), "--content", "--json")
    assert (result.code, result.json["same"]) == (0, True)
    assert "Nothing differs" in run("diff", str(image), str(other)).text


def test_parts_and_limit(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    child = tmp_path / "child.vhdx"
    changed("services", "set", image, "vmicvss=auto", "vmicrdv=auto", "vmictimesync=auto", "--child", child)
    document = run("diff", str(image), str(child), "--only", "registry", "--limit", "2", "--json").json
    assert (document["services"], document["files"]) == (None, None)
    assert (len(document["registry"]), document["left_out"]) == (2, 1)
    assert "1 more rows" in run("diff", str(image), str(child), "--only", "registry", "--limit", "2").text
