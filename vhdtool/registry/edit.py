r"""Editing a hive: values and keys are set, created and deleted; the result is told as pages to write.

Nothing of the hive is written: changes lie in memory, a page at a time, over the hive as it is after recovery. A hive
that its logs can't repair is refused, for what is written into it would be lost or would bury what the logs hold. Each
key is looked at before it is changed, and refused where it is damaged; at the end :func:`check_touched` looks at
everything that was touched.

    >>> editor = HiveEditor(hive)  # doctest: +SKIP
    >>> editor.set_value(r"ControlSet001\Services\vmickvpexchange", "Start", 4, b"\2\0\0\0")  # doctest: +SKIP
    True
    >>> for offset, data in editor.finish().pieces(): ...  # doctest: +SKIP

Source: regf specification; rules of Windows where the functions say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from vhdtool.errors import DamagedError, OutputError, RefusedError, UsageError
from vhdtool.registry.base_block import written_base_block
from vhdtool.registry.cell import Cells
from vhdtool.registry.check_touched import check_touched
from vhdtool.registry.edit_limits import DAMAGED_HINT, refuse_unfit_hive, refuse_unfit_key, refuse_unfit_value
from vhdtool.registry.edited_cells import EditedCells
from vhdtool.registry.edited_hive import EditedHive
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    BIG_DATA_SEGMENT,
    KEY_HIVE_ENTRY,
    KEY_HIVE_EXIT,
    KEY_NO_DELETE,
    KEY_NODE,
    KEY_PREDEFINED_HANDLE,
    KEY_SYMLINK,
    NIL,
)
from vhdtool.registry.hive import Hive
from vhdtool.registry.key import Key
from vhdtool.registry.key_audit import KeyAudit, ValueRecord, audit_key
from vhdtool.registry.key_node import KeyNode, new_key_node
from vhdtool.registry.log_sequence import has_old_log, next_sequence
from vhdtool.registry.names import code_units, encode_name, fold
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue
from vhdtool.registry.security_cell import add_use, check_uses, drop_uses, inherited_security, read_security
from vhdtool.registry.subkey_list_edit import insert_subkey, remove_subkey
from vhdtool.registry.touched import Part, Touched
from vhdtool.registry.value_edit import add_value, change_value, remove_value

__all__ = ["EditedHive", "HiveEditor"]

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_FAULT_HINT = (
    "Nothing was written. Unless the hive was damaged there before, this is a fault of vhdtool: please report it."
)
_SPECIAL_HINT = "Change it on the running machine."


class HiveEditor:
    """Edits a hive. ``now`` is the time that changed keys get; by default that of the call.

    Paths are as in :meth:`Hive.key`. What is there already as it shall be is left alone: the functions tell whether
    they changed anything. Raises :class:`RefusedError` ``hive-dirty``, ``hive-version-not-written``, and
    :class:`DamagedError` for a hive that is cut off.

    An error that comes in the middle of a change (a damaged bin, a hive that is full) leaves the editor unusable:
    all later calls raise :class:`OutputError` ``hive-edit-broken``.
    """

    def __init__(self, hive: Hive, *, now: datetime | None = None) -> None:
        refuse_unfit_hive(hive)
        self._hive = hive
        self._cells = EditedCells(
            hive.image, hbins_size=hive.base.hbins_size, file_size=hive.file.size, root=hive.base.root_cell,
            minor=hive.base.minor, path=hive.path,
        )  # fmt: skip
        self._time = ((now or datetime.now(UTC)) - _EPOCH) // timedelta(microseconds=1) * 10
        self._touched = Touched()
        self._values: dict[int, dict[str, ValueRecord]] = {}  # of keys that were looked at, by folded name
        self._sound: set[int] = set()  # keys whose lists of subkeys were looked at
        self._changed = False
        self._usable = True
        self._finished: EditedHive | None = None

    def apply(self, operation: RegistryOperation) -> bool:
        """Carry out an operation; tell whether it changed anything. Raises as the functions below."""
        match operation:
            case SetValue(key, name, kind, data):
                return self.set_value(key, name, kind, data)
            case DeleteValue(key, name):
                return self.delete_value(key, name)
            case CreateKey(key):
                return self.create_key(key)
            case DeleteKey(key):
                return self.delete_key(key)

    def set_value(self, key: str, name: str, kind: int, raw: bytes) -> bool:
        """Give a value a type (0 to 0xFFFFFFFF) and its stored bytes; keys that are missing are created.

        Raises :class:`UsageError` ``value-name``, ``value-data`` and ``key-name``; :class:`RefusedError`
        ``hive-key-special``; :class:`DamagedError` where the key is damaged; :class:`OutputError` ``hive-full``.
        """
        self._open()
        refuse_unfit_value(name, kind, len(raw), path=self._hive.path)
        found = self._find(key)
        if found is not None:
            value = self._values_of(found).get(fold(name))
            if value is not None and value.type == kind and self._data(value) == raw:
                return False
            with self._changing():
                self._set(found, name, kind, raw)
            return True
        missing = self._missing(key)
        with self._changing():
            self._set(self._create(missing), name, kind, raw)
        return True

    def delete_value(self, key: str, name: str) -> bool:
        """Delete a value; nothing to do where it or its key is missing. Raises as :meth:`set_value`."""
        self._open()
        found = self._find(key)
        value = None if found is None else self._values_of(found).get(fold(name))
        if found is None or value is None:
            return False
        with self._changing():
            node = KeyNode(self._cells.reader(), found)
            listed = remove_value(self._cells, node, value)
            del self._values[found][fold(name)]
            fields = {"value_count": node.value_count - 1, "value_list": listed, "last_written": self._time}
            if listed == NIL:
                fields |= {"max_value_name_length": 0, "max_value_data_length": 0}
            self._cells.set_fields(found, KEY_NODE, **fields)
            self._touched.change(found, Part.VALUES)
        return True

    def create_key(self, key: str) -> bool:
        """Create a key and those above it. Raises as :meth:`set_value`."""
        self._open()
        if self._find(key) is not None:
            return False
        missing = self._missing(key)
        with self._changing():
            self._create(missing)
        return True

    def delete_key(self, key: str) -> bool:
        """Delete a key with all below it; nothing to do where it is missing.

        Raises :class:`UsageError` ``delete-root``, :class:`RefusedError` ``hive-key-special`` for a symbolic link,
        and below it for keys that Windows would not delete, and :class:`DamagedError`.
        """
        self._open()
        if not _parts(key):
            raise UsageError("delete-root", "the root of a hive can't be deleted", path=self._hive.path)
        found = self._find(key)
        if found is None:
            return False
        parent = KeyNode(self._cells.reader(), found).parent
        self._look_at_subkeys(parent)
        gone, uses, owned = self._subtree(found, key)
        check_uses(self._cells.reader(), uses, gone)
        with self._changing():
            node = KeyNode(self._cells.reader(), parent)
            listed = remove_subkey(self._cells, node, found)
            fields = {"subkey_count": node.subkey_count - 1, "subkey_list": listed, "last_written": self._time}
            if listed == NIL:
                fields |= {"max_name_length": 0, "max_class_length": 0}
            self._cells.set_fields(parent, KEY_NODE, **fields)
            self._touched.change(parent, Part.SUBKEYS)
            for cell in owned:
                self._cells.free(cell)
            drop_uses(self._cells, uses)
            for cell in gone:
                self._touched.delete(cell)
                self._values.pop(cell, None)
                self._sound.discard(cell)
        return True

    def finish(self) -> EditedHive:
        """Check what was touched and return what there is to write; no more can be changed then.

        Raises :class:`DamagedError` where an hbin that was written to is damaged, and :class:`OutputError`
        ``hive-check-failed``: a fault of ours, or damage that no key on the way showed.
        """
        if self._finished is not None:
            return self._finished
        self._open()
        hive, cells = self._hive, self._cells
        if not self._changed:
            self._finished = EditedHive(hive.file.size, None, hive.image, hive.base.primary_sequence, hive.file, ())
            return self._finished
        sequence = next_sequence(hive.base, hive.logs)
        written = hive.base.last_written  # since Windows 8.1 nobody writes it
        if has_old_log(hive.base, hive.logs):
            written = self._time  # an old log counts where it bears the time of the last write: this is another one
        base = written_base_block(hive.base, sequence, cells.bins.hbins_size, written)
        cells.pages.lay_over(0, base.sector)
        before = Cells(hive.image, hive.base.hbins_size, hive.base.root_cell, hive.path, hive.base.minor)
        problems = check_touched(before, cells.reader(), self._touched)
        if problems:
            first = problems[0]
            raise OutputError(
                "hive-check-failed", f"the edited hive breaks a rule ({first.code}): {first.message}",
                path=hive.path, offset=first.offset, hint=_FAULT_HINT,
            )  # fmt: skip
        size = max(hive.file.size, BASE_BLOCK_SIZE + cells.bins.hbins_size)
        self._finished = EditedHive(
            size=size,
            grew_from=hive.file.size if size > hive.file.size else None,
            image=cells.pages,
            sequence=sequence,
            file=hive.file,
            pages=tuple(sorted({*hive.image.laid, *cells.pages.laid})),
        )
        return self._finished

    # --- finding and looking ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self._usable:
            raise OutputError(
                "hive-edit-broken", "an earlier change of this hive failed in the middle", path=self._hive.path
            )
        if self._finished is not None:
            raise ValueError("the editor is finished")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Mark the editor unusable where a change is not carried out to its end."""
        self._usable = False
        yield
        self._usable = self._changed = True

    def _find(self, path: str) -> int | None:
        """Return the cell of a key, ``None`` where it is missing.

        Raises :class:`DamagedError` for whatever is found wrong on the way, and :class:`RefusedError`
        ``hive-key-special`` where the way goes through a symbolic link.
        """
        cells = self._cells.reader()
        key: Key | None = Key(cells, self._cells.root, None)
        for name in _parts(path):
            if key is None:
                break
            node = KeyNode(cells, key.offset - BASE_BLOCK_SIZE)
            if node.flags & KEY_SYMLINK:
                raise self._special(key.path, "a symbolic link")
            key = key.subkey(name)
        for problem in cells.problems:
            raise DamagedError(
                problem.code, problem.message, path=problem.path, offset=problem.offset, hint=DAMAGED_HINT
            )
        return None if key is None else key.offset - BASE_BLOCK_SIZE

    def _values_of(self, cell: int) -> dict[str, ValueRecord]:
        """Return the values of a key by folded name, looked at once. Raises where they can't be edited."""
        known = self._values.get(cell)
        if known is None:
            cells = self._cells.reader()
            audit = audit_key(cells, KeyNode(cells, cell), subkeys=False)
            audit.refuse_damage()
            self._refuse_special(audit)
            known = self._values[cell] = {fold(value.name): value for value in audit.values}
        return known

    def _look_at_subkeys(self, cell: int) -> None:
        """Look at a key's list of subkeys, once. Raises where it can't be edited."""
        if cell not in self._sound:
            cells = self._cells.reader()
            audit = audit_key(cells, KeyNode(cells, cell), values=False)
            audit.refuse_damage()
            self._refuse_special(audit)
            self._sound.add(cell)

    def _subtree(self, cell: int, path: str) -> tuple[set[int], Counter[int], list[int]]:
        """Return the keys at and below one, how often they use which security cell, and all cells that they own."""
        cells = self._cells.reader()
        gone: set[int] = set()
        owned: dict[int, None] = {}
        uses: Counter[int] = Counter()
        waiting = [KeyNode(cells, cell)]
        while waiting:
            node = waiting.pop()
            audit = audit_key(cells, node)
            audit.refuse_damage()
            if node.cell == cell:
                self._refuse_special(audit)
            if node.flags & (KEY_NO_DELETE | KEY_HIVE_ENTRY | KEY_HIVE_EXIT | KEY_PREDEFINED_HANDLE):
                raise self._special(f"{path} (or a key below it)", "protected from being deleted")
            gone.add(node.cell)
            uses[node.security] += 1
            for one in audit.cells:
                if one in owned:
                    raise cells.damaged("hive-cell-shared", "a cell belongs to two keys", one)
                owned[one] = None
            waiting += audit.subkeys
        return gone, uses, list(owned)

    def _data(self, value: ValueRecord) -> bytes:
        """Return the data of a value."""
        cells = self._cells.reader()
        if value.inline:
            return value.place.to_bytes(4, "little")[: value.size]
        if len(value.data) <= 1:
            return b"".join(cells.read(cell, value.size, "a value's data") for cell in value.data)
        parts = []
        left = value.size
        for segment in value.data[2:]:
            parts.append(cells.read(segment, min(left, BIG_DATA_SEGMENT), "a segment of data"))
            left -= BIG_DATA_SEGMENT
        return b"".join(parts)

    # --- refusing --------------------------------------------------------------------------------------------------

    def _refuse_special(self, audit: KeyAudit) -> None:
        flags = audit.node.flags
        if flags & KEY_SYMLINK:
            raise self._special(audit.node.name, "a symbolic link")
        if flags & KEY_PREDEFINED_HANDLE:
            raise self._special(audit.node.name, "a stand-in for a handle")
        if any(value.tombstone for value in audit.values):
            raise self._special(audit.node.name, "a layer over another key")

    def _special(self, name: str, what: str) -> RefusedError:
        return RefusedError(
            "hive-key-special", f"the key {name!r} is {what}: it is not edited", path=self._hive.path,
            hint=_SPECIAL_HINT,
        )  # fmt: skip

    # --- changing --------------------------------------------------------------------------------------------------

    def _set(self, cell: int, name: str, kind: int, raw: bytes) -> None:
        values = self._values_of(cell)
        folded = fold(name)
        node = KeyNode(self._cells.reader(), cell)
        fields = {
            "last_written": self._time,
            "max_value_name_length": max(node.max_value_name_length, len(code_units(name)) * 2),
            "max_value_data_length": max(node.max_value_data_length, len(raw)),
        }
        if folded in values:
            values[folded] = change_value(self._cells, values[folded], kind, raw, cell)
        else:
            values[folded], listed = add_value(self._cells, node, name, kind, raw)
            fields |= {"value_count": node.value_count + 1, "value_list": listed}
        self._cells.set_fields(cell, KEY_NODE, **fields)
        self._touched.change(cell, Part.VALUES)

    def _missing(self, path: str) -> _Missing:
        """Return what there is to create for a key that is missing. Raises where it can't be created."""
        names = _parts(path)
        refuse_unfit_key(names, path=self._hive.path)
        existing = len(names) - 1
        while (cell := self._find("\\".join(names[:existing]))) is None:
            existing -= 1
        self._look_at_subkeys(cell)
        cells = self._cells.reader()
        security = inherited_security(cells, KeyNode(cells, cell))
        read_security(cells, security)
        return _Missing(cell, names[existing:], security)

    def _create(self, missing: _Missing) -> int:
        """Create keys; return the cell of the last."""
        cell = missing.above
        for name in missing.names:
            cell = self._create_below(cell, name, missing.security)
        return cell

    def _create_below(self, parent: int, name: str, security: int) -> int:
        cells = self._cells
        add_use(cells, security)
        stored, latin = encode_name(name)
        record = new_key_node(stored, compressed=latin, parent=parent, security=security, last_written=self._time)
        cell = cells.store(record, parent)
        node = KeyNode(cells.reader(), parent)
        listed = insert_subkey(cells, node, name, cell)
        cells.set_fields(
            parent,
            KEY_NODE,
            subkey_count=node.subkey_count + 1,
            subkey_list=listed,
            max_name_length=max(node.max_name_length, len(code_units(name)) * 2),
            last_written=self._time,
        )
        self._touched.change(parent, Part.SUBKEYS)
        self._touched.create(cell)
        self._values[cell] = {}
        self._sound.add(cell)
        return cell


@dataclass(frozen=True, slots=True)
class _Missing:
    """Keys to create: ``names`` one below the other, below the key ``above``; ``security`` is their cell."""

    above: int
    names: list[str]
    security: int


def _parts(path: str) -> list[str]:
    return [name for name in path.split("\\") if name]
