"""Volume groups need LVM's own metadata: :mod:`tests.oracle.test_volumes` has one. Here: what is no volume group."""

from __future__ import annotations

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.volume.lvm import read_logical_volumes


@pytest.mark.parametrize("data", [b"", bytes(4096), b"LABELONE" * 600])
def test_no_physical_volume_is_a_problem(data: bytes) -> None:
    volumes, problems = read_logical_volumes([MemoryDevice(data)], "disk.vhdx")
    assert volumes == []
    assert [(problem.code, problem.path) for problem in problems] == [("lvm-damaged", "disk.vhdx")]
