"""The result document of ``vhdtool diff``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.guest.difference import Action, FactDifference, ServiceDifference
from vhdtool.guest.file_difference import FileDifference
from vhdtool.report.document import ImageName
from vhdtool.report.document_change import RegistryData


@dataclass(frozen=True, slots=True)
class RegistryDifferenceFact:
    """A key (``name`` is ``None``) or a value that differs. ``key`` is the whole path as REG.EXE writes it.

    ``below`` counts the keys and values that a key has or had with it.
    """

    key: str
    name: str | None
    action: Action
    before: RegistryData | None
    after: RegistryData | None
    below: int


@dataclass(frozen=True, slots=True)
class UnreadFact:
    """Something that could not be read, in either image, and was left out."""

    what: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class DiffDocument:
    """``vhdtool diff``: from ``image`` to ``other``. Parts that were not asked for are ``None``.

    ``same``: nothing differs in the parts that were compared (exit 0, else 1). ``left_out`` counts rows beyond
    --limit.
    """

    schema: Literal["vhdtool.diff/1"]
    image: ImageName
    other: ImageName
    same: bool
    identity: tuple[FactDifference, ...]
    services: tuple[ServiceDifference, ...] | None
    registry: tuple[RegistryDifferenceFact, ...] | None
    files: tuple[FileDifference, ...] | None
    left_out: int
    unread: tuple[UnreadFact, ...]
