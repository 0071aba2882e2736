"""A policy: which checks count, how much, with which parameters; rules of its own; waivers. A TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vhdtool.checks.baseline import BASELINE
from vhdtool.checks.model import SEVERITIES, Check, Parameter
from vhdtool.checks.path import Path
from vhdtool.checks.pattern import Pattern
from vhdtool.checks.policy_table import PolicyTable
from vhdtool.checks.rule import OPERATIONS, Rule, is_version
from vhdtool.checks.version_order import version_order
from vhdtool.checks.waiver import Waiver
from vhdtool.errors import UsageError
from vhdtool.guest.model import START_NAMES
from vhdtool.knowledge.windows_names import known_systems, named_system

FailOn = Literal["info", "low", "medium", "high", "never"]
FAIL_ON: tuple[FailOn, ...] = (*SEVERITIES, "never")
DEFAULT_FAIL_ON: FailOn = "low"
MAX_POLICY = 1 << 20
"""Longest policy that is read, in bytes."""
SCHEMA = "vhdtool.policy/1"

_KEYS = ("schema", "name", "description", "fail-on", "baseline", "checks", "rule", "waiver")
_RULE_KEYS = ("code", "severity", "what", "why", "fix", "path", "op", "value", "unknown")
_WAIVER_KEYS = ("code", "reason", "expires", "images", "subject")
_UNKNOWN = ("fail", "pass", "not-applicable")
_OPERAND = {
    "value": "a text, a number, true or false",
    "list": "a list of texts, numbers or truth values",
    "version": "a version or a number",
    "pattern": "a pattern",
}


@dataclass(frozen=True, slots=True)
class ChosenCheck:
    """A check that is to be run: with its severity here, and a value for each of its parameters."""

    check: Check
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """What to run and what to make of it.

    ``own``: the policy's rules as checks; ``names``: what their paths name. ``file`` is where it was read, ``None`` for
    the baseline alone.
    """

    checks: tuple[ChosenCheck, ...]
    fail_on: FailOn = DEFAULT_FAIL_ON
    waivers: tuple[Waiver, ...] = ()
    name: str | None = None
    file: str | None = None
    own: tuple[Check, ...] = ()
    names: frozenset[str] = frozenset()

    @property
    def all_services(self) -> bool:
        """Whether a rule looks at every service of the guest, which inspect lists only when asked to."""
        return "all_services" in self.names


def baseline_policy() -> Policy:
    """The checks of the baseline as they are."""
    return Policy(tuple(_as_is(check) for check in BASELINE if check.on))


def read_policy(data: bytes, file: str, shape: Mapping[str, Any] | None = None) -> Policy:
    """Read a policy.

    ``shape``: the JSON Schema of the documents that its rules are for; their paths are held to it.

    Raises:
        UsageError: ``policy-too-large``, ``policy-syntax``: no TOML; ``policy-key``, ``policy-value``: a key that is
            not known, a value that is not what it must be; ``rule-path``, ``pattern``.
    """
    if len(data) > MAX_POLICY:
        raise UsageError("policy-too-large", "the policy is too large", path=file, expected=f"at most {MAX_POLICY}")
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError("policy-syntax", "the policy is not UTF-8", path=file, offset=error.start) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            "policy-syntax", f"the policy is no TOML: {str(error) or 'it is nested too deep'}", path=file,
            hint="An example is in the how-to: Check images against a policy.",
        ) from error  # fmt: skip
    top = PolicyTable(document, "", file)
    top.known(_KEYS)
    if top.text("schema", SCHEMA) != SCHEMA:
        raise top.wrong("schema", SCHEMA, top.value("schema"))
    rules = _rules(top, shape)
    own = tuple(check for check, _ in rules)
    chosen = (*_chosen(top), *(_as_is(check) for check in own))
    known = {check.code for check in BASELINE} | {check.code for check in own}
    return Policy(
        checks=chosen,
        fail_on=top.choice("fail-on", FAIL_ON, DEFAULT_FAIL_ON),  # type: ignore[arg-type]
        waivers=tuple(_waiver(table, known) for table in top.tables("waiver")),
        name=top.optional_text("name"),
        file=file,
        own=own,
        names=frozenset(name for _, rule in rules for name in rule.path.names),
    )


def with_choice(policy: Policy, wanted: Iterable[str], unwanted: Iterable[str]) -> Policy:
    """Add checks by their codes, and leave others out. Raises :class:`UsageError` ``no-such-check``."""
    wanted, unwanted = list(wanted), list(unwanted)
    by_code = {check.code: check for check in (*BASELINE, *policy.own)}
    for code in (*wanted, *unwanted):
        if code not in by_code:
            raise no_such_check(code, by_code)
    there = {chosen.check.code for chosen in policy.checks}
    added = tuple(_as_is(by_code[code]) for code in dict.fromkeys(wanted) if code not in there)
    kept = tuple(chosen for chosen in (*policy.checks, *added) if chosen.check.code not in unwanted)
    return replace(policy, checks=kept)


def no_such_check(code: str, known: Iterable[str]) -> UsageError:
    """Build the error for a code that is no check's."""
    table = PolicyTable({}, "", "")
    hint = table.unknown(code, list(known), "check").hint
    return UsageError("no-such-check", "there is no such check", found=repr(code), hint=hint)


def _as_is(check: Check) -> ChosenCheck:
    return ChosenCheck(check, check.defaults())


def _chosen(top: PolicyTable) -> tuple[ChosenCheck, ...]:
    baseline = top.flag("baseline", default=True)
    tables = top.table("checks")
    by_code = {check.code: check for check in BASELINE}
    for code in tables:
        if code not in by_code:
            raise tables.unknown(code, list(by_code), "check")
    chosen = []
    for check in BASELINE:
        if check.code not in tables:
            if baseline and check.on:
                chosen.append(_as_is(check))
            continue
        table = tables.table(check.code)
        table.known(("enabled", "severity", *(parameter.name for parameter in check.parameters)))
        severity = table.severity("severity", check.severity) or check.severity
        values = check.defaults() | {
            parameter.name: _parameter(parameter, table) for parameter in check.parameters if parameter.name in table
        }
        if table.flag("enabled", default=True):
            chosen.append(ChosenCheck(replace(check, severity=severity), values))
    return tuple(chosen)


def _parameter(parameter: Parameter, table: PolicyTable) -> Any:
    match parameter.kind:
        case "flag":
            return table.flag(parameter.name, default=parameter.default)
        case "texts":
            return table.texts(parameter.name)
        case "severity":
            return table.severity(parameter.name, parameter.default)
        case "starts":
            starts = table.table(parameter.name)
            return {name: starts.choice(name, START_NAMES) for name in starts}
        case "minimum-versions":
            return _minimum(table, parameter.name)


def _minimum(table: PolicyTable, name: str) -> dict[str, str]:
    """The least versions, by the id of a system, a family or ``any``; one text alone is for every guest."""
    if isinstance(table.value(name), str):
        text = table.text(name)
        if version_order(text) is None:
            raise table.wrong(name, "a version", text)
        return {"any": text}
    versions = table.table(name)
    found = {}
    for guest in versions:
        if guest in {"any", "windows", "linux"}:
            key = guest
        else:
            system = named_system(guest)
            if system is None:
                names = ["any", "windows", "linux", *(one.name for one in known_systems())]
                raise versions.unknown(guest, names, "guest")
            key = system.id
        text = versions.text(guest)
        if version_order(text) is None:
            raise versions.wrong(guest, "a version", text)
        found[key] = text
    return found


def _rules(top: PolicyTable, shape: Mapping[str, Any] | None) -> tuple[tuple[Check, Rule], ...]:
    own = []
    taken = {check.code for check in BASELINE}
    for table in top.tables("rule"):
        check, rule = _rule(table, shape)
        if check.code in taken:
            raise table.wrong("code", "a code that no other check has", check.code)
        taken.add(check.code)
        own.append((check, rule))
    return tuple(own)


def _rule(table: PolicyTable, shape: Mapping[str, Any] | None) -> tuple[Check, Rule]:
    table.known(_RULE_KEYS)
    code = table.code("code")
    name = table.text("op") if "op" in table else ""
    if name not in OPERATIONS:
        if not name:
            raise table.wrong("op", f"one of {', '.join(OPERATIONS)}", None)
        raise PolicyTable({}, f"{table.place}.op", table.file).unknown(name, list(OPERATIONS), "operation")
    written = table.text("path")
    try:
        path = Path(written)
        if shape is not None:
            path.hold_to(shape)
    except UsageError as error:
        raise table.explained("path", error) from error
    unknown: Any = table.choice("unknown", _UNKNOWN, "fail")
    rule = Rule(path, name, _operand(table, name), unknown)
    check = Check(
        code=code,
        severity=table.severity("severity", "medium") or "medium",
        what=table.text("what"),
        why=table.text("why", ""),
        fix=table.text("fix", ""),
        examine=rule.examine,
        own=True,
    )
    return check, rule


def _operand(table: PolicyTable, operation: str) -> Any:
    kind = OPERATIONS[operation].operand
    value = table.value("value")
    if kind == "none":
        if value is not None:
            raise table.wrong("value", f"no value: {operation} takes none", value)
        return None
    fits = {
        "value": _is_plain(value),
        "list": isinstance(value, list) and len(value) > 0 and all(_is_plain(one) for one in value),
        "version": is_version(value),
        "pattern": isinstance(value, str),
    }[kind]
    if not fits:
        raise table.wrong("value", _OPERAND[kind], value)
    if kind != "pattern":
        return value
    try:
        return Pattern(value)
    except UsageError as error:
        raise table.explained("value", error) from error


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _waiver(table: PolicyTable, known: Iterable[str]) -> Waiver:
    table.known(_WAIVER_KEYS)
    code = table.text("code")
    if code not in set(known):
        raise PolicyTable({}, f"{table.place}.code", table.file).unknown(code, sorted(known), "check")
    return Waiver(
        code=code,
        reason=table.text("reason").strip(),
        expires=table.day("expires"),
        images=table.texts("images"),
        subject=table.optional_text("subject"),
    )
