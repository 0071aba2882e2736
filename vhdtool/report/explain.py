"""The document of ``vhdtool explain``: what a code means, whoever tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from vhdtool.checks.baseline import BASELINE
from vhdtool.checks.model import SEVERITIES, Check, Parameter
from vhdtool.errors import UsageError
from vhdtool.knowledge.findings import CodeText, code_texts
from vhdtool.report.document_check import ExplainDocument, ExplanationFact

NEAREST = 5
LEAST_ALIKE = 0.6
LONGEST_CODE = 80
KINDS = ("check", "finding", "obstacle", "disk-finding", "problem", "error")


def explain_document(codes: Iterable[str] = ()) -> ExplainDocument:
    """Explain codes, each as everything that bears it; every code where none is named.

    Raises :class:`UsageError` ``unknown-code`` with the nearest that are known.
    """
    everything = tuple(_everything())
    wanted = list(dict.fromkeys(codes))
    if not wanted:
        return ExplainDocument("vhdtool.explain/1", everything)
    found: list[ExplanationFact] = []
    for code in wanted:
        same = [one for one in everything if one.code == code.strip().casefold().strip("[]")]
        if not same:
            raise _unknown(code, {one.code for one in everything})
        found += sorted(same, key=lambda one: KINDS.index(one.kind))
    return ExplainDocument("vhdtool.explain/1", tuple(found))


def _everything() -> Iterator[ExplanationFact]:
    for check in BASELINE:
        yield _check(check)
    for text in code_texts():
        yield _text(text)


def _unknown(code: str, known: Iterable[str]) -> UsageError:
    written = code.strip().casefold().replace("_", "-").replace(" ", "-")[:LONGEST_CODE]
    alike = sorted((-_likeness(written, one), one) for one in known)
    nearest = [one for likeness, one in alike[:NEAREST] if -likeness >= LEAST_ALIKE]
    hint = f"Did you mean {' or '.join(nearest)}?" if nearest else "vhdtool explain alone lists every code."
    return UsageError("unknown-code", "no check, finding or error has this code", found=repr(code), hint=hint)


def _likeness(written: str, code: str) -> float:
    """How alike two codes are, from 0 to 1: by their letters, or by their words in any order."""
    words, others = set(written.split("-")), set(code.split("-"))
    return max(SequenceMatcher(None, written, code).ratio(), len(words & others) / len(words | others))


def _check(check: Check) -> ExplanationFact:
    return ExplanationFact(
        code=check.code,
        kind="check",
        severity=check.severity,
        exit_code=None,
        what=check.what,
        why=check.why,
        fix=check.fix,
        messages=(),
        hints=(),
        parameters=(
            "enabled: true or false",
            f"severity: one of {', '.join(SEVERITIES)}",
            *map(_parameter, check.parameters),
        ),
    )


def _parameter(parameter: Parameter) -> str:
    return f"{parameter.name}: {parameter.what}"


def _text(text: CodeText) -> ExplanationFact:
    """An error has its message in place of a text of its own, and where a hint is there it is the way out."""
    return ExplanationFact(
        code=text.code,
        kind=text.kind,
        severity=None,
        exit_code=text.exit_code,
        what=text.what or "; ".join(text.messages) or text.code.replace("-", " "),
        why=text.why,
        fix=text.fix if text.what or not text.hints else "; ".join(text.hints),
        messages=text.messages,
        hints=text.hints,
        parameters=(),
    )
