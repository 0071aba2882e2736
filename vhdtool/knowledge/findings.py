"""What the codes mean: findings in full, errors and problems by their messages and hints, as data."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

CodeKind = Literal["finding", "obstacle", "disk-finding", "problem", "error"]


@dataclass(frozen=True, slots=True)
class CodeText:
    """What a code means as one kind of thing.

    ``messages`` and ``hints`` are those of the places that tell it; an ellipsis stands for what is known only when it
    happens. ``what`` is empty for errors and problems, whose messages say it. ``exit_code`` is that of an error.
    """

    code: str
    kind: CodeKind
    exit_code: int | None
    what: str
    why: str
    fix: str
    messages: tuple[str, ...]
    hints: tuple[str, ...]


@cache
def code_texts() -> tuple[CodeText, ...]:
    """Every code that the program can name, but those of checks, in the order of the alphabet."""
    document = tomllib.loads(_text("findings.toml"))
    written = {(row["code"], row["kind"]): row for row in document["text"]}
    exits = {row["code"]: row for row in document["exit"]}
    kinds = {row["kind"]: row for row in document["kind"]}
    found = []
    for row in json.loads(_text("codes.json")):
        general = written.get((row["code"], row["kind"])) or exits.get(row["exit_code"]) or kinds.get(row["kind"], {})
        found.append(_code_text(row, general))
    return tuple(found)


def _code_text(row: dict[str, Any], general: dict[str, str]) -> CodeText:
    return CodeText(
        code=row["code"],
        kind=row["kind"],
        exit_code=row["exit_code"],
        what=general.get("what", ""),
        why=general.get("why", ""),
        fix=general.get("fix", ""),
        messages=tuple(row["messages"]),
        hints=tuple(row["hints"]),
    )


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
