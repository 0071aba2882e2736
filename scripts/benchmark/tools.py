"""Running the public tools that the benchmark builds with and compares against."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VHDTOOL_DATA") or ROOT.parent / "shared" / "data")


class BenchmarkError(Exception):
    """The benchmark can't be run here; the message says what is missing."""


def say(text: str) -> None:
    """Tell on stderr what is being done: stdout is the table's."""
    print(text, file=sys.stderr, flush=True)


def call(*command: str | os.PathLike[str], timeout: float = 3600) -> str:
    """Run a tool, give its stdout, and raise :class:`BenchmarkError` with what it printed where it fails."""
    words = [os.fspath(word) for word in command]
    done = subprocess.run(words, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).decode(errors="replace")[-800:]
        raise BenchmarkError(f"{words[0]} ended {done.returncode}: {tail}")
    return done.stdout.decode(errors="replace")


def require(*names: str) -> None:
    """Raise :class:`BenchmarkError` naming the tools that are not on the path."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise BenchmarkError(f"not installed: {', '.join(missing)}")


def real_file(name: str) -> Path:
    """The path of a file of the collection of real files."""
    path = DATA / name
    if not path.is_file():
        raise BenchmarkError(f"the collection of real files is not here: {path} (VHDTOOL_DATA names its folder)")
    return path
