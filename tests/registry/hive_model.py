"""A hive as plain dicts, and random edits of it: what a hive must hold after edits, known without the editor.

Names are told apart by :func:`tests.registry.build_hive.upcased`, which is not the table of the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from tests.registry.build_hive import SEGMENT, upcased
from vhdtool.bytesource import BytesSource
from vhdtool.registry.edit import EditedHive, HiveEditor
from vhdtool.registry.hive import Hive, Key
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue

Folded = tuple[int, ...]
Content = dict[str, dict[str, tuple[int, bytes]]]
START = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass
class ModelKey:
    """A key: values and subkeys by folded name, each with the name it was given first."""

    name: str
    values: dict[Folded, tuple[str, int, bytes]] = field(default_factory=dict)
    subkeys: dict[Folded, ModelKey] = field(default_factory=dict)
    protected: bool = False

    def find(self, path: str) -> ModelKey | None:
        key: ModelKey | None = self
        for part in filter(None, path.split("\\")):
            key = None if key is None else key.subkeys.get(upcased(part))
        return key

    def walk(self, path: str = "") -> Iterator[tuple[str, ModelKey]]:
        yield path, self
        for child in self.subkeys.values():
            yield from child.walk(f"{path}\\{child.name}")

    def apply(self, operation: RegistryOperation) -> bool:
        """Do it; tell whether anything changed."""
        match operation:
            case SetValue(path, name, kind, data):
                key = self.made(path)
                before = key.values.get(upcased(name))
                after = (name if before is None else before[0], kind, data)
                key.values[upcased(name)] = after
                return before != after
            case DeleteValue(path, name):
                found = self.find(path)
                return found is not None and found.values.pop(upcased(name), None) is not None
            case CreateKey(path):
                there = self.find(path) is not None
                self.made(path)
                return not there
            case DeleteKey(path):
                above, _, name = path.rpartition("\\")
                parent = self.find(above)
                return parent is not None and parent.subkeys.pop(upcased(name), None) is not None

    def made(self, path: str) -> ModelKey:
        key = self
        for part in filter(None, path.split("\\")):
            key = key.subkeys.setdefault(upcased(part), ModelKey(part))
        return key


def model_of(key: Key) -> ModelKey:
    model = ModelKey(key.name)
    for value in key.values():
        model.values[upcased(value.name)] = (value.name, value.type, value.raw)
    for child in key.subkeys():
        model.subkeys[upcased(child.name)] = model_of(child)
    return model


def content_of_model(model: ModelKey) -> Content:
    return {path: {name: (kind, raw) for name, kind, raw in key.values.values()} for path, key in model.walk()}


def content_of_hive(raw: bytes) -> Content:
    hive = Hive.open(BytesSource(raw))
    found: Content = {}
    waiting = [("", hive.root)]
    while waiting:
        path, key = waiting.pop()
        found[path] = {value.name: (value.type, value.raw) for value in key.values()}
        waiting += [(f"{path}\\{child.name}", child) for child in key.subkeys()]
    assert hive.problems == ()
    return found


def written(file: bytes, edited: EditedHive) -> bytes:
    """The hive's file after the edits: made of it and the pieces alone, as it is done on a disk."""
    assert (edited.grew_from is None) == (edited.size == len(file))
    made = bytearray(file.ljust(edited.size, b"\xcc"))  # nothing may rely upon what a longer file holds at first
    for offset, piece in edited.pieces():
        assert offset % 4096 == 0
        assert 0 < len(piece) <= 4096
        assert made[offset : offset + len(piece)] != piece or offset >= len(file)
        made[offset : offset + len(piece)] = piece
    return bytes(made)


class Session:
    """A hive's file that is edited again and again, and the model of what it must hold."""

    def __init__(self, file: bytes, seed: int | str) -> None:
        hive = Hive.open(BytesSource(file))
        self.file = file
        self.random = Random(seed)
        self.model = model_of(hive.root)
        self.random_names = Names(self.random)
        self.sequence = hive.base.primary_sequence
        self.done = 0
        self.visited: set[str] = set()  # paths of keys that operations were about
        self.time = START

    def edit(self, count: int) -> None:
        """Some operations in one go, as one write of the hive."""
        hive = Hive.open(BytesSource(self.file), path="hive")
        assert hive.state == "clean"
        self.time += timedelta(seconds=1)
        editor = HiveEditor(hive, now=self.time)
        changed = False
        for _ in range(count):
            operation = self.operation()
            expected = self.model.apply(operation)
            assert editor.apply(operation) == expected, (self.done, operation)
            changed |= expected
            self.visited.add(operation.key)
            self.done += 1
        edited = editor.finish()
        assert edited.changed == changed
        if changed:
            self.sequence += 1
        assert edited.sequence == self.sequence
        self.file = written(self.file, edited)

    # --- what may happen -------------------------------------------------------------------------------------------

    def operation(self) -> RegistryOperation:  # noqa: PLR0911  # one return a kind of operation
        chance = self.random.random()
        path, key = self.somewhere()
        if chance < 0.5:
            return self.set_value(path, key)
        if chance < 0.62:
            return DeleteValue(path, self.value_name(key, 0.9))
        if chance < 0.84:
            below = "\\".join(self.random_names.key() for _ in range(self.random.choice((1, 1, 1, 2, 3))))
            return CreateKey(f"{path}\\{below}")
        if chance < 0.95:
            for _ in range(3):  # small trees go more often than large ones
                if path and sum(1 for _ in zip(key.walk(), range(60), strict=False)) < 60:
                    return DeleteKey(path)
                path, key = self.somewhere()
            return DeleteKey(path + "\\" + self.random_names.key())
        if path and len(path.split("\\")) > 3 and self.random.random() < 0.2:
            return DeleteKey(path)
        return self.again(path, key)

    def set_value(self, path: str, key: ModelKey) -> SetValue:
        if self.random.random() < 0.05:
            path = f"{path}\\{self.random_names.key()}\\{self.random_names.key()}"
        kind = self.random.choice((0, 1, 2, 3, 3, 4, 7, 11, 0x200000, 0xFFFF0007))
        return SetValue(path.lstrip("\\"), self.value_name(key, 0.5), kind, self.data())

    def again(self, path: str, key: ModelKey) -> RegistryOperation:
        """What is there already."""
        if key.values:
            name, kind, raw = self.random.choice(list(key.values.values()))
            return SetValue(path, name.swapcase() if name.isascii() else name, kind, raw)
        return CreateKey(path)

    def data(self) -> bytes:
        length = self.random.choice(
            (0, 1, 2, 3, 4, 5, 8, 12, 20, 44, 60, 200, self.random.randrange(1500), self.random.randrange(6000))
        )
        chance = self.random.random()
        if chance < 0.06:
            length = self.random.choice((SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 1, 40_000))
        elif chance < 0.064:
            length = 1_000_000
        return self.random.randbytes(length)

    def value_name(self, key: ModelKey, existing: float) -> str:
        if key.values and self.random.random() < existing:
            name = self.random.choice(list(key.values.values()))[0]
            return name.swapcase() if name.isascii() and self.random.random() < 0.3 else name
        return self.random_names.value()

    def somewhere(self) -> tuple[str, ModelKey]:
        path, key = "", self.model
        while key.subkeys and self.random.random() < 0.85:
            key = self.random.choice(list(key.subkeys.values()))
            path = f"{path}\\{key.name}"
        return path.lstrip("\\"), key


class Names:
    """Names of all kinds: plain, of other scripts, beyond the BMP, that differ by case only, long, and empty."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def key(self) -> str:
        chance = self._random.random()
        if chance < 0.6:
            return f"{self._random.choice(_PLAIN)}{self._random.randrange(300)}"
        if chance < 0.62:
            return "L" * self._random.choice((254, 255))
        if chance < 0.64:
            return "ж" * self._random.choice((1, 255))
        return "".join(self._random.choice(_ODD) for _ in range(self._random.randrange(1, 7)))

    def value(self) -> str:
        chance = self._random.random()
        if chance < 0.1:
            return ""
        if chance < 0.11:
            return self._random.choice(("v", "ы")) * self._random.choice((255, 1000, 16383))
        return self.key()


_PLAIN = ("Start", "start", "ImagePath", "Type", "x", "Parameters", "k", "K", "a b", "Ü", "é")
_ODD = (*"aAbBzZ019_ -", *"éÉüÜÿŸßæ", *"клюКЛЮ", *"日本☃", "\uff21", "\uff41", "\U00010400", "\U00010428", "\U0001f600")
