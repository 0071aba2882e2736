"""The two copies of the region table: where BAT and metadata lie (MS-VHDX 2.2.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import packed

_TABLE_HEADER = packed(fmt.REGION_TABLE_HEADER)
_ENTRY = packed(fmt.REGION_ENTRY)


@dataclass(frozen=True, slots=True)
class Region:
    """One entry of a region table; offset and length in bytes of the file."""

    guid: UUID
    offset: int
    length: int
    required: bool

    @property
    def name(self) -> str | None:
        """``bat``, ``metadata``, or ``None`` for a region that MS-VHDX does not know."""
        return fmt.REGION_NAMES.get(self.guid)


@dataclass(frozen=True, slots=True)
class RegionTable:
    """One copy. ``fault`` says why it is not valid; then ``regions`` is empty. ``used`` is the copy that was read."""

    offset: int
    regions: tuple[Region, ...]
    fault: str | None
    used: bool

    @property
    def valid(self) -> bool:
        """Signature, checksum and number of entries are right."""
        return self.fault is None


def read_region_tables(
    stored: ByteSource, *, path: str | None = None
) -> tuple[tuple[RegionTable, RegionTable], tuple[Region, ...], list[Problem]]:
    """Read both copies; return them, the regions in effect, and what was survived.

    The first valid copy counts. Raises :class:`DamagedError` ``vhdx-region-tables-damaged``,
    ``vhdx-region-location``, ``vhdx-region-overlap``, ``vhdx-region-twice``, ``vhdx-region-missing``;
    :class:`UnsupportedError` ``vhdx-region-unknown-required``.
    """
    copies = [
        read_exactly(stored, offset, fmt.REGION_TABLE_SIZE, path=path, what=f"region table {number}")
        for number, offset in enumerate(fmt.REGION_TABLE_OFFSETS, 1)
    ]
    first_fault = _fault_of(copies[0])
    same = copies[0] == copies[1]
    faults = [first_fault, first_fault if same else _fault_of(copies[1])]
    valid = [index for index in (0, 1) if faults[index] is None]
    if not valid:
        raise DamagedError(
            "vhdx-region-tables-damaged",
            f"both region tables are damaged ({faults[0]}; {faults[1]})",
            path=path,
            offset=fmt.REGION_TABLE_OFFSETS[0],
            hint=fmt.RESTORE_HINT,
        )
    used = valid[0]
    problems = []
    if len(valid) == 1:
        bad = 1 - used
        problems.append(
            Problem(
                "vhdx-region-table-copy-damaged",
                f"region table {bad + 1} is damaged ({faults[bad]}); region table {used + 1} is used",
                path,
                fmt.REGION_TABLE_OFFSETS[bad],
            )
        )
    elif not same:
        problems.append(
            Problem(
                "vhdx-region-tables-differ",
                "the region tables are both valid and differ; region table 1 is used",
                path,
                fmt.REGION_TABLE_OFFSETS[1],
            )
        )
    parsed = [() if fault is not None else parse_region_table(data) for fault, data in zip(faults, copies, strict=True)]
    regions = parsed[used]
    _check(regions, fmt.REGION_TABLE_OFFSETS[used], path)
    first, second = (
        RegionTable(fmt.REGION_TABLE_OFFSETS[index], parsed[index], faults[index], index == used) for index in (0, 1)
    )
    return (first, second), regions, problems


def parse_region_table(data: bytes) -> tuple[Region, ...]:
    """Return the entries of a valid 64 KiB region table."""
    _, _, count, _ = _TABLE_HEADER.unpack_from(data)
    regions = []
    for index in range(count):
        guid, offset, length, flags = _ENTRY.unpack_from(data, _TABLE_HEADER.size + index * _ENTRY.size)
        regions.append(Region(fmt.guid_of(guid), offset, length, bool(flags & fmt.REGION_REQUIRED)))
    return tuple(regions)


def encode_region_table(regions: Iterable[Region]) -> bytes:
    """Return the 64 KiB of a region table with its checksum."""
    entries = [
        _ENTRY.pack(region.guid.bytes_le, region.offset, region.length, int(region.required)) for region in regions
    ]
    header = _TABLE_HEADER.pack(fmt.REGION_SIGNATURE, 0, len(entries), 0)
    return fmt.sealed((header + b"".join(entries)).ljust(fmt.REGION_TABLE_SIZE, b"\0"))


def region_of(regions: Iterable[Region], guid: UUID, *, path: str | None = None) -> Region:
    """Return the region with a GUID or raise :class:`DamagedError` ``vhdx-region-missing``."""
    for region in regions:
        if region.guid == guid:
            return region
    raise DamagedError(
        "vhdx-region-missing",
        f"the region table has no {fmt.REGION_NAMES.get(guid, guid)} region",
        path=path,
        offset=fmt.REGION_TABLE_OFFSETS[0],
        hint=fmt.RESTORE_HINT,
    )


def _fault_of(data: bytes) -> str | None:
    signature, _, count, _ = _TABLE_HEADER.unpack_from(data)
    if signature != fmt.REGION_SIGNATURE:
        return "its signature is wrong"
    if not fmt.checksum_is_right(data):
        return "its checksum is wrong"
    if count > fmt.REGION_ENTRY_LIMIT:
        return f"it has {count} entries, more than {fmt.REGION_ENTRY_LIMIT}"
    return None


def _check(regions: tuple[Region, ...], table_offset: int, path: str | None) -> None:
    for region in regions:
        if region.required and region.name is None:
            raise UnsupportedError(
                "vhdx-region-unknown-required",
                f"the image needs a region that this program does not know, {region.guid}",
                path=path,
                offset=table_offset,
            )
        if (
            region.offset < fmt.HEADER_SECTION_SIZE
            or region.offset % fmt.MIB
            or region.length == 0
            or region.length % fmt.MIB
        ):
            raise DamagedError(
                "vhdx-region-location",
                f"the {region.name or region.guid} region has a place that none may have",
                path=path,
                offset=table_offset,
                expected="offset and length that are multiples of 1 MiB, after the first MiB",
                found=f"offset {region.offset:#x}, length {region.length:#x}",
                hint=fmt.RESTORE_HINT,
            )
    if len({region.guid for region in regions}) != len(regions):
        raise DamagedError(
            "vhdx-region-twice",
            "the region table names one region twice",
            path=path,
            offset=table_offset,
            hint=fmt.RESTORE_HINT,
        )
    for before, after in pairwise(sorted(regions, key=lambda region: region.offset)):
        if before.offset + before.length > after.offset:
            raise DamagedError(
                "vhdx-region-overlap",
                f"the regions {before.name or before.guid} and {after.name or after.guid} overlap",
                path=path,
                offset=after.offset,
                hint=fmt.RESTORE_HINT,
            )
