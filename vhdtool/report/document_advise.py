"""The result documents of ``vhdtool advise``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.guest.advice import Obstacle, Step
from vhdtool.knowledge.update_matrix import MechanismId
from vhdtool.report.document import ImageName, NewestVersionFact


@dataclass(frozen=True, slots=True)
class CellFact:
    """What one revision of a page says of a guest on a host.

    ``hosts``: how it calls the hosts; ``guest``: how it calls the guest. ``revision`` is its date, year and month;
    ``source`` names the page. ``excluded``: the page has the guest, but not on this host. ``used``: what to go by.
    """

    hosts: str
    guest: str
    mechanism: MechanismId
    mechanism_name: str
    note: str
    footnote: str | None
    link: str | None
    revision: str
    source: str
    excluded: bool
    used: bool


@dataclass(frozen=True, slots=True)
class AdviceGuestFact:
    """The guest that the image has. ``version`` is that of Windows, ``integration_services`` theirs."""

    volume: int
    root: str | None
    product: str | None
    version: str | None
    architecture: str | None
    integration_services: str | None


@dataclass(frozen=True, slots=True)
class AdviseDocument:
    """``vhdtool advise``: how a guest gets its integration services on a host.

    ``image`` and ``found`` are ``None`` for a guest by name. ``mechanism`` and ``revision`` are those of the cell that
    is used, ``None`` where the pages do not have the pair (``listed``). ``cells``: what each revision says.
    """

    schema: Literal["vhdtool.advise/1"]
    image: ImageName | None
    found: AdviceGuestFact | None
    host: str
    guest: str
    listed: bool
    mechanism: MechanismId | None
    mechanism_name: str | None
    revision: str | None
    newest: NewestVersionFact | None
    cells: tuple[CellFact, ...]
    steps: tuple[Step, ...]
    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True)
class MatrixRowFact:
    """A row, as one or more revisions have it. ``hosts``: those that the page allows, ``None``: all of the table."""

    guest: str
    mechanism: MechanismId
    mechanism_name: str
    note: str
    footnote: str | None
    link: str | None
    hosts: tuple[str, ...] | None
    revisions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MatrixRevisionFact:
    """A state of a page, and what it calls the hosts of the table."""

    id: str
    date: str
    hosts: str
    source: str


@dataclass(frozen=True, slots=True)
class MatrixTableFact:
    """A table of a page. ``hosts``: those that it is for."""

    page: str
    hosts: tuple[str, ...]
    revisions: tuple[MatrixRevisionFact, ...]
    rows: tuple[MatrixRowFact, ...]


@dataclass(frozen=True, slots=True)
class FootnoteFact:
    """What a mark at a note refers to."""

    mark: str
    text: str
    link: str
    source: str


@dataclass(frozen=True, slots=True)
class UpdateMatrixDocument:
    """``vhdtool advise --matrix``: the tables, those for ``host`` alone where one was named."""

    schema: Literal["vhdtool.update-matrix/1"]
    host: str | None
    tables: tuple[MatrixTableFact, ...]
    footnotes: tuple[FootnoteFact, ...]
