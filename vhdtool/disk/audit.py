"""Is every structure of the image as its format wants it: what ``disk verify`` reports.

Reading needs only what it comes across and survives what it can. An audit looks at all of it: both copies of what
there are two of, every BAT entry, the place of every block against every other structure, and the space that nothing
uses. It reads structures, not data (of a dynamic VHD also the sectors that a bitmap hides).

Memory is bounded: tables are read page by page; the places of blocks take a byte for each MiB of a VHDX file (64 MiB
for a file of 64 TiB) and at most 100 MiB for a VHD; of each kind of finding the first few are told one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vhdtool.disk.audit_findings import AuditFinding, Measure, Severity
from vhdtool.disk.audit_vhd import audit_vhd
from vhdtool.disk.audit_vhdx import audit_vhdx
from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhdx import VhdxLayer

__all__ = ["AuditFinding", "AuditReport", "audit_disk"]

SHOWN_OF_A_KIND = 16  # findings of one code in one file that are told one by one
_PROBLEM_SEVERITIES: dict[str, Severity] = {
    "vhd-checksums-bad": "high",
    "vhd-header-checksum-bad": "high",
    "vhd-parent-timestamp": "low",
    "vhd-fixed-size-differs": "low",
}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All findings, those of opening first. Blocks and bytes of ``tail_waste`` are summed over the files."""

    findings: tuple[AuditFinding, ...]
    blocks: int
    tail_waste: int

    @property
    def sound(self) -> bool:
        """Nothing worse than ``info`` was found."""
        return all(finding.severity == "info" for finding in self.findings)


def audit_disk(disk: VirtualDisk) -> AuditReport:
    """Audit every file of a chain.

    Raises :class:`vhdtool.errors.DamagedError` ``truncated`` where the file ends inside a structure that was there
    when it was opened.
    """
    findings: list[AuditFinding] = []
    told: Counter[tuple[str, str]] = Counter()
    severities: dict[tuple[str, str], Severity] = {}
    measure = Measure()
    for finding in _all_findings(disk, measure):
        kind = (finding.path, finding.code)
        told[kind] += 1
        severities[kind] = finding.severity
        if told[kind] <= SHOWN_OF_A_KIND:
            findings.append(finding)
    for (path, code), count in told.items():
        if count > SHOWN_OF_A_KIND:
            message = f"and {count - SHOWN_OF_A_KIND} more of this kind"
            findings.append(AuditFinding(code, severities[path, code], message, path))
    return AuditReport(tuple(findings), measure.blocks, measure.tail_waste)


def _all_findings(disk: VirtualDisk, measure: Measure) -> Iterator[AuditFinding]:
    for problem in disk.info.problems:
        severity = _PROBLEM_SEVERITIES.get(problem.code, "medium")
        yield AuditFinding(problem.code, severity, problem.message, problem.path or disk.info.path, problem.offset)
    for layer, file in zip(disk.layers, disk.files, strict=True):
        if isinstance(layer, VhdxLayer):
            yield from audit_vhdx(layer, file, measure)
        elif isinstance(layer, VhdLayer):
            yield from audit_vhd(layer, file, measure)
