"""The tables of Microsoft's page, cell by cell, against the page itself where it is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vhdtool.knowledge.update_matrix import (
    MatrixRow,
    MatrixTable,
    cautions,
    matrix_cells,
    matrix_guests,
    matrix_hosts,
    matrix_tables,
    revisions,
)
from vhdtool.knowledge.windows_names import known_systems

SEED = Path(__file__).resolve().parents[3] / "shared" / "seed"
MECHANISMS = {
    "Windows 업데이트": "windows-update",
    "통합 서비스 디스크": "integration-services-disk",
    "패키지 관리자": "package-manager",
}
GUESTS = {"Windows Server, 반기 채널": "Windows Server, Semi-Annual Channel", "Linux 게스트": "Linux guests"}
NOTES = {
    "": "",
    "데이터 교환 통합 서비스가 필요합니다.": "Requires the Data Exchange integration service.",
    "확장 지원은 Windows Server 2016 에서만 지원 됩니다 (자세히 읽기).": (
        "Extended support only in Windows Server 2016."
    ),
    "는 Windows Server 2016에서 지원 되지 않습니다 (자세한 내용은 참조).": (
        "Will not be supported in Windows Server 2016."
    ),
    "일반 지원에는 포함되지 않습니다(자세히 알아보기).": "Not under mainstream support.",
    "아래 지침을 참조 하세요.": "See the instructions: install or update integration services.",
    "Linux 용 Integration services는 배포판에 기본 제공 되지만 선택적 업데이트를 사용할 수 있습니다.": (
        "Integration services for Linux are built into the distro but there may be optional updates available."
    ),
}
MARKS = {"": None, "*": "*", "**": "**", "********": "**"}  # eight: two asterisks that the translation made bold
TITLES = {"Windows 10": "windows-10", "Windows 8.1": "windows-8.1", "Windows 8": "windows-8"}
Cell = tuple[str, str, str, str | None, str | None]
"""Guest, mechanism, note, mark, link."""


@pytest.fixture(scope="module")
def page() -> str:
    found = sorted(SEED.glob("*.txt"))
    if not found:
        pytest.skip("the page Manage Hyper-V Integration Services is not here (../shared/seed)")
    return found[0].read_text(encoding="utf-8").replace("\xa0", " ")


def tables_of(page: str) -> dict[str, list[list[Cell]]]:
    """By the host of each table its rows, in the groups that lines of dashes make."""
    found = {}
    for title, after in re.findall(
        r"\*\*(Windows [\d.]+) 호스트에서 실행되는 가상 컴퓨터:\*\*(.*?)(?=\n\*\*|\n## |\Z)", page, re.DOTALL
    ):
        rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in after.splitlines() if "|" in line
        ]
        assert rows[0] == ["게스트", "업데이트 메커니즘", "참고"]
        groups: list[list[Cell]] = [[]]
        for row in rows[2:]:
            if row[0] == "-":
                groups.append([])
            else:
                groups[-1].append(cell_of(*row))
        found[TITLES[title]] = groups
    return found


def cell_of(guest: str, mechanism: str, note: str = "") -> Cell:
    link = re.search(r"\]\(([^)]*)\)", note)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", note)
    plain = text.rstrip("*")
    name = GUESTS.get(guest) or guest.replace("2008 R2(", "2008 R2 (")
    name = re.sub(r"(?<! )\(SP", " (SP", name)
    return name, MECHANISMS[mechanism], NOTES[plain.strip()], MARKS[text[len(plain) :]], link and link[1]


def as_cell(row: MatrixRow) -> Cell:
    mark = None if row.footnote is None else row.footnote.mark
    return row.name, row.mechanism.id, row.note, mark, row.link


def rows_of(table: MatrixTable, revision: str) -> list[MatrixRow]:
    return [row for row in table.rows if revision in [one.id for one in row.revisions]]


@pytest.mark.data
def test_every_cell_of_the_page(page):
    read = tables_of(page)
    assert [sum(map(len, groups)) for groups in read.values()] == [14, 17, 14]
    kinds = {system.id: system.kind for system in known_systems()}
    for table in matrix_tables():
        if table.id not in read:
            assert "2019-09" not in table.titles
            continue
        rows = rows_of(table, "2019-09")
        assert [as_cell(row) for row in rows] == [cell for group in read[table.id] for cell in group]
        for group, kind in zip(read[table.id], ("client", "server", "linux"), strict=True):
            assert {kinds[row.guest] for row in rows if as_cell(row) in group} == {kind}
    assert set(read) == {table.id for table in matrix_tables() if "2019-09" in table.titles}


@pytest.mark.data
def test_footnotes_of_the_page(page):
    (link,) = re.findall(r"^\\\* .*?\[[^\]]*\]\(([^)]*)\) 에서 캐비닛", page, re.MULTILINE)
    (linux,) = re.findall(r"^Linux 게스트에 대 한 자세한 내용은 .*?\]\(([^)]*)\)", page, re.MULTILINE)
    notes = {row.footnote.mark: row.footnote for one in matrix_tables() for row in one.rows if row.footnote}
    assert {mark: note.link for mark, note in notes.items()} == {"*": link, "**": linux}
    assert notes["*"].needs == "vmickvpexchange"


def test_the_later_revision_differs_in_four_cells():
    """What pull request 3954 of MicrosoftDocs/windowsserverdocs changed in the tables."""
    changed = set()
    for table in matrix_tables():
        older, later = rows_of(table, "2019-09"), rows_of(table, "2020-02")
        assert [row.guest for row in older] == [row.guest for row in later]
        changed |= {
            (table.id, one.guest, one.mechanism.id, other.mechanism.id)
            for one, other in zip(older, later, strict=True)
            if one is not other
        }
    both = ("windows-update", "integration-services-disk")
    assert changed == {
        (host, guest, *both)
        for host in ("windows-8.1", "windows-8")
        for guest in ("windows-8.1", "windows-server-2012-r2")
    }


def test_the_answer_goes_by_the_later_revision_and_keeps_both():
    older, later = matrix_cells("windows-8", "windows-8.1")
    assert (older.revision.id, older.row.mechanism.id, older.used) == ("2019-09", "windows-update", False)
    assert (later.revision.id, later.row.mechanism.id, later.used) == ("2020-02", "integration-services-disk", True)


@pytest.mark.parametrize("host", ["windows-server-2022", "windows-server-2025", "azure-local"])
def test_newer_hosts(host):
    """Microsoft, Supported Windows guest operating systems for Hyper-V, 2025-04-23."""
    said = {}
    for guest in matrix_guests():
        used = [cell for cell in matrix_cells(host, guest.id) if cell.used]
        said[guest.id] = used[0].row.mechanism.id if used and not used[0].excluded else None
    built_in = {"2012", "2012-r2", "2016", "2019", "2022", "2025"}
    assert {guest for guest, mechanism in said.items() if mechanism == "built-in"} == {
        *(f"windows-server-{one}" for one in built_in), "windows-8.1", "windows-10", "windows-11",
    }  # fmt: skip
    assert said["windows-server-2008-r2"] == said["windows-server-2008"] == "windows-update"
    assert said["windows-7"] == "upgrade"
    assert [said[one] for one in ("windows-xp", "windows-vista", "windows-8", "windows-server-2003")] == [None] * 4


def test_a_guest_that_the_page_has_on_newer_hosts_only():
    (cell,) = matrix_cells("windows-server-2016", "windows-server-2025")
    assert cell.excluded
    assert cell.used
    assert not matrix_cells("windows-server-2022", "windows-server-2025")[0].excluded


def test_each_pair_has_one_cell_to_go_by_and_no_revision_twice():
    for host in matrix_hosts():
        for guest in matrix_guests():
            cells = matrix_cells(host.id, guest.id)
            assert sum(cell.used for cell in cells) == bool(cells)
            said = [(cell.table.id, cell.revision.id) for cell in cells]
            assert len(said) == len(set(said))
            used = [cell for cell in cells if cell.used]
            later = [cell for cell in cells if used and cell.table is used[0].table]
            assert [cell.used for cell in later] == [False] * (len(later) - 1) + [True] * bool(later)


def test_every_row_is_of_revisions_and_systems_that_are_known():
    names = {system.id for system in known_systems()}
    dates = [one.date for one in revisions()]
    assert dates == sorted(dates)
    for table in matrix_tables():
        assert set(table.hosts) <= names
        for row in table.rows:
            assert row.guest in names
            assert set(row.hosts) <= set(table.hosts)
            assert row.revisions
            assert {one.id for one in row.revisions} <= set(table.titles)
            system = next(one for one in known_systems() if one.id == row.guest)
            assert row.service_pack is None or row.service_pack in system.service_packs


def test_what_is_known_against_a_row_holds_for_its_mechanism_alone():
    assert [one.source for one in cautions("windows-10", "windows-vista", "windows-update")] == [
        "MicrosoftDocs/Virtualization-Documentation issue 249"
    ]
    assert not list(cautions("windows-8", "windows-vista", "integration-services-disk"))
    assert not list(cautions("windows-10", "windows-7", "windows-update"))
    assert list(cautions("windows-8.1", "windows-server-2016", "windows-update"))
    assert not list(cautions("windows-10", "windows-server-2016", "windows-update"))
