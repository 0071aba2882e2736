"""A configuration as a tree of named values, whatever kind of file it was read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ConfigNode = dict[str, Any]
"""A node: names to nodes, texts, numbers, truth values and bytes."""


def node(tree: ConfigNode, *names: str) -> ConfigNode | None:
    """Return the node that a path leads to; ``None`` where it leads nowhere or to a value."""
    place: Any = tree
    for name in names:
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else None


def text(tree: ConfigNode, *names: str) -> str | None:
    """Return a text; ``None`` where there is none, or a value of another kind."""
    value = _value(tree, names)
    return value if isinstance(value, str) else None


def number(tree: ConfigNode, *names: str) -> int | None:
    """Return a whole number; ``None`` where there is none, or a value of another kind."""
    value = _value(tree, names)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def truth(tree: ConfigNode, *names: str) -> bool | None:
    """Return a truth value; ``None`` where there is none, or a value of another kind."""
    value = _value(tree, names)
    return value if isinstance(value, bool) else None


def numbered(tree: ConfigNode, prefix: str) -> Iterator[tuple[int, ConfigNode]]:
    """Yield the nodes named ``prefix`` and a number, by number: ``controller0``, ``vdev001``."""
    found = []
    for name, child in tree.items():
        digits = name.removeprefix(prefix)
        if name.startswith(prefix) and digits.isascii() and digits.isdigit() and len(digits) < 7:
            found.append((int(digits), child))
    yield from ((at, child) for at, child in sorted(found, key=lambda one: one[0]) if isinstance(child, dict))


def _value(tree: ConfigNode, names: tuple[str, ...]) -> Any:
    above = node(tree, *names[:-1])
    return None if above is None else above.get(names[-1])
