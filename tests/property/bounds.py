"""Time and memory that reading hostile input may take; a test that takes more is ended, not waited for."""

from __future__ import annotations

import signal
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 5
MEMORY = 512 << 20


class OutOfTime(BaseException):
    """Not an ``Exception``, so that nothing in the code under test swallows it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where the block takes more than 5 s or 512 MiB (of Python's own memory, as the parsers' is)."""
    previous = signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    tracemalloc.start()
    started = time.monotonic()
    try:
        yield
        assert time.monotonic() - started < SECONDS
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _alarm(_signal: int, _frame: FrameType | None) -> None:
    raise OutOfTime
