"""What of the host works: the document of ``vhdtool doctor``, and its text."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import vhdtool
from vhdtool.report.blocks import Block, Cell, Fields, Heading, Style, Table
from vhdtool.report.document_doctor import DoctorDocument, SupportFact

READERS = (
    ("pyvhdi", "libvhdi-python", "the second opinion on VHD and VHDX files"),
    ("dissect.hypervisor.disk.vhdx", "dissect.hypervisor", "the second opinion on differencing VHDX files"),
    ("dissect.ntfs", "dissect.ntfs", "reading NTFS, and the second opinion on files"),
    ("Registry", "python-registry", "the second opinion on registry hives"),
)
"""Module, package and purpose of the foreign readers."""

_STYLES: dict[str, Style] = {"ok": "good", "missing": "bad", "limited": "warn"}


def doctor_document() -> DoctorDocument:
    """Look at what can be imported and loaded. Starts the NTFS writer's process once, to try how it is shut in."""
    support = (*(_reader(*reader) for reader in READERS), _writer())
    return DoctorDocument(
        "vhdtool.doctor/1",
        vhdtool.__version__,
        platform.python_version(),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        complete=all(fact.state != "missing" for fact in support),
        support=support,
    )


def _reader(module: str, package: str, purpose: str) -> SupportFact:
    try:
        importlib.import_module(module)
        found = version(package)
    except (ImportError, OSError, PackageNotFoundError) as error:
        return SupportFact(package, "missing", None, purpose, f"{error}. Install it: pip install {package}")
    return SupportFact(package, "ok", found, purpose, None)


def _writer() -> SupportFact:
    from vhdtool.fs.writer import writer_support  # noqa: PLC0415  # starts a process

    found = writer_support()
    version_text = None
    if found.library is not None:
        version_text = f"{found.soname}, {found.library}" if found.soname else found.library
    hint = found.hint if found.state == "ok" else f"{found.message}. {found.hint or ''}".rstrip()
    return SupportFact("libntfs-3g", found.state, version_text, "making, growing and removing files", hint)


def doctor_blocks(document: DoctorDocument) -> Iterator[Block]:
    """Show one line for each part, and the hints below."""
    yield Heading("vhdtool", document.version)
    yield Fields((("Python", Cell(document.python)), ("Host", Cell(document.platform))))
    yield Heading("Support")
    yield Table(
        ("Part", "State", "Version", "For", "Hint"),
        tuple(
            (
                Cell(fact.name, "strong"),
                Cell(fact.state, _STYLES[fact.state]),
                Cell(fact.version or "-"),
                Cell(fact.needed_for),
                Cell(fact.hint or "-"),
            )
            for fact in document.support
        ),
        fold=frozenset({"For", "Hint"}),
    )
