"""The mutation engine: structure-aware damage to an input of one or several files, reproducible from a seed.

A :class:`Field` is a place of a known structure with what may go wrong there: a pointer knows the value that points
back at its own structure and values of other structures (loops and overlaps), a number knows its width. A
:class:`Seal` is a checksum: the bytes it covers and how to make it right again. Both are listed by the ``fields_*``
modules, which find them in the clean input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.fuzz.coverage_map import Ranges

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one structure in the file ``file``.

    ``group`` is the kind of structure (fields are chosen by group first, so that a thousand BAT entries do not drown
    two headers). ``loops`` are values that make it refer to itself or to something above it, ``others`` values that
    make it refer to another structure.
    """

    file: str
    offset: int
    size: int
    group: str
    name: str
    order: str = "little"
    loops: tuple[int, ...] = ()
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seal:
    """A checksum over ``length`` bytes from ``offset``; ``renew`` returns the patches that make it right.

    ``strict``: a reader must not take other content from under a broken seal without saying so. Log entries are not
    strict: an entry with a broken checksum is a write that never finished, and reading ends before it by the rules.
    """

    file: str
    offset: int
    length: int
    name: str
    renew: Callable[[View], Sequence[Patch]]
    strict: bool = True

    def covers(self, patch: Patch) -> bool:
        return (
            patch.file == self.file
            and self.offset <= patch.offset
            and patch.offset + len(patch.data) <= self.offset + self.length
        )

    def touches(self, patch: Patch) -> bool:
        return (
            patch.file == self.file
            and patch.offset < self.offset + self.length
            and self.offset < patch.offset + len(patch.data)
        )


@dataclass(frozen=True, slots=True)
class Patch:
    file: str
    offset: int
    data: bytes


class Base:
    """A file of the clean input, left on its disk: a worker's memory then shows what the parsers take."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._fd = os.open(path, os.O_RDONLY)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def whole(self) -> bytes:
        return self.read(0, self.size)


class View:
    """A file of the clean input with patches laid over it."""

    def __init__(self, base: Base, patches: Sequence[Patch]) -> None:
        self._base = base
        self._patches = patches

    def read(self, offset: int, length: int) -> bytes:
        piece = bytearray(self._base.read(offset, length))
        for patch in self._patches:
            start = max(patch.offset, offset)
            end = min(patch.offset + len(patch.data), offset + len(piece))
            if start < end:
                piece[start - offset : end - offset] = patch.data[start - patch.offset : end - patch.offset]
        return bytes(piece)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What one case does: ``patches`` in order, then ``cut`` (file, new length).

    ``aimed`` counts the single mutations that lie in bytes which the clean run parsed, ``count`` all of them;
    ``sealed`` is true when everything changed lies under strict checksums that were left broken.
    """

    patches: tuple[Patch, ...]
    cut: tuple[str, int] | None
    kinds: tuple[str, ...]
    notes: tuple[str, ...]
    count: int
    aimed: int
    covered: bool
    renewed: bool
    sealed: bool

    def describe(self) -> str:
        return "; ".join(self.notes) + (" [checksums renewed]" if self.renewed else "")


@dataclass
class Subject:
    """A clean input with all that the engine knows about it."""

    files: Mapping[str, Base]
    fields: Sequence[Field]
    seals: Sequence[Seal]
    parsed: Mapping[str, Ranges]
    groups: dict[str, list[Field]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.fields:
            if item.offset in self.parsed[item.file]:
                self.groups.setdefault(item.group, []).append(item)
        self.fields = ()  # the others are not needed any more


def mutation(subject: Subject, random: Random) -> Mutation:
    """Make one mutation; the same random state makes the same one."""
    draft = _Draft(subject, random)
    for _ in range(1 if random.random() < 0.75 else random.randint(2, 4)):
        if random.random() < 0.08:
            draft.anywhere()
        elif subject.groups and random.random() < 0.82:
            draft.on_field()
        else:
            draft.on_block()
    return draft.finish()


class _Draft:
    def __init__(self, subject: Subject, random: Random) -> None:
        self.subject = subject
        self.random = random
        self.patches: list[Patch] = []
        self.cut: tuple[str, int] | None = None
        self.kinds: list[str] = []
        self.notes: list[str] = []
        self.aimed = 0

    def finish(self) -> Mutation:
        touched = [seal for seal in self.subject.seals if any(seal.touches(patch) for patch in self.patches)]
        renewed = bool(self.random.random() < 0.5)
        sealed = (
            not renewed
            and self.cut is None
            and bool(self.patches)
            and all(any(seal.strict and seal.covers(patch) for seal in touched) for patch in self.patches)
        )
        patches = list(self.patches)
        if renewed:
            for seal in self.subject.seals:  # inner checksums come before those that cover them
                if not any(seal.touches(patch) for patch in patches):
                    continue
                patches.extend(seal.renew(View(self.subject.files[seal.file], self._of(patches, seal.file))))
        return Mutation(
            tuple(patches),
            self.cut,
            tuple(self.kinds),
            tuple(self.notes),
            len(self.notes),
            self.aimed,
            bool(touched),
            renewed and bool(touched),
            sealed,
        )

    @staticmethod
    def _of(patches: Sequence[Patch], name: str) -> list[Patch]:
        return [patch for patch in patches if patch.file == name]

    def _current(self, name: str, offset: int, length: int) -> bytes:
        return View(self.subject.files[name], self._of(self.patches, name)).read(offset, length)

    def _put(self, kind: str, patch: Patch, what: str) -> None:
        before = self._current(patch.file, patch.offset, len(patch.data))
        if before == patch.data:  # nothing would change: flip one bit instead
            changed = bytearray(before)
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
            patch = replace(patch, data=bytes(changed))
            kind = "bit-flip"
        shown = f"{before.hex()} -> {patch.data.hex()}" if len(patch.data) <= 16 else f"{len(patch.data)} bytes"
        self.kinds.append(kind)
        self.notes.append(f"{kind} {what} {patch.file}@{patch.offset:#x} {shown}")
        self.aimed += patch.offset in self.subject.parsed[patch.file]
        self.patches.append(patch)

    def on_field(self) -> None:
        random = self.random
        group = random.choice(sorted(self.subject.groups))
        item = random.choice(self.subject.groups[group])
        bits = item.size * 8
        old = int.from_bytes(self._current(item.file, item.offset, item.size), item.order)  # type: ignore[arg-type]
        kinds = ["zero", "maximum", "off-by-one", "off-by-one", "random", "bit-flip", "swap", "small"]
        kinds += ["loop"] * 3 * bool(item.loops) + ["overlap"] * 2 * bool(item.others)
        kind = random.choice(kinds)
        match kind:
            case "zero":
                new = 0
            case "maximum":
                new = random.choice([(1 << bits) - 1, (1 << (bits - 1)) - 1, 1 << (bits - 1)])
            case "off-by-one":
                new = old + random.choice([1, -1])
            case "random":
                new = random.getrandbits(bits)
            case "small":
                new = random.choice([1, 2, 3, 7, 8, 16, old * 2, old // 2, old + 8, old - 8, old + 4096, old - 4096])
            case "loop":
                new = random.choice(item.loops)
            case "overlap":
                new = random.choice(item.others)
            case "swap":
                other = random.choice(self.subject.groups[group])
                data = self._current(other.file, other.offset, min(other.size, item.size))
                new = int.from_bytes(data, item.order)  # type: ignore[arg-type]
            case _:
                new = old ^ (1 << random.randrange(bits))
        data = (new & ((1 << bits) - 1)).to_bytes(item.size, item.order)  # type: ignore[arg-type]
        self._put(kind, Patch(item.file, item.offset, data), f"{item.group}.{item.name}")

    def on_block(self) -> None:
        random = self.random
        name = random.choice([name for name in sorted(self.subject.parsed) if self.subject.parsed[name].total])
        ranges = self.subject.parsed[name]
        size = self.subject.files[name].size
        offset = ranges.pick(random)
        kind = random.choice(["bit-flip", "bit-flip", "byte", "zero-sector", "copy-sector", "noise", "truncate"])
        start = offset - offset % SECTOR
        length = min(SECTOR * random.choice([1, 1, 1, 8]), size - start)
        match kind:
            case "truncate":
                length = random.choice(
                    [offset, offset, start, start - start % 4096, size - 1, size - random.randrange(size)]
                )
                length = max(0, min(length, size - 1))
                if self.cut is None:
                    self.cut = (name, length)
                    self.kinds.append("truncate")
                    self.notes.append(f"truncate {name} to {length:#x} of {size:#x}")
                    self.aimed += length < ranges.last  # parsed bytes are gone
                    return
                self._put("zero-sector", Patch(name, start, bytes(min(SECTOR, size - start))), "sector")
            case "zero-sector":
                self._put(kind, Patch(name, start, bytes(length)), "sector")
            case "copy-sector":
                other = ranges.pick(random)
                data = self._current(name, other - other % SECTOR, length)
                self._put(kind, Patch(name, start, data or b"\0"), f"from {other - other % SECTOR:#x}")
            case "noise":
                data = random.randbytes(min(random.choice([1, 2, 4, 8, 16, 64]), size - offset))
                self._put(kind, Patch(name, offset, data), "bytes")
            case "byte":
                value = random.choice([0x00, 0xFF, 0x7F, 0x80, 0x01])
                self._put(kind, Patch(name, offset, bytes([value])), "byte")
            case _:
                old = self._current(name, offset, 1)[0]
                self._put(kind, Patch(name, offset, bytes([old ^ (1 << random.randrange(8))])), "bit")

    def anywhere(self) -> None:
        random = self.random
        name = random.choice(sorted(self.subject.files))
        size = self.subject.files[name].size
        if not size:
            return self.on_block()
        offset = random.randrange(size)
        data = random.randbytes(min(random.choice([1, 4, 32]), size - offset))
        return self._put("anywhere", Patch(name, offset, data), "bytes")
