"""Where an in-place commit of a VHDX puts each touched block meanwhile, and where in the end."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.changed_ranges import ChangedRanges
from vhdtool.disk.in_place_errors import damaged
from vhdtool.disk.vhd_move import MovedBlocks
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_log_writer import SECTOR_LIMIT, LogPlace, log_length_for, too_wide
from vhdtool.disk.vhdx_move import BLOCK_LIMIT, MoveRecord, record_length
from vhdtool.disk.vhdx_moved_bat import MovedBat
from vhdtool.disk.vhdx_space import whole_mib
from vhdtool.disk.vhdx_survey import Survey
from vhdtool.layout import packed

FROM_FILE: Final = 0
"""What a block had before is in the file, as a whole, at its origin."""
FROM_ZEROS: Final = 1
"""It read as zeros."""
FROM_CHAIN: Final = 2
"""Some or all of it came from a parent."""
_ENTRY = packed(fmt.BAT_ENTRY)


@dataclass(slots=True)
class _Touched:
    """The touched blocks as they are in the file: number, place or 0, what is there."""

    numbers: array[int]
    origins: array[int] = field(default_factory=lambda: array("Q"))
    sources: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """Everything that is decided before the first write. Sizes and places in bytes of the file.

    ``record`` has the blocks with their homes and places; ``sources`` and ``origins`` say for each what it had before
    and where (0: nowhere). ``log`` is the log that is used, ``new_size`` the file's size in the end.
    """

    record: MoveRecord
    sources: bytearray
    origins: array[int]
    ranges: ChangedRanges
    bat: MovedBat
    log: LogPlace
    new_size: int
    block_size: int
    disk_size: int

    def used_size(self, block: int) -> int:
        """What the disk has of a block."""
        return min(self.block_size, self.disk_size - block * self.block_size)


def plan_copies(layer: VhdxLayer, ranges: ChangedRanges, data_write_guid: UUID, *, fold: bool) -> CopyPlan:
    """Give each touched block a place: behind all that is in use come new blocks, copies, a log if need be, the record.

    With ``fold`` a copy's home is where the block was, so that in the end the file has grown by the new blocks only.

    Raises :class:`RefusedError` ``image-damaged``, ``change-too-wide``; :class:`DamagedError` as reading the touched
    blocks does, and ``vhdx-block-overlap`` where something else lies in the place of a touched block.
    """
    path, block_size = layer.info.path, layer.info.block_size or 0
    if len(ranges.blocks) > BLOCK_LIMIT:
        raise too_wide(path, SECTOR_LIMIT, len(ranges.blocks))
    touched = _touched(layer, ranges.blocks, block_size)
    survey = _survey(layer, touched, block_size)
    old_size = layer.stored_size
    start = max(whole_mib(old_size), survey.end)
    fresh = touched.origins.count(0)
    new_place, copy_place = start, start + fresh * block_size
    blocks = MovedBlocks()
    for number, origin in zip(touched.numbers, touched.origins, strict=True):
        if origin:
            blocks.add(number, origin if fold else copy_place, copy_place)
            copy_place += block_size
        else:
            blocks.add(number, new_place, new_place)
            new_place += block_size
    bat = MovedBat(layer.bat_range[0], layer.chunk_ratio, blocks)
    sectors = bat.sectors
    if sectors > SECTOR_LIMIT:
        raise too_wide(path, SECTOR_LIMIT, sectors)
    home_log = LogPlace(*(layer.log_range or (0, 0)))
    log = home_log if home_log.room >= sectors else LogPlace(copy_place, log_length_for(sectors))
    end = max(copy_place, log.offset + log.length)
    return CopyPlan(
        record=MoveRecord(
            disk_id=layer.virtual_disk_id or fmt.NO_GUID,
            data_write_guid=data_write_guid,
            file_size=end + whole_mib(record_length(len(blocks))),
            old_size=old_size,
            log=home_log,
            blocks=blocks,
        ),
        sources=touched.sources,
        origins=touched.origins,
        ranges=ranges,
        bat=bat,
        log=log,
        new_size=max(whole_mib(old_size), _end_of_homes(blocks, touched.sources, block_size)),
        block_size=block_size,
        disk_size=layer.info.virtual_size,
    )


def _touched(layer: VhdxLayer, numbers: array[int], block_size: int) -> _Touched:
    touched = _Touched(numbers)
    entry = bytearray(fmt.BAT_ENTRY_SIZE)
    for number in numbers:
        for run in layer.resolve(number * block_size, 1):
            del run  # asked for only because that holds the block's state and place against the file
        index = number + number // layer.chunk_ratio
        layer.read_stored(layer.bat_range[0] + index * fmt.BAT_ENTRY_SIZE, memoryview(entry))
        (value,) = _ENTRY.unpack(entry)
        state = value & fmt.BAT_STATE_MASK
        touched.origins.append(value & fmt.BAT_OFFSET_MASK)
        if state == BlockState.FULLY_PRESENT:
            touched.sources.append(FROM_FILE)
        elif layer.has_parent and state in {BlockState.NOT_PRESENT, BlockState.PARTIALLY_PRESENT}:
            touched.sources.append(FROM_CHAIN)
        else:
            touched.sources.append(FROM_ZEROS)
    return touched


def _end_of_homes(blocks: MovedBlocks, sources: bytearray, block_size: int) -> int:
    """Where the file must reach for blocks that are new at their homes: an empty one's may lie past its end."""
    return max(
        (
            home + block_size
            for (_, home, place), source in zip(blocks, sources, strict=True)
            if home == place or source != FROM_FILE
        ),
        default=0,
    )


def _survey(layer: VhdxLayer, touched: _Touched, block_size: int) -> Survey:
    """Find the end of what is in use; refuse what lies where it must not."""
    owners = {origin: number for origin, number in zip(touched.origins, touched.numbers, strict=True) if origin}
    places = sorted((origin, origin + block_size) for origin in touched.origins if origin)
    for before, after in pairwise(places):
        if before[1] > after[0]:
            raise damaged("two blocks lie in one place", layer.info.path, after[0])
    survey = Survey(layer, places)
    if survey.cut_off:
        raise damaged("the image has blocks that lie past its end", layer.info.path, survey.cut_off[0].start)
    for holding in survey.in_the_way:
        if owners.get(holding.start) != holding.block or holding.block is None:
            raise damaged("something else lies in the place of a block", layer.info.path, holding.start)
    return survey
