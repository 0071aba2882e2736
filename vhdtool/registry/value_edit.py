"""Changes to the values of a key: records (vk), their data, and the list of them.

Source: regf specification, "Key values list", "Key value", "Big data".
"""

from __future__ import annotations

from vhdtool.layout import packed
from vhdtool.registry.edited_cells import EditedCells
from vhdtool.registry.format import (
    BIG_DATA,
    BIG_DATA_MINOR_VERSION,
    BIG_DATA_SEGMENT,
    BIG_DATA_SIGNATURE,
    DATA_INLINE,
    KEY_VALUE,
    NIL,
    SEGMENT_ELEMENT,
    VALUE_COMPRESSED_NAME,
    VALUE_ELEMENT,
    VALUE_SIGNATURE,
)
from vhdtool.registry.key_audit import ValueRecord
from vhdtool.registry.key_node import KeyNode
from vhdtool.registry.names import encode_name

_VALUE = packed(KEY_VALUE)
_ELEMENT = packed(VALUE_ELEMENT)
_BIG_DATA = packed(BIG_DATA)
_SEGMENT = packed(SEGMENT_ELEMENT)
_INLINE = 4  # bytes that a value holds in itself
_BIG_DATA_TAIL = bytes(4)  # a db has 12 bytes; the last four mean nothing


def add_value(cells: EditedCells, key: KeyNode, name: str, kind: int, raw: bytes) -> tuple[ValueRecord, int]:
    """Add a value that the key does not have; return it, and the cell of the list of values as it is then."""
    stated, place, data = _stored(cells, raw, key.cell)
    stored, latin = encode_name(name)
    flags = VALUE_COMPRESSED_NAME if latin and stored else 0
    record = _VALUE.pack(VALUE_SIGNATURE, len(stored), stated, place, kind, flags, 0)
    cell = cells.store(record + stored, key.cell)
    element = _ELEMENT.pack(cell)
    if key.value_count:
        listed = cells.reader().read(key.value_list, _ELEMENT.size * key.value_count, "a list of values") + element
        spare = key.value_count // 8 * _ELEMENT.size
        values = cells.store_again(key.value_list, listed, room=len(listed) + spare)
    else:
        values = cells.store(element, key.cell)
    return ValueRecord(cell, name, kind, len(raw), len(raw) <= _INLINE, place, tombstone=False, data=data), values


def change_value(cells: EditedCells, value: ValueRecord, kind: int, raw: bytes, near: int) -> ValueRecord:
    """Give a value other data; return it as it is then. ``near`` is the cell of its key."""
    flat = len(value.data) == 1 and len(raw) > _INLINE and not _is_big(cells, raw)
    if flat and cells.fits(value.data[0], len(raw)):
        cells.write(value.data[0], raw)
        stated, place, data = len(raw), value.data[0], value.data
    else:
        for cell in value.data:
            cells.free(cell)
        stated, place, data = _stored(cells, raw, near)
    cells.set_fields(value.cell, KEY_VALUE, data_size=stated, data_offset=place, type=kind)
    return ValueRecord(value.cell, value.name, kind, len(raw), len(raw) <= _INLINE, place, tombstone=False, data=data)


def remove_value(cells: EditedCells, key: KeyNode, value: ValueRecord) -> int:
    """Remove a value; return the cell of the list of values, NIL where it was the last."""
    size = _ELEMENT.size * key.value_count
    listed = cells.reader().read(key.value_list, size, "a list of values")
    kept = b"".join(listed[at : at + _ELEMENT.size] for at in range(0, size, _ELEMENT.size)
                    if _ELEMENT.unpack_from(listed, at)[0] != value.cell)  # fmt: skip
    for cell in (*value.data, value.cell):
        cells.free(cell)
    if not kept:
        cells.free(key.value_list)
        return NIL
    return cells.store_again(key.value_list, kept)


def _is_big(cells: EditedCells, raw: bytes) -> bool:
    return len(raw) > BIG_DATA_SEGMENT and cells.minor >= BIG_DATA_MINOR_VERSION


def _stored(cells: EditedCells, raw: bytes, near: int) -> tuple[int, int, tuple[int, ...]]:
    """Store data; return size and place as a value's record has them, and the cells that were taken."""
    if len(raw) <= _INLINE:
        return len(raw) | DATA_INLINE, int.from_bytes(raw.ljust(_INLINE, b"\0"), "little"), ()
    if not _is_big(cells, raw):
        cell = cells.store(raw, near)
        return len(raw), cell, (cell,)
    # the last segment's cell is as long as the others: Windows does so, and hivex relies on it
    segments = [
        cells.store(raw[at : at + BIG_DATA_SEGMENT], near, room=BIG_DATA_SEGMENT)
        for at in range(0, len(raw), BIG_DATA_SEGMENT)
    ]
    table = cells.store(b"".join(_SEGMENT.pack(cell) for cell in segments), near)
    head = cells.store(_BIG_DATA.pack(BIG_DATA_SIGNATURE, len(segments), table) + _BIG_DATA_TAIL, near)
    return len(raw), head, (head, table, *segments)
