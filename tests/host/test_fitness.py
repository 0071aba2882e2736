"""Machines whose disks must not be changed."""

from __future__ import annotations

import hashlib

import pytest

from tests.host.machines import machine, place_machine
from vhdtool.errors import RefusedError
from vhdtool.host.fitness import refuse_vm_state
from vhdtool.host.vmconfig import read_vm_config

DISK = r"C:\vm\disk.vhdx"


def refusal(path, image) -> RefusedError:
    before = {file: hashlib.sha256(file.read_bytes()).digest() for file in path.parent.rglob("*") if file.is_file()}
    with pytest.raises(RefusedError) as caught:
        refuse_vm_state(read_vm_config(path), [str(image)])
    after = {file: hashlib.sha256(file.read_bytes()).digest() for file in path.parent.rglob("*") if file.is_file()}
    assert before == after
    assert caught.value.hint
    assert caught.value.exit_code == 4
    return caught.value


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "Virtual Hard Disks" / "disk.vhdx"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.mark.parametrize("form", ["vmcx", "xml"])
def test_a_machine_that_is_off_and_has_no_checkpoints(tmp_path, image, form):
    assert refuse_vm_state(read_vm_config(place_machine(tmp_path, machine(DISK), form)), [str(image)]) == ()


def test_a_saved_machine(tmp_path, image):
    error = refusal(place_machine(tmp_path, machine(DISK), saved=True), image)
    assert (error.code, "savedstate" in (error.found or "")) == ("vm-saved-state", True)


def test_a_runtime_state_that_cannot_be_read(tmp_path, image):
    path = place_machine(tmp_path, machine(DISK))
    path.with_suffix(".VMRS").write_bytes(b"")
    assert refusal(path, image).code == "vm-state-unknown"


def test_no_runtime_state_is_a_note(tmp_path, image):
    path = place_machine(tmp_path, machine(DISK), saved=None)
    (note,) = refuse_vm_state(read_vm_config(path), [str(image)])
    assert "No .vmrs lies beside" in note


@pytest.mark.parametrize("disk", [r"C:\vm\disk_8A1B.avhdx", r"C:\vm\disk_8A1B.AVHD"])
def test_a_disk_of_a_checkpoint(tmp_path, image, disk):
    error = refusal(place_machine(tmp_path, machine(disk)), image)
    assert (error.code, error.found) == ("vm-has-checkpoints", disk)


def test_listed_checkpoints(tmp_path, image):
    error = refusal(place_machine(tmp_path, machine(DISK, checkpoints=3)), image)
    assert (error.code, error.found) == ("vm-has-checkpoints", "3 in its list")


def test_a_merge_that_waits(tmp_path, image):
    tree = machine(DISK)
    tree["configuration"]["global_settings"]["disk_merge_pending"] = True
    assert refusal(place_machine(tmp_path, tree), image).code == "vm-merge-pending"


def test_a_disk_of_another_machine(tmp_path, image):
    other = image.with_name("other.vhdx")
    other.touch()
    error = refusal(place_machine(tmp_path, machine(DISK)), other)
    assert (error.code, error.path, error.expected) == ("vm-disk-not-attached", str(other), DISK)
    assert refusal(place_machine(tmp_path, machine()), other).expected == "a machine with disks"


def test_files_that_are_no_machines(tmp_path, image):
    path = place_machine(tmp_path, machine(DISK))
    assert refusal(path.with_suffix(".VMRS"), image).code == "vm-config-unfit"
    tree = machine(DISK)
    tree["configuration"]["properties"]["type_id"] = "Snapshots"
    assert refusal(place_machine(tmp_path, tree), image).code == "vm-config-unfit"
