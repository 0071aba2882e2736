"""What the benchmark counts with: strace's lines, medians, the table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmark import measure, table
from scripts.benchmark.measure import Median, Sample, bytes_read, run_command
from scripts.benchmark.table import Row, rendered
from scripts.benchmark.tools import BenchmarkError
from tests.tools import require_tool

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ('12 pread64(3, "conectix"..., 512, 0) = 512', 512),
        ("12 preadv(3, [{iov_base=..., iov_len=4096}], 1, 65536) = 4096", 4096),
        ("12 mmap(NULL, 1048576, PROT_READ, MAP_SHARED, 3, 0) = 0x7f0000000000", 1048576),
        ("12 read(3, 0x7ffe, 512) = -1 EIO (Input/output error)", 0),
        ("12 +++ exited with 0 +++", 0),
    ],
)
def test_bytes_of_a_line_of_strace(line: str, count: int) -> None:
    assert measure._bytes_of(line) == count


def test_median_of_samples() -> None:
    median = Median.of([Sample(3.0, 1.0, 30), Sample(1.0, 2.0, 10), Sample(2.0, 3.0, 20)])
    assert (median.seconds, median.fastest, median.slowest) == (2.0, 1.0, 3.0)
    assert (median.processor, median.peak_mib) == (2.0, 20)


def test_table_has_columns_of_one_width() -> None:
    lines = rendered([Row("a", "1 ms"), Row("a longer subject", "2 ms", "3 ms", True), Row("b", "9", "3", False)])
    assert {len(line) for line in lines.splitlines()} == {len(lines.splitlines()[0])}
    assert lines.splitlines()[-1].endswith("| **NO** |")


def test_figures_go_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{table._BEGIN}\nold\n{table._END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(table, "DOCUMENT", document)
    table.write_document("new")
    assert document.read_text(encoding="utf-8") == f"before\n{table._BEGIN}\nnew\n{table._END}\nafter\n"
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="marks"):
        table.write_document("new")


def test_the_page_has_the_marks() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.count(table._BEGIN) == text.count(table._END) == 1


@pytest.mark.oracle
def test_a_command_is_measured_by_its_own_memory() -> None:
    small = run_command([sys.executable, "-S", "-c", "pass"])
    large = run_command([sys.executable, "-S", "-c", "bytearray(100 << 20)"])
    assert large.peak_mib - small.peak_mib == pytest.approx(100, abs=10)
    with pytest.raises(BenchmarkError, match="ended 3"):
        run_command([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.oracle
def test_bytes_are_counted_from_outside(tmp_path: Path) -> None:
    require_tool("strace")
    file = tmp_path / "image"
    file.write_bytes(bytes(100_000))
    assert bytes_read(["cat", str(file)], file) == 100_000


@pytest.mark.oracle
def test_command_line_says_what_it_takes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), "--help"]
    assert b"--work" in subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
