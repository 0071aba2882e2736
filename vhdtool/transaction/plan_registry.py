"""Plans for the registry: operations on a hive, each with what is there before it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from vhdtool.errors import UsageError
from vhdtool.guest.source import WindowsInstallation
from vhdtool.registry.hive import Hive, Key
from vhdtool.registry.names import fold
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue
from vhdtool.transaction.plan import Plan, RegistryChange, StoredValue

COUNTED = 1_000_000
"""Keys and values below a deleted key are counted up to here."""


def plan_registry(installation: WindowsInstallation, hive: str, operations: Iterable[RegistryOperation]) -> Plan:
    """Plan operations on a hive of ``System32/config``, in their order.

    Raises :class:`UsageError` ``delete-root`` and what opening and reading the hive raises.
    """
    view = _View(installation.hive(hive))
    changes = tuple(
        RegistryChange(installation.volume_index, installation.root, hive.upper(), operation, *view.apply(operation))
        for operation in operations
    )
    return Plan(registry=changes)


class _View:
    """A hive as the operations up to now would leave it."""

    def __init__(self, hive: Hive) -> None:
        self._hive = hive
        self._values: dict[tuple[str, str], StoredValue | None] = {}
        self._created: dict[str, None] = {}
        self._deleted: dict[str, None] = {}

    def apply(self, operation: RegistryOperation) -> tuple[StoredValue | None, bool, int]:
        """Return the value before, whether anything changes, and what goes with a deleted key."""
        key = _folded(operation.key)
        if isinstance(operation, SetValue):
            before = self._value(key, operation.key, operation.name)
            after = StoredValue(operation.type, operation.data)
            self._create(key)
            self._values[key, fold(operation.name)] = after
            return before, before != after, 0
        if isinstance(operation, DeleteValue):
            before = self._value(key, operation.key, operation.name)
            self._values[key, fold(operation.name)] = None
            return before, before is not None, 0
        if isinstance(operation, CreateKey):
            changes = not self._exists(key)
            self._create(key)
            return None, changes, 0
        return None, *self._delete(operation, key)

    def _delete(self, operation: DeleteKey, key: str) -> tuple[bool, int]:
        if not key:
            raise UsageError("delete-root", "the root of a hive can't be deleted", path=self._hive.path)
        if not self._exists(key):
            return False, 0
        stored = None if self._is_deleted(key) else self._hive.key(operation.key)
        below = 0 if stored is None else sum(1 for _ in islice(_contents(stored), COUNTED))
        inside = f"{key}\\"
        self._created = {one: None for one in self._created if one != key and not one.startswith(inside)}
        self._values = {
            place: value for place, value in self._values.items() if place[0] != key and not place[0].startswith(inside)
        }
        self._deleted[key] = None
        return True, below

    def _value(self, key: str, path: str, name: str) -> StoredValue | None:
        place = key, fold(name)
        if place in self._values:
            return self._values[place]
        if self._is_deleted(key):
            return None
        stored = self._hive.key(path)
        value = stored.value(name) if stored is not None else None
        return None if value is None else StoredValue(value.type, value.raw)

    def _exists(self, key: str) -> bool:
        if key in self._created:
            return True
        return not self._is_deleted(key) and self._hive.key(key) is not None

    def _create(self, key: str) -> None:
        parts = key.split("\\")
        for end in range(1, len(parts) + 1):
            above = "\\".join(parts[:end])
            if above not in self._created and not self._exists(above):
                self._created[above] = None

    def _is_deleted(self, key: str) -> bool:
        """Whether what the hive file holds of a key was deleted: it, or a key above it."""
        return any(key == deleted or key.startswith(f"{deleted}\\") for deleted in self._deleted)


def _folded(path: str) -> str:
    return "\\".join(fold(part) for part in path.split("\\") if part)


def _contents(key: Key) -> Iterable[object]:
    waiting = [key]
    while waiting:
        one = waiting.pop()
        yield from one.values()
        below = list(one.subkeys())
        yield from below
        waiting += below
