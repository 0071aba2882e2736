"""A key's record (nk) with all its fields, for editing and checking; :mod:`key` is for reading."""

from __future__ import annotations

from vhdtool.layout import field_names, packed
from vhdtool.registry.cell import Cells
from vhdtool.registry.format import (
    KEY_CELL_LIMIT,
    KEY_COMPRESSED_NAME,
    KEY_NAME_LIMIT,
    KEY_NODE,
    KEY_SIGNATURE,
    NIL,
)
from vhdtool.registry.names import decode_name

_NODE = packed(KEY_NODE)
_NAMES = field_names(KEY_NODE)


class KeyNode:
    """The fields of a key, named as in :data:`vhdtool.registry.format.KEY_NODE`; ``cell`` is where it lies.

    ``stored_name`` is the name's bytes, ``name`` the text. Raises :class:`DamagedError` as
    :class:`vhdtool.registry.key.Key`.
    """

    __slots__ = ("cell", "name", "stored_name", *_NAMES)

    signature: bytes
    flags: int
    last_written: int
    access_bits: int
    layer_bits: int
    spare: int
    parent: int
    subkey_count: int
    volatile_subkey_count: int
    subkey_list: int
    volatile_subkey_list: int
    value_count: int
    value_list: int
    security: int
    class_name: int
    max_name_length: int
    user_flags: int
    debug: int
    max_class_length: int
    max_value_name_length: int
    max_value_data_length: int
    work_var: int
    name_length: int
    class_length: int

    def __init__(self, cells: Cells, cell: int) -> None:
        record = cells.record(cell, KEY_CELL_LIMIT)
        if len(record) < _NODE.size:
            raise cells.damaged("hive-cell-size", "a cell is too small for a key", cell, found=len(record))
        for name, value in zip(_NAMES, _NODE.unpack_from(record), strict=True):
            setattr(self, name, value)
        if self.signature != KEY_SIGNATURE:
            raise cells.damaged("hive-key", "this is no key", cell, expected="nk", found=self.signature.hex())
        self.cell = cell
        self.stored_name = record[_NODE.size : _NODE.size + self.name_length]
        if len(self.stored_name) < self.name_length:
            raise cells.damaged("hive-key", "a key's name leaves its cell", cell, found=f"{self.name_length} bytes")
        self.name = decode_name(self.stored_name, compressed=self.compressed)

    @property
    def compressed(self) -> bool:
        """Whether the name is stored as one byte a character."""
        return bool(self.flags & KEY_COMPRESSED_NAME)

    @property
    def utf16_name_length(self) -> int:
        """Bytes of the name in UTF-16, which is what the parent's ``max_name_length`` counts."""
        return self.name_length * 2 if self.compressed else self.name_length


def new_key_node(name: bytes, *, compressed: bool, parent: int, security: int, last_written: int) -> bytes:
    """Return the record of a key without subkeys and values. ``name`` is at most 510 bytes."""
    if not 0 < len(name) <= KEY_NAME_LIMIT * 2:
        raise ValueError("a key's name has 1 to 255 code units")
    fields = dict.fromkeys(_NAMES, 0)
    fields |= {
        "flags": KEY_COMPRESSED_NAME if compressed else 0,
        "last_written": last_written,
        "parent": parent,
        "subkey_list": NIL,
        "volatile_subkey_list": NIL,
        "value_list": NIL,
        "security": security,
        "class_name": NIL,
        "name_length": len(name),
    }
    return bytes(KEY_NODE.build({**fields, "signature": KEY_SIGNATURE})) + name
