"""The table that the benchmark prints: Markdown, and readable on a terminal as it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scripts.benchmark.tools import ROOT, BenchmarkError, call

DOCUMENT = ROOT / "docs" / "performance.md"
_BEGIN = "<!-- figures: written by scripts/bench.py --write -->"
_END = "<!-- end of figures -->"
PEERS = ("dissect.target", "dissect.hypervisor", "dissect.ntfs", "dissect.regf", "libvhdi-python")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what was measured, the value, what it must be (or nothing), and whether it is."""

    subject: str
    value: str
    target: str = ""
    met: bool | None = None


def rendered(rows: Sequence[Row]) -> str:
    """Lay the rows out as a Markdown table with columns of one width."""
    verdicts = {None: "", True: "yes", False: "**NO**"}
    lines = [("what", "figure", "target", "met")]
    lines += [(row.subject, row.value, row.target, verdicts[row.met]) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def write_document(text: str) -> None:
    """Put the figures into docs/performance.md, between its two marks."""
    document = DOCUMENT.read_text(encoding="utf-8")
    head, begin, rest = document.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise BenchmarkError(f"{DOCUMENT.name} has no marks for the figures")
    DOCUMENT.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def machine() -> str:
    """Describe the machine, without its name: cores, memory, system, Python and the peers' versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    peers = ", ".join(f"{name} {_version(name)}" for name in PEERS)
    qemu = call("qemu-img", "--version").split()[2]
    kernel = platform.release().partition("-")[0]
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB of memory, Linux {kernel}, "
        f"Python {platform.python_version()}; {peers}, qemu-img {qemu}."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
