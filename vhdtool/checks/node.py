"""A part of a result document with its place: how checks read what may come from a file.

A document that was saved by another version may lack fields: what is not there is unknown, as ``null`` is. What is
there and of another kind than it must be is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vhdtool.errors import InputError


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document, and the path to it; the document itself has an empty path.

    Every method raises :class:`InputError` ``not-an-inspect-document`` where a value is of a wrong kind.
    """

    value: Any
    place: str = ""

    def child(self, name: str) -> Node:
        """A member of an object; ``None`` where the object lacks it."""
        return Node(self._object().get(name), f"{self.place}.{name}" if self.place else name)

    def items(self, name: str) -> list[Node]:
        """The elements of a list; none where the list is missing."""
        member = self.child(name)
        if member.value is None:
            return []
        if not isinstance(member.value, list | tuple):
            raise member.misfit("a list")
        return [Node(value, f"{member.place}[{at}]") for at, value in enumerate(member.value)]

    def text(self, name: str) -> str | None:
        """A text."""
        member = self.child(name)
        if member.value is None or isinstance(member.value, str):
            return member.value
        raise member.misfit("a text")

    def flag(self, name: str) -> bool | None:
        """A truth value."""
        member = self.child(name)
        if member.value is None or isinstance(member.value, bool):
            return member.value
        raise member.misfit("true, false or null")

    def misfit(self, expected: str) -> InputError:
        """Build the error for a value that is not what it must be."""
        return InputError(
            "not-an-inspect-document",
            f"{self.place or 'the document'} is not what inspect writes",
            expected=expected,
            found=_kind(self.value),
            hint="Save it anew: vhdtool inspect IMAGE --json > FILE",
        )

    def _object(self) -> Mapping[str, Any]:
        if isinstance(self.value, Mapping):
            return self.value
        raise self.misfit("an object")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)
