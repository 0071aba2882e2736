from __future__ import annotations

import io

import pytest

from vhdtool.report.blocks import Cell, Table
from vhdtool.report.styled import draw

TABLE = Table(
    ("Name", "Long", "Extra", "Status"),
    ((Cell("vmicheartbeat"), Cell("Hyper-V Heartbeat Service"), Cell("x" * 12), Cell("ok")),),
    cut=frozenset({"Long"}),
    drop=("Long", "Extra"),
)


def drawn(columns: int) -> list[str]:
    stream = io.StringIO()
    draw([TABLE], stream, color=False, columns=columns)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (80, ["Name", "Long", "Extra", "Status"]),
        (55, ["Name", "Long", "Extra", "Status"]),  # the long one ends in an ellipsis
        (45, ["Name", "Extra", "Status"]),
        (30, ["Name", "Status"]),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns_and_no_broken_names(columns: int, names: list[str]) -> None:
    lines = drawn(columns)
    assert lines[0].split() == names
    assert lines[1].split()[0] == "vmicheartbeat"
    left_out = [name for name in TABLE.columns if name not in names]
    told = " ".join(lines[2:]).split()
    assert all(name in " ".join(told) for name in left_out)
    assert bool(told) == bool(left_out)


def test_a_column_that_may_be_cut_ends_in_an_ellipsis() -> None:
    assert "…" in drawn(55)[1]
    assert "…" not in drawn(80)[1]
