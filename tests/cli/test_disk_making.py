from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.changing import PARENTS, digests, image_in, start_of
from tests.cli.harness import run
from tests.report.conformity import assert_conforms


def made(command: str, *arguments: str | Path) -> Any:
    result = run("disk", command, *map(str, arguments), "--json")
    assert result.code == 0, result.stderr
    assert_conforms(result.json, f"disk-{command}")
    return result.json


@pytest.mark.parametrize(
    ("name", "form", "kind"), [("a.vhdx", "vhdx", "dynamic"), ("a.vhd", "vhd", "dynamic"), ("a.img", "raw", "fixed")]
)
def test_new_image_of_each_format(tmp_path, name, form, kind):
    document = made("create", tmp_path / name, "--size", "64M")
    assert (document["image"]["format"], document["image"]["type"]) == (form, kind)
    assert document["image"]["virtual_size"] == 64 << 20
    before = digests(tmp_path)
    result = run("disk", "create", str(tmp_path / name), "--size", "64M")
    assert result.code == 4
    assert digests(tmp_path) == before


def test_new_child_reads_as_its_parent(tmp_path):
    parent = image_in(tmp_path, "windows-guest.vhdx")
    document = made("create", tmp_path / "child.avhdx", "--parent", parent)
    assert document["image"]["type"] == "differencing"
    assert document["image"]["parents"] == [str(parent)]
    assert start_of(tmp_path / "child.avhdx", "vmicvss") == "manual"


@pytest.mark.parametrize("name", ["demo.vhdx", "windows-guest-child.vhd", "windows-guest-4kn.vhdx"])
@pytest.mark.parametrize(
    "arguments", [["x.raw"], ["x.vhdx", "--type", "fixed"], ["x.vhd"], ["x.avhdx", "--block-size", "1M"]]
)
def test_converted_image_holds_the_same_guest(tmp_path, name, arguments):
    source = image_in(tmp_path, name)
    out, *rest = arguments
    if (name, out) == ("windows-guest-4kn.vhdx", "x.vhd"):
        assert run("disk", "convert", str(source), str(tmp_path / out)).code == 2
        return
    document = made("convert", source, tmp_path / out, *rest)
    assert document["virtual_size"] == 16 << 20
    one, two = (run("services", "list", str(image), "--json").json for image in (source, tmp_path / out))
    assert one["services"] == two["services"]
    assert run("diff", str(source), str(tmp_path / out), "--content").code == 0


@pytest.mark.parametrize("child_name", PARENTS)
def test_child_is_merged_into_its_parent(tmp_path, child_name):
    child = image_in(tmp_path, child_name)
    parent = tmp_path / PARENTS[child_name]
    before = digests(tmp_path)
    document = made("merge", child)
    assert (document["would_change"], document["changed"], document["receipt"]) == (True, False, None)
    assert digests(tmp_path) == before
    document = made("merge", child, "--in-place", "--no-children")
    assert document["receipt"]["confirmed_by"]
    assert start_of(parent, "vmicvss") == start_of(child, "vmicvss") == "disabled"
    merged = digests(tmp_path)
    assert not made("merge", child, "--in-place", "--no-children")["changed"]
    assert digests(tmp_path) == merged
    assert made("merge", child, "--in-place", "--no-children", "--remove-child")["child_removed"]
    assert not child.exists()
    assert start_of(parent, "vmicvss") == "disabled"


def test_wrong_usage_ends_2(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    before = digests(tmp_path)
    for arguments in (
        ["create", tmp_path / "a.vhdx"],
        ["create", tmp_path / "a.vhdx", "--size", "many"],
        ["create", tmp_path / "a.vhdx", "--parent", image, "--type", "fixed"],
        ["create", tmp_path / "a.vhd", "--size", "64M", "--to", "vhdx"],
        ["convert", image, tmp_path / "a.vhd", "--to", "vhdx"],
        ["merge", image],
    ):
        assert run("disk", *map(str, arguments)).code == 2, arguments
    assert digests(tmp_path) == before
