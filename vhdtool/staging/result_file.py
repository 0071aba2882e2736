r"""What the runner leaves behind: ``result.txt`` in the stage's directory, and the value that it tells the host.

The file is lines of ASCII, written beside and renamed::

    vhdtool-result 1
    id=kb9999999-0123abcd
    cab=1 applied 0 1 1-package.cab        number, state, exit code or "-", attempts, file
    state=applied
    end=kb9999999-0123abcd

The value (``SOFTWARE\Microsoft\Virtual Machine\Guest``, ``vhdtool.stage``) is ``ID;STATE;CODE``. Data Exchange shows it
to the host. Both come from a guest: anything may stand there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast, get_args

from vhdtool.errors import DamagedError
from vhdtool.guest.model import StagedState
from vhdtool.knowledge.dism_exit_codes import explain_exit_code

RESULT_NAME = "result.txt"
LOG_NAME = "runner.log"
MAX_RESULT = 64 << 10
FIRST_LINE = "vhdtool-result 1"
MAX_VALUE = 256
_STATES = frozenset(get_args(StagedState)) - {"never-ran", "unknown"}
_CAB = re.compile(r"cab=(\d{1,3}) ([a-z-]{1,20}) (-|-?\d{1,10}) (\d{1,2}) ([A-Za-z0-9._-]{1,255})")
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@dataclass(frozen=True, slots=True)
class CabResult:
    """One package. ``code`` is what the last attempt ended with, None where none did; ``attempts`` that were begun."""

    name: str
    state: StagedState
    code: int | None
    attempts: int

    @property
    def meaning(self) -> str | None:
        """What the code says, where it is known."""
        row = None if self.code is None else explain_exit_code(self.code)
        return None if row is None else row.meaning


@dataclass(frozen=True, slots=True)
class StageResult:
    """What the runner wrote last. ``state`` staged: it has not ended. ``attempts``: the most of any package."""

    id: str
    state: StagedState
    cabs: tuple[CabResult, ...]

    @property
    def attempts(self) -> int:
        """Attempts that were begun with the package that needed most."""
        return max((cab.attempts for cab in self.cabs), default=0)


@dataclass(frozen=True, slots=True)
class ToldValue:
    """What the runner told the host."""

    id: str
    state: StagedState
    code: int | None


def parse_result(data: bytes, *, path: str) -> StageResult:
    """Read a result file of at most :data:`MAX_RESULT` bytes.

    Raises:
        DamagedError: ``stage-result-damaged``: it is not as the runner writes it, or cut off.
    """
    try:
        lines = data[:MAX_RESULT].decode("ascii").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise _damaged(path, 0, "a byte that is not ASCII") from error
    if lines[0].rstrip() != FIRST_LINE:
        raise _damaged(path, 1, lines[0])
    cabs: list[CabResult] = []
    fields: dict[str, str] = {}
    for number, line in enumerate((line.rstrip() for line in lines[1:]), 2):
        if line.startswith("cab="):
            cabs.append(_cab(line, path, number))
        elif line:
            name, _, value = line.partition("=")
            if name not in {"id", "state", "end"} or name in fields:
                raise _damaged(path, number, line)
            fields[name] = value
    if not _ID.fullmatch(fields.get("id", "")) or fields.get("end") != fields["id"]:
        raise _damaged(path, len(lines), f"end={fields.get('end')}")
    return StageResult(fields["id"], _state(fields.get("state", ""), path, len(lines)), tuple(cabs))


def parse_kvp_value(text: str) -> ToldValue | None:
    """Read what the runner told the host; None where it is something else."""
    parts = text[:MAX_VALUE].split(";")
    if len(parts) != 3 or not _ID.fullmatch(parts[0]) or parts[1] not in _STATES:  # ID;STATE;CODE
        return None
    code = int(parts[2]) if re.fullmatch(r"-?\d{1,10}", parts[2]) else None
    return ToldValue(parts[0], cast(StagedState, parts[1]), code)


def _cab(line: str, path: str, number: int) -> CabResult:
    found = _CAB.fullmatch(line)
    if found is None:
        raise _damaged(path, number, line)
    code = None if found[3] == "-" else int(found[3])
    return CabResult(found[5], _state(found[2], path, number), code, int(found[4]))


def _state(word: str, path: str, number: int) -> StagedState:
    if word not in _STATES:
        raise _damaged(path, number, word)
    return cast(StagedState, word)


def _damaged(path: str, line: int, found: str) -> DamagedError:
    return DamagedError(
        "stage-result-damaged",
        f"the runner's result can't be used: line {line}",
        path=path,
        expected="what the runner writes",
        found=repr(found[:80]),
        hint="Look at it with vhdtool cat; the runner's log lies beside it.",
    )
