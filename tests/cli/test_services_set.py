from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import CONTAINERS, changed, digests, image_in, refused, start_of
from tests.cli.harness import run

SUFFIX = {"raw": ".raw"}
SERVICE = "vmictimesync"


@pytest.fixture(params=CONTAINERS)
def image(request, tmp_path) -> Path:
    return image_in(tmp_path, request.param)


def set_start(image: Path, start: str, *target: str | Path):
    return changed("services", "set", image, f"{SERVICE}={start}", *target)


def test_without_a_target_the_plan_is_shown_and_nothing_written(image, tmp_path):
    before = digests(tmp_path)
    document = set_start(image, "disabled")
    assert (document["would_change"], document["changed"], document["receipt"]) == (True, False, None)
    (row,) = document["services"]
    assert (row["before"]["start"], row["after"]["start"], row["changes"]) == ("manual", "disabled", True)
    (change,) = document["registry"]
    assert change["key"].endswith(rf"\Services\{SERVICE}")
    assert (change["before"]["data"], change["after"]["data"]) == (3, 4)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in CONTAINERS if name != "raw"])
def test_child_holds_the_change_and_the_image_none(name, tmp_path):
    image = image_in(tmp_path, name)
    before = digests(tmp_path)
    child = tmp_path / f"child{image.suffix}"
    document = set_start(image, "disabled", "--child", child)
    assert document["changed"]
    assert document["receipt"]["confirmed_by"]
    assert (start_of(child, SERVICE), start_of(image, SERVICE)) == ("disabled", "manual")
    after = digests(tmp_path)
    assert after.pop(child.name)
    assert after == before


def test_new_image_stands_alone(image, tmp_path):
    before = digests(tmp_path)
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    out = alone / f"new{image.suffix}"
    assert set_start(image, "auto", "--output", out)["changed"]
    assert start_of(out, SERVICE) == "auto"
    alone = alone.rename(tmp_path.parent / f"{tmp_path.name}-alone")
    assert start_of(alone / out.name, SERVICE) == "auto"
    assert digests(tmp_path) == before


def test_in_place_changes_the_image_alone(image, tmp_path):
    before = digests(tmp_path)
    document = set_start(image, "disabled", "--in-place", "--no-children")
    assert document["receipt"]["path"] == str(image)
    assert start_of(image, SERVICE) == "disabled"
    after = digests(tmp_path)
    assert after.keys() == before.keys()
    assert after.pop(image.name) != before.pop(image.name)
    assert after == before


def test_second_time_changes_nothing(image, tmp_path):
    set_start(image, "disabled", "--in-place", "--no-children")
    before = digests(tmp_path)
    for target in (
        ["--in-place", "--no-children"],
        ["--child", tmp_path / "c.vhdx"],
        ["--output", tmp_path / "o.vhdx"],
    ):
        document = set_start(image, "disabled", *target)
        assert (document["changed"], document["would_change"], document["receipt"]) == (False, False, None)
    assert digests(tmp_path) == before


def test_names_of_the_host_are_known(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    (row,) = changed("services", "set", image, "guest service interface=AUTO")["services"]
    assert (row["name"], row["after"]["start"]) == ("vmicguestinterface", "auto")


def test_raw_image_has_no_child(tmp_path):
    image = image_in(tmp_path, "raw")
    result = run("services", "set", str(image), f"{SERVICE}=auto", "--child", str(tmp_path / "child.raw"))
    assert result.code == 2
    assert "raw-has-no-children" in result.stderr
    assert "--output" in result.stderr


def test_parent_is_not_changed_in_place(tmp_path):
    for name in ("windows-guest.vhdx", "windows-guest.vhd"):
        folder = tmp_path / name
        folder.mkdir()
        image_in(folder, name.replace("guest.", "guest-child."))
        before = digests(folder)
        result = refused("services", "set", folder / name, f"{SERVICE}=auto", "--in-place")
        assert result.json["error"]["code"] == "is-a-parent"
        assert digests(folder) == before


def test_vhd_without_known_children_needs_a_word(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhd")
    before = digests(tmp_path)
    result = refused("services", "set", image, f"{SERVICE}=auto", "--in-place")
    assert result.json["error"]["code"] == "children-unknown"
    assert digests(tmp_path) == before


def test_driver_needs_force(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    result = refused("services", "set", image, "storvsc=manual", "--in-place")
    assert result.json["error"]["code"] == "driver-start"
    assert changed("services", "set", image, "storvsc=manual", "--force")["would_change"]


def test_existing_file_is_no_target(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    there = tmp_path / "there.vhdx"
    there.write_bytes(b"precious")
    for option in ("--child", "--output"):
        refused("services", "set", image, f"{SERVICE}=auto", option, there)
    assert there.read_bytes() == b"precious"
    assert sorted(digests(tmp_path)) == ["there.vhdx", "windows-guest.vhdx"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["vmicvss"],
        ["=auto"],
        ["vmicvss=never"],
        ["vmicvss=auto", "--child", "a", "--in-place"],
        ["vmicvss=auto", "--journal"],
        ["vmicvss=auto", "--journal", "--in-place"],
        ["vmicvss=auto", "--parent-windows-path", "C:\\a.vhdx"],
    ],
)
def test_wrong_usage_ends_2(tmp_path, arguments):
    image = image_in(tmp_path, "windows-guest.vhdx")
    before = digests(tmp_path)
    assert run("services", "set", str(image), *arguments).code == 2
    assert digests(tmp_path) == before
