"""Reads a table of a policy strictly: what is not known is an error, with its place and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any

from vhdtool.checks.model import SEVERITIES
from vhdtool.errors import UsageError
from vhdtool.guest.model import Severity

LONGEST_TEXT = 4000
MOST_ELEMENTS = 10_000
CODE = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


class PolicyTable:
    """A table with its place in the file.

    Every method raises :class:`UsageError` ``policy-value`` or ``policy-key``.
    """

    def __init__(self, value: object, place: str, file: str) -> None:
        self.place = place
        self.file = file
        if not isinstance(value, Mapping):
            raise self._wrong_here("a table", value)
        self._values = value

    def known(self, names: Collection[str]) -> None:
        """See that there are no other keys."""
        for name in self._values:
            if name not in names:
                raise self.unknown(name, names, "key")

    def unknown(self, name: str, names: Collection[str], kind: str) -> UsageError:
        """Build the error for a name that stands for nothing."""
        nearest = get_close_matches(name, names, 1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are: {', '.join(names)}."
        return UsageError("policy-key", f"{self._at(name)}: this {kind} is not known", path=self.file, hint=hint)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def value(self, name: str) -> Any:
        """Whatever stands there; ``None`` for nothing: TOML has no null."""
        return self._values.get(name)

    def table(self, name: str) -> PolicyTable:
        """A table below; an empty one where there is none."""
        return PolicyTable(self._values.get(name, {}), self._at(name), self.file)

    def tables(self, name: str) -> list[PolicyTable]:
        """The tables of an array of tables."""
        found = self._list(name)
        return [PolicyTable(one, f"{self._at(name)}[{at}]", self.file) for at, one in enumerate(found)]

    def text(self, name: str, default: str | None = None) -> str:
        """A text that says something; it must be there, unless there is a default."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or (name in self._values and not value.strip()) or len(value) > LONGEST_TEXT:
            raise self.wrong(name, f"a text of at most {LONGEST_TEXT} characters", value)
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, or ``None`` where there is none."""
        return self.text(name) if name in self._values else None

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts."""
        if name not in self._values:
            return default
        found = self._list(name)
        if not all(isinstance(one, str) for one in found):
            raise self.wrong(name, "a list of texts", found)
        return tuple(found)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def severity(self, name: str, default: Severity | None) -> Severity | None:
        """A severity."""
        return self.choice(name, SEVERITIES) if name in self._values else default  # type: ignore[return-value]

    def choice(self, name: str, among: Collection[str], default: str | None = None) -> str:
        """One of some words."""
        value = self._values.get(name, default)
        if value not in among or not isinstance(value, str):
            raise self.wrong(name, f"one of {', '.join(among)}", value)
        return value

    def day(self, name: str) -> date:
        """A day: 2027-01-31, as TOML writes it or as a text."""
        value = self._values.get(name)
        if isinstance(value, datetime):
            raise self.wrong(name, "a day without a time, such as 2027-01-31", value)
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value if isinstance(value, str) else "")
        except ValueError as error:
            raise self.wrong(name, "a day, such as 2027-01-31", value) from error

    def code(self, name: str) -> str:
        """A code: small letters, digits and hyphens."""
        value = self.text(name)
        if CODE.fullmatch(value) is None or len(value) > 60:
            raise self.wrong(name, "small letters, digits and hyphens, at most 60", value)
        return value

    def wrong(self, name: str, expected: str, found: object) -> UsageError:
        """Build the error for a value that is not what it must be."""
        if found is None:
            return UsageError(
                "policy-value", f"{self.place or 'the policy'} lacks {name}", path=self.file, expected=expected
            )
        return UsageError(
            "policy-value", f"{self._at(name)} is wrong", path=self.file, expected=expected, found=_shown(found)
        )

    def explained(self, name: str, error: UsageError) -> UsageError:
        """Tell where in the policy something is that was found wrong elsewhere."""
        return UsageError(
            error.code, f"{self._at(name)}: {error.message}", path=self.file, expected=error.expected,
            found=error.found, hint=error.hint,
        )  # fmt: skip

    def _list(self, name: str) -> list[Any]:
        value = self._values.get(name, [])
        if not isinstance(value, list) or len(value) > MOST_ELEMENTS:
            raise self.wrong(name, f"a list of at most {MOST_ELEMENTS}", value)
        return value

    def _wrong_here(self, expected: str, found: object) -> UsageError:
        return UsageError(
            "policy-value", f"{self.place} is wrong", path=self.file, expected=expected, found=_shown(found)
        )

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
