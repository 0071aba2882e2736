"""The block allocation table of a VHDX with some blocks at other places: the sectors in which it differs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from vhdtool.bytesource import ByteSource
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.vhd_move import MovedBlocks
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_log_entry import DataWrite

_SECTOR = fmt.LOG_SECTOR_SIZE


class MovedBat:
    """``offset`` is that of the BAT in the file, ``chunk_ratio`` as in :func:`vhdx_format.chunk_ratio`."""

    def __init__(self, offset: int, chunk_ratio: int, blocks: MovedBlocks) -> None:
        self._offset = offset
        self._ratio = chunk_ratio
        self._blocks = blocks

    @property
    def sectors(self) -> int:
        """How many sectors of 4 KiB differ."""
        return sum(1 for _ in groupby(self._blocks.numbers, self._sector_of))

    def writes(self, source: ByteSource, *, home: bool) -> Iterator[DataWrite]:
        """The sectors as ``source``, the file, has them, with all blocks FULLY_PRESENT at their homes or places."""
        places = self._blocks.homes if home else self._blocks.places
        index = 0
        for sector, numbers in groupby(self._blocks.numbers, self._sector_of):
            start = self._offset + sector * _SECTOR
            data = bytearray(source.read_at(start, _SECTOR).ljust(_SECTOR, b"\0"))
            for number in numbers:
                at = self._entry_of(number) - sector * _SECTOR
                data[at : at + fmt.BAT_ENTRY_SIZE] = encode_bat_entry(BlockState.FULLY_PRESENT, places[index])
                index += 1
            yield DataWrite(start, bytes(data))

    def _entry_of(self, number: int) -> int:
        return (number + number // self._ratio) * fmt.BAT_ENTRY_SIZE

    def _sector_of(self, number: int) -> int:
        return self._entry_of(number) // _SECTOR
