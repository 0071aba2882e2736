"""Master boot records with extended partitions.

Layout: "MBR disk", UEFI Specification 2.10 section 5.2.1; chains of extended boot records as Windows and Linux make
them: the logical partition counts from its own record, the next record from the start of the extended partition.
"""

from __future__ import annotations

from dataclasses import dataclass

import construct as c

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import Problem

PARTITION_ENTRY = c.Struct(
    "status" / c.Int8ul,
    c.Padding(3),
    "type" / c.Int8ul,
    c.Padding(3),
    "first_sector" / c.Int32ul,
    "sectors" / c.Int32ul,
)
BOOT_RECORD = c.Struct(
    c.Padding(440),
    "disk_signature" / c.Int32ul,
    c.Padding(2),
    "entries" / PARTITION_ENTRY[4],
    "signature" / c.Bytes(2),
)
BOOT_SIGNATURE = b"\x55\xaa"
EXTENDED_TYPES = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE_TYPE = 0xEE
MAX_LOGICAL = 128


@dataclass(frozen=True, slots=True)
class MbrPartition:
    """One partition, primary or logical. ``first_sector`` counts from the start of the disk."""

    first_sector: int
    sectors: int
    type: int
    active: bool


@dataclass(frozen=True, slots=True)
class Mbr:
    """The four entries of sector 0, the extended ones among them."""

    disk_signature: int
    entries: tuple[MbrPartition, ...]
    plausible: bool  # the entries look like a partition table and not like boot code

    @property
    def protective(self) -> bool:
        """Whether an entry says that the disk has a GPT."""
        return any(entry.type == PROTECTIVE_TYPE for entry in self.entries)


def read_mbr(device: BlockDevice) -> Mbr | None:
    """Read sector 0; ``None`` where it has no boot signature."""
    data = device.read_at(0, 512)
    if len(data) < 512:
        return None
    record = BOOT_RECORD.parse(data)
    if record.signature != BOOT_SIGNATURE:
        return None
    entries = tuple(
        MbrPartition(entry.first_sector, entry.sectors, entry.type, entry.status == 0x80)
        for entry in record.entries
        if entry.type != 0 and entry.sectors != 0
    )
    plausible = all(entry.status in (0, 0x80) for entry in record.entries) and all(
        entry.first_sector > 0 for entry in entries
    )
    return Mbr(record.disk_signature, entries, plausible)


def read_partitions(
    device: BlockDevice, mbr: Mbr, sector_size: int, path: str | None = None
) -> tuple[list[MbrPartition], list[Problem]]:
    """Return the primary partitions in table order, then the logical ones in the order of their chain."""
    problems: list[Problem] = []
    primary = [entry for entry in mbr.entries if entry.type not in EXTENDED_TYPES]
    logical: list[MbrPartition] = []
    for entry in mbr.entries:
        if entry.type in EXTENDED_TYPES:
            found, problem = _chain(device, entry.first_sector, sector_size, path)
            logical.extend(found)
            if problem is not None:
                problems.append(problem)
    return primary + logical, problems


def _chain(
    device: BlockDevice, base: int, sector_size: int, path: str | None
) -> tuple[list[MbrPartition], Problem | None]:
    found: list[MbrPartition] = []
    visited: set[int] = set()
    here = base
    while True:
        fault = None
        data = device.read_at(here * sector_size, 512)
        if here in visited:
            fault = "the chain of logical partitions leads in a circle"
        elif len(visited) >= MAX_LOGICAL:
            fault = f"there are more than {MAX_LOGICAL} logical partitions"
        elif len(data) < 512:
            fault = "the chain of logical partitions leaves the disk"
        elif data[510:] != BOOT_SIGNATURE:
            fault = "a record in the chain of logical partitions has no boot signature"
        if fault is not None:
            return found, Problem("extended-chain-damaged", fault, path, here * sector_size)
        visited.add(here)
        following = None
        for entry in BOOT_RECORD.parse(data).entries[:2]:
            if entry.type == 0 or entry.sectors == 0:
                continue
            if entry.type in EXTENDED_TYPES:
                following = base + entry.first_sector
            else:
                found.append(MbrPartition(here + entry.first_sector, entry.sectors, entry.type, entry.status == 0x80))
        if following is None:
            return found, None
        here = following
