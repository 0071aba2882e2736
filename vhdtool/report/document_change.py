"""The result documents of commands that change an image. The rules are those of :mod:`vhdtool.report.document`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.disk.commit import RecoveryAction
from vhdtool.guest.boot_ready import BootDriverRow
from vhdtool.guest.service_change import ServiceRow
from vhdtool.report.document import ImageName

RegistryAction = Literal["set-value", "delete-value", "create-key", "delete-key"]


@dataclass(frozen=True, slots=True)
class RegistryData:
    """A value's type, its data as in :class:`vhdtool.report.document.RegistryValue`, and its size in bytes."""

    type: str
    data: int | str | tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class RegistryChangeFact:
    r"""One registry value or key. ``key`` is the whole path as REG.EXE writes it; ``name`` is ``None`` for a key.

    ``before`` and ``after`` are ``None`` where there is no such value. ``below`` counts the keys and values that go
    with a deleted key. ``changes`` is false where it is so already.
    """

    volume: int
    root: str
    action: RegistryAction
    key: str
    name: str | None
    before: RegistryData | None
    after: RegistryData | None
    below: int
    changes: bool


@dataclass(frozen=True, slots=True)
class FileChangeFact:
    """One file or directory of the guest. ``source`` is the host's file; sizes in bytes."""

    volume: int
    action: Literal["put", "make-directory", "remove"]
    path: str
    source: str | None
    size_before: int | None
    size: int | None
    sha256: str | None
    changes: bool


@dataclass(frozen=True, slots=True)
class BootReadyFact:
    """Whether the guest will find its disk on Hyper-V. ``generations`` of virtual machines are those it can run on.

    ``ready_for``: those it starts on as it is; ``ready_after``: once the plan is carried out.
    """

    generations: tuple[int, ...]
    ready_for: tuple[int, ...]
    ready_after: tuple[int, ...]
    drivers: tuple[BootDriverRow, ...]


@dataclass(frozen=True, slots=True)
class ReaderFact:
    """What one foreign reader confirmed.

    ``subject``: ``container``, ``files``, or the path of a hive. ``confirmed`` counts bytes of the disk for the
    container, files for the files, values and keys for a hive. ``left_out`` names known faults of the reader that
    touch what was asked; another reader confirmed that, or ``ReceiptFact.unconfirmed`` counts it.
    """

    subject: str
    reader: str
    version: str
    confirmed: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReceiptFact:
    """What was written, and who confirmed it. Sizes in bytes.

    ``path``: the file that now holds the changed disk. ``blocks``: payload blocks written. ``changed_bytes`` of the
    virtual disk differ from before; ``sampled_bytes`` of the unchanged rest were compared too, chosen by ``seed``.
    ``unconfirmed`` is above 0 only with --single-opinion. ``undo``: how to go back.
    """

    target: Literal["child", "in-place", "output"]
    path: str
    blocks: int
    bytes_written: int
    file_size_before: int | None
    file_size: int
    changed_bytes: int
    sampled_bytes: int
    unconfirmed: int
    seed: int
    confirmed_by: tuple[ReaderFact, ...]
    writers: tuple[str, ...]
    undo: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeDocument:
    """What every command that changes a guest prints: the plan, and with a target the receipt.

    ``changed``: something was written. ``would_change``: something is to be written; without a target that is all
    that happens. ``services`` is ``None`` for other commands than ``services set``, ``boot`` for others than
    ``boot-ready``.
    """

    schema: Literal["vhdtool.change/1"]
    command: str
    image: ImageName
    would_change: bool
    changed: bool
    services: tuple[ServiceRow, ...] | None
    boot: BootReadyFact | None
    registry: tuple[RegistryChangeFact, ...]
    files: tuple[FileChangeFact, ...]
    receipt: ReceiptFact | None


@dataclass(frozen=True, slots=True)
class RecoveredFact:
    """What was done about an interrupted commit or a pending log."""

    action: RecoveryAction
    bytes_written: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecoverDocument:
    """``vhdtool recover``: the steps taken; none where the image was at rest."""

    schema: Literal["vhdtool.recover/1"]
    image: ImageName
    changed: bool
    steps: tuple[RecoveredFact, ...]
    notes: tuple[str, ...]
