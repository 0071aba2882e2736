"""Runs the command line inside this process, as a user would: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec

from vhdtool.cli.main import main


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.stdout)


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def run(*arguments: str, environment: Mapping[str, str] | None = None, terminal: bool = False) -> Result:
    """Call ``vhdtool`` with arguments; ``terminal`` makes stdout and stderr claim to be one."""
    kind = _Terminal if terminal else io.TextIOWrapper
    out, err = kind(io.BytesIO(), encoding="utf-8"), kind(io.BytesIO(), encoding="utf-8")
    quiet = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm", "COLUMNS": "100", "VHDTOOL_DEBUG": ""}
    with _streams(out, err), mock.patch.dict("os.environ", {**quiet, **(environment or {})}):
        code = main(list(arguments))
    out.flush()
    err.flush()
    return Result(code, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]


@contextmanager
def _streams(out: io.TextIOWrapper, err: io.TextIOWrapper) -> Iterator[None]:
    with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err):
        yield
