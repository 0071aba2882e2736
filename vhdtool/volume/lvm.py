"""LVM2: the logical volumes that lie on the physical volumes of this disk, through dissect.volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import Problem, VhdtoolError
from vhdtool.volume.boundary import MeteredStream, StreamDevice, foreign_parser

CODE = "lvm-damaged"
MAX_LOGICAL_VOLUMES = 1024


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One logical volume that lies on this disk as a whole. ``name`` is ``group/volume``; ``size`` in bytes."""

    name: str
    size: int
    device: BlockDevice


def read_logical_volumes(
    physical: Sequence[BlockDevice], path: str | None = None
) -> tuple[list[LogicalVolume], list[Problem]]:
    """Open the visible logical volumes of all groups whose physical volumes are given.

    A group that is damaged, or a volume that needs a disk which is not here, becomes a problem.
    """
    streams = [MeteredStream(device, path=path) for device in physical]
    groups: dict[str, list[tuple[Any, MeteredStream]]] = {}
    problems: list[Problem] = []
    for stream in streams:
        try:
            with foreign_parser(CODE, "the LVM physical volume", path):
                stream.allow(1 << 20)
                group, opened = _physical_volume(stream)
            groups.setdefault(group, []).append((opened, stream))
        except VhdtoolError as error:
            problems.append(Problem(error.code, error.message, path))
    volumes: list[LogicalVolume] = []
    for members in groups.values():
        try:
            found, lost = _group(members, path)
            volumes += found
            problems += lost
        except VhdtoolError as error:
            problems.append(Problem(error.code, error.message, path))
    return volumes, problems


def _physical_volume(stream: MeteredStream) -> tuple[str, Any]:
    from dissect.volume.lvm.physical import LVM2Device  # noqa: PLC0415  # 46 ms, only where there is LVM

    opened = LVM2Device(stream)
    names = [key for key, value in opened.metadata.items() if isinstance(value, dict)]
    return names[0], opened


def _group(members: list[tuple[Any, MeteredStream]], path: str | None) -> tuple[list[LogicalVolume], list[Problem]]:
    from dissect.volume.lvm.lvm2 import LVM2  # noqa: PLC0415  # as above

    volumes: list[LogicalVolume] = []
    problems: list[Problem] = []
    with foreign_parser(CODE, "the LVM volume group", path):
        for _, stream in members:
            stream.allow(1 << 20)
        group = LVM2([opened for opened, _ in members]).volume_group
        logical = [volume for volume in group.lv if volume.is_visible]
    for volume in logical[:MAX_LOGICAL_VOLUMES]:
        name = f"{group.name}/{volume.name}"
        try:
            with foreign_parser(CODE, f"the logical volume {name}", path):
                size = sum(int(segment.extent_count) for segment in volume.segments) * int(group.extent_size) * 512
                source = members[0][1]
                device = StreamDevice(volume.open(), size, source, code=CODE, what=f"the logical volume {name}")
            volumes.append(LogicalVolume(name, size, device))
        except VhdtoolError as error:
            problems.append(Problem("lvm-volume-incomplete", error.message, path))
    return volumes, problems
