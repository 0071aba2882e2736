"""The volumes of a disk: GPT, MBR, a bare file system, and the LVM logical volumes on top of them.

The tables are read by own parsers (:mod:`vhdtool.volume.gpt`, :mod:`vhdtool.volume.mbr`): dissect.volume takes a GPT
without its CRCs, never looks at the backup, makes every partition one sector short, and follows a chain of extended
partitions without an end. It stays the judge in the tests, and reads LVM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vhdtool.disk.device import BlockDevice, Slice
from vhdtool.errors import DamagedError, NotFoundError, Problem
from vhdtool.volume.gpt import has_gpt_signature, read_gpt
from vhdtool.volume.lvm import LogicalVolume, read_logical_volumes
from vhdtool.volume.marks import Marks, read_marks
from vhdtool.volume.mbr import PROTECTIVE_TYPE, Mbr, MbrPartition, read_mbr, read_partitions
from vhdtool.volume.partition_types import PartitionType, gpt_type, mbr_type

Scheme = Literal["gpt", "mbr", "none", "lvm"]

BOOT_PARTITION_LIMIT = 1024 * 1024 * 1024  # Windows makes System Reserved 100 to 550 MiB


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume. ``offset`` and ``size`` in bytes; an LVM logical volume has offset 0, for it lies in pieces.

    ``index`` counts from 0 and is the place in :attr:`VolumeTable.volumes`. ``type_id`` is the GPT type GUID, the
    MBR type as ``0x07``, or empty. ``role`` is one of esp, msr, boot, os, recovery, data, swap, unknown.
    ``label`` is what the boot sector or superblock says; NTFS and exFAT keep theirs inside the file system.
    """

    index: int
    offset: int
    size: int
    scheme: Scheme
    type_id: str
    name: str | None
    role: str
    encryption: str | None = None
    container: str | None = None
    filesystem: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class VolumeTable:
    """All volumes of a disk. ``disk_id``: the GPT disk GUID, or the MBR signature as eight hex digits."""

    scheme: Scheme
    disk_id: str | None
    volumes: tuple[Volume, ...]
    problems: tuple[Problem, ...]


def read_volumes(device: BlockDevice) -> VolumeTable:
    """Read the partition table and look at the first bytes of each volume.

    Raises :class:`DamagedError` ``partition-table-damaged`` where the disk says that it has a GPT and neither copy
    can be used. Everything less is told in ``problems``.
    """
    path = getattr(device, "path", None)
    mbr = read_mbr(device)
    table = None
    if mbr is None or mbr.protective or not mbr.entries:
        table = _gpt_table(device, mbr, path)
    if table is None and not (mbr is not None and mbr.plausible and mbr.entries):
        # A file system's boot sector has the same signature at its end; what looks like entries in it is boot code.
        table = _bare_table(device, mbr)
    if table is None:
        assert mbr is not None  # noqa: S101  # _bare_table returns None only where there is one
        table = _mbr_table(device, mbr, path)
    return _with_logical_volumes(device, table, path)


def volume_device(device: BlockDevice, volume: Volume) -> BlockDevice:
    """Return the bytes of ``volume``: a slice of the disk, or the LVM logical volume.

    Raises :class:`NotFoundError` ``no-such-volume`` where the logical volume can't be opened any more.
    """
    if volume.scheme != "lvm":
        return Slice(device, volume.offset, volume.size)
    physical = [found for found in read_volumes(device).volumes if found.container == "lvm-pv"]
    logical, _ = _logical_volumes(device, physical, None)
    for found in logical:
        if found.name == volume.name:
            return found.device
    raise NotFoundError("no-such-volume", f"the logical volume {volume.name} is not on this disk")


def refine_roles(volumes: Sequence[Volume], has_windows: Callable[[Volume], bool]) -> tuple[Volume, ...]:
    """Give role ``os`` to the volumes on which ``has_windows`` finds a Windows directory.

    It is asked for readable volumes only whose type leaves it open (data, boot, unknown).
    """
    return tuple(
        dataclasses.replace(volume, role="os")
        if volume.role in ("data", "boot", "unknown")
        and volume.filesystem is not None
        and volume.encryption is None
        and volume.container is None
        and has_windows(volume)
        else volume
        for volume in volumes
    )


def _gpt_table(device: BlockDevice, mbr: Mbr | None, path: str | None) -> VolumeTable | None:
    """The GPT, for the sector size that the device tells, or else the other one (a raw copy does not tell)."""
    told = device.logical_sector_size
    sizes = [told, *(size for size in (512, 4096) if size != told)]
    signed = [size for size in sizes if has_gpt_signature(device, size)]
    problems: list[Problem] = []
    for sector_size in signed:
        gpt, problems = read_gpt(device, sector_size, path)
        if gpt is None:
            continue
        if mbr is None or not mbr.protective:
            problems.append(Problem("protective-mbr-missing", "there is a GPT, but no protective MBR", path, 0))
        volumes = [
            _typed(
                device,
                Volume(index, part.offset, part.size, "gpt", part.type_guid, part.name, "unknown"),
                gpt_type(part.type_guid),
            )
            for index, part in enumerate(gpt.partitions)
        ]
        return VolumeTable("gpt", gpt.disk_guid, tuple(volumes), (*problems, *_layout_problems(device, volumes, path)))
    if mbr is None or not mbr.protective:
        return None
    faults = "; ".join(problem.message for problem in problems) or "there is no GPT header"
    raise DamagedError(
        "partition-table-damaged",
        f"the disk has a protective MBR but no usable GPT: {faults}",
        path=path,
        offset=told,
        hint="Repair the table with a partitioning tool (gdisk, sgdisk) on a copy of the disk.",
    )


def _bare_table(device: BlockDevice, mbr: Mbr | None) -> VolumeTable | None:
    """A file system from the first byte on; ``None`` where sector 0 is an MBR after all (empty or damaged)."""
    marks = read_marks(device)
    if not marks.found:
        return VolumeTable("none", None, (), ()) if mbr is None else None
    return VolumeTable("none", None, (_marked(Volume(0, 0, device.size, "none", "", None, "data"), marks),), ())


def _mbr_table(device: BlockDevice, mbr: Mbr, path: str | None) -> VolumeTable:
    disk_id = f"{mbr.disk_signature:08x}"
    sector_size = _mbr_sector_size(device, mbr)
    partitions, problems = read_partitions(device, mbr, sector_size, path)
    volumes = [
        _typed(
            device,
            Volume(
                index,
                part.first_sector * sector_size,
                part.sectors * sector_size,
                "mbr",
                f"{part.type:#04x}",
                None,
                "unknown",
            ),
            mbr_type(part.type),
        )
        for index, part in enumerate(partitions)
    ]
    volumes = [
        dataclasses.replace(volume, role="boot") if _is_system_reserved(volume, part, volumes) else volume
        for volume, part in zip(volumes, partitions, strict=True)
    ]
    if not mbr.plausible:
        problems.append(Problem("mbr-implausible", "the partition table has impossible entries", path, 0))
    if any(has_gpt_signature(device, size) for size in {512, 4096, sector_size}):
        problems.append(Problem("gpt-ignored", "there is a GPT, but the MBR does not lead to it", path, sector_size))
    problems += _layout_problems(device, volumes, path)
    return VolumeTable("mbr", disk_id, tuple(volumes), tuple(problems))


def _mbr_sector_size(device: BlockDevice, mbr: Mbr) -> int:
    """The unit of the table: the device's sectors, unless only 4096-byte ones lead to anything (a raw copy)."""
    told = device.logical_sector_size
    if told != 512:
        return told
    starts = [entry.first_sector for entry in mbr.entries if entry.type != PROTECTIVE_TYPE]
    if any(device.read_at(start * 512 + 510, 2) == b"\x55\xaa" for start in starts):
        return 512
    for sector_size in (512, 4096):
        if any(read_marks(Slice(device, start * sector_size, device.size)).found for start in starts):
            return sector_size
    return 512


def _is_system_reserved(volume: Volume, part: MbrPartition, volumes: Sequence[Volume]) -> bool:
    return (
        part.active
        and volume.role == "data"
        and volume.filesystem == "ntfs"
        and volume.size <= BOOT_PARTITION_LIMIT
        and any(other.size > volume.size for other in volumes if other is not volume and other.role == "data")
    )


def _typed(device: BlockDevice, volume: Volume, known: PartitionType) -> Volume:
    volume = dataclasses.replace(volume, role=known.role, encryption=known.encryption, container=known.container)
    if known.container is not None or known.role == "msr":
        return volume  # what lies inside is a part of something else: never read as a file system
    return _marked(volume, read_marks(Slice(device, volume.offset, volume.size)))


def _marked(volume: Volume, marks: Marks) -> Volume:
    role = volume.role
    if marks.filesystem == "swap":
        role = "swap"
    elif role == "unknown" and marks.filesystem is not None:
        role = "data"
    return dataclasses.replace(
        volume,
        role=role,
        encryption=marks.encryption or volume.encryption,
        container=marks.container,
        filesystem=marks.filesystem,
        label=marks.label,
    )


def _layout_problems(device: BlockDevice, volumes: Iterable[Volume], path: str | None) -> list[Problem]:
    problems = []
    end = 0
    for volume in sorted(volumes, key=lambda volume: volume.offset):
        if volume.offset + volume.size > device.size:
            text = f"volume {volume.index} ends beyond the end of the disk"
            problems.append(Problem("partition-outside-disk", text, path, volume.offset))
        if volume.offset < end:
            text = f"volume {volume.index} overlaps the one before it"
            problems.append(Problem("partitions-overlap", text, path, volume.offset))
        end = max(end, volume.offset + volume.size)
    return problems


def _with_logical_volumes(device: BlockDevice, table: VolumeTable, path: str | None) -> VolumeTable:
    physical = [volume for volume in table.volumes if volume.container == "lvm-pv"]
    if not physical:
        return table
    logical, problems = _logical_volumes(device, physical, path)
    volumes = list(table.volumes)
    for found in logical:
        empty = Volume(len(volumes), 0, found.size, "lvm", "", found.name, "data")
        volumes.append(_marked(empty, read_marks(found.device)))
    return dataclasses.replace(table, volumes=tuple(volumes), problems=(*table.problems, *problems))


def _logical_volumes(
    device: BlockDevice, physical: Sequence[Volume], path: str | None
) -> tuple[list[LogicalVolume], list[Problem]]:
    return read_logical_volumes([Slice(device, volume.offset, volume.size) for volume in physical], path)
