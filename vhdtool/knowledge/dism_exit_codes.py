"""What DISM and pkgmgr end with after installing a package, and what is to be done then, as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

ExitKind = Literal["done", "restart", "not-applicable", "permanent", "retry", "again-without-english"]
_DWORD = 1 << 32
_SIGN = 1 << 31


@dataclass(frozen=True, slots=True)
class ExitCode:
    """An exit code. ``value`` unsigned, 32 bits; ``name`` None where no public header names it."""

    value: int
    kind: ExitKind
    name: str | None
    meaning: str
    source: str

    @property
    def decimal(self) -> int:
        """As ``%ERRORLEVEL%`` has it: signed."""
        return self.value - _DWORD if self.value >= _SIGN else self.value


@cache
def exit_codes() -> tuple[ExitCode, ...]:
    """The known exit codes, in the order of the table."""
    document = tomllib.loads(files(__package__).joinpath("dism_exit_codes.toml").read_text(encoding="utf-8"))
    return tuple(
        ExitCode(row["value"], row["kind"], row.get("name"), row["meaning"], row["source"]) for row in document["code"]
    )


def explain_exit_code(code: int) -> ExitCode | None:
    """The row of a code, signed or unsigned; None for one that is not known."""
    wanted = code % _DWORD
    return next((row for row in exit_codes() if row.value == wanted), None)
