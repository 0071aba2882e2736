"""Cases in worker processes: each bounded in time and memory, a lost worker is one failed case and no more."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.case import Bench, Prepared, make_case, on_alarm, prepare, resident_memory, run_case
from tests.fuzz.figures import Report, Result
from tests.fuzz.target import Target

HARD_SECONDS = 15.0  # for a loop in a compiled library, which no signal handler of ours interrupts
ADDRESS_SPACE = 1536 << 20  # beyond its parent's: an allocation that the bound on resident memory would see too late
CHUNK = 20


@dataclass
class Job:
    """Cases of one target, in order."""

    target: str
    cases: list[int]


@dataclass
class Worker:
    process: Any
    pipe: Connection
    folder: Path
    job: Job | None = None
    since: float = 0.0
    leaving: bool = False  # it told of a case that took too much memory, and ends itself


def campaign(targets: Sequence[Target], cases: int, seed: int, *, jobs: int = 2, progress: bool = False) -> Report:
    """Run ``cases`` mutated inputs over ``targets`` by their weights."""
    report = Report(seed)
    started = time.perf_counter()
    with scratch() as folder:
        prepared = {target.name: prepare(target, folder / "clean" / target.name) for target in targets}
        total = sum(target.weight for target in targets)
        waiting: list[Job] = []
        for target in targets:
            count = -(-cases * target.weight // total)
            waiting += [
                Job(target.name, list(range(first, min(first + CHUNK, count)))) for first in range(0, count, CHUNK)
            ]
        Random(seed).shuffle(waiting)
        Pool(prepared, waiting, report, folder).run(jobs, progress=progress)
    report.seconds = time.perf_counter() - started
    report.results.sort(key=lambda result: (result.target, result.case))
    return report


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the inputs, in memory where that is possible."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it, where it is there
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vhdtool-fuzz-", dir=parent) as name:
        yield Path(name)


class Pool:
    """The workers, and what is still to be done."""

    def __init__(self, prepared: dict[str, Prepared], waiting: list[Job], report: Report, folder: Path) -> None:
        self._prepared = prepared
        self._waiting = waiting
        self._report = report
        self._folder = folder
        self._context = get_context("fork")
        self._made = 0

    def run(self, jobs: int, *, progress: bool) -> None:
        workers = [self._start() for _ in range(jobs)]
        shown = time.monotonic()
        while workers := [worker for worker in workers if worker.job is not None]:
            ready = set(wait([worker.pipe for worker in workers], timeout=1.0))
            workers = [self._serve(worker, told=worker.pipe in ready) for worker in workers]
            if progress and time.monotonic() - shown > 10:
                shown = time.monotonic()
                done, failed = len(self._report.results), len(self._report.failures)
                print(f"  {done} cases, {failed} failed", file=sys.stderr, flush=True)  # noqa: T201  # a program's

    def _start(self) -> Worker:
        self._made += 1
        folder = self._folder / f"worker-{self._made}"
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._prepared, folder, self._report.seed), daemon=True
        )
        process.start()
        theirs.close()
        worker = Worker(process, ours, folder)
        self._give(worker)
        return worker

    def _give(self, worker: Worker) -> None:
        worker.job = self._waiting.pop() if self._waiting else None
        worker.since = time.monotonic()
        worker.pipe.send(worker.job)

    def _serve(self, worker: Worker, *, told: bool) -> Worker:
        """Take one result, or see that the worker is dead or stuck; return the worker that goes on."""
        if not told:
            stuck = time.monotonic() - worker.since > HARD_SECONDS
            return self._replace(worker, "hang") if stuck else worker
        try:
            result = worker.pipe.recv()
        except EOFError:
            return self._replace(worker, "" if worker.leaving else "crash")
        worker.since = time.monotonic()
        if isinstance(result, int):
            self._report.base_memory = max(self._report.base_memory, result)
            return worker
        if result is None:
            self._give(worker)
            return worker
        self._report.results.append(result)
        assert worker.job is not None
        worker.job.cases.remove(result.case)
        worker.leaving = result.outcome == "memory"
        return worker

    def _replace(self, worker: Worker, kind: str) -> Worker:
        """End a lost worker, blame the case it was in, and let a new one do the rest of its job."""
        worker.process.kill()
        worker.process.join()
        shutil.rmtree(worker.folder, ignore_errors=True)
        job = worker.job
        if job is not None and job.cases:
            if kind:
                self._blame(job.target, job.cases.pop(0), kind)
            if job.cases:
                self._waiting.append(job)
        return self._start()

    def _blame(self, target: str, case: int, kind: str) -> None:
        done = make_case(self._prepared[target], self._report.seed, case).describe()
        self._report.results.append(
            Result(target, case, kind, "", HARD_SECONDS, 0, 1, 1, False, False, (), done, f"{done}\n{kind}")
        )


def _work(pipe: Connection, prepared: dict[str, Prepared], folder: Path, seed: int) -> None:
    """A worker: takes jobs and sends one result a case, then None."""
    space = ADDRESS_SPACE + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable()  # what foreign parsers say of damaged input
    gc.freeze()
    bench = Bench(folder, resident_memory())
    pipe.send(bench.inherited)
    while (job := pipe.recv()) is not None:
        for case in job.cases:
            result = run_case(bench, prepared[job.target], seed, case)
            pipe.send(result)
            if result.outcome == "memory":  # the peak stays: only a new process can judge the next case
                os._exit(0)
        pipe.send(None)
