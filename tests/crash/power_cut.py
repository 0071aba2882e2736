"""Cut the power anywhere: what a host's disk may hold then, and what readers make of it.

How to use it::

    SETUP   a folder with the images (a flat one), and an action: Callable[[HostStore], None], the shipped code
    record  recording = record(folder, action)          # runs it; writes, flushes, names are all kept
    judge   tally = judge(recording, readers, seed=crash_seed(), count=dose(200), work=tmp_path / "states")

``judge`` makes about ``count`` different states and asks each :class:`Reader` what it sees in it: the OLD disk, the
NEW one, REFUSED, or anything else, which is WRONG. It raises :class:`CrashFaultError`, with the seed and the state, for

- WRONG in any state, and for a reader that raises;
- REFUSED by a reader that is not marked ``may_refuse``;
- another view than OLD before the first operation, or than NEW after the last (``starts`` and ``ends``): what the
  code says is done must be on stable storage.

``Expected(old, new).view(data)`` compares whole disks. A reader that changes the files (``qemu-img check -r all``,
``recover``) says so with ``changes=True`` and gets a copy of its own. ``every=5`` asks a slow reader in every fifth
state only (and in the first and the last); ``every=seldom(5)`` lets ``scripts/long`` ask it more often. The folder
keeps the names of the recorded one, so children find parents.

What a state is: the operations up to a stop, where those that were flushed before it are all there, and of the others
none, all, a prefix with the last one torn, all but one, one alone, or a random subset, each write of it whole or torn.
A write is a set of 512-byte sectors (counted from the start of the file), each there or not; a write within one
sector is there or not. A torn write at the end of a file leaves the longer length or does not. Truncating and
extending are operations of their own. Names are lost and kept apart from contents; what needs a lost name is lost
as well (a rename of a file whose creation was lost).

That the harness sees faults is tested by taking flushes out: ``flushes_that_matter(recording, judge_one)``.
Failing writes instead of lost ones: ``RecordingStore(folder, fail_from=n)``, see recording.py.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from tests.crash.recording import (
    Create,
    Flush,
    FlushFolder,
    Link,
    Operation,
    RecordingStore,
    Rename,
    Truncate,
    Unlink,
    Write,
)
from vhdtool.disk.host_store import HostStore

SECTOR = 512
Keep = tuple[bool, ...] | None
"""Which sectors of a torn write are there, and last, whether the file got the whole length; ``None`` for all of it."""


class View(Enum):
    """What a reader sees."""

    OLD = "old"
    NEW = "new"
    REFUSED = "refused"
    WRONG = "wrong"


class CrashFaultError(AssertionError):
    """A state in which a reader sees what it must not see."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The disk before and after."""

    old: bytes
    new: bytes

    def view(self, data: bytes) -> View:
        if data == self.new:
            return View.NEW
        return View.OLD if data == self.old else View.WRONG


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who looks at the files of a state, in a folder."""

    name: str
    view: Callable[[Path], View]
    every: int = 1
    may_refuse: bool = False
    changes: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """What an action did: ``before`` is a copy of its folder, ``files`` the numbers of the files in it."""

    before: Path
    files: dict[str, int]
    operations: tuple[Operation, ...]

    @property
    def flushes(self) -> list[int]:
        """Where the flushes stand among the operations."""
        return [place for place, one in enumerate(self.operations) if isinstance(one, Flush | FlushFolder)]

    def without_flush(self, number: int) -> Recording:
        """What would have been recorded of code that leaves this flush out, counted from 0."""
        place = self.flushes[number]
        return replace(self, operations=(*self.operations[:place], *self.operations[place + 1 :]))


@dataclass(frozen=True, slots=True)
class State:
    """``kept`` are the operations that were not flushed at the stop and are there all the same."""

    stop: int
    kind: str
    kept: dict[int, Keep]

    @property
    def key(self) -> tuple[tuple[int, Keep], ...]:
        return tuple(sorted(self.kept.items()))


@dataclass(slots=True)
class Tally:
    """How many states there were and what was seen in them."""

    states: int = 0
    views: Counter[tuple[str, View]] = field(default_factory=Counter)

    def __iadd__(self, other: Tally) -> Tally:
        self.states += other.states
        self.views += other.views
        return self

    def seen(self, reader: str) -> dict[View, int]:
        return {view: self.views[reader, view] for view in View if self.views[reader, view]}


def crash_seed() -> int:
    """``VHDTOOL_CRASH_SEED``, else a fresh one."""
    given = os.environ.get("VHDTOOL_CRASH_SEED")
    return int(given) if given else secrets.randbits(32)


def dose(count: int) -> int:
    """``count`` times ``VHDTOOL_CRASH_DOSE``; ``scripts/long`` sets it."""
    return int(count * _dose())


def seldom(every: int) -> int:
    """For :attr:`Reader.every` of slow readers: the higher the dose, the more states they see, in the end all."""
    return max(1, int(every / _dose()))


def _dose() -> float:
    return float(os.environ.get("VHDTOOL_CRASH_DOSE", "1"))


def record(folder: Path, action: Callable[[HostStore], object], *, reflinks: bool = False) -> Recording:
    """Run the action on the folder; the copy of the folder as it was goes beside it."""
    number = 0
    while (before := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    before.mkdir()
    for path in folder.iterdir():
        copy_sparse(path, before / path.name)
    store = RecordingStore(folder, reflinks=reflinks)
    action(store)
    return Recording(before, store.initial, tuple(store.operations))


def reset(recording: Recording, folder: Path) -> None:
    """Bring the recorded folder back to what it was."""
    shutil.rmtree(folder)
    folder.mkdir()
    for path in recording.before.iterdir():
        copy_sparse(path, folder / path.name)


def judge(
    recording: Recording,
    readers: Sequence[Reader],
    *,
    seed: int,
    count: int,
    work: Path,
    starts: frozenset[View] = frozenset({View.OLD}),
    ends: frozenset[View] = frozenset({View.NEW}),
) -> Tally:
    """Make the states in ``work`` and ask the readers. Raises :class:`CrashFaultError`."""
    shutil.rmtree(work, ignore_errors=True)
    platter = Platter(recording, work / "stable")
    tally = Tally()
    chosen = states_of(recording.operations, random.Random(seed), count)
    for number, state in enumerate(chosen):
        platter.advance(state.stop)
        fresh = None
        for reader in readers:
            if number % reader.every and 0 < number < len(chosen) - 1:
                continue
            if fresh is None or reader.changes:
                fresh = work / "state"
                platter.make(state, fresh)
            view, trouble = _ask(reader, fresh)
            if reader.changes:
                fresh = None
            allowed = {View.OLD, View.NEW}
            if state.stop == 0:
                allowed = set(starts)
            elif state.stop == len(recording.operations):
                allowed = set(ends)
            if reader.may_refuse:
                allowed.add(View.REFUSED)
            if view not in allowed:
                raise CrashFaultError(
                    _report(recording, state, number, seed, f"{reader.name} sees {view.value}{trouble}")
                )
            tally.views[reader.name, view] += 1
        tally.states += 1
    shutil.rmtree(work)
    return tally


def flushes_that_matter(recording: Recording, judge_one: Callable[[Recording], object]) -> dict[int, str]:
    """Which flushes, counted from 0, can't be left out: with the first line of what is seen without each."""
    found = {}
    for number in range(len(recording.flushes)):
        try:
            judge_one(recording.without_flush(number))
        except CrashFaultError as fault:
            found[number] = str(fault).partition("\n")[0]
    return found


def _ask(reader: Reader, folder: Path) -> tuple[View, str]:
    try:
        return reader.view(folder), ""
    except Exception as error:  # whatever a reader raises is a finding of the state
        return View.WRONG, f": it raises {error!r}"


def _report(recording: Recording, state: State, number: int, seed: int, what: str) -> str:
    lines = [
        f"{what}; state {number} of seed {seed}, {state.kind}, after {state.stop} of {len(recording.operations)}",
        f"repeat: VHDTOOL_CRASH_SEED={seed}",
    ]
    pending = set(pending_at(recording.operations, state.stop))
    for index, operation in enumerate(recording.operations[: state.stop]):
        mark = "stable"
        if index in pending:
            keep = state.kept.get(index, ())
            mark = "kept" if keep is None else f"torn, {sum(keep[:-1])} of {len(keep) - 1}" if keep else "LOST"
        lines.append(f"  {index:4} {describe(operation)}: {mark}")
    return "\n".join(lines)


def describe(operation: Operation) -> str:
    """One line without the bytes."""
    if isinstance(operation, Write):
        return f"write {operation.file} {operation.offset:#x}+{len(operation.data):#x} {operation.data[:4]!r}"
    return repr(operation)


# --- which states ----------------------------------------------------------------------------------------------------


def pending_at(operations: Sequence[Operation], stop: int) -> list[int]:
    """The operations before a stop that no flush had made stable."""
    files: dict[int, list[int]] = {}
    names: list[int] = []
    for index, operation in enumerate(operations[:stop]):
        if isinstance(operation, Flush):
            files.pop(operation.file, None)
        elif isinstance(operation, FlushFolder):
            names.clear()
        elif isinstance(operation, Write | Truncate):
            files.setdefault(operation.file, []).append(index)
        else:
            names.append(index)
    return sorted([*names, *(index for each in files.values() for index in each)])


def states_of(operations: Sequence[Operation], source: random.Random, count: int) -> list[State]:
    """About ``count`` different states, in the order of the stops.

    None and all of what is pending at each stop (of a chosen part of them, where there are more stops than states
    wanted), single operations lost or alone before each flush, and the rest by chance.
    """
    stops = {stop: pending_at(operations, stop) for stop in range(len(operations) + 1)}
    made = [0]
    for operation in operations:
        made.append(made[-1] + (not isinstance(operation, Flush | FlushFolder)))
    found: dict[object, State] = {}

    def add(state: State) -> None:
        stable = made[state.stop] - len(stops[state.stop])
        # after the last operation a state is a state of its own: more is asked of it
        found.setdefault((stable, state.stop == len(operations), state.key), state)

    def whole(indices: Sequence[int]) -> dict[int, Keep]:
        return dict.fromkeys(indices)

    # most goes on where most is uncertain: right before a flush
    rich = [stop for stop, pending in stops.items() if pending and stop < len(operations)]
    before_flush = [stop for stop in rich if isinstance(operations[stop], Flush | FlushFolder)]
    if stops[len(operations)]:
        before_flush.append(len(operations))
    plain = set(stops)
    if len(plain) > count:
        plain = {0, len(operations), *before_flush, *source.sample(sorted(stops), count // 2)}
    for stop in sorted(plain):
        add(State(stop, "none", {}))
        add(State(stop, "all", whole(stops[stop])))
    single = [(stop, index) for stop in before_flush for index in stops[stop]]
    for stop, index in single if len(single) <= count // 4 else source.sample(single, count // 4):
        add(State(stop, "all but one", whole([one for one in stops[stop] if one != index])))
        add(State(stop, "one alone", whole([index])))
    tries = 0
    while rich and len(found) < count and tries < 20 * count:
        tries += 1
        stop = source.choice(before_flush if before_flush and source.random() < 0.6 else rich)
        pending = stops[stop]
        if source.random() < 0.25:
            cut = source.randrange(len(pending))
            kept = whole(pending[:cut]) | _torn(operations[pending[cut]], pending[cut], source)
            add(State(stop, "torn prefix", kept))
            continue
        share = source.choice((0.2, 0.5, 0.8))
        kept = whole([index for index in pending if source.random() < share])
        if source.random() < 0.6:
            for index in [index for index in kept if source.random() < 0.5]:
                del kept[index]
                kept |= _torn(operations[index], index, source)
            add(State(stop, "torn subset", kept))
        else:
            add(State(stop, "subset", kept))
    return sorted(found.values(), key=lambda state: state.stop)


def _torn(operation: Operation, index: int, source: random.Random) -> dict[int, Keep]:
    """The operation with some of its sectors lost; what can't be torn is there or not."""
    count = _sectors(operation)
    if count < 2:
        return {index: None} if source.random() < 0.5 else {}
    how = source.random()
    if how < 0.4:  # a part from the start or from the end
        cut = source.randrange(1, count)
        mask = [(place < cut) == (how < 0.2) for place in range(count)]
    else:
        share = source.choice((0.1, 0.5, 0.9))
        mask = [source.random() < share for _ in range(count)]
    return {index: (*mask, source.random() < 0.5)}


def _sectors(operation: Operation) -> int:
    if not isinstance(operation, Write):
        return 1
    first = operation.offset // SECTOR
    return -(-(operation.offset + len(operation.data)) // SECTOR) - first


# --- what the disk of the host holds ---------------------------------------------------------------------------------


class Platter:
    """The stable contents at a stop; :meth:`advance` goes forward only."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._recording = recording
        self._folder = folder
        self._stop = 0
        self._names = dict(recording.files)
        self._touched: set[int] = set()
        self._pending_files: dict[int, list[int]] = {}
        self._pending_names: list[int] = []
        folder.mkdir(parents=True)
        for name, number in recording.files.items():
            copy_sparse(recording.before / name, folder / str(number))

    def advance(self, stop: int) -> None:
        """Do what was flushed before the stop."""
        operations = self._recording.operations
        for index in range(self._stop, stop):
            operation = operations[index]
            if isinstance(operation, Flush):
                self._apply_file(operation.file, dict.fromkeys(self._pending_files.pop(operation.file, [])))
            elif isinstance(operation, FlushFolder):
                apply_names(self._names, [operations[one] for one in self._pending_names])
                self._pending_names.clear()
            elif isinstance(operation, Write | Truncate):
                self._pending_files.setdefault(operation.file, []).append(index)
            else:
                self._pending_names.append(index)
                if isinstance(operation, Create):
                    (self._folder / str(operation.file)).touch()
        self._stop = max(self._stop, stop)

    def make(self, state: State, folder: Path) -> None:
        """Put the files of a state into a folder; what is there is removed."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        names = dict(self._names)
        operations = self._recording.operations
        apply_names(names, [operations[index] for index in self._pending_names if index in state.kept])
        for name, number in names.items():
            target = folder / name
            copy_sparse(self._folder / str(number), target)
            kept = {index: state.kept[index] for index in self._pending_files.get(number, []) if index in state.kept}
            if kept:
                with target.open("r+b") as file:
                    for index, keep in kept.items():
                        apply_to(file.fileno(), operations[index], keep)
            elif number not in self._touched and name in self._recording.files:
                facts = (self._recording.before / name).stat()
                os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    def _apply_file(self, number: int, kept: dict[int, Keep]) -> None:
        self._touched.add(number)
        with (self._folder / str(number)).open("r+b") as file:
            for index, keep in kept.items():
                apply_to(file.fileno(), self._recording.operations[index], keep)


def apply_names(names: dict[str, int], operations: Sequence[Operation]) -> None:
    """Do what is done to names; what can't be done without an earlier one is left out."""
    for operation in operations:
        match operation:
            case Create(number, name) | Link(number, name):
                names[name] = number
            case Unlink(name, after):
                if after is None or names.get(after) == names.get(name):
                    names.pop(name, None)
            case Rename(old, new):
                if old in names:
                    names[new] = names.pop(old)


def apply_to(descriptor: int, operation: Operation, keep: Keep) -> None:
    """Do to a file what an operation did, or the kept part of it."""
    if isinstance(operation, Truncate):
        os.ftruncate(descriptor, operation.size)
        return
    if not isinstance(operation, Write):
        raise TypeError(f"{operation} is nothing that is done to a file")
    if keep is None:
        os.pwrite(descriptor, operation.data, operation.offset)
        return
    first = operation.offset // SECTOR
    end = operation.offset + len(operation.data)
    for place, there in enumerate(keep[:-1]):
        if there:
            start = max(operation.offset, (first + place) * SECTOR)
            stop = min(end, (first + place + 1) * SECTOR)
            os.pwrite(descriptor, operation.data[start - operation.offset : stop - operation.offset], start)
    if keep[-1] and os.fstat(descriptor).st_size < end:
        os.ftruncate(descriptor, end)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, its holes as holes, with its times."""
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        os.ftruncate(new.fileno(), size)
        for start, end in _data_ranges(old.fileno(), size):
            place = start
            while place < end:
                piece = os.pread(old.fileno(), min(1 << 20, end - place), place)
                os.pwrite(new.fileno(), piece, place)
                place += len(piece)
    shutil.copystat(source, target)


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    if sys.platform == "win32" or not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    place = 0
    while place < size:
        try:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return
        place = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, place
