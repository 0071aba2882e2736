"""``vhdtool apply``: a saved plan does what was shown, on what it was made for, and on nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.changing import changed, digests, image_in
from tests.cli.harness import run
from tests.cli.staging_guests import IN_PLACE, guest, read, staged
from tests.host.machines import machine, place_machine
from tests.staging.packages import write_package, write_root
from tests.tools import require_ntfs_writer


@pytest.fixture(autouse=True)
def _writer() -> None:
    require_ntfs_writer()


@pytest.fixture
def cab(tmp_path: Path) -> Path:
    (tmp_path / "cabs").mkdir(exist_ok=True)
    return write_package(tmp_path / "cabs" / "new.cab")


@pytest.fixture
def trust(tmp_path: Path) -> list[str]:
    (tmp_path / "cabs").mkdir(exist_ok=True)
    return ["--trust-root", str(write_root(tmp_path / "cabs"))]


def saved(tmp_path: Path, image: Path, *words: object) -> tuple[Path, Any]:
    plan = tmp_path / "plan.json"
    plan.unlink(missing_ok=True)
    return plan, staged(image, *words, "--plan", plan)


def test_a_saved_plan_is_what_apply_does(tmp_path, cab, trust):
    image = guest(tmp_path)
    before = digests(image.parent)
    child = tmp_path / "images" / "child.vhdx"
    plan, shown = saved(tmp_path, image, "--cab", cab, *trust, "--child", child)
    assert shown["saved_plan"] == str(plan)
    assert digests(image.parent) == before
    done = staged(plan, command="apply")
    assert done["changed"]
    assert (done["files"], done["registry"]) == (shown["files"], shown["registry"])
    assert read(child, f"/Windows/Setup/vhdtool/{done['id']}/1-new.cab") == cab.read_bytes()
    result = run("stage", str(image), "--cab", str(cab), *trust, "--plan", str(plan))
    assert (result.code, "exists" in result.stderr) == (4, True)


@pytest.mark.parametrize(
    "field", ["format", "virtual_size", "file_size", "identity", "table", "sequence", "hives", "sha256", "tool", "plan"]
)
@pytest.mark.parametrize("target", [(), IN_PLACE])
def test_each_pin_alone_refuses(tmp_path, cab, trust, field, target):
    """The image is as it was; what is pinned of it differs in one fact."""
    image = guest(tmp_path)
    plan, _ = saved(tmp_path, image, "--cab", cab, *trust, *target)
    content = json.loads(plan.read_bytes())
    if field == "hives":
        content["hives"][0]["primary"] += 1
    elif field == "sha256":
        content["packages"][0]["sha256"] = ["0" * 64]
    elif field in {"tool", "plan"}:
        content[field] = "0.0.0"
    else:
        known = content["layers"][0][field]
        content["layers"][0][field] = known + 1 if isinstance(known, int) else "vhd" if field == "format" else "0" * 64
    plan.write_text(json.dumps(content))
    before = digests(image.parent)
    result = run("apply", str(plan), "--json")
    assert result.code == 4, result.stderr
    wanted = "plan-of-other-version" if field == "tool" else "plan-stale"
    assert wanted in result.stderr
    assert digests(image.parent) == before


def test_an_image_or_a_package_that_changed_is_refused(tmp_path, cab, trust):
    image = guest(tmp_path)
    plan, _ = saved(tmp_path, image, "--cab", cab, *trust, *IN_PLACE)
    content = cab.read_bytes()
    write_package(cab, "6.3.9600.20001")
    assert "plan-stale" in run("apply", str(plan)).stderr
    cab.write_bytes(content)
    changed("reg", "add", image, r"HKLM\SOFTWARE\Other", "/v", "x", "/d", "y", *IN_PLACE)
    result = run("apply", str(plan))
    assert (result.code, "plan-stale" in result.stderr) == (4, True)


@pytest.mark.parametrize("kind", ["raw", "windows-guest.vhd", "windows-guest-child.vhdx"])
def test_other_containers_are_pinned_too(tmp_path, cab, trust, kind):
    folder = tmp_path / "images"
    folder.mkdir()
    image = image_in(folder, kind)
    plan, _ = saved(tmp_path, image, "--cab", cab, *trust, *IN_PLACE)
    if kind == "raw":
        os.utime(image, ns=(1, 1))
        assert "plan-stale" in run("apply", str(plan)).stderr
        plan, _ = saved(tmp_path, image, "--cab", cab, *trust, *IN_PLACE)
    assert staged(plan, command="apply")["changed"]
    assert "plan-stale" in run("apply", str(plan)).stderr


def test_the_machine_that_was_named_must_be_off_when_it_is_applied(tmp_path, cab, trust):
    image = guest(tmp_path)
    tree = machine(rf"C:\vm\{image.name}")
    (tmp_path / "vm").mkdir()
    config = place_machine(tmp_path / "vm", tree, saved=False)
    plan, _ = saved(tmp_path, image, "--cab", cab, *trust, *IN_PLACE, "--vm", config)
    place_machine(tmp_path / "vm", tree, saved=True)
    before = digests(image.parent)
    result = run("apply", str(plan))
    assert (result.code, "vm-saved-state" in result.stderr) == (4, True)
    assert digests(image.parent) == before
    place_machine(tmp_path / "vm", tree, saved=False)
    assert staged(plan, command="apply")["changed"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"schema": "vhdtool.stage-plan/2"}'])
def test_what_is_no_plan(tmp_path, content):
    plan = tmp_path / "plan.json"
    plan.write_bytes(content)
    result = run("apply", str(plan))
    assert (result.code, "not-a-plan" in result.stderr) == (3, True)
