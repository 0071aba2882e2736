"""``inspect``, ``version`` and ``services list`` for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.errors import Problem
from vhdtool.guest.linux_model import LinuxFacts
from vhdtool.guest.model import START_NAMES, Finding, Guest, HiveFact, IntegrationServices, Service
from vhdtool.report.blocks import Block, Cell, Fields, Heading, Line, Style, Table, size
from vhdtool.report.document import ErrorDocument, InspectDocument, ServicesDocument, VersionDocument, VolumeFact
from vhdtool.report.text_linux import linux_blocks, linux_fields

_STATUS_STYLES: dict[str, Style] = {
    "ok": "good",
    "disabled": "warn",
    "wrong-start": "bad",
    "no-trigger": "warn",
    "overridden": "bad",
    "missing": "bad",
    "not-offered": "dim",
    "unknown": "dim",
}
SEVERITY_STYLES: dict[str, Style] = {"info": "dim", "low": "", "medium": "warn", "high": "bad"}
MANY_HOSTS = 3
_NONE = Cell("-", "dim")


def inspect_blocks(document: InspectDocument) -> Iterator[Block]:
    """Show everything that is known of one image on one page."""
    image = document.image
    kind = image.format if image.format == "raw" else f"{image.format.upper()} {image.type}"
    detail = [kind, size(image.virtual_size)]
    if image.log == "replayed":
        detail.append("log replayed in memory")
    yield Heading(image.path, ", ".join(detail))
    rows = [(f"parent {number}", Cell(parent)) for number, parent in enumerate(image.parents, 1)]
    if isinstance(image.sha256, str):
        rows.append(("SHA-256", Cell(image.sha256)))
        if isinstance(image.parents_sha256, tuple):
            rows += [(f"SHA-256 of parent {at}", Cell(one)) for at, one in enumerate(image.parents_sha256, 1)]
    if rows:
        yield Fields(tuple(rows))
    yield from problem_blocks(image.problems)
    if document.volumes:
        yield Heading("Volumes")
        yield _volume_table(document.volumes)
    for number, guest in enumerate(document.guests):
        yield from _guest_blocks(guest, number if len(document.guests) > 1 else None)
    yield from _finding_blocks(document.findings)


def version_blocks(document: VersionDocument) -> Iterator[Block]:
    """Show the version, where it was read, and what each source says."""
    facts = document.integration_services
    yield Fields((*_version_fields(facts), *_catalogue_fields(document)))
    if facts.evidence:
        yield Heading("Sources")
        yield _evidence_table(facts)
    yield from _hive_blocks(document.hives)
    yield from problem_blocks(document.problems)


def services_blocks(document: ServicesDocument) -> Iterator[Block]:
    """Show services and drivers, in columns named as Get-Service and Get-VMIntegrationService name them."""
    yield Heading("Integration services")
    yield _service_table(document.services)
    yield Heading("Integration drivers")
    yield _service_table(document.drivers)
    if document.all_services is not None:
        yield Heading("All services")
        yield _service_table(document.all_services)
    yield from _hive_blocks(document.hives)
    yield from problem_blocks(document.problems)


def error_blocks(document: ErrorDocument) -> Iterator[Block]:
    """Show, between the images of one call, the one that failed."""
    yield Heading(document.image.path)
    yield Line(Cell(f"error[{document.error.code}]: {document.error.message}", "bad"))


def problem_blocks(problems: Sequence[Problem]) -> Iterator[Block]:
    """Show what is wrong in the containers."""
    if problems:
        yield Heading("Problems")
        for problem in problems:
            place = "" if problem.offset is None else f" (at offset {problem.offset:#x})"
            yield Line(Cell(f"[{problem.code}] {problem.message}{place}", "warn"))


def _volume_table(volumes: Sequence[VolumeFact]) -> Table:
    rows = []
    for volume in volumes:
        marks = [
            word
            for word, is_so in (
                (volume.encryption or "encrypted", volume.state.encrypted),
                (volume.container or "", volume.container is not None),
                ("dirty", volume.state.dirty),
                ("hibernated", volume.state.hibernated),
            )
            if is_so
        ]
        rows.append(
            (
                Cell(str(volume.index)),
                Cell(volume.role, "strong" if volume.role == "os" else ""),
                Cell(volume.filesystem) if volume.filesystem else _NONE,
                Cell(volume.label or volume.name or "") if volume.label or volume.name else _NONE,
                Cell(size(volume.offset)),
                Cell(size(volume.size)),
                Cell(", ".join(marks), "warn")
                if marks
                else Cell("clean" if volume.state.dirty is False else "-", "dim"),
            )
        )
    return Table(
        ("#", "Role", "FileSystem", "Label", "Offset", "Size", "State"),
        tuple(rows),
        right=frozenset({"#", "Offset", "Size"}),
        cut=frozenset({"Label"}),
    )


def _guest_blocks(guest: Guest, number: int | None) -> Iterator[Block]:
    system = guest.os
    title = system.product or ("Windows" if system.family == "windows" else "Linux")
    detail = [
        *(part for part in (system.version, system.edition, system.architecture) if part),
        f"volume {guest.volume}",
        *([f"--guest {number}"] if number is not None else []),
    ]
    yield Heading(title, ", ".join(detail))
    rows = list(_version_fields(guest.integration_services))
    rows.append(("Install state", Cell(system.install_state, "" if system.install_state == "complete" else "warn")))
    if system.control_set is not None:
        rows.append(("Control set", Cell(f"ControlSet{system.control_set:03d}")))
    if system.fast_startup is not None:
        rows.append(("Fast startup", Cell("on" if system.fast_startup else "off")))
    rows += [("Pending", Cell(text, "warn")) for text in system.pending]
    rows += [
        (
            "Hive",
            Cell(
                f"{hive.path}: {hive.state}" + (f" from {', '.join(hive.logs)}" if hive.logs else ""),
                {"clean": "dim", "recovered": "", "dirty": "bad"}[hive.state],  # type: ignore[arg-type]
            ),
        )
        for hive in guest.hives
    ]
    rows += [("Staged", Cell(f"{staged.package} ({staged.id}): {staged.state}")) for staged in guest.staged]
    if isinstance(guest.linux, LinuxFacts):
        rows += linux_fields(guest.linux)
    yield Fields(tuple(rows))
    offers = "system" if system.family == "linux" else "Windows"
    yield from _overview("Integration services", guest.services, offers)
    yield from _overview("Integration drivers", guest.drivers, offers)
    if isinstance(guest.linux, LinuxFacts):
        yield from linux_blocks(guest.linux)
    if guest.all_services is not None:
        yield Heading("All services")
        yield _service_table(guest.all_services)
    yield from _finding_blocks(guest.findings)


def _version_fields(facts: IntegrationServices) -> Iterator[tuple[str, Cell]]:
    yield ("IntegrationServicesVersion", Cell(facts.version, "strong") if facts.version else Cell("unknown", "warn"))
    if facts.source:
        others = len({evidence.source for evidence in facts.evidence}) - 1
        told = {
            "single": "the only source",
            "agree": f"{others} other source{'s agree' if others > 1 else ' agrees'}",
            "conflict": "the sources disagree",
            "none": "no source",
        }[facts.agreement]
        yield ("Source", Cell(f"{facts.source}, {told}", "warn" if facts.agreement == "conflict" else ""))


def _catalogue_fields(document: VersionDocument) -> Iterator[tuple[str, Cell]]:
    for one in document.shipped_by:
        hosts = " and ".join(one.hosts) if len(one.hosts) < MANY_HOSTS else ", ".join(one.hosts)
        told = " ".join(filter(None, (one.kb, f"({one.note})" if one.note else "")))
        yield ("Shipped by", Cell(f"{hosts}{': ' if told else ''}{told}" if one.exact else f"{hosts}, by an update"))
    newest = document.newest
    if newest is None:
        return
    if newest.version is None:
        yield ("Newest", Cell(newest.note))
    elif newest.newer is False:
        yield ("Newest", Cell(f"{newest.version}: the guest is current", "good"))
    else:
        known = {True: "a newer one exists", None: "whether the guest has it is not known"}[newest.newer]
        how = " ".join(filter(None, (newest.kb, f"({newest.note})")))
        yield ("Newest", Cell(f"{newest.version}: {known}, {how}", "warn" if newest.newer else ""))


def _evidence_table(facts: IntegrationServices) -> Table:
    return Table(
        ("Source", "Version", "Location", "Note"),
        tuple(
            (Cell(one.source), Cell(one.version), Cell(one.location), Cell(one.note or "", "dim"))
            for one in facts.evidence
        ),
        fold=frozenset({"Location", "Note"}),
    )


def _service_table(services: Sequence[Service]) -> Table:
    return Table(
        ("Name", "DisplayName", "Start", "Trigger", "Override", "Effective", "Expected", "Status"),
        tuple(_service_row(service) for service in services),
        cut=frozenset({"DisplayName"}),
        drop=("DisplayName", "Override"),  # Effective differs from Start where Override does
    )


def _overview(title: str, services: Sequence[Service], offers: str = "Windows") -> Iterator[Block]:
    """Show services in few columns; those that this guest (``offers``) never had share a line."""
    yield Heading(title)
    yield Table(
        ("Name", "Start", "Status", "DisplayName"),
        tuple(
            (
                Cell(service.name, "strong"),
                _start(service),
                _status(service),
                Cell(service.display_name or "", "dim"),
            )
            for service in services
            if service.status != "not-offered"
        ),
        cut=frozenset({"DisplayName"}),
    )
    absent = [service.name for service in services if service.status == "not-offered"]
    if absent:
        yield Line(Cell(f"  Not offered by this {offers}: {', '.join(absent)}", "dim"))


def _start(service: Service) -> Cell:
    if service.start is None:
        return _NONE
    notes = [
        note
        for note, holds in (
            ("delayed", service.start == "auto" and service.delayed_auto_start),
            ("trigger", service.trigger_start),
        )
        if holds
    ]
    text = service.start + (f" ({', '.join(notes)})" if notes else "")
    if service.effective_start and service.effective_start != service.start:
        return Cell(f"{text}, overridden: {service.effective_start}", "warn")
    return Cell(text)


def _status(service: Service) -> Cell:
    text: str = service.status
    if text not in {"ok", "unknown"} and service.expected_start:
        text += f", expected {service.expected_start}"
    return Cell(text, _STATUS_STYLES[service.status])


def _service_row(service: Service) -> tuple[Cell, ...]:
    start = service.start
    if start == "auto" and service.delayed_auto_start:
        shown = Cell("auto (delayed)")
    else:
        shown = Cell(start) if start else _NONE
    override = service.start_override
    if override is None:
        overridden = _NONE
    else:
        overridden = Cell(START_NAMES[override] if 0 <= override < len(START_NAMES) else str(override), "warn")
    return (
        Cell(service.name, "strong"),
        Cell(service.display_name or "", ""),
        shown,
        {True: Cell("yes"), False: Cell("no", "dim"), None: _NONE}[service.trigger_start],
        overridden,
        Cell(service.effective_start) if service.effective_start else _NONE,
        Cell(service.expected_start, "dim") if service.expected_start else _NONE,
        Cell(service.status, _STATUS_STYLES[service.status]),
    )


def _hive_blocks(hives: Sequence[HiveFact]) -> Iterator[Block]:
    told = [hive for hive in hives if hive.state != "clean"]
    if told:
        yield Heading("Hives")
    for hive in told:
        if hive.state == "recovered":
            yield Line(Cell(f"{hive.path}: recovered in memory from {', '.join(hive.logs)}"))
        else:
            yield Line(Cell(f"{hive.path}: dirty, and its logs can't repair it: the facts may be stale", "bad"))


def _finding_blocks(findings: Sequence[Finding]) -> Iterator[Block]:
    if not findings:
        return
    yield Heading("Findings")
    worst_first = sorted(findings, key=lambda finding: -list(SEVERITY_STYLES).index(finding.severity))
    for finding in worst_first:
        style = SEVERITY_STYLES[finding.severity]
        yield Line(Cell(f"{finding.severity}: {finding.message} [{finding.code}]", style))
        if finding.fix:
            yield Line(Cell(f"  fix: {finding.fix}", "dim"))
