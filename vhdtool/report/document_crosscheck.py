"""The result document of ``vhdtool crosscheck``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import Problem
from vhdtool.guest.model import Finding, OperatingSystem
from vhdtool.host.crosscheck import CrossRow
from vhdtool.report.document import ImageName


@dataclass(frozen=True, slots=True)
class VmDiskFact:
    r"""A disk of the machine. ``path`` is that on its host (``C:\vm\a.vhdx``), ``found`` the file that it is here."""

    controller: str
    controller_number: int
    location: int
    type: str
    path: str
    found: str | None


@dataclass(frozen=True, slots=True)
class VmFact:
    """The machine as its configuration tells. ``version``: the configuration's (5.0 is 2012 R2, 9.0 is 2019).

    ``saved_state`` is read from what ``saved_state_location`` names. ``checkpoints``: how many the configuration
    counts, ``checkpoint_files``: those found beside it.
    """

    path: str
    format: Literal["vmcx", "vmrs", "xml"]
    name: str | None
    id: str | None
    generation: int | None
    version: str | None
    is_checkpoint: bool
    saved_state: Literal["yes", "no", "unknown"]
    saved_state_location: str | None
    checkpoints: int | None
    checkpoint_files: tuple[str, ...]
    merge_pending: bool | None
    disks: tuple[VmDiskFact, ...]


@dataclass(frozen=True, slots=True)
class CrosscheckDocument:
    """``vhdtool crosscheck``. ``guest`` counts the guests of the image, ``volume`` is where it lies.

    ``services`` holds the two sides of each integration service; ``findings`` what is to be known of the machine as a
    whole.
    """

    schema: Literal["vhdtool.crosscheck/1"]
    image: ImageName
    vm: VmFact
    guest: int
    volume: int
    os: OperatingSystem
    services: tuple[CrossRow, ...]
    findings: tuple[Finding, ...]
    problems: tuple[Problem, ...]
