"""What a target is: a clean input, a reader to run over it, and what the reader gave."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import Base, Field, Seal
from vhdtool.errors import Problem

Located = tuple[list[Field], list[Seal]]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a reader gave: a digest of all content, and what it reported on the way."""

    content: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """``payload``: the bytes of a disk's blocks are parsed too. ``strict``: see :class:`tests.fuzz.mutate.Seal`."""

    name: str
    weight: int
    build: Callable[[Path], None]
    run: Callable[[Path], Observation]
    locate: Callable[[Mapping[str, Base]], Located]
    payload: bool = True
    strict: bool = True
    slow: bool = False


class Content:
    """Collects what a reader gives, and its reports."""

    def __init__(self) -> None:
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._notes: list[str] = []

    def add(self, *facts: object) -> None:
        for fact in facts:
            self._digest.update(fact if isinstance(fact, bytes) else repr(fact).encode("utf-8", "surrogatepass"))

    def note(self, problems: Iterable[Problem | str]) -> None:
        self._notes += [problem if isinstance(problem, str) else problem.code for problem in problems]

    def seen(self) -> Observation:
        return Observation(self._digest.hexdigest(), tuple(sorted(self._notes)))
