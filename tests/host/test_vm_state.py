"""Saved states and checkpoints: found in the configuration, and beside it."""

from __future__ import annotations

import pytest

from tests.host.machines import VM_ID, machine, place_machine, runtime
from tests.host.storage_writer import storage
from vhdtool.host.vmconfig import read_vm_config


@pytest.mark.parametrize(("saved", "answer"), [(True, "yes"), (False, "no"), (None, "unknown")])
def test_the_runtime_state_beside_a_vmcx(tmp_path, saved, answer):
    path = place_machine(tmp_path, machine(), saved=saved)
    state = read_vm_config(path).saved_state
    assert state.answer == answer
    assert (state.location is None) == (saved is None)
    if saved:
        assert state.location == f"{path.with_suffix('.VMRS')}: /savedstate"


def test_the_layout_of_version_5(tmp_path):
    path = place_machine(tmp_path, machine())
    path.with_suffix(".VMRS").write_bytes(storage({"savedVM": {"partition_state": b"x"}}))
    assert read_vm_config(path).saved_state.answer == "yes"


def test_a_damaged_runtime_state_is_unknown_and_told(tmp_path):
    path = place_machine(tmp_path, machine())
    runtime_file = path.with_suffix(".VMRS")
    runtime_file.write_bytes(runtime_file.read_bytes()[:0x2800])
    config = read_vm_config(path)
    assert (config.saved_state.answer, config.saved_state.location) == ("unknown", str(runtime_file))
    assert [(one.code, one.path) for one in config.problems] == [("truncated", str(runtime_file))]


def test_other_machines_files_do_not_count(tmp_path):
    path = place_machine(tmp_path, machine(), saved=None)
    (path.parent / "other.vmrs").write_bytes(storage(runtime(saved=True)))
    (path.parent / "other").mkdir()
    (path.parent / "other" / "other.vsv").touch()
    assert read_vm_config(path).saved_state.answer == "unknown"


@pytest.mark.parametrize("ending", ["vsv", "bin", "VSV"])
def test_the_files_of_an_old_saved_machine(tmp_path, ending):
    path = place_machine(tmp_path, machine(), "xml")
    assert read_vm_config(path).saved_state.answer == "no"
    folder = path.parent / VM_ID.lower()
    folder.mkdir()
    (folder / f"{VM_ID}.{ending}").touch()
    state = read_vm_config(path).saved_state
    assert (state.answer, state.location) == ("yes", str(folder / f"{VM_ID}.{ending}"))


def test_the_key_of_an_old_saved_machine(tmp_path):
    saved = {"savedstate": {"type": "Normal", "vsvlocation": r"M:\vm\a.vsv", "memlocation": ""}}
    path = place_machine(tmp_path, machine(extra=saved), "xml")
    state = read_vm_config(path).saved_state
    assert (state.answer, state.location) == ("yes", f"{path}: /configuration/savedstate/vsvlocation")
    dropped = {"savedstate": {"type": "Normal", "vsvlocation": "", "memlocation": ""}}
    assert read_vm_config(place_machine(tmp_path, machine(extra=dropped), "xml")).saved_state.answer == "no"


@pytest.mark.parametrize("form", ["vmcx", "xml"])
def test_checkpoints(tmp_path, form):
    path = place_machine(tmp_path, machine(checkpoints=2), form)
    assert (read_vm_config(path).checkpoints.count, read_vm_config(path).checkpoints.any) == (2, True)
    unlisted = machine()
    unlisted["configuration"]["global_settings"]["snapshots"]["list"] = {"node0": {"guid": "x"}}
    assert read_vm_config(place_machine(tmp_path, unlisted, form)).checkpoints.count == 1


def test_files_of_checkpoints_in_a_folder_that_machines_share(tmp_path):
    path = place_machine(tmp_path, machine())
    folder = tmp_path / "Snapshots"
    folder.mkdir()
    assert not read_vm_config(path).checkpoints.any
    mine, other = machine(), machine()
    mine["configuration"]["properties"] |= {"type_id": "Snapshots", "global_id": "1" * 8 + VM_ID[8:]}
    other["configuration"]["properties"]["global_id"] = "2" * 8 + VM_ID[8:]
    other["configuration"]["settings"] = {"global": {"logical_id": "3" * 8 + VM_ID[8:]}}
    (folder / "mine.vmcx").write_bytes(storage(mine))
    (folder / "other.vmcx").write_bytes(storage(other))
    (folder / "broken.vmcx").write_bytes(b"\x14\x20\x28\x01")
    config = read_vm_config(path)
    assert config.checkpoints.files == (str(folder / "mine.vmcx"),)
    assert [one.path for one in config.problems] == [str(folder / "broken.vmcx")]
    assert read_vm_config(folder / "mine.vmcx").is_checkpoint
    assert read_vm_config(folder / "other.vmcx").is_checkpoint, "by the folder it lies in"
