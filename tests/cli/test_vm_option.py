"""``--vm CONFIG`` on commands that change an image: a machine in the wrong state is refused, the image untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in, refused, start_of
from tests.host.machines import machine, place_machine

GUEST = "windows-guest.vhdx"
ON_HOST = rf"C:\vm\Virtual Hard Disks\{GUEST}"


@pytest.fixture
def disk(tmp_path) -> Path:
    folder = tmp_path / "Virtual Hard Disks"
    folder.mkdir()
    return image_in(folder, GUEST)


@pytest.mark.parametrize("target", ["--in-place", "--child", "--output"])
@pytest.mark.parametrize(
    ("code", "tree", "saved"),
    [
        ("vm-saved-state", machine(ON_HOST), True),
        ("vm-has-checkpoints", machine(ON_HOST, checkpoints=1), False),
        ("vm-disk-not-attached", machine(r"C:\vm\other.vhdx"), False),
    ],
)
def test_machines_in_the_wrong_state_are_refused(tmp_path, disk, target, code, tree, saved):  # noqa: PLR0917
    config = place_machine(tmp_path, tree, saved=saved)
    before = digests(disk.parent)
    place = [] if target == "--in-place" else [disk.with_name("new.vhdx")]
    result = refused("services", "set", disk, "vmicvss=disabled", target, *place, "--vm", config)
    assert result.json["error"]["code"] == code
    assert digests(disk.parent) == before


@pytest.mark.parametrize("form", ["vmcx", "xml"])
def test_a_machine_that_is_off_is_no_obstacle(tmp_path, disk, form):
    config = place_machine(tmp_path, machine(ON_HOST), form)
    assert changed("services", "set", disk, "vmicvss=disabled", "--in-place", "--vm", config)["changed"]
    assert start_of(disk, "vmicvss") == "disabled"


def test_a_machine_without_its_runtime_state_is_told(tmp_path, disk):
    config = place_machine(tmp_path, machine(ON_HOST), saved=None)
    document = changed("services", "set", disk, "vmicvss=disabled", "--in-place", "--vm", config)
    assert any("No .vmrs lies beside" in note for note in document["receipt"]["notes"])


def test_without_a_target_the_plan_is_shown_whatever_the_machine_does(tmp_path, disk):
    config = place_machine(tmp_path, machine(ON_HOST), saved=True)
    assert changed("services", "set", disk, "vmicvss=disabled", "--vm", config)["would_change"]
