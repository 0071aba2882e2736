"""One case: a clean input is damaged, read, judged, and put right again."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.coverage_map import Recorder, recording_files
from tests.fuzz.figures import Result
from tests.fuzz.mutate import Base, Mutation, Subject, mutation
from tests.fuzz.target import Observation, Target
from vhdtool.errors import VhdtoolError

SECONDS = 5.0
MEMORY = 512 << 20
HASHED_EVERY = 16  # names, sizes and times of the files are compared in every case, their bytes in every 16th
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")


class CaseTimeout(BaseException):
    """Five seconds are over; not an ``Exception``, so that no handler of the code under test swallows it."""


@dataclass
class Prepared:
    """A target with its clean run: the observation, the map of parsed bytes, the fields."""

    target: Target
    folder: Path
    clean: Observation
    subject: Subject


def prepare(target: Target, folder: Path) -> Prepared:
    """Build the input under ``folder`` and run it clean, twice: once for the map, once for the answer."""
    folder.mkdir(parents=True)
    target.build(folder)
    names = sorted(path.name for path in folder.iterdir())
    files = {name: Base(folder / name) for name in names}
    recorder = Recorder()
    with recording_files(recorder, payload=target.payload):
        first = target.run(folder)
    clean = target.run(folder)
    if first != clean:
        raise AssertionError(f"{target.name}: two clean runs differ")
    parsed = {name: recorder.ranges(name, files[name].size) for name in names}
    found, seals = target.locate(files)
    subject = Subject(files, found, seals, parsed)
    if not any(ranges.total for ranges in parsed.values()):
        raise AssertionError(f"{target.name}: nothing was parsed")
    return Prepared(target, folder, clean, subject)


class Bench:
    """A worker's own copies of the inputs: damaged for a case and put right after it.

    ``inherited``: bytes of memory that the worker held when it began, its parent's.
    """

    def __init__(self, folder: Path, inherited: int = 0) -> None:
        self.inherited = inherited
        self._folder = folder
        self._fds: dict[tuple[str, str], int] = {}

    def folder_of(self, prepared: Prepared) -> Path:
        place = self._folder / prepared.target.name
        if not place.exists():
            place.mkdir(parents=True)
            for name, base in prepared.subject.files.items():
                copy_sparse(base.path, place / name)
                self._fds[prepared.target.name, name] = os.open(place / name, os.O_RDWR)
                (place / name).chmod(0o444)
        return place

    def damage(self, prepared: Prepared, made: Mutation) -> None:
        for patch in made.patches:
            os.pwrite(self._fds[prepared.target.name, patch.file], patch.data, patch.offset)
        if made.cut is not None:
            os.ftruncate(self._fds[prepared.target.name, made.cut[0]], made.cut[1])

    def restore(self, prepared: Prepared, made: Mutation) -> None:
        files = prepared.subject.files
        if made.cut is not None:
            name, length = made.cut
            fd = self._fds[prepared.target.name, name]
            os.ftruncate(fd, files[name].size)
            copy_data(files[name].path, fd, length)
        for patch in made.patches:
            data = files[patch.file].read(patch.offset, len(patch.data))
            os.pwrite(self._fds[prepared.target.name, patch.file], data, patch.offset)

    def stamp(self, prepared: Prepared, *, deep: bool) -> list[tuple[str, int, int, str]]:
        """What must be the same before and after a run: names, sizes, times, and for a sample the bytes."""
        place = self._folder / prepared.target.name
        found = []
        for path in sorted(place.iterdir()):
            stat = path.stat()
            small = deep and stat.st_size <= 16 << 20
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
            found.append((path.name, stat.st_size, stat.st_mtime_ns, digest))
        return found


def copy_data(source: Path, fd: int, start: int) -> None:
    """Copy the data of ``source`` from ``start`` on, holes left out."""
    with source.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        position = start
        while position < end:
            try:
                data = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            while data < hole:
                piece = os.pread(file.fileno(), min(1 << 20, hole - data), data)
                os.pwrite(fd, piece, data)
                data += len(piece)
            position = hole


def copy_sparse(source: Path, target: Path) -> None:
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(fd, source.stat().st_size)
    copy_data(source, fd, 0)
    os.close(fd)


def make_case(prepared: Prepared, seed: int, case: int) -> Mutation:
    """The mutation of this case: the same for the same seed, target and clean input."""
    return mutation(prepared.subject, Random(f"{seed}/{prepared.target.name}/{case}"))


def on_alarm(_signal: int, _frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, 1.0)  # again, should the code under test swallow the first
    raise CaseTimeout


def run_case(bench: Bench, prepared: Prepared, seed: int, case: int) -> Result:
    """Damage, run, judge, restore."""
    made = make_case(prepared, seed, case)
    deep = case % HASHED_EVERY == 0
    place = bench.folder_of(prepared)
    bench.damage(prepared, made)
    before = bench.stamp(prepared, deep=deep)
    outcome, code, failure = "", "", None
    started = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            seen = prepared.target.run(place)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        outcome, failure = _judge(prepared, made, seen)
    except VhdtoolError as error:
        outcome, code = f"error-{error.exit_code}", error.code
        failure = _judge_error(error)
    except CaseTimeout:
        outcome, failure = "hang", traceback.format_exc(limit=-12)
    except MemoryError:
        outcome, failure = "memory", traceback.format_exc(limit=-12)
    except Exception:  # the very thing this looks for
        outcome, failure = "traceback", traceback.format_exc(limit=-12)
    seconds = time.perf_counter() - started
    memory = resident_memory() - bench.inherited
    if failure is None and memory > MEMORY:
        outcome, failure = "memory", f"the process grew by {memory >> 20} MiB"
    if bench.stamp(prepared, deep=deep) != before:
        outcome, failure = "source-changed", "the input is not the same after the run"
    bench.restore(prepared, made)
    if failure is not None:
        failure = f"{made.describe()}\n{failure}"
    return Result(
        prepared.target.name, case, outcome, code, seconds, memory,
        made.count, made.aimed, made.covered, made.renewed, made.kinds, made.describe(), failure,
    )  # fmt: skip


def resident_memory() -> int:
    """The most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _judge(prepared: Prepared, made: Mutation, seen: Observation) -> tuple[str, str | None]:
    if Counter(seen.notes) - Counter(prepared.clean.notes):
        return "reported", None
    if seen.content == prepared.clean.content:
        return "identical", None
    if made.sealed and prepared.target.strict:
        return "silent", "the content changed without a report, though a broken checksum covers all that was damaged"
    return ("differs" if made.aimed else "payload"), None


def _judge_error(error: VhdtoolError) -> str | None:
    if error.exit_code not in (3, 4):
        return f"exit code {error.exit_code}\n{traceback.format_exc(limit=-12)}"
    if not CODE.match(error.code):
        return f"the code {error.code!r} is not kebab-case"
    if not error.message or "\n" in str(error):
        return f"the message is not one clear line: {str(error)!r}"
    return None
