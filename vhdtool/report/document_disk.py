"""The result documents about the container: ``vhdtool disk``. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.disk.audit_findings import AuditFinding
from vhdtool.disk.witness import Difference, LeftOut
from vhdtool.errors import Problem
from vhdtool.report.document import ImageFact, ImageFormat, ImageName, ImageType, LogState
from vhdtool.report.document_change import ReceiptFact


@dataclass(frozen=True, slots=True)
class LayerFact:
    """One file of the chain. ``identity`` is what a child's linkage names; GUIDs in lower case."""

    path: str
    format: ImageFormat
    type: ImageType
    virtual_size: int
    file_size: int
    logical_sector_size: int
    physical_sector_size: int
    block_size: int | None
    identity: str | None
    linkage: tuple[str, ...]
    log: LogState | None
    creator: str | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class DiskInfoDocument:
    """``vhdtool disk info``: the opened file first, then its parents."""

    schema: Literal["vhdtool.disk-info/1"]
    image: ImageFact
    layers: tuple[LayerFact, ...]


@dataclass(frozen=True, slots=True)
class MapExtent:
    """A virtual range and where its bytes lie: ``layer`` counts from the opened file, 0.

    ``kind``: ``data`` is stored at ``file_offset`` of that layer's file; ``zero`` reads as zeros because the layer
    says so; ``hole`` reads as zeros because no layer holds it.
    """

    offset: int
    length: int
    kind: Literal["data", "zero", "hole"]
    layer: int | None
    file_offset: int | None


@dataclass(frozen=True, slots=True)
class DiskMapDocument:
    """``vhdtool disk map``. ``files`` names the layers' files by their number."""

    schema: Literal["vhdtool.disk-map/1"]
    image: ImageName
    virtual_size: int
    files: tuple[str, ...]
    extents: tuple[MapExtent, ...]


@dataclass(frozen=True, slots=True)
class AuditFact:
    """What the audit of the structures found. ``blocks`` and ``tail_waste`` (in bytes) add up over the chain."""

    sound: bool
    blocks: int
    tail_waste: int
    findings: tuple[AuditFinding, ...]


@dataclass(frozen=True, slots=True)
class OpinionFact:
    """What another reader of such containers says. Counts are in bytes of the virtual disk.

    ``known_fault`` names the reader's own fault where it could not open a chain that is in order; ``left_out`` the
    bytes that were not compared, because a known fault of the reader touches them.
    """

    reader: str
    version: str
    opened: bool
    agrees: bool
    reason: str | None
    known_fault: str | None
    bytes_compared: int
    bytes_equal: int
    bytes_different: int
    left_out: tuple[LeftOut, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class DiskVerifyDocument:
    """``vhdtool disk verify``. ``verdict`` is ``ok`` where the command ends 0, ``findings`` where it ends 1.

    ``second_opinion`` is that of the first other reader; ``further_opinions`` those that were asked for what the ones
    before them are known to read wrong.
    """

    schema: Literal["vhdtool.disk-verify/1"]
    image: ImageName
    verdict: Literal["ok", "findings"]
    audit: AuditFact
    second_opinion: OpinionFact
    further_opinions: tuple[OpinionFact, ...]


@dataclass(frozen=True, slots=True)
class DiskConvertDocument:
    """``vhdtool disk convert``. ``data_bytes`` were written; the rest of ``virtual_size`` is left sparse."""

    schema: Literal["vhdtool.disk-convert/1"]
    image: ImageName
    output: str
    format: ImageFormat
    type: ImageType
    virtual_size: int
    data_bytes: int


@dataclass(frozen=True, slots=True)
class DiskCreateDocument:
    """``vhdtool disk create``: the new file, as it is when it is opened again."""

    schema: Literal["vhdtool.disk-create/1"]
    image: ImageFact
    file_size: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiskMergeDocument:
    """``vhdtool disk merge``: ``image`` into ``parent``.

    ``merged_bytes`` of the disk are in the child and differ from the parent. ``changed``: the parent was written;
    ``child_removed``: the child's file is gone, and so is the need for it.
    """

    schema: Literal["vhdtool.disk-merge/1"]
    image: ImageName
    parent: str
    would_change: bool
    changed: bool
    merged_bytes: int
    child_removed: bool
    receipt: ReceiptFact | None
    notes: tuple[str, ...]
