"""What a hive must hold after operations were carried out, one after another: the last word on each key and value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vhdtool.registry.names import fold
from vhdtool.registry.operation import CreateKey, DeleteKey, RegistryOperation, SetValue

Path = tuple[str, ...]  # names of keys from the root's first child on; folded where it is compared


@dataclass(frozen=True, slots=True)
class ExpectedValue:
    """A value that must be there with this type and these bytes; where ``type`` is ``None``, it must not be there."""

    key: Path
    name: str
    type: int | None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ExpectedKey:
    """A key that must be there, or must not.

    One that was ``renewed`` (deleted, and created again) must hold ``values`` and ``subkeys``, by folded names, and
    nothing else.
    """

    path: Path
    present: bool
    renewed: bool = False
    values: frozenset[str] = frozenset()
    subkeys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ExpectedHive:
    """All that operations say of a hive. A key above one that must be there is not told."""

    values: tuple[ExpectedValue, ...]
    keys: tuple[ExpectedKey, ...]


def split_key(path: str) -> Path:
    r"""Return the names of a key path; empty ones are dropped."""
    return tuple(part for part in path.split("\\") if part)


def spelled(path: Path) -> str:
    """Return a path as people write it."""
    return "\\".join(path) or "\\"


def folded(path: Path) -> Path:
    """Return a path as it is compared."""
    return tuple(map(fold, path))


def expected_hive(operations: Iterable[RegistryOperation]) -> ExpectedHive:
    """Tell what a hive must hold after ``operations``."""
    state = _State()
    for operation in operations:
        state.apply(operation)
    return state.finished()


class _State:
    def __init__(self) -> None:
        self._values: dict[tuple[Path, str], ExpectedValue] = {}
        self._present: dict[Path, Path] = {}  # keys that must be there: folded, and as they were written
        self._absent: dict[Path, Path] = {}
        self._renewed: set[Path] = set()
        self._touched: set[Path] = set()  # all of these and those above them

    def apply(self, operation: RegistryOperation) -> None:
        path = split_key(operation.key)
        key = folded(path)
        if isinstance(operation, DeleteKey):
            self._delete(key, path)
        elif isinstance(operation, CreateKey):
            self._create(key, path)
        elif isinstance(operation, SetValue):
            self._create(key, path)
            value = ExpectedValue(path, operation.name, operation.type, operation.data)
            self._values[key, fold(operation.name)] = value
        else:
            self._values[key, fold(operation.name)] = ExpectedValue(path, operation.name, None)
        self._touched.update(key[:depth] for depth in range(len(key) + 1))

    def _create(self, key: Path, path: Path) -> None:
        for depth in range(len(key) + 1):
            above = key[:depth]
            if above not in self._present and self._is_gone(above):
                self._renewed.add(above)
            self._absent.pop(above, None)
            self._present.setdefault(above, path[:depth])

    def _is_gone(self, key: Path) -> bool:
        return key in self._absent or any(key[:depth] in self._renewed for depth in range(len(key)))

    def _delete(self, key: Path, path: Path) -> None:
        depth = len(key)
        if key in self._touched:
            self._values = {place: value for place, value in self._values.items() if place[0][:depth] != key}
            self._present = {one: spelled for one, spelled in self._present.items() if one[:depth] != key}
            self._absent = {one: spelled for one, spelled in self._absent.items() if one[:depth] != key}
            self._renewed = {one for one in self._renewed if one[:depth] != key}
        self._absent[key] = path

    def finished(self) -> ExpectedHive:
        values: dict[Path, set[str]] = {}
        subkeys: dict[Path, set[str]] = {}
        for (key, name), value in self._values.items():
            if value.type is not None:
                values.setdefault(key, set()).add(name)
        for key in self._present:
            if key:
                subkeys.setdefault(key[:-1], set()).add(key[-1])
        keys = [ExpectedKey(path, present=False) for path in self._absent.values()]
        for key, path in self._present.items():
            if key in self._renewed:
                inside = frozenset(values.get(key, ())), frozenset(subkeys.get(key, ()))
                keys.append(ExpectedKey(path, True, True, *inside))
            elif key not in subkeys:
                keys.append(ExpectedKey(path, present=True))
        return ExpectedHive(tuple(self._values.values()), tuple(keys))
