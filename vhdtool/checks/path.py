"""Paths of a policy's rules into a result document: ``guests[os.family=windows].services[*].status``.

A step is a name, and any number of brackets: ``[*]`` every element, ``[2]`` one of them, ``[name=vmicvss]`` (also
``!=``) those whose member, or member of a member, is that. A value with other marks stands in ``"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from vhdtool.checks.node import Node
from vhdtool.errors import InputError, UsageError

LONGEST_PATH = 512
MOST_NODES = 100_000
"""Parts of one document that one path may lead to."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACKET = re.compile(
    r"\[(?:(?P<every>\*)|(?P<at>\d{1,6})|"
    r"(?P<member>[A-Za-z_][A-Za-z0-9_]*+(?:\.[A-Za-z_][A-Za-z0-9_]*+)*+)(?P<differs>!?)="
    r'(?:"(?P<quoted>[^"]*+)"|(?P<word>[^\]"\[]*+)))\]'
)


class _Missing:
    """What stands for a part that a document does not have."""


MISSING = _Missing()
"""A member that is not there."""
NOTHING = _Missing()
"""An element that is not there: no such place in the list, or none of what was asked for."""


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


@dataclass(frozen=True, slots=True)
class _Every:
    pass


@dataclass(frozen=True, slots=True)
class _At:
    index: int


@dataclass(frozen=True, slots=True)
class _Where:
    member: tuple[str, ...]
    value: str
    differs: bool


_Step = _Name | _Every | _At | _Where


class Path:
    """A path. Raises :class:`UsageError` ``rule-path`` for a text that is none."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._steps = tuple(_steps(source))

    @property
    def names(self) -> frozenset[str]:
        """Every name in it."""
        return frozenset(step.name for step in self._steps if isinstance(step, _Name))

    def nodes(self, document: Node) -> Iterator[Node]:
        """Every part of a document that the path leads to; what is not there is :data:`MISSING` or :data:`NOTHING`.

        No part comes of ``[*]`` of a list without elements. Raises :class:`InputError` ``rule-path-too-wide``.
        """
        found = [document]
        for step in self._steps:
            after: list[Node] = []
            for node in found:
                after += [node] if isinstance(node.value, _Missing) else _take(step, node)
                if len(after) > MOST_NODES:
                    raise InputError(
                        "rule-path-too-wide",
                        f"the path {self.source} leads to more than {MOST_NODES} parts",
                        hint="Name fewer: [name=...] in the place of [*].",
                    )
            found = after
        yield from found

    def hold_to(self, schema: Mapping[str, Any]) -> None:
        """See that documents of a JSON Schema can have what the path names: a slip would never find anything.

        Raises :class:`UsageError` ``rule-path`` with the nearest name.
        """
        kinds = list(schema["anyOf"])
        for step in self._steps:
            kinds = list(_resolved(kinds, schema))
            if isinstance(step, _Name):
                kinds = self._member(step.name, kinds, schema)
                continue
            kinds = [kind["items"] for kind in kinds if isinstance(kind.get("items"), Mapping)]
            if not kinds:
                raise _fault(self.source, "takes elements of what is no list", None)
            if isinstance(step, _Where):
                below = kinds
                for name in step.member:
                    below = self._member(name, list(_resolved(below, schema)), schema)

    def _member(self, name: str, kinds: list[Any], schema: Mapping[str, Any]) -> list[Any]:
        known = {
            member: kind
            for one in kinds
            for member, kind in one.get("properties", {}).items()
            if "error" not in one.get("properties", {})  # the document of an image that failed has nothing to check
        }
        if name in known:
            return [known[name]]
        if any(kind.get("type") == "array" for kind in kinds):
            raise _fault(self.source, f"goes on with {name} behind a list", "Take its elements: [*].")
        nearest = get_close_matches(name, known, 1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(sorted(known)) or 'none'}."
        raise _fault(self.source, f"names {name}, which inspect does not write there", hint)


def _resolved(kinds: list[Any], schema: Mapping[str, Any]) -> Iterator[Any]:
    for kind in kinds:
        if "$ref" in kind:
            yield from _resolved([schema["$defs"][kind["$ref"].rpartition("/")[2]]], schema)
        elif "anyOf" in kind:
            yield from _resolved(kind["anyOf"], schema)
        else:
            yield kind


def _steps(source: str) -> Iterator[_Step]:
    if len(source) > LONGEST_PATH:
        raise _fault(source[:LONGEST_PATH], f"is longer than {LONGEST_PATH} characters", None)
    at = 0
    while at < len(source):
        if at:
            if source[at] != ".":
                raise _fault(source, f"is not understood from {source[at:]!r} on", "Steps are joined by dots.")
            at += 1
        name = _NAME.match(source, at)
        if name is None:
            raise _fault(source, f"lacks a name before {source[at:]!r}", "Such as: guests[*].os.version")
        yield _Name(name[0])
        at = name.end()
        while at < len(source) and source[at] == "[":
            bracket = _BRACKET.match(source, at)
            if bracket is None:
                raise _fault(source, f"is not understood from {source[at:]!r} on", "[*], [0] or [name=value].")
            yield _bracket(bracket)
            at = bracket.end()
    if not source:
        raise _fault(source, "is empty", "Such as: guests[*].os.version")


def _bracket(found: re.Match[str]) -> _Step:
    if found["every"]:
        return _Every()
    if found["at"]:
        return _At(int(found["at"]))
    value = found["quoted"] if found["quoted"] is not None else found["word"].strip()
    return _Where(tuple(found["member"].split(".")), value, bool(found["differs"]))


def _take(step: _Step, node: Node) -> list[Node]:
    if isinstance(step, _Name):
        if not isinstance(node.value, Mapping):
            return [Node(MISSING, f"{node.place}.{step.name}")]
        place = f"{node.place}.{step.name}" if node.place else step.name
        return [Node(node.value.get(step.name, MISSING), place)]
    if not isinstance(node.value, list | tuple):
        return [Node(MISSING, node.place)]
    elements = [Node(value, f"{node.place}[{at}]") for at, value in enumerate(node.value)]
    if isinstance(step, _Every):
        return elements
    if isinstance(step, _At):
        return elements[step.index : step.index + 1] or [Node(NOTHING, f"{node.place}[{step.index}]")]
    sign = "!=" if step.differs else "="
    return [element for element in elements if _is_where(step, element.value)] or [
        Node(NOTHING, f"{node.place}[{'.'.join(step.member)}{sign}{step.value}]")
    ]


def _is_where(step: _Where, value: Any) -> bool:
    for name in step.member:
        value = value.get(name) if isinstance(value, Mapping) else None
    return (as_text(value) == step.value) != step.differs


def as_text(value: Any) -> str:
    """Write a plain value as JSON does, a text without its quotes."""
    if value is None or isinstance(value, _Missing):
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _fault(source: str, what: str, hint: str | None) -> UsageError:
    return UsageError("rule-path", f"the path {source!r} {what}", hint=hint)
