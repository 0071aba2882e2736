"""How a guest gets its integration services on a host: for the guest on an image, for one by name, and the tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from vhdtool.errors import UnsupportedError, UsageError
from vhdtool.guest.advice import Advice, ImageFacts, advise
from vhdtool.guest.inspection import inspect_guest
from vhdtool.guest.linux import LinuxInstallation
from vhdtool.guest.model import Guest
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.version import version_numbers
from vhdtool.image import Image
from vhdtool.knowledge.integration import WindowsVersion
from vhdtool.knowledge.linux_daemons import daemon_package
from vhdtool.knowledge.update_matrix import MatrixCell, MatrixRow, MatrixTable, matrix_hosts, matrix_tables, revisions
from vhdtool.knowledge.windows_names import (
    LINUX,
    KnownSystem,
    installed_system,
    known_system,
    known_systems,
    named_system,
)
from vhdtool.report.document_advise import (
    AdviceGuestFact,
    AdviseDocument,
    CellFact,
    FootnoteFact,
    MatrixRevisionFact,
    MatrixRowFact,
    MatrixTableFact,
    UpdateMatrixDocument,
)
from vhdtool.report.encode import escaped, image_name
from vhdtool.report.integration_versions import newest_fact
from vhdtool.staging.applicability import sha2_support
from vhdtool.staging.guest_state import KVP_SERVICE, GuestState
from vhdtool.staging.preflight import SERVICING_MARKS

NUMBERS = 3


def host_named(name: str) -> KnownSystem:
    """Find a host by its name. Raises :class:`UsageError` ``unknown-host`` with the names of those that are known."""
    host = named_system(name, matrix_hosts())
    if host is None:
        raise UsageError("unknown-host", "no table is for this host", found=repr(name), hint=_names(matrix_hosts()))
    return host


def guest_named(name: str) -> KnownSystem:
    """Find a guest by its name. Raises :class:`UsageError` ``unknown-guest`` with the names of those that are known."""
    guest = named_system(name)
    if guest is None:
        raise UsageError(
            "unknown-guest", "this is no guest that is known", found=repr(name), hint=_names(known_systems())
        )
    return guest


def _names(systems: Iterable[KnownSystem]) -> str:
    return "One of: " + ", ".join(system.name for system in systems) + "; short names do too (2016, win10)."


def named_guest_document(host: KnownSystem, name: str) -> AdviseDocument:
    """Advise on a guest without an image. Raises what :func:`guest_named` raises."""
    guest = guest_named(name)
    package = daemon_package(re.findall("[a-z]+", name.casefold())) if guest.id == LINUX else None
    return _document(host, guest, advise(host, guest, daemon_package=package))


def image_document(image: Image, index: int | None, host: KnownSystem) -> AdviseDocument:
    """Advise on the guest of an image.

    Raises what :meth:`vhdtool.image.Image.system` and reading the guest raise, and :class:`UnsupportedError`
    ``guest-not-known`` where the guest does not say which Windows it is.
    """
    installation = image.system(index)
    guest = inspect_guest(installation)
    found = AdviceGuestFact(
        volume=guest.volume,
        root=installation.root,
        product=guest.os.product,
        version=guest.os.version,
        architecture=guest.os.architecture,
        integration_services=guest.integration_services.version,
    )
    if isinstance(installation, LinuxInstallation):
        linux = known_system(LINUX)
        facts = _facts(image, guest, windows=None, sha2=None)
        return _document(host, linux, advise(host, linux, facts), image, found)
    windows = _numbers(guest.os.version)
    system = installed_system(windows, guest.os.product, guest.os.edition)
    if system is None:
        raise UnsupportedError(
            "guest-not-known",
            "the guest does not say which Windows it is, or none that is known",
            path=image.path,
            found=guest.os.product or guest.os.version,
            hint="Name it instead: vhdtool advise --guest NAME --host HOST",
        )
    facts = _facts(image, guest, windows=windows, sha2=_accepts_sha2(installation))
    return _document(host, system, advise(host, system, facts), image, found)


def _facts(image: Image, guest: Guest, *, windows: WindowsVersion | None, sha2: bool | None) -> ImageFacts:
    pending = guest.os.pending
    return ImageFacts(
        name=shlex.quote(escaped(image.path)),
        windows=windows,
        architecture=guest.os.architecture,
        integration=guest.integration_services,
        kvp=next((service for service in guest.services if service.name == KVP_SERVICE), None),
        sha2=sha2,
        install_state=guest.os.install_state,
        pending=pending,
        servicing_pending=any(mark in text for text in pending for mark in SERVICING_MARKS),
        findings=guest.findings,
    )


def _accepts_sha2(installation: WindowsInstallation) -> bool | None:
    """Whether the guest accepts packages that are signed with SHA-256 alone; ``None`` where nothing tells."""
    with Troubles().guard("the servicing packages"):  # what can't be read is among the guest's findings
        support = sha2_support(GuestState(installation))
        return None if support is None else {"yes": True, "no": False, "unknown": None}[support.answer]
    return None


def _numbers(version: str | None) -> WindowsVersion | None:
    numbers = version_numbers(version)
    return None if numbers is None else numbers[:NUMBERS]


def _document(
    host: KnownSystem,
    guest: KnownSystem,
    advice: Advice,
    image: Image | None = None,
    found: AdviceGuestFact | None = None,
) -> AdviseDocument:
    used = advice.used
    mechanism = None if used is None or used.excluded else used.row.mechanism
    return AdviseDocument(
        schema="vhdtool.advise/1",
        image=None if image is None else image_name(image.path),
        found=found,
        host=host.name,
        guest=guest.name,
        listed=advice.listed,
        mechanism=None if mechanism is None else mechanism.id,
        mechanism_name=None if mechanism is None else mechanism.name,
        revision=None if used is None else used.revision.id,
        newest=newest_fact(advice.newest, advice.newer),
        cells=tuple(_cell(cell) for cell in advice.cells),
        steps=advice.steps,
        obstacles=advice.obstacles,
    )


def _cell(cell: MatrixCell) -> CellFact:
    row = cell.row
    return CellFact(
        hosts=cell.table.title(cell.revision),
        guest=row.name,
        mechanism=row.mechanism.id,
        mechanism_name=row.mechanism.name,
        note=row.note,
        footnote=None if row.footnote is None else row.footnote.text,
        link=row.link if row.footnote is None else row.footnote.link,
        revision=cell.revision.id,
        source=cell.revision.source,
        excluded=cell.excluded,
        used=cell.used,
    )


def matrix_document(host: KnownSystem | None = None) -> UpdateMatrixDocument:
    """The tables as they are, those for one host alone where it is named."""
    tables = [table for table in matrix_tables() if host is None or host.id in table.hosts]
    notes = {row.footnote.mark: row.footnote for table in tables for row in table.rows if row.footnote is not None}
    return UpdateMatrixDocument(
        schema="vhdtool.update-matrix/1",
        host=None if host is None else host.name,
        tables=tuple(_table(table) for table in tables),
        footnotes=tuple(FootnoteFact(one.mark, one.text, one.link, one.source) for one in notes.values()),
    )


def _table(table: MatrixTable) -> MatrixTableFact:
    return MatrixTableFact(
        page=table.page,
        hosts=tuple(known_system(name).name for name in table.hosts),
        revisions=tuple(
            MatrixRevisionFact(one.id, one.date, table.title(one), one.source)
            for one in revisions()
            if one.id in table.titles
        ),
        rows=tuple(_row(row) for row in table.rows),
    )


def _row(row: MatrixRow) -> MatrixRowFact:
    return MatrixRowFact(
        guest=row.name,
        mechanism=row.mechanism.id,
        mechanism_name=row.mechanism.name,
        note=row.note,
        footnote=None if row.footnote is None else row.footnote.mark,
        link=row.link,
        hosts=tuple(known_system(name).name for name in row.hosts) or None,
        revisions=tuple(one.id for one in row.revisions),
    )
