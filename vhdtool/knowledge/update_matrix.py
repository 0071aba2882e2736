"""How a guest gets its integration services on a host: the tables of Microsoft's pages, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from vhdtool.knowledge.windows_names import KnownSystem, known_system

MechanismId = Literal["windows-update", "integration-services-disk", "package-manager", "upgrade", "built-in"]


@dataclass(frozen=True, slots=True)
class Revision:
    """A state of a page. ``date`` is that of the page, or of its translation (ISO 8601)."""

    id: str
    page: str
    date: str
    source: str


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A way for integration services into a guest. ``name`` is what the page calls it."""

    id: MechanismId
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Footnote:
    """What a mark refers to; ``needs``: the service that the guest must have on."""

    mark: str
    text: str
    link: str
    needs: str | None
    source: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A row of a table.

    ``guest`` is an id of :mod:`vhdtool.knowledge.windows_names`, ``name`` what the page has. ``service_pack``: the
    first that it is for. ``hosts``: those that the page allows, empty where it allows all of the table.
    ``revisions``: those that have it so, the oldest first.
    """

    guest: str
    name: str
    mechanism: Mechanism
    note: str
    footnote: Footnote | None
    link: str | None
    service_pack: str | None
    hosts: tuple[str, ...]
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True)
class MatrixTable:
    """A table. ``titles``: by revision, what the page calls its hosts; ``hosts``: ids of those it is for."""

    id: str
    page: str
    titles: Mapping[str, str]
    hosts: tuple[str, ...]
    rows: tuple[MatrixRow, ...]

    def title(self, revision: Revision) -> str:
        """What a revision calls the hosts."""
        return self.titles[revision.id]


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """What one revision says of a guest on a host.

    ``excluded``: the page has the guest, but not on this host. ``used``: this is the one to go by.
    """

    table: MatrixTable
    row: MatrixRow
    revision: Revision
    excluded: bool
    used: bool


@dataclass(frozen=True, slots=True)
class Caution:
    """What is known against a row; ``hosts`` is empty where it holds on all."""

    guests: tuple[str, ...]
    hosts: tuple[str, ...]
    mechanism: str
    text: str
    source: str


@cache
def revisions() -> tuple[Revision, ...]:
    """The states of the pages, the oldest first."""
    return tuple(Revision(row["id"], row["page"], row["date"], row["source"]) for row in _document()["revision"])


@cache
def matrix_tables() -> tuple[MatrixTable, ...]:
    """Every table, in the order in which a host is looked up."""
    states = {one.id: one for one in revisions()}
    mechanisms = {row["id"]: Mechanism(row["id"], row["name"], row["source"]) for row in _document()["mechanism"]}
    notes = {
        row["mark"]: Footnote(row["mark"], row["text"], row["link"], row.get("needs"), row["source"])
        for row in _document()["footnote"]
    }
    return tuple(
        MatrixTable(
            id=table["id"],
            page=table["page"],
            titles=table["titles"],
            hosts=tuple(table["hosts"]),
            rows=tuple(
                MatrixRow(
                    guest=row["guest"],
                    name=row["name"],
                    mechanism=mechanisms[row["mechanism"]],
                    note=row.get("note", ""),
                    footnote=notes[row["mark"]] if "mark" in row else None,
                    link=row.get("link"),
                    service_pack=row.get("from"),
                    hosts=tuple(row.get("hosts", ())),
                    revisions=tuple(states[name] for name in row["source"]),
                )
                for row in table["rows"]
            ),
        )
        for table in _document()["table"]
    )


@cache
def matrix_hosts() -> tuple[KnownSystem, ...]:
    """The hosts that some table is for."""
    return tuple(known_system(name) for name in dict.fromkeys(host for one in matrix_tables() for host in one.hosts))


@cache
def matrix_guests() -> tuple[KnownSystem, ...]:
    """The guests that some table has."""
    named = dict.fromkeys(row.guest for table in matrix_tables() for row in table.rows)
    return tuple(known_system(name) for name in named)


def matrix_cells(host: str, guest: str) -> tuple[MatrixCell, ...]:
    """What the pages say of a guest on a host, by ids: every table and revision, the one to go by marked.

    Of the tables that are for the host the first that has the guest counts, and of that its latest revision; a row that
    leaves the host out counts only where there is no other. Empty where no table has the pair.
    """
    found = [
        (table, row, revision, bool(row.hosts) and host not in row.hosts)
        for table in matrix_tables()
        if host in table.hosts
        for row in table.rows
        if row.guest == guest
        for revision in row.revisions
    ]
    if not found:
        return ()
    order = [one.id for one in revisions()]
    places = {table.id: place for place, table in enumerate(matrix_tables())}
    best = min(found, key=lambda one: (one[3], places[one[0].id], -order.index(one[2].id)))
    return tuple(MatrixCell(*one, used=one is best) for one in found)


def cautions(host: str, guest: str, mechanism: str) -> Iterator[Caution]:
    """What is known against the way that a page names."""
    for row in _document().get("caution", ()):
        hosts = tuple(row.get("hosts", ()))
        if guest in row["guests"] and mechanism == row["mechanism"] and (not hosts or host in hosts):
            yield Caution(tuple(row["guests"]), hosts, row["mechanism"], row["text"], row["source"])


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("update_matrix.toml").read_text(encoding="utf-8"))
