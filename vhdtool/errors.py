"""The errors a caller can meet, and the one way they are told.

Every error has a ``code`` (stable, kebab-case, part of the interface), an exit code of the command line
(docs/design.md section 6), and where it happened: path, byte offset, what was expected and what was found,
and a hint that says what to do. The class says what kind of trouble it is; the code says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class VhdtoolError(Exception):
    """Base of all errors of this package.

    ``offset`` counts bytes from the start of the file (or, for hives, of the hive file) named by ``path``.
    """

    exit_code: ClassVar[int] = 70

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path
        self.offset = offset
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        text = ", ".join(parts)
        if self.offset is not None:
            text += f" (at offset {self.offset:#x})"
        return f"{self.path}: {text}" if self.path is not None else text


class UsageError(VhdtoolError):
    """The call makes no sense: an option that contradicts another, a key path that is no key path."""

    exit_code: ClassVar[int] = 2


class NotFoundError(VhdtoolError):
    """What was asked for is not there: a registry key or value, as REG.EXE ends 1; a guest file."""

    exit_code: ClassVar[int] = 1


class InputError(VhdtoolError):
    """The input can't be used: not a disk, damaged, or of a kind that is not supported."""

    exit_code: ClassVar[int] = 3


class DamagedError(InputError):
    """A structure of the input breaks the rules of its format."""


class UnsupportedError(InputError):
    """The input is whole, but of a kind this program does not read."""


class RefusedError(VhdtoolError):
    """Doing it would not be safe, or can't give a true answer (an encrypted volume)."""

    exit_code: ClassVar[int] = 4


class OutputError(VhdtoolError):
    """The host can't take what is to be written. The image is untouched."""

    exit_code: ClassVar[int] = 7


class OpinionError(OutputError):
    """A foreign reader reads the changed disk differently, or nobody can confirm it. The image is untouched."""


class ChangedError(VhdtoolError):
    """It failed after the image was changed; the hint names the way back."""

    exit_code: ClassVar[int] = 8


class MissingSupportError(VhdtoolError):
    """A system library or an extra package is missing; the hint says how to get it."""

    exit_code: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in the input that reading survived. ``offset`` is in bytes of the file ``path``."""

    code: str
    message: str
    path: str | None = None
    offset: int | None = None
