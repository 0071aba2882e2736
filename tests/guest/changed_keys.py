"""Registry operations carried out on a flat description of a hive: what a guest would find at its next start."""

from __future__ import annotations

from collections.abc import Iterable

from tests.guest.guests import Keys, RegistryData
from vhdtool.registry.operation import DeleteKey, DeleteValue, RegistryOperation, SetValue


def changed(keys: Keys, operations: Iterable[RegistryOperation]) -> dict[str, dict[str, RegistryData]]:
    """Give the keys as the operations leave them. Names are matched exactly: a plan must use those that are there."""
    tree = {path: dict(values) for path, values in keys.items()}
    for operation in operations:
        if isinstance(operation, SetValue):
            number = int.from_bytes(operation.data, "little")
            data: RegistryData = {4: number, 3: operation.data}[operation.type]
            tree.setdefault(operation.key, {})[operation.name] = data
        elif isinstance(operation, DeleteValue):
            del tree[operation.key][operation.name]
        elif isinstance(operation, DeleteKey):
            gone = [path for path in tree if path == operation.key or path.startswith(operation.key + "\\")]
            assert gone
            for path in gone:
                del tree[path]
    return tree
