"""Values of keys (vk) and their data: inline, in a cell, or in segments (db).

Source: regf specification, "Key value", "Big data".
"""

from __future__ import annotations

from vhdtool.layout import offset_of, packed
from vhdtool.registry.cell import Cells
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    BIG_DATA,
    BIG_DATA_MINOR_VERSION,
    BIG_DATA_SEGMENT,
    BIG_DATA_SIGNATURE,
    DATA_INLINE,
    KEY_VALUE,
    PAGE_SIZE,
    SEGMENT_ELEMENT,
    VALUE_COMPRESSED_NAME,
    VALUE_NAME_LIMIT,
    VALUE_SIGNATURE,
)
from vhdtool.registry.names import decode_name
from vhdtool.registry.value_data import ValueData, type_name, typed_data

_VALUE = packed(KEY_VALUE)
_DATA_PLACE = offset_of(KEY_VALUE, "data_offset")
_BIG_DATA = packed(BIG_DATA)
_SEGMENT = packed(SEGMENT_ELEMENT)
_USUAL = 256  # bytes of a value's cell that are read at once; only very long names take a second look
_LONG_DATA = PAGE_SIZE  # longer data belongs to one value only


class Value:
    """One value. ``name`` is empty for the default value; the data is read when it is asked for.

    ``type`` is the type's number, ``size`` the bytes of data that the value claims. Two values of one key may have
    the same name in a hive that Windows did not write; the first is the one that counts.
    """

    __slots__ = ("_cell", "_cells", "_data_offset", "_inline", "_raw", "name", "size", "type")

    def __init__(self, cells: Cells, cell: int) -> None:
        record = cells.record(cell, _USUAL)
        if len(record) < _VALUE.size:
            raise cells.damaged("hive-cell-size", "a cell is too small for a value", cell, found=len(record))
        signature, name_length, size, self._data_offset, self.type, flags, _ = _VALUE.unpack_from(record)
        if signature != VALUE_SIGNATURE:
            raise cells.damaged("hive-value", "this is no value", cell, expected="vk", found=signature.hex())
        end = _VALUE.size + name_length
        if end > len(record):
            if name_length > VALUE_NAME_LIMIT:
                raise cells.damaged("hive-value", "a value's name is too long", cell, found=name_length)
            record = cells.read(cell, end, "a value's name")
        self.name = decode_name(record[_VALUE.size : end], compressed=bool(flags & VALUE_COMPRESSED_NAME))
        self.size: int = size & ~DATA_INLINE
        self._inline = bool(size & DATA_INLINE)
        self._cells = cells
        self._cell = cell
        self._raw: bytes | None = None

    @property
    def type_name(self) -> str:
        """``REG_DWORD`` and so on; ``REG_UNKNOWN_0x…`` for numbers that have no name."""
        return type_name(self.type)

    @property
    def offset(self) -> int:
        """Place of the vk cell in the hive file, in bytes."""
        return BASE_BLOCK_SIZE + self._cell

    @property
    def raw(self) -> bytes:
        """The data as stored.

        Raises :class:`DamagedError` ``hive-value-data``, ``hive-big-data``, ``hive-cell-shared`` and those of cells.
        """
        if self._raw is None:
            self._raw = self._read()
        return self._raw

    @property
    def data(self) -> ValueData:
        """The data as a Python value of its type, see :func:`vhdtool.registry.value_data.typed_data`."""
        return typed_data(self.type, self.raw)

    def _read(self) -> bytes:
        if self._inline:
            if self.size > 4:
                raise self._cells.damaged(
                    "hive-value-data", "a value holds more in itself than it can", self._cell, found=self.size
                )
            return self._cells.read(self._cell, _VALUE.size, "a value")[_DATA_PLACE : _DATA_PLACE + self.size]
        if self.size == 0:
            return b""
        if self.size > self._cells.hbins_size:
            raise self._cells.damaged(
                "hive-value-data", "a value claims more data than the hive has", self._cell, found=self.size
            )
        if self.size > _LONG_DATA and not self._cells.claim(self._data_offset, self._cell):
            raise self._cells.damaged("hive-cell-shared", "the data of a value belongs to another", self._data_offset)
        if self._is_big():
            return self._segments()
        return self._cells.read(self._data_offset, self.size, "a value's data")

    def _is_big(self) -> bool:
        if self.size <= BIG_DATA_SEGMENT:
            return False
        if self._cells.minor is not None:
            return self._cells.minor >= BIG_DATA_MINOR_VERSION
        return len(self._cells.record(self._data_offset, self.size)) < self.size

    def _segments(self) -> bytes:
        cells, place = self._cells, self._data_offset
        signature, count, table = _BIG_DATA.unpack(cells.read(place, _BIG_DATA.size, "a list of data"))
        needed = -(-self.size // BIG_DATA_SEGMENT)
        if signature != BIG_DATA_SIGNATURE or count < needed:
            raise cells.damaged(
                "hive-big-data",
                "the data of a long value is not in segments",
                place,
                expected=f"db and {needed} segments",
                found=f"{signature.hex()} and {count}",
            )
        listed = cells.read(table, _SEGMENT.size * count, "a list of data segments")
        segments = [cell for (cell,) in _SEGMENT.iter_unpack(listed)][:needed]
        if len(set(segments)) != needed:
            raise cells.damaged("hive-big-data", "a segment of a value's data is listed twice", table)
        data = bytearray()
        for segment in segments:
            data += cells.read(segment, min(BIG_DATA_SEGMENT, self.size - len(data)), "a segment of data")
        return bytes(data)
