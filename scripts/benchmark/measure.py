"""Times and counts: wall clock and peak memory of a command, bytes it reads from a file, medians of many runs."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.tools import ROOT, BenchmarkError

VHDTOOL = (sys.executable, "-m", "vhdtool")
_READS = "read,pread64,readv,preadv,preadv2,sendfile,copy_file_range,splice,mmap"
_RETURNED = re.compile(r"(\w+)\((.*)= (\d+|0x[0-9a-f]+)$")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds of wall clock; of a command also seconds of processor and the peak of its memory in MiB."""

    seconds: float
    processor: float = 0.0
    peak_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Median:
    """Medians of several runs, with the fastest and the slowest."""

    seconds: float
    fastest: float
    slowest: float
    processor: float
    peak_mib: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Median:
        """Condense the samples."""
        times = [sample.seconds for sample in samples]
        processor = statistics.median(sample.processor for sample in samples)
        peak = statistics.median(sample.peak_mib for sample in samples)
        return cls(statistics.median(times), min(times), max(times), processor, peak)


def run_command(command: Sequence[str]) -> Sample:
    """Run a command to its end, output thrown away. Raises :class:`BenchmarkError` where it fails."""
    launcher = [sys.executable, "-S", str(Path(__file__).with_name("launch.py")), *command]
    done = subprocess.run(launcher, capture_output=True, text=True, cwd=ROOT, env=_environment(), check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{command[0]} could not be run: {done.stderr[-800:]}")
    seconds, processor, peak, code = done.stdout.split()
    if code != "0":
        raise BenchmarkError(f"{' '.join(command)} ended {code}: {done.stderr[-800:]}")
    return Sample(float(seconds), float(processor), int(peak) / 1024)


def _environment() -> dict[str, str]:
    """As after an installation: the package on the path, and bytecode kept, in a folder of its own."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**variables, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": _bytecode_folder()}


@functools.cache
def _bytecode_folder() -> str:
    folder = tempfile.mkdtemp(prefix="vhdtool-bench-bytecode-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def timed(action: Callable[[], object]) -> Sample:
    """Time something in this process; its memory is not told apart from ours."""
    start = time.perf_counter()
    action()
    return Sample(time.perf_counter() - start)


def forget(*files: Path) -> None:
    """Drop the files' pages from the page cache, so that the next read goes to the disk."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def interleaved(
    contestants: Mapping[str, Callable[[], Sample]], runs: int, *, cold: Sequence[Path] = ()
) -> dict[str, Median]:
    """Run each contestant in turn, ``runs`` times after one run that does not count, and give the medians.

    In turn, so that what else the machine does falls on all alike. ``cold`` files are forgotten before each run.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, contestant in contestants.items():
            forget(*cold)
            sample = contestant()
            if turn:
                samples[name].append(sample)
    return {name: Median.of(taken) for name, taken in samples.items()}


def bytes_read(command: Sequence[str], file: Path) -> int:
    """Count with strace what a command reads from a file, a mapping at its full length."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as log:
        traced = ["strace", "-f", "-q", "-P", str(file), "-e", f"trace={_READS}", "-o", log.name, *command]
        done = subprocess.run(traced, capture_output=True, cwd=ROOT, env=_environment(), check=False, timeout=600)
        if done.returncode != 0:
            raise BenchmarkError(f"strace ended {done.returncode}: {done.stderr[-800:].decode(errors='replace')}")
        return sum(_bytes_of(line) for line in log.read().splitlines())


def _bytes_of(line: str) -> int:
    match = _RETURNED.search(line)
    if match is None:
        return 0
    name, arguments, returned = match.groups()
    if name == "mmap":
        return int(arguments.split(",")[1])
    return int(returned, 0)
