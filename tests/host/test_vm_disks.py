"""Disks of a machine, found from paths of its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.machines import machine, place_machine
from vhdtool.host.vm_disks import attached_as, find_disks
from vhdtool.host.vmconfig import read_vm_config


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("written", "place"),
    [
        (r"C:\Hyper-V\web\disk.vhdx", "Virtual Machines/disk.vhdx"),
        (r"C:\Hyper-V\web\disk.vhdx", "Virtual Hard Disks/disk.vhdx"),
        (r"C:\Users\Public\Virtual Hard Disks\Disk.VHDX", "virtual hard disks/disk.vhdx"),
        (r"C:\Hyper-V\web\disk.vhdx", "web/disk.vhdx"),
        (r"\\server\share\disk.vhdx", "Virtual Hard Disks/disk.vhdx"),
        ("C:/Hyper-V/disk.vhdx", "Virtual Hard Disks/disk.vhdx"),
    ],
)
def test_where_a_disk_is_found(tmp_path, written, place):
    wanted = put(tmp_path / place)
    config = read_vm_config(place_machine(tmp_path, machine(written)))
    (found,) = find_disks(config)
    assert found.path is not None
    assert Path(found.path).samefile(wanted)
    assert attached_as(config, str(wanted)) == config.disks[0]


@pytest.mark.parametrize("written", [r"C:\vm\absent.vhdx", "..", "\\", "C:", "con", "a\0b"])
def test_what_is_not_found(tmp_path, written):
    config = read_vm_config(place_machine(tmp_path, machine(written)))
    (found,) = find_disks(config)
    assert found.path is None


def test_an_image_that_is_not_attached(tmp_path):
    put(tmp_path / "Virtual Hard Disks/disk.vhdx")
    config = read_vm_config(place_machine(tmp_path, machine(r"C:\vm\disk.vhdx", r"C:\vm\second.vhdx")))
    assert attached_as(config, str(put(tmp_path / "elsewhere/disk.vhdx"))) is None, "the disk itself is here"
    assert attached_as(config, str(put(tmp_path / "elsewhere/SECOND.vhdx"))) == config.disks[1]
    assert attached_as(config, str(tmp_path / "other.vhdx")) is None
